"""The index of a long video, kept on disk, so that a segment of it does not cost a pass over all its packets."""

import json
import os
import zipfile
from contextlib import suppress
from hashlib import sha256
from typing import Any

import numpy as np

from .limits import SUBFILE

FORMAT = 1
LONG = 10_000  # frames, a few minutes; in a shorter video the pass takes a hundredth of a second


def read_index(path: str) -> tuple[dict[str, Any], np.ndarray, np.ndarray] | None:
    """Facts, ticks of all frames and numbers of the key frames, if they were kept and the file has not changed."""
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile), np.load(_place(path)) as arrays:
        return json.loads(str(arrays["facts"])), arrays["ticks"], arrays["keys"]
    return None


def keep_index(path: str, facts: dict[str, Any], ticks: np.ndarray, keys: np.ndarray) -> None:
    """Keep what `read_index` returns, if the disk allows it."""
    with suppress(OSError):
        place = _place(path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        temporary = f"{place}.{os.getpid()}.part.npz"
        np.savez(temporary, facts=json.dumps(facts, default=str), ticks=ticks, keys=keys)
        os.replace(temporary, place)


def _place(path: str) -> str:
    """The file for the index of a video in its present state, beside the indices of shards."""
    state = os.stat(path.rpartition(",,:")[2] if path.startswith(SUBFILE) else path)
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    home = os.environ.get("HF_HOME") or os.path.join(cache, "huggingface")
    text = f"{FORMAT} {state.st_size} {state.st_mtime_ns} ".encode() + os.fsencode(path)
    return os.path.join(home, "hf_videolang", "video_indices", f"{sha256(text).hexdigest()[:32]}.npz")
