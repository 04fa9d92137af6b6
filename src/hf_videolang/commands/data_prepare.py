"""
Re-encode a folder of videos for fast reading: fewer frames per second, smaller pictures, and many key frames.

  hf-videolang data prepare --data-dir videos --output-dir small --frames-per-second 6 --shortest-edge 224

Sub-folders are kept, and each video becomes <name>.mp4 (H.264 without sound). Time stamps stay, so seconds in
annotations still hold. Annotation files are copied. Metadata files get the new names, without the rows of broken
videos. The input is never changed.
If a run is killed, run the same command again: it encodes what is missing, and tries broken videos again.

Exit code: 0 success, 1 some videos are broken, 2 wrong usage or files that cannot be read or written.
"""

from argparse import ArgumentParser, Namespace

from hf_videolang.data.tools.prepare import prepare_folder


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--data-dir", required=True, help="folder with videos")
    parser.add_argument("--output-dir", required=True, help="folder for the new videos")
    parser.add_argument("--frames-per-second", type=float, help="default: keep all frames")
    parser.add_argument("--shortest-edge", type=int, help="pixels of the shorter side (default: keep the size)")
    parser.add_argument("--num-workers", type=int, help="videos to encode at once (default: one per CPU)")


def main(args: Namespace) -> int:
    report = prepare_folder(
        args.data_dir, args.output_dir, args.frames_per_second, args.shortest_edge, args.num_workers
    )
    print(report)
    return 1 if report.broken else 0
