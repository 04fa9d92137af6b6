"""
Score a model in a benchmark's protocol, or score a saved similarity matrix again.

  hf-videolang evaluate --model clip-vip-b16 --dataset msrvtt-1ka --data-dir /data/msrvtt --output-dir results
  hf-videolang evaluate --model clip-vip-b16 --dataset my_folder --querybank train
  hf-videolang evaluate --similarity results/similarity.safetensors --ties pessimistic

On several processes: accelerate launch -m hf_videolang.cli evaluate ... (--output-dir on a disk that all nodes see)
Prints the protocol, then recalls in per cent and ranks, raw and post-processed, in separate columns.

With --output-dir, encoded batches are kept there, in `embeddings` and `embeddings_querybank`: the same command after a
kill encodes only what is missing, on however many processes, and ends with the same numbers. These folders go when the
results are there; until then another model, processor, data set, batch size, precision or kind of device is refused.
One evaluation at a time may write to an output folder. Without --output-dir nothing is kept.
"""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from accelerate import Accelerator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm import tqdm
from transformers import AutoConfig

from hf_videolang.atomic_files import atomic_file
from hf_videolang.console import print_error
from hf_videolang.data.load_dataset import load_dataset
from hf_videolang.data.protocol import Protocol
from hf_videolang.data.records import name_some
from hf_videolang.evaluation.batch_parts import EmbeddingParts
from hf_videolang.evaluation.retrieval import (
    PairEmbeddings,
    encode_pairs,
    evaluation_loader,
    protocol_line,
    score_similarity,
    score_table,
)
from hf_videolang.hub.evaluated_card import load_card, write_evaluation
from hf_videolang.hub.loading import errors_naming, load_model_and_processor
from hf_videolang.hub.model_version import RESULTS, SIMILARITY, model_version
from hf_videolang.metrics.retrieval import Ties
from hf_videolang.video import VideoDecodingError

SCORED, BANK = "embeddings", "embeddings_querybank"  # what is encoded, and the folders of its parts


def add_arguments(parser: ArgumentParser) -> None:
    what = parser.add_argument_group("what to score")
    what.add_argument("--model", help="model folder or Hub id")
    what.add_argument("--dataset", help="a benchmark such as msrvtt-1ka, or a folder with videos and metadata")
    what.add_argument("--data-dir", help="folder with the benchmark's videos and annotations")
    what.add_argument("--split", help="default: test; of a folder without one, everything")
    what.add_argument("--similarity", metavar="FILE", help="a saved similarity.safetensors instead of all these")
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
    run.add_argument("--batch-size", type=int, default=16, help="videos a process at once (default: %(default)s)")
    run.add_argument("--num-workers", type=int, default=2, help="decoding processes (default: %(default)s)")
    run.add_argument("--mixed-precision", choices=("no", "bf16", "fp16"), default="no", help="default: %(default)s")
    run.add_argument("--cpu", action="store_true", help="do not use a GPU")
    out = parser.add_argument_group("results")
    out.add_argument(
        "--output-dir",
        type=Path,
        help="gets similarity.safetensors and results.json; a killed run continues there (without it: from the start)",
    )
    out.add_argument("--write-card", action="store_true", help="enter the results into the model's card")


def main(args: Namespace) -> int:
    """Returns 0; 2 if options, model or data cannot be used; 1 if a video is broken or something cannot be written."""
    try:
        _check_usage(args)
        accelerator = Accelerator(
            cpu=args.cpu or not torch.accelerator.is_available(), mixed_precision=args.mixed_precision
        )
        if args.similarity:
            saved = _read(Path(args.similarity))
            if args.model:
                _check_model(args, saved)
            measure, kept = (lambda: saved), {}
        else:
            plan = _plan(args, accelerator)
            measure, kept = partial(_encode, args, plan, accelerator), plan.parts
        if args.write_card:
            load_card(args.model)  # one that cannot be read is better told before the work
    except (ValueError, OSError) as error:
        return _fail(2, str(error))
    try:
        evaluation = measure()
        accelerator.wait_for_everyone()
        accelerator.end_training()  # the rest needs no other process, and none should abort in a thread of its group
        if accelerator.is_main_process:
            _report(args, evaluation)
            for parts in kept.values():
                parts.remove()
    except VideoDecodingError as error:
        remedy = "--on-broken-video skip leaves it out; `hf-videolang data check` lists every such video"
        return _fail(1, f"{error}; {remedy}.")
    except ValueError as error:
        return _fail(2, str(error))
    except OSError as error:
        return _fail(1, f"{error}. Batches kept in --output-dir stay; give the same command again.")
    return 0


def _fail(code: int, reason: str) -> int:
    print_error(reason)
    return code


def _report(args: Namespace, evaluation: "_Evaluation") -> None:
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
            "version": evaluation.version,
            "dataset": asdict(protocol),
            "settings": settings,
            "scores": scores,
        }
        _save(args.output_dir, evaluation, results)
    if args.write_card:
        write_evaluation(
            args.model,
            dataset=protocol.name,
            split=protocol.split,
            scores=scores,
            protocol=protocol.facts | settings,
        )


@dataclass(frozen=True)
class _Evaluation:
    """What was measured, before anything is counted.

    Attributes:
        model: folder or Hub id.
        version: see `model_version`.
        protocol: of the data set.
        settings: what the model saw.
        tensors: `similarity` `[texts, videos]`, `labels` `[texts]` and, for QB-Norm, `text_bank` `[bank, videos]` and
            `video_bank` `[bank, texts]`.
    """

    model: str
    version: str
    protocol: Protocol
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
        raise ValueError(f"--querybank is {args.querybank}, the split that is scored; take another, e.g. train.")
    if args.querybank_size < 1:
        raise ValueError(f"--querybank-size is {args.querybank_size}; expected at least 1 video.")
    if args.batch_size < 1:
        raise ValueError(f"--batch-size is {args.batch_size}; expected at least 1 video.")
    if args.num_workers < 0:
        raise ValueError(f"--num-workers is {args.num_workers}; expected 0 (none) or more processes.")


def _check_model(args: Namespace, evaluation: "_Evaluation") -> None:
    """A saved matrix must not become the result of another model."""
    if Path(args.model).resolve() != Path(evaluation.model).resolve():
        raise ValueError(
            f"{args.similarity} was computed with {evaluation.model}, not with --model {args.model}; name that model, or "
            "leave --model out."
        )
    with errors_naming(args.model):
        version = str(model_version(args.model, AutoConfig.from_pretrained(args.model))["version"])
    if version != evaluation.version:
        raise ValueError(
            f"{args.model} has changed since {args.similarity} was computed ({evaluation.version} then, {version} now); "
            "evaluate it anew, or leave --model out."
        )


@dataclass(frozen=True)
class _Plan:
    """Everything that input of the user can be wrong for, before the first video.

    Attributes:
        records: what is to be encoded, `"embeddings"` and perhaps `"embeddings_querybank"`.
        parts: what of it is kept on the disk; empty without an output folder.
    """

    version: dict[str, Any]
    protocol: Protocol
    model: Any
    processor: Any
    records: dict[str, Any]
    parts: dict[str, EmbeddingParts]


def _plan(args: Namespace, accelerator: Accelerator) -> _Plan:
    dataset, protocol = load_dataset(args.dataset, args.data_dir, args.split)
    records = {SCORED: dataset}
    if args.querybank:
        records[BANK] = _querybank(args, set(dataset["video_id"]))
    model, processor = load_model_and_processor(args.model, args.num_frames, args.max_length)
    version = model_version(args.model, model.config)
    parts = {}
    if args.output_dir:
        provenance = {
            **version,
            **processor.input_protocol(),
            "dataset": protocol.name,
            "split": protocol.split,
            "mixed precision": accelerator.mixed_precision,
            "device": accelerator.device.type,
        }
        for title, chosen in records.items():
            parts[title] = EmbeddingParts(
                args.output_dir / title,
                chosen,
                args.batch_size,
                accelerator,
                {**provenance, "split": args.querybank if title == BANK else protocol.split},
                skipping=args.on_broken_video == "skip",
            )
    return _Plan(version, protocol, model, processor, records, parts)


def _encode(args: Namespace, plan: _Plan, accelerator: Accelerator) -> _Evaluation:
    model = accelerator.prepare_model(plan.model.eval(), evaluation_mode=True)

    def encode(title: str) -> PairEmbeddings:
        records, parts = plan.records[title], plan.parts.get(title)
        loader = evaluation_loader(
            records,
            plan.processor,
            accelerator,
            batch_size=args.batch_size,
            num_workers=args.num_workers,
            on_broken_video=args.on_broken_video,
            first_rows=parts.missing if parts else None,
        )
        done = sum(len(part["video_index"]) for part in parts.stored) if parts else 0
        return encode_pairs(
            model,
            _with_progress(loader, title.replace("_", " of the "), done, len(records), accelerator),
            records,
            accelerator,
            parts,
        )

    embeddings = encode(SCORED)
    settings = plan.processor.input_protocol()
    if args.mixed_precision != "no":
        settings["precision"] = args.mixed_precision
    if embeddings.num_broken_videos:
        settings["left out"] = f"{embeddings.num_broken_videos} videos that do not decode"
    tensors = {"similarity": embeddings.similarity, "labels": embeddings.labels}
    if BANK in plan.records:
        bank = encode(BANK)
        settings["querybank"] = args.querybank
        tensors["text_bank"] = bank.similarity_to(embeddings.video_embeds)
        tensors["video_bank"] = embeddings.similarity_to(bank.video_embeds).T
    return _Evaluation(args.model, str(plan.version["version"]), plan.protocol, settings, tensors)


def _querybank(args: Namespace, scored: set[str]) -> Any:
    """Records of the bank, which must not know the queries that are scored."""
    records, _ = load_dataset(args.dataset, args.data_dir, args.querybank)
    if shared := scored.intersection(records["video_id"]):
        raise ValueError(
            f"--querybank {args.querybank} holds {len(shared)} of the {len(scored)} videos that are scored, e.g. "
            f"{min(shared)}; take a split without them, e.g. train."
        )
    rows = torch.linspace(0, len(records) - 1, min(args.querybank_size, len(records))).round().long()
    return records.select(rows.tolist())


def _with_progress(loader: Any, title: str, done: int, total: int, accelerator: Accelerator) -> Iterator[Any]:
    with tqdm(total=total, initial=done, desc=title, unit="clip", disable=not accelerator.is_main_process) as bar:
        for batch in loader:
            yield batch
            bar.update(min(len(batch["video_index"]) * accelerator.num_processes, total - bar.n))


def _post_processing(tensors: dict[str, torch.Tensor]) -> str:
    used = "DSL over all texts of the split"
    if "text_bank" in tensors:
        texts, videos = len(tensors["text_bank"]), len(tensors["video_bank"])
        used += f", QB-Norm with banks of {texts} texts and {videos} videos"
    return used


def _save(folder: Path, evaluation: _Evaluation, results: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "model": evaluation.model,
        "version": evaluation.version,
        "dataset": json.dumps(asdict(evaluation.protocol)),
        "settings": json.dumps(evaluation.settings),
    }
    tensors = {name: tensor.contiguous() for name, tensor in evaluation.tensors.items()}
    with atomic_file(folder / SIMILARITY) as temporary:
        save_file(tensors, temporary, metadata=about)
    with atomic_file(folder / RESULTS) as temporary:
        temporary.write_text(json.dumps(results, indent=2), encoding="utf-8")


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
    try:
        _ = tensors["similarity"], tensors["labels"]
        protocol, settings = (
            Protocol(**json.loads(about["dataset"])),
            dict(json.loads(about["settings"])),
        )
        return _Evaluation(about["model"], about["version"], protocol, settings, tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} holds {name_some(sorted(tensors))} and says {about or 'nothing'} about them; expected a similarity.safetensors "
            "that `hf-videolang evaluate --output-dir` wrote."
        ) from error
