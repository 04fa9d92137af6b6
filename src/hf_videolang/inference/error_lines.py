"""An error that a user can mend, told once by a command that runs in several processes."""

import os
import sys
import time

# Seconds that the first process may be later to find the same error, and for which others keep theirs to themselves.
LATEST = 30.0


def print_error(line: str) -> None:
    """
    Print `line` on standard error, once for all processes of a launch.

    Whoever ends first makes the launcher end the others. So all but the first process wait: for their end, when the
    first has found the same and told it; after `LATEST` seconds they tell what seems to be known to them alone.
    """
    if os.environ.get("RANK", "0") != "0":
        time.sleep(LATEST)
    print(line, file=sys.stderr, flush=True)
