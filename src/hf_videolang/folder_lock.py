"""One run at a time in a folder."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = "_lock"  # the Trainer pushes no file whose name begins with _


class FolderInUseError(ValueError):
    """Another process has locked the folder. The message names it."""


@contextmanager
def locked_folder(folder: str | Path | None) -> Iterator[None]:
    """
    Refuse other processes that lock the same folder, until the block ends or this process dies in any way.

    In a launch, rank 0 locks for all ranks. A file system without locks refuses nobody.

    Args:
        folder: created if absent; with `None` nothing is locked.

    Raises:
        FolderInUseError: another process has locked the folder.

    Example:
        >>> with locked_folder("runs/first"):
        ...     trainer.train()
    """
    if folder is None or os.environ.get("RANK", "0") != "0":
        yield
        return
    import fcntl  # not on Windows

    os.makedirs(folder, exist_ok=True)
    path = Path(folder) / LOCK
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            file.seek(0)
            raise FolderInUseError(
                f"{folder} is in use by {file.read() or 'another process'}; wait for it, stop it, or choose another "
                "output folder."
            ) from error
        except OSError:
            pass
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
