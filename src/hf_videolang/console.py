"""What a command says where a traceback would be no help, told once by a command that runs in several processes."""

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


def tell_interruption(line: str) -> None:
    """
    From now on, Ctrl-C ends this process with `line` on standard error, told by the first process of a launch.

    It still ends as Python ends by Ctrl-C, by the signal, so that a loop of the shell around it ends as well.
    """

    def hook(kind, error, trace) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
        elif os.environ.get("RANK", "0") == "0":
            print(line, file=sys.stderr, flush=True)

    sys.excepthook = hook


def reader_left() -> int:
    """The exit status when the reader of standard output left first, as `head` does: as if ended by SIGPIPE."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the end
    return 141
