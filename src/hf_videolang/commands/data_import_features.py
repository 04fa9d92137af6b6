"""
Import features that others extracted, so that `--features` can read them.

  hf-videolang data import-features --from s3d_npy --output features --model "S3D, MIL-NCE" --rows unit
  hf-videolang data import-features --from how2_s3d --output features
  hf-videolang data import-features --value-lmdb tv/clip-vit_slowfast_1.5_compressed --output features
  hf-videolang data import-features --npz-2d clip-vit --npz-3d slowfast --output features

--from is a folder with <id>.npy, an array [rows, width] of each video, or with the shards of VideoCLIP's authors.
--value-lmdb is a database of the VALUE benchmark, and --npz-2d with --npz-3d are the files that it is made of.

VALUE's folders say which features they hold. Otherwise say which model made them from which frames: every number
printed with them repeats it, or says that it is unknown. Models that know what they were trained on compare the name.
The norms of the rows are measured. If a run is killed, run the same command again.

Exit code: 0 success, 1 some videos have no features, 2 features that cannot be used.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from hf_videolang.data.benchmarks.value_features import WIDTHS
from hf_videolang.data.tools.import_features import FeatureFolder, FeatureSource, import_features
from hf_videolang.data.tools.value_containers import ValueDatabase, ValueFiles


def add_arguments(parser: ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--from", dest="folder", type=Path, metavar="DIR", help="folder with .npy files")
    source.add_argument("--value-lmdb", type=Path, metavar="DIR", help="database of VALUE, a folder with data.mdb")
    source.add_argument("--npz-2d", type=Path, metavar="DIR", help="folder with <id>.npz of single frames")
    parser.add_argument("--npz-3d", type=Path, metavar="DIR", help="folder with <id>.npz of clips, for --npz-2d")
    parser.add_argument("--output", required=True, metavar="STORE", help="feature store, new or to be continued")
    parser.add_argument(
        "--name", help=f"of the features: {', '.join(WIDTHS)}, or your own (default: as VALUE's folders say)"
    )
    parser.add_argument("--model", help="which model made the features (default: unknown)")
    parser.add_argument("--frames", help='from which frames, e.g. "30 a second" (default: unknown)')
    parser.add_argument(
        "--seconds-per-feature", type=float, help="time between two rows (default: 1, of VALUE's features 1.5)"
    )
    parser.add_argument("--rows", choices=("unit", "raw"), help="what the rows are said to be; it is measured")


def main(args: Namespace) -> int:
    if (args.npz_2d is None) != (args.npz_3d is None):
        raise ValueError("--npz-2d and --npz-3d belong together; give both.")
    source: FeatureSource
    if args.folder:
        source = FeatureFolder(args.folder)
    else:
        source = ValueDatabase(args.value_lmdb) if args.value_lmdb else ValueFiles(args.npz_2d, args.npz_3d)
    names = ("name", "model", "frames", "seconds_per_feature", "rows")
    report = import_features(source, args.output, **{name: getattr(args, name) for name in names})
    print(report)
    return int(bool(report.left_out))
