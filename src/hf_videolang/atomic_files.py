"""Files that are there whole or not at all, whenever the process is killed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """
    A temporary name beside `path` to write to; renamed to `path` at the end of the block, removed after an exception.

    A reader sees the old file or the new one, never half of it. A process that is killed leaves at most a hidden file
    `.<name>.<random>.part<suffix>` behind (the suffix stays last, since encoders choose the format by it; a long name is
    cut, since there is room for 255 bytes).

    Args:
        path: the file to write; its folder must exist. An existing file is replaced.

    Raises:
        OSError: the disk is full, or the folder is not there or not writable; `path` is then as it was before.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem[:40]}.{uuid4().hex[:8]}.part{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # or a power cut could leave the new name with nothing in it
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """A file or a folder with all that is in it, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
