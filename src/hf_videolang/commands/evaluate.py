"""
Score a model in a benchmark's protocol, or score a saved similarity matrix again.

The task of the dataset decides what is scored: videos against captions, answers to questions about videos, moments
found by queries, or captions that a model writes.

  hf-videolang evaluate --model clip-vip-b16 --dataset msrvtt-1ka --data-dir /data/msrvtt --output-dir results
  hf-videolang evaluate --model clip-vip-b16 --dataset my_folder --querybank train
  hf-videolang evaluate --model clipbert-msrvtt-qa --dataset my_questions --num-clips 16
  hf-videolang evaluate --model clip-vip-b16 --rerank runs/pairs --dataset msrvtt-1ka --data-dir /data/msrvtt
  hf-videolang evaluate --model hero-tvr --dataset my_moments --features features
  hf-videolang evaluate --similarity results/similarity.safetensors --ties pessimistic

On several processes: accelerate launch -m hf_videolang.cli evaluate ... (every node must see --output-dir)
Prints the protocol, then a table with a column each for raw and post-processed scores; of questions, the accuracy of
all and of each type, beside chance.

A model that embeds texts and videos is fast. One that reads them together, a pair scorer, works for each pair of the
two; it prints how much before it begins. --rerank lets a pair scorer order only the best of each query.

With --output-dir, finished batches are kept there, in `embeddings`, `pair_scores` and the like, until the results are
written. After a kill, give the same command again: it computes only the missing batches, on any number of
processes, and ends with the same numbers. Another model, processor, dataset, batch size, precision or kind of device
is refused. One evaluation at a time may write to an output folder. Results of another model or protocol there are not
overwritten without --overwrite.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import get_args

from hf_videolang.commands.subtitled_video import add_extractor_argument
from hf_videolang.console import print_error
from hf_videolang.evaluation.evaluate_dataset import evaluate_dataset
from hf_videolang.evaluation.evaluation import Evaluation
from hf_videolang.evaluation.retrieval import score_similarity
from hf_videolang.evaluation.saved_similarity import SavedSimilarity
from hf_videolang.hub.evaluation_results import load_card
from hf_videolang.inference.presets import read_weights
from hf_videolang.metrics.retrieval import Ties
from hf_videolang.video import VideoDecodingError


def add_arguments(parser: ArgumentParser) -> None:
    what = parser.add_argument_group("what to score")
    what.add_argument("--model", help="model folder or Hub id")
    what.add_argument("--dataset", help="a benchmark such as msrvtt-1ka, or a folder with videos and metadata")
    what.add_argument("--data-dir", help="folder with the benchmark's videos and annotations")
    what.add_argument("--split", help="default: test; of a folder without one, everything")
    what.add_argument(
        "--features",
        metavar="DIR",
        help="folder of stored features, read in place of the videos; a model that names its features extracts there "
        "what is missing",
    )
    add_extractor_argument(what)
    what.add_argument("--similarity", metavar="FILE", help="a saved similarity.safetensors instead of all these")
    how = parser.add_argument_group("protocol")
    how.add_argument("--num-frames", type=int, help="frames of a clip (default: the model's own)")
    how.add_argument(
        "--num-clips", type=int, help="clips of a video, where the model reads several (default: its own)"
    )
    how.add_argument("--max-length", type=int, help="tokens of a text (default: the model's own)")
    how.add_argument(
        "--ties",
        choices=get_args(Ties),
        default="original",
        help="how equal scores count; 'original' pools all their ranks as the authors do (default: %(default)s)",
    )
    how.add_argument(
        "--querybank",
        metavar="SPLIT",
        help="also QB-Norm, with the captions and videos of this split of the dataset as banks, e.g. train",
    )
    how.add_argument(
        "--querybank-size", type=int, default=1000, help="videos of that split, evenly taken (default: %(default)s)"
    )
    how.add_argument("--rerank", metavar="MODEL", help="a pair scorer that reads the best of each query again")
    how.add_argument(
        "--rerank-top",
        type=int,
        default=50,
        help="texts of a video and videos of a text that it reads; the rest stay behind them (default: %(default)s)",
    )
    how.add_argument(
        "--on-broken-video",
        choices=("raise", "skip"),
        help="a video that is absent or does not decode stops the run, or leaves the gallery with its captions and is "
        "counted (default: raise). Of questions it is skip: they stay unanswered and count as wrong",
    )
    how.add_argument("--nms", type=float, metavar="IOU", help="of moments that overlap more, only the best counts")
    how.add_argument(
        "--legacy-index", action="store_true", help="of moments: reproduce the original's fault for short videos"
    )
    run = parser.add_argument_group("running")
    run.add_argument(
        "--batch-size",
        type=int,
        help="videos a process at once (default: 16; of moments 50, which changes the scores)",
    )
    run.add_argument(
        "--cache-gigabytes",
        type=float,
        default=4.0,
        help="memory for what a pair scorer keeps of videos and texts; more is faster (default: %(default)s)",
    )
    run.add_argument("--num-workers", type=int, default=2, help="decoding processes (default: %(default)s)")
    run.add_argument("--mixed-precision", choices=("no", "bf16", "fp16"), default="no", help="default: %(default)s")
    run.add_argument("--cpu", action="store_true", help="do not use a GPU")
    out = parser.add_argument_group("results")
    out.add_argument(
        "--output-dir",
        type=Path,
        help="gets similarity.safetensors and results.json; a killed run continues there (without it: from the start)",
    )
    out.add_argument(
        "--overwrite", action="store_true", help="replace results of another model or protocol in --output-dir"
    )
    out.add_argument("--write-card", action="store_true", help="enter the results into the model's card")


def main(args: Namespace) -> int:
    """Returns 0; 1 if a video is broken; 2 if options, model, data or an output file cannot be used."""
    try:
        _check_usage(args)
        if args.write_card:
            load_card(args.model)  # an unreadable card is found before the work
        if args.similarity:
            evaluation: Evaluation | None = _score_again(args)
        else:
            other = ("similarity", "write_card", "extractor")
            options = {name: value for name, value in vars(args).items() if name not in other}
            evaluation = evaluate_dataset(**options, extractors=read_weights(args.extractor))
        if args.write_card and evaluation is not None:
            evaluation.write_card()
    except VideoDecodingError as error:
        remedy = "--on-broken-video skip leaves it out; `hf-videolang data check` lists every such video"
        print_error(f"{error}; {remedy}.")
        return 1
    return 0


def _score_again(args: Namespace) -> Evaluation:
    saved = SavedSimilarity.read(args.similarity)
    if args.model:
        saved.check_model(args.model)
    evaluation = Evaluation.of_similarity(saved, score_similarity(**saved.tensors, ties=args.ties), args.ties)
    print(evaluation)
    if args.output_dir:
        evaluation.save(args.output_dir, args.overwrite)
    return evaluation


def _check_usage(args: Namespace) -> None:
    if args.similarity:
        names = ("dataset", "data_dir", "split", "querybank", "rerank", "features", "num_frames", "max_length")
        if given := [name for name in names if getattr(args, name)]:
            raise ValueError(f"--similarity holds {', '.join(given)} already; leave these options out.")
    elif not (args.model and args.dataset):
        raise ValueError("give --model and --dataset, or --similarity with a saved matrix.")
    if args.write_card and not args.model:
        raise ValueError("--write-card needs --model, the folder or Hub id that the card belongs to.")
    if args.querybank and args.querybank == (args.split or "test"):
        raise ValueError(f"--querybank is {args.querybank}, the split that is scored; take another, e.g. train.")
