"""
Extract features of videos once: rows of S3D for each second, a vector for each clip of a two-tower model, or the
features that a benchmark's models were trained on (--preset).

  hf-videolang extract --model s3d --videos my_folder --output features
  hf-videolang extract --model s3d --videos youcook2 --data-dir /data/youcook2 --output features
  hf-videolang extract --model clip-vip-b16 --videos "/data/clips/*.tar" --output vectors
  hf-videolang extract --preset value-resnet152 --videos my_folder --output features
  hf-videolang extract --preset clip-vit_slowfast --extractor slowfast=slowfast-r50 --videos my_folder --output both

On several GPUs: accelerate launch -m hf_videolang.cli extract ...

`--features features` of other commands then reads the features in place of the videos. If a run is killed, or videos
were added, run the same command again, on any number of processes: it extracts what is missing. A file whose size has
changed is extracted again. A broken video is named with the reason; --retry-failed tries it again.

Exit code: 0 success, 1 some videos do not decode, 2 wrong usage or data that cannot be read.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

import torch

from hf_videolang.commands.running import add_running_arguments, end_processes, start_processes
from hf_videolang.data.load_dataset import find_dataset
from hf_videolang.data.shards.open_shards import Shard, VideoFolderShard, count_clips, find_shards
from hf_videolang.hub.loading import load_model, load_video_processor
from hf_videolang.inference.extraction import extract_features
from hf_videolang.inference.feature_extractor import FeatureExtractor
from hf_videolang.inference.preset_extractor import load_preset
from hf_videolang.inference.presets import presets, read_weights


def add_arguments(parser: ArgumentParser) -> None:
    what = parser.add_argument_group("what to extract")
    model = what.add_mutually_exclusive_group(required=True)
    model.add_argument("--model", help="model folder or Hub id")
    model.add_argument(
        "--preset",
        help="features that a benchmark's models read: "
        + ", ".join(f"{preset.name} (short: {preset.features})" for preset in presets().values())
        + "; or two short names joined by _, features of frames first",
    )
    what.add_argument(
        "--extractor",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="weights of a --preset, by its name; default: those that it names on the Hub or at torchvision",
    )
    what.add_argument(
        "--videos",
        required=True,
        help="a video folder; .tar or .parquet shards (folder, file, glob or Hub dataset); or a benchmark",
    )
    what.add_argument("--data-dir", help="folder with the videos and annotations of the benchmark")
    what.add_argument("--split", help="default: all splits")
    what.add_argument("--raw", action="store_true", help="leave rows of --model as it gives them (default: unit rows)")
    add_running_arguments(parser, batch_size=8, of="rows")
    results = parser.add_argument_group("results")
    results.add_argument(
        "--output", type=Path, required=True, help="feature store, new or to be continued; all nodes must see it"
    )
    results.add_argument(
        "--videos-per-part",
        type=int,
        default=16,
        help="videos per file; a kill costs at most this many per process (default: %(default)s)",
    )
    results.add_argument("--retry-failed", action="store_true", help="also try videos again that did not decode")


def main(args: Namespace) -> int:
    state = start_processes(args.cpu)
    options = {name: getattr(args, name) for name in ("videos_per_part", "num_workers", "retry_failed")}
    report = extract_features(_find(args), args.output, _extractors(args, state.device), **options)
    end_processes(state, report)
    return int(bool(report.broken))


def _extractors(args: Namespace, device: torch.device) -> Sequence[FeatureExtractor]:
    dtype = getattr(torch, args.dtype)
    if (args.preset and args.raw) or (args.model and args.extractor):
        raise ValueError("--raw belongs to --model, and --extractor to --preset; leave it out.")
    if args.preset:
        weights = read_weights(args.extractor)
        return load_preset(args.preset, weights, device=device, dtype=dtype, batch_size=args.batch_size)
    model, video_processor = load_model(args.model), load_video_processor(args.model)
    return [FeatureExtractor(model, video_processor, device, dtype, not args.raw, args.batch_size)]


def _find(args: Namespace) -> list[Shard]:
    if args.data_dir is None:
        shards = find_shards(args.videos, args.split)
        count_clips(shards)  # makes the indices of tars; the processes share this work
        return shards
    dataset = find_dataset(args.videos, args.data_dir)
    records, _ = dataset.read(args.split or "+".join(dataset.splits))
    return [VideoFolderShard(args.data_dir, "all", records)]
