"""
Pack a dataset as WebDataset tar shards, for collections too large to keep as single files.

  hf-videolang data shard --data-dir my_videos --output-dir shards
  hf-videolang data shard --dataset msrvtt-9k --data-dir /data/msrvtt --split train --output-dir shards

Each split becomes <output-dir>/<split>-00000-of-00012.tar and so on, each with an index. The same data always give the
same bytes. If a run is killed, run the same command again: it continues after the last complete shard.

Exit code: 0 success, 1 a broken video, 2 wrong usage or data that cannot be read.
"""

from argparse import ArgumentParser, Namespace

from hf_videolang.console import print_error
from hf_videolang.data.load_dataset import BENCHMARKS, find_dataset
from hf_videolang.data.records import check_records
from hf_videolang.data.shards.open_shards import VideoFolderShard
from hf_videolang.data.shards.write_shards import write_shards
from hf_videolang.data.video_dataset import leave_out_absent
from hf_videolang.video import VideoDecodingError


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--data-dir", required=True, help="a folder of videos with metadata, or a benchmark's folder")
    parser.add_argument("--dataset", default="videofolder", help=f"videofolder (default), {', '.join(BENCHMARKS)}")
    parser.add_argument("--split", help='one split, or several joined as in "train+validation" (default: each split)')
    parser.add_argument("--output-dir", required=True, help="folder for the shards, created if absent")
    parser.add_argument("--records-per-shard", type=int, default=1000, help="default: %(default)s")
    parser.add_argument(
        "--on-broken-video",
        choices=("raise", "skip"),
        default="raise",
        help="stop at a broken or absent video (default), or skip it and name it",
    )


def main(args: Namespace) -> int:
    try:
        dataset = find_dataset(args.dataset, args.data_dir)
        for split in [args.split] if args.split else dataset.splits:
            records, protocol = dataset.read(split)
            if args.on_broken_video == "skip":
                records, protocol = leave_out_absent(records, protocol)
            print(protocol)
            check_records(records)
            shard, name = VideoFolderShard(args.data_dir, split, records), split.replace("+", "_")
            print(write_shards(shard, args.output_dir, args.records_per_shard, name, args.on_broken_video))
    except VideoDecodingError as error:
        print_error(f"{error}; --on-broken-video skip leaves it out, and `hf-videolang data check` lists all of them.")
        return 1
    return 0
