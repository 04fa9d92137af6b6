"""Convert an original CLIP-ViP checkpoint: python conversion/convert_clip_vip.py --checkpoint FILE --output-dir DIR."""

import sys

from hf_videolang.conversion.clip_vip.convert import main

if __name__ == "__main__":
    sys.exit(main())
