"""Decoded frames on disk, so that a clip is decoded once and not in every epoch."""

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_videolang.atomic_files import whole_file

logger = logging.getLogger(__name__)

LEFTOVER_AGE = 3600.0  # seconds after which a half-written file must be of a process that is dead
GIGABYTE = 1e9
HEADER = 128  # bytes of a .npy file before the pixels


class FrameCache:
    """
    A folder of frames as they came from the decoder (uint8, before any resize), so that batches are equal to the bit
    with the cache and without it.

    An entry belongs to a video (path, size and time of change of a file, else its bytes; of a folder of frames its path
    and own time, which a picture written over another does not change; of a URL itself), to the settings that decide
    which frames are read, and to a seed of the draw. Training draws other frames in every epoch, so that nothing would
    ever be found again: `num_draws` says how many epochs draw afresh before the same draws come round again. One entry
    is `frames · height · width · 3` bytes: 12 frames of 320×240 take 2.8 MB, of 1280×720 33 MB.

    Any number of processes and DataLoader workers of a machine may share a folder. When it is full, or the disk is, the
    clips that are not in it are decoded every time, after one warning a process; what is in it stays and serves, since
    every epoch comes by every clip equally often. To empty it, remove the folder.

    Args:
        folder: made if absent; on a disk of this machine that is faster than decoding.
        max_gigabytes: (10^9 bytes) what the entries may take; writers that meet may pass it by an entry each.
        num_draws: different draws of frames a video has in training. 1 shows the same frames in every epoch and pays
            from the second on; 4 fills four times the space, pays from the fifth on, and keeps more of the variety
            that the jitter of the frames is for. Evaluation does not draw, and pays from the second time on.

    Raises:
        ValueError: a limit that is not positive, or `num_draws` below 1.
        OSError: the folder cannot be made.
    """

    def __init__(self, folder: str | Path, max_gigabytes: float = 100.0, num_draws: int = 1):
        if not max_gigabytes > 0 or num_draws < 1:
            raise ValueError(
                f"max_gigabytes={max_gigabytes}, num_draws={num_draws}; expected more than 0, and at least 1."
            )
        self.folder = Path(folder).absolute()
        self.max_gigabytes = max_gigabytes
        self.num_draws = num_draws
        self.folder.mkdir(parents=True, exist_ok=True)
        self._writable = True
        self._measure()

    def __str__(self) -> str:
        draws = "1 draw" if self.num_draws == 1 else f"{self.num_draws} draws"
        return (
            f"frame cache {self.folder}: {self.used_gigabytes():.3g} of {self.max_gigabytes:g} GB used, {draws} of "
            "frames a training video"
        )

    def used_gigabytes(self) -> float:
        """What all entries take by now."""
        with self._count() as used:
            return used[0] / GIGABYTE

    def frames(self, video: Mapping[str, Any], settings: Any, decode: Callable[[], torch.Tensor]) -> torch.Tensor:
        """
        Frames of a video: the entry, or what `decode` gives, which then becomes the entry.

        Args:
            video: "path" or "bytes", perhaps "start" and "end" (see `read_frames`).
            settings: JSON values; everything else that decides what `decode` gives, a seed included.
            decode: gives uint8 `[frames, 3, height, width]`. What it raises goes through; nothing is kept then.
        """
        key = _key(video, settings)
        path = self.folder / key[:2] / f"{key}.npy"
        try:
            return torch.from_numpy(np.load(path, allow_pickle=False)).permute(0, 3, 1, 2)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, EOFError) as error:
            logger.warning("Decoding anew what the frame cache cannot read: %s: %s", path, error)
        frames = decode()
        if self._writable:
            self._keep(path, frames)
        return frames

    def _keep(self, path: Path, frames: torch.Tensor) -> None:
        try:
            size = HEADER + frames.nbytes
            with self._count() as used:
                if used[0] + size > self.max_gigabytes * GIGABYTE:
                    self._stop(f"it has reached its {self.max_gigabytes:g} GB")
                    return
                used[0] += size
            path.parent.mkdir(exist_ok=True)
            with whole_file(path) as temporary:
                np.save(temporary, frames.permute(0, 2, 3, 1).numpy())
        except OSError as error:
            self._stop(str(error))

    def _stop(self, reason: str) -> None:
        self._writable = False
        logger.warning(
            "The frame cache %s takes no more clips in this process: %s. Training goes on; clips that are not in it "
            "are decoded every time.",
            self.folder,
            reason,
        )

    def _measure(self) -> None:
        """Count what is there, for a process that was killed may have counted what it did not write."""
        with self._count() as used:  # from beginning to end, or what others add meanwhile would be lost
            used[0] = 0
            for file in self.folder.glob("??/*.npy"):
                try:
                    facts = file.stat()
                    if file.name.startswith(".") and time.time() - facts.st_mtime > LEFTOVER_AGE:
                        file.unlink()
                    else:
                        used[0] += facts.st_size
                except FileNotFoundError:  # renamed or removed by another process meanwhile
                    pass

    @contextmanager
    def _count(self) -> Iterator[list[int]]:
        """The bytes of all entries, for one process at a time to read and change."""
        import fcntl  # not on Windows

        descriptor = os.open(self.folder / "bytes", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            used = [int(os.pread(descriptor, 20, 0) or 0)]
            before = used[0]
            yield used
            if used[0] != before:
                os.pwrite(descriptor, b"%20d" % used[0], 0)
        finally:
            os.close(descriptor)


def _key(video: Mapping[str, Any], settings: Any) -> str:
    if video.get("bytes") is not None:
        origin: list[Any] = [blake2b(video["bytes"], digest_size=16).hexdigest()]
    else:
        origin = [os.path.abspath(video["path"]) if os.path.exists(video["path"]) else video["path"]]
        if os.path.exists(video["path"]):
            file = os.stat(video["path"])
            origin += [file.st_size, file.st_mtime_ns]
    facts = [origin, video.get("start"), video.get("end"), settings, _decoder()]
    return blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()


@lru_cache
def _decoder() -> str:
    """FFmpeg's versions differ in how they round old codecs."""
    try:
        return f"av {version('av')}"
    except PackageNotFoundError:
        return "torchcodec"
