"""One-line messages on standard error, for the command line and for training launches."""

import os
import sys


def print_error(message: str | Exception) -> None:
    """Print `error: MESSAGE` on standard error; `[rank k] error: MESSAGE` if the launch has several processes."""
    if isinstance(message, UnicodeEncodeError):  # Python names the character, but not the file
        message = (
            f"the name {message.object!r} cannot be written in {message.encoding}; rename the file, or use a locale "
            "of UTF-8, such as LC_ALL=C.UTF-8."
        )
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    rank = f"[rank {os.environ.get('RANK', '0')}] " if several else ""
    print(f"{rank}error: {message}", file=sys.stderr, flush=True)


def explain_interrupt(line: str) -> None:
    """
    From now on, Ctrl-C prints `line` on standard error instead of a traceback. In a launch, only rank 0 prints it.

    Python still ends the process by the signal, so a shell loop around the command ends as well.
    """

    def hook(kind, error, trace) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
        elif os.environ.get("RANK", "0") == "0":
            print(line, file=sys.stderr, flush=True)

    sys.excepthook = hook


def reader_left() -> int:
    """After a `BrokenPipeError`: 141, the exit status of a process that SIGPIPE ended. Nothing more is printed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python's flush at exit would fail again
    return 141
