"""
Write a caption of the middle frame of every video with an image-captioning model, as the texts of pre-training.
Captions of the segments of one video, by a model that reads videos, are `hf-videolang caption`.

  hf-videolang data caption-frames --shards /data/clips --output-dir captions
  hf-videolang data caption-frames --shards my_videos --output-dir captions --model Qwen/Qwen2.5-VL-3B-Instruct

On several GPUs: accelerate launch -m hf_videolang.cli data caption-frames ...

If a run is killed, run the same command again on any number of processes: it writes the missing parts, and with the
same batch size the same captions. A broken video gets a row with the reason; --retry-failed tries it again.

Exit code: 0 success, 1 no video of this run got a caption, 2 wrong usage or data that cannot be read.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import torch

from hf_videolang.commands.running import add_running_arguments, end_processes, start_processes
from hf_videolang.data.shards.open_shards import count_clips, find_shards
from hf_videolang.inference.frame_captioning import caption_shards
from hf_videolang.inference.image_captioner import CaptionerInputs, ImageCaptioner

MODEL = "Salesforce/blip-image-captioning-base"


def add_arguments(parser: ArgumentParser) -> None:
    videos = parser.add_argument_group("videos")
    videos.add_argument(
        "--shards",
        required=True,
        help=".tar or .parquet shards (folder, file, glob or Hub dataset), or a video folder",
    )
    videos.add_argument("--split", default="train", help="default: %(default)s")
    captions = parser.add_argument_group("captions")
    captions.add_argument(
        "--model",
        default=MODEL,
        help="image-captioning model, folder or Hub id (default: %(default)s; the paper's OFA is not in transformers)",
    )
    captions.add_argument(
        "--prompt", help="question to a chat model, or beginning of the caption (some models need one: see their card)"
    )
    captions.add_argument(
        "--max-words",
        type=int,
        default=16,
        help="cut longer captions (default: %(default)s, the paper's; 0: no limit)",
    )
    captions.add_argument("--max-new-tokens", type=int, default=32, help="default: %(default)s")
    captions.add_argument("--num-beams", type=int, help="default: the model's own")
    add_running_arguments(parser, batch_size=16, of="pictures")
    results = parser.add_argument_group("results")
    results.add_argument(
        "--output-dir", type=Path, required=True, help="caption store, new or to be continued; all nodes must see it"
    )
    results.add_argument(
        "--rows-per-part",
        type=int,
        default=1024,
        help="videos per file; a kill costs at most this many per process (default: %(default)s)",
    )
    results.add_argument("--retry-failed", action="store_true", help="also caption the videos that failed before")


def main(args: Namespace) -> int:
    state = start_processes(args.cpu)
    shards = find_shards(args.shards, args.split)
    count_clips(shards)  # makes the indices of tars; the processes share this work
    inputs = CaptionerInputs(args.model, args.prompt)
    lengths = args.max_new_tokens, args.num_beams, args.max_words or None
    captioner = ImageCaptioner(args.model, inputs, state.device, getattr(torch, args.dtype), *lengths)
    names = ("rows_per_part", "batch_size", "num_workers", "retry_failed")
    report = caption_shards(shards, args.output_dir, captioner, **{name: getattr(args, name) for name in names})
    end_processes(state, report)
    return int(report.failed)
