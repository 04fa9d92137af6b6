"""From frame numbers to pictures in one pass: what both back ends share."""

import re
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np

from .decoded_video import VideoDecodingError, VideoInfo


class VideoStream(ABC):
    """The best video stream of a file, indexed from its packets and ready to decode.

    A frame's number is its place in presentation order, from the first frame that decodes on. Frames are
    recognised by their time stamp, which stays right after a seek. In containers without reliable ones (AVI, MPEG
    program streams, raw streams) they are counted from the start of the file, and nothing is skipped by seeking.

    A back end sets `name` and `failures`, reads the packets, calls `_set_index`, and implements the steps below.

    Attributes:
        name: the source as text, for errors.
        info: facts about the stream.
        timestamps: float64 `[num_frames]`, presentation times in seconds.
    """

    name: str
    info: VideoInfo
    timestamps: np.ndarray
    failures: tuple[type[Exception], ...]  # what the library raises for files that it cannot read

    _frames: Iterator[tuple[float, Any]] = iter(())
    _next_number = 0  # of the frame that `_frames` gives next
    _reached: float | None = None  # seconds of the last decoded frame
    _counted: bool  # frames are counted, not recognised by their time stamp
    _numbers: dict[float, int]  # of the time stamps
    _keys: list[int]  # numbers of the key frames that can be sought

    @abstractmethod
    def _open(self) -> None:
        """Open the file, afresh if it was open, with a decoder at its start."""

    @abstractmethod
    def _decode(self) -> Iterator[tuple[float, Any]]:
        """Seconds and frame, in presentation order, from the current position to the end of the file."""

    @abstractmethod
    def _seek(self, seconds: float) -> None:
        """Go to the last key frame at or before `seconds` and forget what the decoder holds."""

    @abstractmethod
    def _picture(self, frame: Any) -> np.ndarray:
        """The frame as upright RGB, uint8 `[height, width, 3]`."""

    @abstractmethod
    def close(self) -> None:
        """Free decoder and file."""

    def pictures(self, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        """Upright RGB pictures, uint8 `[height, width, 3]`, of ascending, distinct frame numbers.

        One pass: of the frames between, those that others refer to are decoded but not converted, and it seeks only
        where a key frame lies between the decoder's position and the next wanted frame.

        Raises:
            VideoDecodingError: a wanted frame does not decode; those before it have been handed out.
        """
        with self._named_failures():
            for number in numbers:
                yield self._picture(self._frame(number))

    def _frame(self, number: int) -> Any:
        keys_before = bisect_right(self._keys, number)
        if keys_before and self._keys[keys_before - 1] > self._next_number:
            self._jump(self._keys[keys_before - 1])
        for seconds, frame in self._frames:
            found = self._next_number if self._counted else self._number(seconds)
            self._next_number, self._reached = found + 1, seconds
            if found == number:
                return frame
            if found > number:
                break
        total = len(self.timestamps)
        raise VideoDecodingError(self.name, f"frame {number} of {total} does not decode", self._reached)

    def _jump(self, key: int) -> None:
        """Continue at a key frame, or at the start of the file if decoding cannot begin there."""
        self._seek(float(self.timestamps[key]))
        decoded = self._decode()
        first = next(decoded, None)
        if first is not None and self._number(first[0]) <= key:
            self._frames = chain([first], decoded)
        else:  # the picture refreshes gradually, and is wrong for an unknown while after such a key frame
            self._open()
            self._frames, self._next_number, self._keys = self._decode(), 0, []

    def _number(self, seconds: float) -> int:
        number = self._numbers.get(seconds)
        if number is None:
            raise VideoDecodingError(self.name, f"no packet belongs to the frame at {seconds} s", self._reached)
        return number

    def _set_index(
        self, times: Sequence[float], is_key: Sequence[bool], last_duration: float, rate: float | None
    ) -> Any:
        """Build the index and decode the first frame, which is returned and which `_frames` gives again.

        Args:
            times: time stamps of the packets in seconds, ascending.
            is_key: which of the packets are key frames.
            last_duration: seconds that the last frame is shown, 0 if unknown.
            rate: frames per second by which to time the frames of a container that does not, else `None`.
        """
        if not len(times):
            raise VideoDecodingError(self.name, "its video stream has no frames")
        stamps = np.asarray(times, np.float64) if rate is None else np.arange(len(times)) / rate
        decoded = self._decode()
        seconds, frame = next(decoded, (0.0, None))
        if frame is None:
            raise VideoDecodingError(self.name, f"none of its {len(stamps)} frames decodes")
        self._frames = chain([(seconds, frame)], decoded)

        first = int(np.searchsorted(stamps, seconds))
        timed = rate is None and bool((np.diff(stamps) > 0).all()) and stamps[first : first + 1] == seconds
        self._counted = not timed
        # The frames before the first picture have lost their reference frames; no player shows them.
        self.timestamps = stamps[first:] if timed else stamps
        self._keys = np.flatnonzero(is_key[first:]).tolist() if timed else []
        self._numbers = {stamp: number for number, stamp in enumerate(self.timestamps.tolist())}
        span = float(self.timestamps[-1] - self.timestamps[0])
        self._duration = span + (last_duration or span / max(len(self.timestamps) - 1, 1))
        return frame

    def _facts(self, frame: Any, codec: str, stream_index: int) -> VideoInfo:
        """Facts from the index and the first frame, which both libraries describe with the same three words."""
        rotation = round(frame.rotation / 90) % 4 * 90
        sideways = rotation in (90, 270)
        return VideoInfo(
            num_frames=len(self.timestamps),
            frames_per_second=len(self.timestamps) / self._duration if len(self.timestamps) > 1 else None,
            duration=self._duration,
            width=frame.height if sideways else frame.width,
            height=frame.width if sideways else frame.height,
            rotation=rotation,
            codec=codec,
            stream_index=stream_index,
        )

    @contextmanager
    def _named_failures(self) -> Iterator[None]:
        try:
            yield
        except VideoDecodingError:
            raise
        except self.failures as error:
            # torchcodec begins with its own line of C++, PyAV with FFmpeg's error number
            reason = getattr(error, "strerror", None) or re.sub(r"^\w+, \S+\.cpp:\d+, ", "", str(error))
            raise VideoDecodingError(self.name, reason, self._reached) from error
