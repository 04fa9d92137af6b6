"""Convert a S3D checkpoint: python conversion/convert_s3d.py --checkpoint FILE --output-dir DIR."""

import sys

from hf_videolang.commands.convert import launch
from hf_videolang.conversion import s3d

if __name__ == "__main__":
    sys.exit(launch(s3d))
