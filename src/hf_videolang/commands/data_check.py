"""
Find what is missing, broken or duplicated in a dataset, before a GPU is rented.

  hf-videolang data check my_folder
  hf-videolang data check msrvtt-1ka --data-dir /data/msrvtt --split test
  hf-videolang data check my_questions --answers ans2label.json
  hf-videolang data check my_moments --features features

A folder of videos without metadata is one problem, no_metadata; its videos are checked all the same.
Exit code 0: clean, 1: problems, 2: wrong usage, or an annotation that cannot be read.
"""

import json
from argparse import ArgumentParser, Namespace
from dataclasses import asdict

from hf_videolang.data.answer_vocabulary import read_answers
from hf_videolang.data.load_dataset import BENCHMARKS
from hf_videolang.data.stores.feature_store import FeatureStore
from hf_videolang.data.tools.check import PROBLEMS, check_data


def add_arguments(parser: ArgumentParser) -> None:
    names = ", ".join(BENCHMARKS)
    parser.add_argument("data", help=f"path of a video folder, with or without metadata, or a benchmark: {names}")
    parser.add_argument("--data-dir", help="folder with the videos and annotation files of the benchmark")
    parser.add_argument("--split", help='check only this split, or several: "train+validation"')
    parser.add_argument("--answers", metavar="FILE", help="also find questions whose answer is not in this vocabulary")
    parser.add_argument("--features", metavar="DIR", help="also find videos without features in this store")
    parser.add_argument("--decode-all", action="store_true", help="decode every frame, not three of each clip")
    parser.add_argument("--num-workers", type=int, help="processes that decode (default: one a CPU)")
    parser.add_argument(
        "--ignore",
        nargs="+",
        default=[],
        choices=list(PROBLEMS),
        metavar="KIND",
        help=f"kinds of problem not to report: {', '.join(PROBLEMS)}",
    )
    parser.add_argument("--json", action="store_true", help="print the whole report as JSON")


def main(args: Namespace) -> int:
    report = check_data(
        args.data,
        args.data_dir,
        args.split,
        answers=read_answers(args.answers) if args.answers else None,
        features=FeatureStore(args.features) if args.features else None,
        decode_all=args.decode_all,
        num_workers=args.num_workers,
    )
    report.problems = [problem for problem in report.problems if problem.kind not in args.ignore]
    print(json.dumps(asdict(report), indent=1, ensure_ascii=False) if args.json else report)
    return 1 if report.problems else 0
