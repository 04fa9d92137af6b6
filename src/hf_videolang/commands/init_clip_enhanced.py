"""
Make the model from which CLIP-Enhanced is trained: HERO, with CLIP's text encoder in the place of its text embeddings.

  hf-videolang init-clip-enhanced --clip openai/clip-vit-base-patch32 --roberta FacebookAI/roberta-base \\
      --features clip-vit_slowfast --output-dir clip-enhanced-start

The report on CLIP-Enhanced came without weights and without code. docs/clip_enhanced.md says what it fixes and what is
our reading. The folder is made as by `hf-videolang convert`: conversion_report.json says of every tensor whether it
comes from CLIP or from RoBERTa, or that it is random.
"""

from argparse import SUPPRESS, ArgumentParser, Namespace
from functools import partial

from hf_videolang.commands.convert import make_folder
from hf_videolang.conversion.clip_enhanced import init_clip_enhanced


def add_arguments(parser: ArgumentParser) -> None:
    hub = "a folder or id of the Hub"
    parser.add_argument("--clip", required=True, metavar="CLIP", help=f"any CLIP: OpenAI's file, or {hub}")
    parser.add_argument("--roberta", required=True, metavar="ROBERTA", help=f"roberta-base: a file, or {hub}")
    parser.add_argument("--output-dir", required=True, metavar="DIR", help="must not exist, or be empty")
    # The function that makes the folder has their defaults.
    group = parser.add_argument_group("other choices", argument_default=SUPPRESS)
    group.add_argument(
        "--features", metavar="NAME", help="VALUE's name of the features (default: the report's), or none"
    )
    group.add_argument("--video-feature-size", metavar="N", help="their width, with --features none")
    group.add_argument("--config", metavar="FILE", help="the authors' JSON, for other layers than 6, 3 and 2")
    group.add_argument("--clip-tokenizer", metavar="DIR_OR_ID", help="if it is not beside the weights")
    group.add_argument("--roberta-tokenizer", metavar="DIR_OR_ID", help="if it is not beside the weights")
    group.add_argument(
        "--cross-modal", choices=["roberta", "random"], help="how the cross-modal BERT starts (default: roberta)"
    )
    group.add_argument(
        "--no-text-norm", dest="text_norm", action="store_false", help="no norm behind the projection of CLIP's states"
    )
    group.add_argument(
        "--caption-vocabulary",
        choices=["roberta", "clip", "clip_tied"],
        help="words of captions: RoBERTa's (default), CLIP's in a new table, or CLIP's in its own",
    )
    group.add_argument("--seed", type=int, help="of what is random (default: 42)")
    group.add_argument("--push-to-hub", metavar="ORG/NAME", help="upload the folder when it is complete")


def main(args: Namespace) -> int:
    """Returns 0; 1 if a file or a tokenizer cannot be used, or the folder cannot be written."""
    return make_folder(partial(init_clip_enhanced, **vars(args)), args.output_dir)
