"""Convert a HERO checkpoint: python conversion/convert_hero.py --checkpoint FILE --output-dir DIR."""

import sys

from hf_videolang.commands.convert import launch
from hf_videolang.conversion import hero

if __name__ == "__main__":
    sys.exit(launch(hero))
