"""Convert a SlowFast checkpoint: python conversion/convert_slowfast.py --checkpoint FILE --output-dir DIR."""

import sys

from hf_videolang.commands.convert import launch
from hf_videolang.conversion import slowfast

if __name__ == "__main__":
    sys.exit(launch(slowfast))
