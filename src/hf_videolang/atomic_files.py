"""Files that exist complete or not at all, even if the process is killed while it writes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """
    Write a file under a temporary name, then rename it to `path`.

    A reader sees the old file or the new one, never a half-written one. An exception in the block removes the
    temporary file. A killed process leaves at most a hidden file `.<name>.<random>.part<suffix>`; the suffix stays
    last because encoders choose the format by it.

    Raises:
        OSError: the disk is full, or the folder is absent or not writable. `path` is then unchanged.

    Example:
        >>> with atomic_file("results.json") as temporary:
        ...     temporary.write_text("{}")
    """
    path = Path(path)
    # A file name has room for 255 bytes, so a long one is cut.
    temporary = path.with_name(f".{path.stem[:40]}.{uuid4().hex[:8]}.part{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # otherwise a power cut could leave an empty file under the new name
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
