"""
Score a model in a benchmark's protocol, or score a saved similarity matrix again.

The task of the dataset decides what is scored: videos against captions, answers to questions about videos, or moments
found by queries.

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

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import torch
from accelerate import Accelerator

from hf_videolang.atomic_files import atomic_file
from hf_videolang.console import print_error
from hf_videolang.data.batches.clip_reader import check_features
from hf_videolang.data.load_dataset import find_dataset
from hf_videolang.data.protocol import Protocol
from hf_videolang.data.stores.feature_store import FeatureStore
from hf_videolang.evaluation.moment_retrieval import MomentRetrievalEvaluator
from hf_videolang.evaluation.pair_scoring import PairScoringEvaluator, is_pair_scorer
from hf_videolang.evaluation.question_answering import QuestionAnsweringEvaluator
from hf_videolang.evaluation.reranking import RerankingEvaluator
from hf_videolang.evaluation.retrieval import RetrievalEvaluator, sample_querybank, score_similarity
from hf_videolang.evaluation.saved_results import check_earlier_results
from hf_videolang.evaluation.saved_similarity import SavedSimilarity
from hf_videolang.evaluation.scores import Scores, protocol_line, score_table
from hf_videolang.folder_lock import locked_folder
from hf_videolang.hub.evaluation_results import load_card, write_evaluation
from hf_videolang.hub.loading import load_model_and_processor
from hf_videolang.hub.model_version import RESULTS, SIMILARITY, model_version
from hf_videolang.metrics.retrieval import Ties
from hf_videolang.video import VideoDecodingError

# The task of a dataset → what scores it.
EVALUATORS: dict[str, Any] = {
    "retrieval": RetrievalEvaluator,
    "question_answering": QuestionAnsweringEvaluator,
    "moment_retrieval": MomentRetrievalEvaluator,
}
BATCH_SIZES = {"moment_retrieval": 50}  # the authors', which changes the scores; 16 of other tasks


def add_arguments(parser: ArgumentParser) -> None:
    what = parser.add_argument_group("what to score")
    what.add_argument("--model", help="model folder or Hub id")
    what.add_argument("--dataset", help="a benchmark such as msrvtt-1ka, or a folder with videos and metadata")
    what.add_argument("--data-dir", help="folder with the benchmark's videos and annotations")
    what.add_argument("--split", help="default: test; of a folder without one, everything")
    what.add_argument("--features", metavar="DIR", help="folder of stored features, read in place of the videos")
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
            saved = SavedSimilarity.read(args.similarity)
            if args.model:
                saved.check_model(args.model)
            _report_similarity(args, saved, score_similarity(**saved.tensors, ties=args.ties))
        else:
            with locked_folder(args.output_dir):
                _evaluate(args)
    except VideoDecodingError as error:
        remedy = "--on-broken-video skip leaves it out; `hf-videolang data check` lists every such video"
        print_error(f"{error}; {remedy}.")
        return 1
    return 0


def _evaluate(args: Namespace) -> None:
    dataset = find_dataset(args.dataset, args.data_dir)
    features = FeatureStore(args.features) if args.features else None
    if features is not None and dataset.task == "question_answering":
        raise ValueError(f"--features are not read for questions, which {args.dataset} holds. Leave them out.")
    if features is None and dataset.task == "moment_retrieval":
        raise ValueError("moments are found in stored features; give their folder as --features.")
    skip_absent = dataset.task == "retrieval" and args.on_broken_video == "skip"
    reading = {"need_videos": features is None, "skip_absent": skip_absent}
    records, protocol = dataset.load(args.split, **reading)
    options: dict[str, Any] = {"on_broken_video": args.on_broken_video} if args.on_broken_video else {}
    if dataset.task == "retrieval":
        options |= {"ties": args.ties, "features": features}
        if args.querybank:
            bank = dataset.load(args.querybank, **reading)[0]
            options["querybank"] = sample_querybank(bank, records, args.querybank_size)
    if dataset.task == "moment_retrieval":
        options = {"features": features, "nms_threshold": args.nms, "legacy_index": args.legacy_index}
    model, processor = load_model_and_processor(args.model, args.num_frames, args.max_length, num_clips=args.num_clips)
    if features is not None:
        check_features(features, model, processor)
    version = model_version(args.model, model.config)
    batch_size = args.batch_size or BATCH_SIZES.get(dataset.task, 16)
    options |= {"batch_size": batch_size, "num_workers": args.num_workers, "folder": args.output_dir}
    options["provenance"] = {**version, "dataset": protocol.name, "split": protocol.split}
    seen = {} if features is None else {"features": features.description}
    input_protocol, pair_scorer = processor.input_protocol(**seen), None
    if dataset.task == "retrieval" and is_pair_scorer(model):
        evaluator: Any = PairScoringEvaluator(processor, cache_gigabytes=args.cache_gigabytes, **options)
    else:
        evaluator = EVALUATORS[dataset.task](processor, **options)
    if args.rerank:
        pair_scorer, evaluator = _rerank(args, model, evaluator, options)
        input_protocol |= evaluator.input_protocol()
    if args.output_dir and not args.overwrite:
        check_earlier_results(args.output_dir / RESULTS, version["version"], protocol, input_protocol, finished=False)
    use_cpu = args.cpu or not torch.accelerator.is_available()
    accelerator = Accelerator(cpu=use_cpu, mixed_precision=args.mixed_precision)
    if pair_scorer is not None:
        accelerator.prepare_model(pair_scorer, evaluation_mode=True)
    scores = evaluator(accelerator.prepare_model(model, evaluation_mode=True), records, accelerator)
    accelerator.wait_for_everyone()
    accelerator.end_training()  # leaves the process group: the rest is the work of one process
    if accelerator.is_main_process:
        if dataset.task == "retrieval":
            settings = {**evaluator.settings, **({"querybank": args.querybank} if args.querybank else {})}
            saved = SavedSimilarity(args.model, str(version["version"]), protocol, settings, evaluator.tensors)
            _report_similarity(args, saved, scores)
        else:
            facts = {"model": args.model, "version": str(version["version"])}
            summary = {"scores": {**scores, **scores["raw"].get("overall", {})}, **evaluator.counts}
            _report(args, facts, protocol, evaluator.settings, scores, evaluator.save, summary)
        evaluator.remove_parts()


def _rerank(args: Namespace, model: Any, first: Any, options: Mapping[str, Any]) -> tuple[Any, RerankingEvaluator]:
    """The pair scorer, and an evaluator that has it read again what the first one finds."""
    pair_scorer, processor = load_model_and_processor(args.rerank)
    if type(first) is not RetrievalEvaluator or not is_pair_scorer(pair_scorer):
        raise ValueError(
            f"--rerank has {args.rerank} ({type(pair_scorer).__name__}) read again what --model {args.model} "
            f"({type(model).__name__}) finds; the first must score pairs, and the second must embed them."
        )
    provenance = {**options["provenance"], "pair scorer": model_version(args.rerank, pair_scorer.config)}
    kept = {name: options[name] for name in ("batch_size", "num_workers", "folder", "ties")}
    kept |= {"on_broken_video": options.get("on_broken_video", "raise"), "provenance": provenance}
    second = PairScoringEvaluator(processor, cache_gigabytes=args.cache_gigabytes, **kept)
    return pair_scorer, RerankingEvaluator(first, second, pair_scorer, args.rerank, args.rerank_top)


def _report_similarity(args: Namespace, saved: SavedSimilarity, scores: Scores) -> None:
    settings = {**saved.settings, "ties": args.ties, "post-processing": saved.post_processing}
    facts = {"model": saved.model, "version": saved.version}
    _report(args, facts, saved.protocol, settings, scores, lambda folder: saved.save(folder / SIMILARITY), {})


def _report(
    args: Namespace,
    facts: Mapping[str, str],
    protocol: Protocol,
    settings: Mapping[str, str | int],
    scores: Scores,
    save: Callable[[Path], None],
    summary: Mapping[str, Any],
) -> None:
    """Print the scores; where the options say so, save them (with `summary` in results.json) and update the card."""
    line = f"{facts['model']} on {protocol_line(protocol, settings)}"
    print(f"{line}\n\n{score_table(scores)}")
    if args.output_dir:
        if not args.overwrite:
            check_earlier_results(args.output_dir / RESULTS, facts["version"], protocol, settings, finished=True)
        args.output_dir.mkdir(parents=True, exist_ok=True)
        save(args.output_dir)
        results = {
            "line": line,
            **facts,
            "dataset": asdict(protocol),
            "settings": settings,
            "scores": scores,
            **summary,
        }
        with atomic_file(args.output_dir / RESULTS) as temporary:
            temporary.write_text(json.dumps(results, indent=2), encoding="utf-8")
    if args.write_card:
        write_evaluation(
            args.model,
            dataset=protocol.name,
            split=protocol.split,
            scores=scores,
            protocol={**protocol.facts, **settings},
            task=protocol.task,
        )


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
