"""Convert a ClipBERT checkpoint: python conversion/convert_clipbert.py --checkpoint FILE --output-dir DIR."""

import sys

from hf_videolang.commands.convert import launch
from hf_videolang.conversion import clipbert

if __name__ == "__main__":
    sys.exit(launch(clipbert))
