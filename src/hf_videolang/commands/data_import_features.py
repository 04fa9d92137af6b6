"""
Import features that others extracted, so that `--features` can read them.

  hf-videolang data import-features --from s3d_npy --output features --model "S3D, MIL-NCE" --rows unit
  hf-videolang data import-features --from how2_s3d --output features

The folder holds <id>.npy, an array [seconds, width] of each video, or the shards of VideoCLIP's authors. Say which
model made the features from which frames: every number printed with them repeats it, or says that it is unknown.
The norms of the rows are measured. If a run is killed, run the same command again.

Exit code: 0 success, 2 features that cannot be used.
"""

from argparse import ArgumentParser, Namespace

from hf_videolang.data.tools.import_features import import_features


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--from", dest="folder", required=True, metavar="DIR", help="folder with the .npy files")
    parser.add_argument("--output", required=True, metavar="STORE", help="feature store, new or to be continued")
    parser.add_argument("--model", help="which model made the features (default: unknown)")
    parser.add_argument("--frames", help='from which frames, e.g. "30 a second" (default: unknown)')
    parser.add_argument("--rows-per-second", type=float, default=1.0, help="default: %(default)s")
    parser.add_argument("--rows", choices=("unit", "raw"), help="what the rows are said to be; it is measured")


def main(args: Namespace) -> int:
    report = import_features(
        args.folder,
        args.output,
        model=args.model,
        frames=args.frames,
        rows_per_second=args.rows_per_second,
        rows=args.rows,
    )
    print(report)
    return 0
