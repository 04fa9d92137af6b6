"""
Write captions of the segments of a video, which may have subtitles.

  hf-videolang caption talk.mp4 --model hero-tvc --every 10 --features talk.npy
  hf-videolang caption talk.mp4 --model hero-tvc --segments 12-19.5 40-55 --num-beams 4 --format json
  hf-videolang caption talk.mp4 --model hero-tvc --every 10 --format srt > seen.srt

Without --segments and --every, it writes one caption of the whole video, which the model must read at once. Segments
of a longer video are read in overlapping windows. The format srt is a subtitle file of what is seen.
A caption of the middle frame of each of many videos, for pre-training, is `hf-videolang data caption-frames`.
Exit code 0; 1 if the video does not decode or its subtitles cannot be read; 2 if model, features or options cannot be
used.
"""

import json
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

from hf_videolang.commands.running import on_device
from hf_videolang.commands.subtitled_video import add_feature_arguments, chosen_subtitles
from hf_videolang.console import print_error
from hf_videolang.data.stores.feature_store import MissingFeaturesError
from hf_videolang.hub.heads import CAPTION_HEAD, check_writes_captions
from hf_videolang.hub.loading import load_model_and_processor
from hf_videolang.inference.captioning import caption_segments, even_segments
from hf_videolang.inference.first_use import features_of_files
from hf_videolang.inference.presets import read_weights
from hf_videolang.video import VideoDecodingError
from hf_videolang.video.subtitles import SubtitleError, subtitle_text


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("video", type=Path, metavar="FILE", help="a video")
    parser.add_argument("--model", required=True, help="model folder or Hub id, which writes captions")
    add_feature_arguments(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--segments", nargs="+", type=_segment, metavar="START-END", help="seconds to caption, such as 12-19.5"
    )
    which.add_argument(
        "--every", type=float, metavar="SECONDS", help="caption the whole video in segments of this length"
    )
    parser.add_argument("--num-beams", type=int, help="captions followed at once (default: as the model was saved)")
    parser.add_argument("--format", choices=("table", "json", "srt"), default="table", help="default: %(default)s")
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU")


def main(args: Namespace) -> int:
    if not args.video.exists():
        raise ValueError(f"{args.video} does not exist.")
    if args.num_beams is not None and args.num_beams < 1:
        raise ValueError(
            f"--num-beams is {args.num_beams}; expected the number of captions followed at once, 1 or more."
        )
    model: Any
    model, processor = load_model_and_processor(args.model, head=CAPTION_HEAD)
    check_writes_captions(model)
    model = on_device(model, args.cpu)
    subtitles = chosen_subtitles(args.subtitles, args.video)
    options = {} if args.num_beams is None else {"num_beams": args.num_beams}
    weights = read_weights(args.extractor)
    with features_of_files([args.video], model, processor, args.features, weights, cpu=args.cpu) as (rows_of, store):
        try:
            features = rows_of(args.video)
            seconds = len(features) * processor.seconds_per_feature
            whole = [(0.0, seconds)]
            segments = args.segments or (whole if args.every is None else even_segments(seconds, args.every))
            captions = caption_segments(model, processor, features, subtitles, segments, **options)
        except (SubtitleError, MissingFeaturesError, VideoDecodingError) as error:
            print_error(f"{args.video}: {error}")
            return 1
        protocol = processor.input_protocol(store.description if store else None)
    if args.format == "json":
        content = {"video": str(args.video), "captions": [asdict(one) for one in captions], "protocol": protocol}
        print(json.dumps(content, ensure_ascii=False))
    elif args.format == "srt":
        in_order = sorted(captions, key=lambda one: one.start)  # as players expect it
        print(subtitle_text((one.text, one.start, one.end) for one in in_order))
    else:
        for one in captions:
            print(f"{one.start:>8.1f} {one.end:>8.1f}  {one.text}")
    return 0


def _segment(text: str) -> tuple[float, float]:
    try:
        start, end = map(float, text.split("-"))
        if isfinite(start + end):
            return start, end
    except ValueError:
        pass
    raise ArgumentTypeError(f"{text!r} is no segment; expected seconds as START-END, such as 12-19.5")
