"""Convert a VideoCLIP checkpoint: python conversion/convert_videoclip.py --checkpoint FILE --output-dir DIR."""

import sys

from hf_videolang.commands.convert import launch
from hf_videolang.conversion import videoclip

if __name__ == "__main__":
    sys.exit(launch(videoclip))
