"""Both of two processes meet one error, the first of them later than the other."""

import os
import sys
import time

from hf_videolang.console import print_error

if __name__ == "__main__":
    if os.environ["RANK"] == "0":
        time.sleep(3)
    print_error("error: of the test")
    sys.exit(2)
