"""What decoding gives: facts about a video, its frames, and the one error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # the helper process does not need torch, and starts ten times faster without it
    import torch


class VideoDecodingError(RuntimeError):
    """A video cannot be opened, or a wanted frame of it cannot be decoded.

    Attributes:
        path: the source as text: path, URL, or a description of bytes in memory.
        reason: what went wrong, in one sentence.
        timestamp: seconds of the last frame that decoded; None if no frame did.
    """

    def __init__(self, path: str, reason: str | None = None, timestamp: float | None = None):
        if reason is None:
            path, reason, timestamp = _read_traceback(path)
        super().__init__(path, reason, timestamp)  # all three, so that the error survives pickling
        self.path = path
        self.reason = reason
        self.timestamp = timestamp

    def __str__(self) -> str:
        reached = "" if self.timestamp is None else f" (decoded up to {self.timestamp:.3f} s)"
        return f"cannot decode {self.path}: {self.reason}{reached}"


def _read_traceback(text: str) -> tuple[str, str, float | None]:
    """Path, reason and timestamp: a DataLoader rebuilds the error of its worker from the printed traceback alone."""
    pattern = r".*VideoDecodingError: cannot decode (.*?): (.*?)(?: \(decoded up to (\S+) s\))?\s*"
    match = re.fullmatch(pattern, text, re.DOTALL)
    assert match, "VideoDecodingError needs a path and a reason"
    path, reason, timestamp = match.groups()
    return path, reason, None if timestamp is None else float(timestamp)


class UnconfirmedIndexError(Exception):
    """The decoder contradicts the packets: the frames must be counted by decoding them all. Users never see it."""


@dataclass(frozen=True)
class VideoInfo:
    """Facts about the video stream of a file, or about a folder of pictures.

    Attributes:
        num_frames: frames that the decoder shows (a damaged file may promise more than it can decode).
        frames_per_second: average over the stream; None for a single frame and for a folder.
        duration: seconds from the first frame to the end of the last; None for a folder.
        width, height: pixels of the upright picture.
        rotation: degrees counter-clockwise by which the stored picture is turned: 0, 90, 180 or 270. FFmpeg reads
            this angle from the display matrix; a mirroring in the matrix is ignored.
        codec: FFmpeg's name, e.g. "h264"; for a folder the format of its pictures, "jpeg" or "png".
        stream_index: position among all streams of the file.
        declared_duration: seconds that the container's header states; None if it states none.
    """

    num_frames: int
    frames_per_second: float | None
    duration: float | None
    width: int
    height: int
    rotation: int
    codec: str
    stream_index: int
    declared_duration: float | None = None

    @property
    def is_truncated(self) -> bool:
        """Whether the pictures end more than a second, and a tenth of the declared duration, too early."""
        if self.duration is None or self.declared_duration is None:
            return False
        return self.declared_duration - self.duration > max(1.0, self.declared_duration / 10)


@dataclass(frozen=True)
class Cut:
    """The frames of a video from `start` to `end`, before any of them is decoded: what a sampling rule may use.

    A folder of pictures has only `num_frames`; the rest is None.

    Attributes:
        num_frames: frames in the cut.
        frame_rate: average frames per second of the whole video, exact; None for a single frame.
        ticks: int64 `[num_frames]`, when each frame is first shown, ascending, in units of `time_base`.
        end: tick at which the last frame ends.
        time_base: seconds of one tick.
        header_duration: ticks that the header states for the stream of the whole video; None if it states none, as
            in every Matroska file.
    """

    num_frames: int
    frame_rate: Fraction | None = None
    ticks: np.ndarray | None = None
    end: int | None = None
    time_base: Fraction | None = None
    header_duration: int | None = None

    @property
    def seconds(self) -> np.ndarray | None:
        """float64 `[num_frames]`, when each frame is first shown, on the container's clock."""
        if self.ticks is None or self.time_base is None:
            return None
        return self.ticks * self.time_base.numerator / self.time_base.denominator

    @property
    def duration(self) -> float | None:
        """Seconds from the first frame to the end of the last."""
        if self.ticks is None or self.end is None or self.time_base is None:
            return None
        return float((self.end - int(self.ticks[0])) * self.time_base)


def to_facts(info: VideoInfo, whole: Cut) -> dict[str, Any]:
    """What JSON holds of them, with fractions as texts. The ticks are sent and kept beside it as raw numbers."""
    return {"info": asdict(info), "times": {**vars(whole), "ticks": None}}


def from_facts(facts: Mapping[str, Any], ticks: np.ndarray) -> tuple[VideoInfo, Cut]:
    times = facts["times"]
    fractions = {key: times[key] and Fraction(times[key]) for key in ("frame_rate", "time_base")}
    return VideoInfo(**facts["info"]), Cut(**{**times, **fractions, "ticks": ticks})


@dataclass(frozen=True)
class DecodedVideo:
    """Selected frames of a video; prints shapes, not pixels.

    Attributes:
        frames: uint8 RGB `[num_selected, 3, height, width]`, upright (in memory the channels come last).
        indices: position of each frame in the whole video, in presentation order.
        timestamps: seconds at which each frame is first shown, on the container's clock; None for a folder of
            pictures, whose frame rate is unknown.
        info: facts about the video.
    """

    frames: torch.Tensor
    indices: list[int]
    timestamps: list[float] | None
    info: VideoInfo

    def __repr__(self) -> str:
        seconds = self.timestamps
        times = f"{min(seconds):.3f}..{max(seconds):.3f} s" if seconds else "none"
        return f"DecodedVideo(frames={self.frames.dtype} {list(self.frames.shape)}, times={times}, info={self.info})"
