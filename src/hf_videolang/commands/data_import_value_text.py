"""
Write the texts of a VALUE database as JSON lines: subtitles, queries, questions or captioned clips.

  hf-videolang data import-value-text --text-db txt_db/tv_subtitles.db --output tv_subtitles.jsonl

Each line is as in VALUE's annotation files. Nothing in the database is executed.
Exit code: 0 success, 2 a database that cannot be read.
"""

from argparse import ArgumentParser, Namespace

from hf_videolang.data.tools.import_value_text import import_value_text


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--text-db", required=True, metavar="DIR", help="LMDB folder, such as tv_subtitles.db")
    parser.add_argument("--output", required=True, metavar="FILE", help="JSON lines, one a record")


def main(args: Namespace) -> int:
    print(f"{args.output}: {import_value_text(args.text_db, args.output)} records of {args.text_db}")
    return 0
