"""
Say which seconds of a video show what.

  hf-videolang segment lesson.mp4 --labels steps.txt --model videoclip
  hf-videolang segment lesson.mp4 --query "the onion goes into the pan" --model videoclip

With --labels, each second gets the label that fits best, and equal neighbours are joined. With --query, the best
stretches of 3 seconds and more are listed, which do not overlap. Scores are products without a scale: compare them
within one video.
"""

import json
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from math import isnan, nan
from pathlib import Path
from typing import Any

from hf_videolang.atomic_files import atomic_file
from hf_videolang.commands.running import on_device
from hf_videolang.console import print_error
from hf_videolang.data.annotation_text import in_layout
from hf_videolang.data.batches.clip_reader import check_features
from hf_videolang.data.stores.feature_store import FeatureStore
from hf_videolang.hub.loading import load_model_and_processor
from hf_videolang.inference.segmentation import (
    VideoPart,
    background_threshold,
    best_stretches,
    embed_texts,
    label_parts,
    score_seconds,
)
from hf_videolang.inference.timeline import draw_timeline
from hf_videolang.video import VideoDecodingError

PICTURES = (".png", ".svg", ".pdf")


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("video", metavar="VIDEO", help="file of any length")
    parser.add_argument("--model", required=True, help="model folder or Hub id")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--labels", type=Path, metavar="FILE", help="text file with a label on each line")
    what.add_argument("--query", action="append", metavar="TEXT", help="sentence to look for; may be given repeatedly")
    parser.add_argument(
        "--background",
        default="none",
        help="seconds whose best score is not above this number get no label; 'original' takes the threshold of the "
        "paper, under which the released weights call nearly all background (default: %(default)s)",
    )
    parser.add_argument("--top", type=int, default=5, help="stretches for each --query (default: %(default)s)")
    parser.add_argument("--features", metavar="DIR", help="stored features with this video, read in place of its file")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write parts, labels and the scores of all seconds")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw parts and scores; .png, .svg or .pdf")
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU")


def main(args: Namespace) -> int:
    """Returns 0; 1 if the video is broken; 2 if options, model or features cannot be used."""
    texts = _read_queries(args) if args.labels is None else _read_labels(args.labels)
    threshold = _threshold(args)
    for file in filter(None, (args.json, args.picture)):
        if not file.parent.is_dir():
            raise ValueError(f"{file} cannot be written: there is no folder {file.parent}; make it first.")
    if args.picture and args.picture.suffix not in PICTURES:
        raise ValueError(f"--picture is {args.picture}; expected a file ending in {', '.join(PICTURES)}.")
    model: Any
    model, processor = load_model_and_processor(args.model)
    store = None
    if args.features:
        store = FeatureStore(args.features)
        check_features(store, model, processor)
    model = on_device(model, args.cpu)
    text_embeds = embed_texts(texts, model, processor)
    if args.background == "original":
        threshold = background_threshold(text_embeds)
    try:
        features = None if store is None else store.features(store.id_of(args.video))
        scores = score_seconds(args.video, text_embeds, model, processor, features)
    except VideoDecodingError as error:
        print_error(f"{error}.")
        return 1
    if args.query:
        parts = [part for i, query in enumerate(texts) for part in best_stretches(scores[:, i], query, args.top)]
    else:
        parts = label_parts(scores, texts, threshold)
    table = _table(parts) if parts or args.query else "every second is background"
    source = "" if store is None else f"; features: {store.description}"
    print(f"{args.video}: {len(scores)} seconds, scored by {args.model}{source}\n\n{table}")
    if args.json:
        content = {"parts": [asdict(part) for part in parts], "labels": texts, "scores": scores.tolist()}
        with atomic_file(args.json) as temporary:
            temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
    if args.picture:
        draw_timeline(args.picture, parts, texts, scores)
    return 0


def _read_labels(file: Path) -> list[str]:
    with in_layout(file, "labels", "a text file in UTF-8 with a label on each line"):
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    if not any(lines):
        raise ValueError(f"{file} has no labels; expected a text file with a label on each line.")
    return list(dict.fromkeys(line for line in lines if line))


def _read_queries(args: Namespace) -> list[str]:
    if not all(map(str.strip, args.query)):
        raise ValueError("a --query is empty; expected a sentence to look for.")
    if args.top < 1:
        raise ValueError(f"--top is {args.top}; expected the number of stretches for each --query, 1 or more.")
    return args.query


def _threshold(args: Namespace) -> float | None:
    """The number of --background, if it is one."""
    if args.background == "none":
        return None
    if args.query:
        raise ValueError(f"--background is {args.background}, but a --query has no background; leave it out.")
    if args.background == "original":
        return None
    try:
        threshold = float(args.background)
    except ValueError:
        threshold = nan
    if isnan(threshold):
        raise ValueError(f"--background is {args.background!r}; expected none, original, or a number.")
    return threshold


def _table(parts: list[VideoPart]) -> str:
    lines = [f"{'start':>8}{'end':>8}{'score':>10}  label"]
    lines += [f"{_clock(part.start):>8}{_clock(part.end):>8}{part.score:>10.2f}  {part.label}" for part in parts]
    return "\n".join(lines)


def _clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
