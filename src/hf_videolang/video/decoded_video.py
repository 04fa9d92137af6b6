"""What decoding gives: the facts about a stream, the frames, and the one error."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the helper process has no use for torch, and starts ten times faster without
    import torch


class VideoDecodingError(RuntimeError):
    """A video that cannot be opened, or not be decoded as far as was asked.

    Attributes:
        path: the source as text: path, URL, or a description of bytes in memory.
        reason: what went wrong, in one sentence.
        timestamp: seconds of the last frame that decoded; None if there was none.
    """

    def __init__(self, path: str, reason: str | None = None, timestamp: float | None = None):
        if reason is None:
            path, reason, timestamp = _read_traceback(path)
        super().__init__(path, reason, timestamp)  # all of them, so that the error survives pickling
        self.path = path
        self.reason = reason
        self.timestamp = timestamp

    def __str__(self) -> str:
        reached = "" if self.timestamp is None else f" (decoded up to {self.timestamp:.3f} s)"
        return f"cannot decode {self.path}: {self.reason}{reached}"


def _read_traceback(text: str) -> tuple[str, str, float | None]:
    """Path, reason and timestamp: a DataLoader rebuilds the error of its worker from the printed traceback alone."""
    message = text.rpartition("VideoDecodingError: ")[2].strip()
    pattern = r"cannot decode (.*?): (.*?)(?: \(decoded up to (\S+) s\))?"
    match = re.fullmatch(pattern, message, re.DOTALL)
    if match is None:
        raise TypeError("VideoDecodingError needs a path and a reason")
    path, reason, timestamp = match.groups()
    return path, reason, None if timestamp is None else float(timestamp)


@dataclass(frozen=True)
class VideoInfo:
    """Facts about the best video stream of a file, counted from its packets because headers lie.

    Attributes:
        num_frames: frames in the container from the first that decodes on (a damaged file may decode fewer).
        frames_per_second: average over the stream; None for a single frame and for a folder of pictures.
        duration: seconds from the first frame to the end of the last; None for a folder of pictures.
        width, height: pixels of the upright picture.
        rotation: degrees counter-clockwise by which the stored picture is turned: 0, 90, 180 or 270. All that is read
            of a display matrix; a mirroring in it counts as the angle that FFmpeg makes of it.
        codec: FFmpeg's name, e.g. "h264"; of a folder the format of its pictures, "jpeg" or "png".
        stream_index: position among all streams of the file.
    """

    num_frames: int
    frames_per_second: float | None
    duration: float | None
    width: int
    height: int
    rotation: int
    codec: str
    stream_index: int


@dataclass(frozen=True)
class DecodedVideo:
    """Selected frames of a video; prints shapes, not pixels.

    Attributes:
        frames: uint8 RGB `[num_selected, 3, height, width]`, upright (in memory the channels come last).
        indices: position of each frame in the whole stream, in presentation order.
        timestamps: presentation time of each frame, in seconds of the container's clock; None for a folder of
            pictures, whose frame rate is unknown.
        info: facts about the stream.
    """

    frames: torch.Tensor
    indices: list[int]
    timestamps: list[float] | None
    info: VideoInfo

    def __repr__(self) -> str:
        seconds = self.timestamps
        times = f"{min(seconds):.3f}..{max(seconds):.3f} s" if seconds else "none"
        return f"DecodedVideo(frames={self.frames.dtype} {list(self.frames.shape)}, times={times}, info={self.info})"
