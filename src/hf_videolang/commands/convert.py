"""
Convert an original checkpoint into a folder that AutoModel.from_pretrained loads.

  hf-videolang convert pretrain_clipvip_base_16.pt --config ORIGINAL.json --output-dir clip-vip-b16

The keys of the file decide which system it belongs to. Nothing in the file is run. Every value in it is used, or
listed as dropped with the reason; one that is missing, unknown or of the wrong shape is an error. The folder holds
weights, config, processor, tokenizer, code for trust_remote_code, a card and conversion_report.json. It is loaded
again and compared bit by bit before it gets its name.
"""

import sys
from argparse import SUPPRESS, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from functools import partial
from inspect import signature
from types import ModuleType
from typing import Any

from huggingface_hub.errors import HFValidationError
from transformers.utils import logging

from hf_videolang.console import print_error
from hf_videolang.conversion.families import convert, families
from hf_videolang.conversion.untrusted import ConversionError


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="FILE", help="original file, or the folder of a model on the Hub")
    _add_options(parser, families())
    parser.epilog = "known checkpoints:\n" + "\n".join(str(family.__doc__).strip() for family in families())


def _add_options(parser: ArgumentParser, candidates: list[ModuleType]) -> None:
    parser.add_argument(
        "--output-dir", required=True, metavar="DIR", help="folder to make; must not exist or be empty"
    )
    parser.add_argument("--push-to-hub", metavar="ORG/NAME", help="upload the folder when it is complete")
    # Options of the families. The function that converts has their defaults.
    family = parser.add_argument_group("what the file does not tell", argument_default=SUPPRESS)
    family.add_argument("--config", metavar="FILE", help="configuration that the original was trained with")
    family.add_argument("--tokenizer", metavar="DIR_OR_ID", help="the model's tokenizer, if not the published one")
    family.add_argument("--seed", type=int, help="of weights that the checkpoint lacks and that start random")
    for candidate in candidates:
        for name, meaning in candidate.OPTIONS.items():
            is_flag = signature(candidate.convert).parameters[name].annotation is bool
            family.add_argument(
                f"--{name.replace('_', '-')}",
                action="store_true" if is_flag else "store",
                help=f"{candidate.NAME}: {meaning}",
            )


def main(args: Namespace, family: ModuleType | None = None) -> int:
    """Returns 0; 1 if the file, its config or its tokenizer cannot be used, or the folder cannot be written."""
    return make_folder(partial(convert, **vars(args), family=family), args.output_dir)


def make_folder(make: Callable[[], dict[str, Any]], output_dir: str) -> int:
    """Make a model folder and print what is in it. Returns as [`main`]."""
    logging.disable_progress_bar()
    try:
        report = make()
    except (ConversionError, HFValidationError, OSError) as error:
        print_error(str(error))
        return 1
    for note in report["notes"]:
        print(f"note: {note}", file=sys.stderr)
    counts = report["counts"]
    print(
        f"{output_dir}: {report['source']['flavour']}, {counts['model_tensors']} tensors, "
        f"{counts['parameters']:,} parameters; {counts['created']} created, {counts['dropped']} source keys dropped, "
        "reloaded and equal. See conversion_report.json."
    )
    return 0


def launch(family: ModuleType, arguments: list[str] | None = None) -> int:
    """The command for one family, with the file as `--checkpoint FILE`: `main` of `conversion/convert_<family>.py`."""
    parser = ArgumentParser(
        description=family.__doc__, formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--checkpoint", required=True, metavar="FILE", help="original file, or a folder of the Hub")
    _add_options(parser, [family])
    return main(parser.parse_args(arguments), family)
