"""
Score a model in a benchmark's protocol, or score a saved similarity matrix again.

  hf-videolang evaluate --model clip-vip-b16 --dataset msrvtt-1ka --data-dir /data/msrvtt --output-dir results
  hf-videolang evaluate --model clip-vip-b16 --dataset my_folder --querybank train
  hf-videolang evaluate --similarity results/similarity.safetensors --ties pessimistic

On several processes: accelerate launch -m hf_videolang.cli evaluate ...
Prints the protocol, then recalls in per cent and ranks, raw and post-processed, in separate columns.
"""

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from accelerate import Accelerator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from hf_videolang.data.records import RetrievalProtocol
from hf_videolang.data.retrieval_datasets import load_retrieval_dataset
from hf_videolang.hub.evaluation_results import write_evaluation
from hf_videolang.metrics.retrieval import Ties
from hf_videolang.video import VideoDecodingError

from .load_model import load_model_and_processor
from .retrieval_evaluation import (
    PairEmbeddings,
    encode_pairs,
    evaluation_loader,
    input_protocol,
    protocol_line,
    score_similarity,
    score_table,
)


def add_arguments(parser: ArgumentParser) -> None:
    what = parser.add_argument_group("what to score")
    what.add_argument("--model", help="model folder or Hub id")
    what.add_argument(
        "--dataset", help="a benchmark such as msrvtt-1ka, or a folder with videos and metadata"
    )
    what.add_argument("--data-dir", help="folder with the benchmark's videos and annotations")
    what.add_argument("--split", help="default: test; of a folder without one, everything")
    what.add_argument(
        "--similarity", metavar="FILE", help="a saved similarity.safetensors instead of all these"
    )
    how = parser.add_argument_group("protocol")
    how.add_argument("--num-frames", type=int, help="frames of a clip (default: the model's own)")
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
        help="also QB-Norm, with the captions and videos of this split of the data set as banks, e.g. train",
    )
    how.add_argument(
        "--querybank-size",
        type=int,
        default=1000,
        help="videos of that split, evenly taken (default: %(default)s)",
    )
    how.add_argument(
        "--on-broken-video",
        choices=("raise", "skip"),
        default="raise",
        help="a video that does not decode stops the run, or leaves the gallery with its captions and is counted",
    )
    run = parser.add_argument_group("running")
    run.add_argument(
        "--batch-size", type=int, default=16, help="videos a process at once (default: %(default)s)"
    )
    run.add_argument("--num-workers", type=int, default=2, help="decoding processes (default: %(default)s)")
    run.add_argument(
        "--mixed-precision", choices=("no", "bf16", "fp16"), default="no", help="default: %(default)s"
    )
    run.add_argument("--cpu", action="store_true", help="do not use a GPU")
    out = parser.add_argument_group("results")
    out.add_argument("--output-dir", type=Path, help="gets similarity.safetensors and results.json")
    out.add_argument("--write-card", action="store_true", help="enter the results into the model's card")


def main(args: Namespace) -> int:
    try:
        _check_usage(args)
        accelerator = Accelerator(
            cpu=args.cpu or not torch.accelerator.is_available(), mixed_precision=args.mixed_precision
        )
        evaluation = _read(Path(args.similarity)) if args.similarity else _encode(args, accelerator)
        _check_model(args, evaluation)
    except (ValueError, OSError) as error:
        print(f"hf-videolang evaluate: {error}", file=sys.stderr)
        return 1
    except VideoDecodingError as error:
        remedy = "--on-broken-video skip leaves it out; `hf-videolang data check` lists every such video"
        print(f"hf-videolang evaluate: {error}; {remedy}.", file=sys.stderr)
        return 1
    accelerator.wait_for_everyone()
    accelerator.end_training()  # the rest needs no other process, and none should abort in a thread of its group
    if not accelerator.is_main_process:
        return 0
    tensors, protocol = evaluation.tensors, evaluation.protocol
    settings = {**evaluation.settings, "ties": args.ties, "post-processing": _post_processing(tensors)}
    scores = score_similarity(
        tensors["similarity"],
        tensors["labels"],
        args.ties,
        tensors.get("text_bank"),
        tensors.get("video_bank"),
    )
    line = f"{evaluation.model} on {protocol_line(protocol, settings)}"
    print(f"{line}\n\n{score_table(scores)}")
    if args.output_dir:
        results = {
            "line": line,
            "model": evaluation.model,
            "dataset": asdict(protocol),
            "settings": settings,
            "scores": scores,
        }
        _save(args.output_dir, evaluation, results)
    if args.write_card:
        write_evaluation(
            args.model, dataset=protocol.name, split=protocol.split, scores=scores, protocol=settings
        )
    return 0


@dataclass(frozen=True)
class _Evaluation:
    """What was measured, before anything is counted.

    Attributes:
        model: folder or Hub id.
        protocol: of the data set.
        settings: what the model saw.
        tensors: `similarity` `[texts, videos]`, `labels` `[texts]` and, for QB-Norm, `text_bank` `[bank, videos]` and
            `video_bank` `[bank, texts]`.
    """

    model: str
    protocol: RetrievalProtocol
    settings: dict[str, str | int]
    tensors: dict[str, torch.Tensor]


def _check_usage(args: Namespace) -> None:
    if args.similarity:
        given = [
            name
            for name in ("dataset", "data_dir", "split", "querybank", "num_frames", "max_length")
            if getattr(args, name)
        ]
        if given:
            raise ValueError(f"--similarity holds {', '.join(given)} already; leave these options out.")
    elif not (args.model and args.dataset):
        raise ValueError("give --model and --dataset, or --similarity with a saved matrix.")
    if args.write_card and not args.model:
        raise ValueError("--write-card needs --model, the folder or Hub id that the card belongs to.")
    if args.querybank and args.querybank == (args.split or "test"):
        raise ValueError(
            f"--querybank is {args.querybank}, the split that is scored; take another, e.g. train."
        )
    if args.querybank_size < 1:
        raise ValueError(f"--querybank-size is {args.querybank_size}; expected at least 1 video.")


def _check_model(args: Namespace, evaluation: "_Evaluation") -> None:
    """A saved matrix must not become the result of another model."""
    if args.model and Path(args.model).resolve() != Path(evaluation.model).resolve():
        raise ValueError(
            f"{args.similarity} was computed with {evaluation.model}, not with --model {args.model}; name that model, or "
            "leave --model out."
        )


def _encode(args: Namespace, accelerator: Accelerator) -> _Evaluation:
    dataset, protocol = load_retrieval_dataset(args.dataset, args.data_dir, args.split)
    bank_records = _querybank(args, set(dataset["video_id"])) if args.querybank else None
    model, processor = load_model_and_processor(args.model, args.num_frames, args.max_length)
    model = accelerator.prepare_model(model.eval(), evaluation_mode=True)

    def encode(records: Any, title: str) -> PairEmbeddings:
        loader = evaluation_loader(
            records,
            processor,
            accelerator,
            batch_size=args.batch_size,
            num_workers=args.num_workers,
            on_broken_video=args.on_broken_video,
        )
        return encode_pairs(
            model, _with_progress(loader, title, len(records), accelerator), records, accelerator
        )

    embeddings = encode(dataset, f"{protocol.name}, {protocol.split}")
    settings = input_protocol(processor)
    if embeddings.num_broken_videos:
        settings["left out"] = f"{embeddings.num_broken_videos} videos that do not decode"
    tensors = {"similarity": embeddings.similarity, "labels": embeddings.labels}
    if bank_records is not None:
        bank = encode(bank_records, f"querybank, {args.querybank}")
        tensors["text_bank"] = bank.text_embeds @ embeddings.video_embeds.T
        tensors["video_bank"] = bank.video_embeds @ embeddings.text_embeds.T
    return _Evaluation(args.model, protocol, settings, tensors)


def _querybank(args: Namespace, scored: set[str]) -> Any:
    """Records of the bank, which must not know the queries that are scored."""
    records, _ = load_retrieval_dataset(args.dataset, args.data_dir, args.querybank)
    if shared := scored.intersection(records["video_id"]):
        raise ValueError(
            f"--querybank {args.querybank} holds {len(shared)} of the {len(scored)} videos that are scored, e.g. "
            f"{min(shared)}; take a split without them, e.g. train."
        )
    rows = torch.linspace(0, len(records) - 1, min(args.querybank_size, len(records))).round().long()
    return records.select(rows.tolist())


def _with_progress(loader: Any, title: str, num_videos: int, accelerator: Accelerator) -> Iterator[Any]:
    with tqdm(total=num_videos, desc=title, unit="clip", disable=not accelerator.is_main_process) as bar:
        for batch in loader:
            yield batch
            done = len(batch["video_index"]) * accelerator.num_processes
            bar.update(min(done, num_videos - bar.n))  # the last batches hold some rows twice


def _post_processing(tensors: dict[str, torch.Tensor]) -> str:
    used = "DSL over all texts of the split"
    if "text_bank" in tensors:
        texts, videos = len(tensors["text_bank"]), len(tensors["video_bank"])
        used += f", QB-Norm with banks of {texts} texts and {videos} videos"
    return used


def _save(folder: Path, evaluation: _Evaluation, results: dict[str, Any]) -> None:
    """Both files under another name first: what is there is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "model": evaluation.model,
        "dataset": json.dumps(asdict(evaluation.protocol)),
        "settings": json.dumps(evaluation.settings),
    }
    tensors = {name: tensor.contiguous() for name, tensor in evaluation.tensors.items()}
    save_file(tensors, folder / "similarity.partial", metadata=about)
    (folder / "similarity.partial").replace(folder / "similarity.safetensors")
    (folder / "results.partial").write_text(json.dumps(results, indent=2), encoding="utf-8")
    (folder / "results.partial").replace(folder / "results.json")


def _read(path: Path) -> _Evaluation:
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file {path}; --output-dir of an evaluation leaves similarity.safetensors."
        )
    try:
        with safe_open(path, "pt") as file:
            about, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from error
    if not {"similarity", "labels"} <= tensors.keys() or not {"model", "dataset", "settings"} <= about.keys():
        raise ValueError(
            f"{path} holds {sorted(tensors)} and says {sorted(about)} about them; expected a similarity.safetensors "
            "that `hf-videolang evaluate --output-dir` wrote."
        )
    protocol = RetrievalProtocol(**json.loads(about["dataset"]))
    return _Evaluation(about["model"], protocol, json.loads(about["settings"]), tensors)
