"""
Find the moments that a sentence means, in a subtitled video or in a folder of videos.

  hf-videolang moments talk.mp4 "she explains the second slide" --model hero-tvr --extractor slowfast=slowfast-r50
  hf-videolang moments my_folder "crack the eggs" --model hero-how2r --features features --store encodings
  hf-videolang moments talk.mp4 "a man sits" --model hero-tvr --features talk.npy

Prints video, start, end and score of the best moments. A video longer than the model reads is divided into windows of
a minute. The features that the model names are extracted, unless --features has them.
With --store, features and encoded videos are kept: the next query decodes and encodes nothing, and a video whose file
or subtitles have changed is read anew.
Exit code 0; 1 if a video does not decode or its subtitles cannot be read; 2 if model, features or options cannot be
used.
"""

import json
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from hf_videolang.commands.running import on_device
from hf_videolang.commands.subtitled_video import add_feature_arguments, chosen_subtitles, described
from hf_videolang.console import print_error
from hf_videolang.data.stores.feature_store import MissingFeaturesError
from hf_videolang.data.video_files import is_video, list_files
from hf_videolang.hub.heads import RETRIEVAL_HEAD, check_finds_moments
from hf_videolang.hub.loading import load_model_and_processor
from hf_videolang.hub.model_version import model_version
from hf_videolang.inference.first_use import features_of_files
from hf_videolang.inference.moment_search import EncodingStore, encode_video, file_facts, search_moments
from hf_videolang.inference.presets import read_weights
from hf_videolang.video import VideoDecodingError
from hf_videolang.video.subtitles import SubtitleError


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("video", type=Path, metavar="FILE_OR_FOLDER", help="a video, or a folder with videos")
    parser.add_argument("query", help="a sentence")
    parser.add_argument("--model", required=True, help="model folder or Hub id, which finds moments")
    add_feature_arguments(parser)
    parser.add_argument("--store", type=Path, metavar="DIR", help="keep features and encoded videos in this folder")
    parser.add_argument("--top", type=int, default=5, help="moments to print (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU")


def main(args: Namespace) -> int:
    videos = [path for path in list_files(args.video) if is_video(path)] if args.video.is_dir() else [args.video]
    if not videos or not videos[0].exists():
        raise ValueError(f"{args.video} is no video and holds none.")
    if len(videos) > 1 and args.subtitles not in ("auto", "none"):
        raise ValueError("--subtitles is a file, but there are several videos; give auto, or one video.")
    if args.top < 1:
        raise ValueError(f"--top is {args.top}; expected the number of moments to print, 1 or more.")
    model: Any
    model, processor = load_model_and_processor(args.model, head=RETRIEVAL_HEAD)
    check_finds_moments(model)
    model = on_device(model, args.cpu)
    features = args.features or (args.store and args.store / "features")
    weights, encoded, num_unusable = read_weights(args.extractor), {}, 0
    with features_of_files(videos, model, processor, features, weights, cpu=args.cpu) as (read_rows, feature_store):
        protocol = processor.input_protocol(feature_store.description if feature_store else None)
        store = None
        if args.store:
            store = EncodingStore(args.store, {**model_version(args.model, model.config), **protocol})
        for path in videos:
            subtitles = chosen_subtitles(args.subtitles, path)

            def encode(path=path, subtitles=subtitles) -> dict[str, Tensor]:
                return encode_video(model, processor, read_rows(path), subtitles)

            try:
                facts = {"files": file_facts([path, subtitles, None if feature_store else features])}
                encoded[str(path)] = store.get(str(path), facts, encode) if store else encode()
            except (SubtitleError, MissingFeaturesError, VideoDecodingError, FileNotFoundError) as error:
                num_unusable += 1
                print_error(f"{path}: {error}")
    found = search_moments(model, processor, encoded, args.query, args.top) if encoded else []
    if args.json:
        content = {"query": args.query, "moments": [asdict(moment) for moment in found], "protocol": protocol}
        print(json.dumps(content, ensure_ascii=False))
    elif encoded:
        print(f"{len(encoded)} video{'s' * (len(encoded) != 1)}; {described(protocol)}\n")
        for moment in found:
            print(f"{_clock(moment.start):>9} {_clock(moment.end):>9} {moment.score:>10.3g}  {moment.video}")
    return 1 if num_unusable else 0


def _clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{seconds % 60:04.1f}"
