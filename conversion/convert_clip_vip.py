"""Convert a CLIP-ViP checkpoint: python conversion/convert_clip_vip.py --checkpoint FILE --output-dir DIR."""

import sys

from hf_videolang.commands.convert import launch
from hf_videolang.conversion import clip_vip

if __name__ == "__main__":
    sys.exit(launch(clip_vip))
