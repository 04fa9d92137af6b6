"""One function from a video to the frames that were asked for, and one for its facts."""

import importlib.util
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from operator import index
from typing import Any, Literal, TypeVar

import numpy as np
import torch

from .decoded_video import DecodedVideo, VideoDecodingError, VideoInfo
from .decoding_helper import HelperStream, open_stream
from .frame_folder import FrameFolderStream
from .torchcodec_stream import torchcodec_problem
from .video_sources import local_file
from .video_stream import VideoStream

Backend = Literal["auto", "torchcodec", "pyav"]
Select = Callable[[int], Sequence[int]] | Sequence[int]
Result = TypeVar("Result")
Stream = VideoStream | HelperStream | FrameFolderStream


def decode_video(
    source: Any,
    select: Select,
    *,
    start: float | None = None,
    end: float | None = None,
    backend: Backend = "auto",
    num_threads: int = 1,
    timeout: float | None = 60.0,
) -> DecodedVideo:
    """Decode the frames of a video that `select` names, and only these.

    Reads the packets once to count and time the frames, then makes one pass with the decoder, which seeks only where
    a key frame lies between its position and the next wanted frame. PyAV also leaves out pictures of H.264 that no
    other picture refers to, but not in a file that is interlaced or turns out to be damaged.

    Both back ends give the same frames: the same stream (FFmpeg's best), upright, numbered in presentation order and
    equal to the last bit, except where the two versions of FFmpeg differ themselves: in the rounding of old codecs
    (MPEG-4 part 2, WMV: 2 of 255 levels), and in how much of the last packet of a truncated file they read. Frames of
    H.264 that has lost packets without the decoder's noticing may depend on which others are asked for.

    Args:
        source: path (str or Path), http(s) URL, bytes, or an open binary file; the last three are first written to
            a temporary file. The path may be that of a folder with the frames as pictures, `<name>_000.jpg` and so on
            (`.jpg`, `.jpeg`, `.png`; at least three digits), which Pillow reads in this process: the next arguments
            but `select` do not concern it, and since its frame rate is unknown, its `timestamps` are None.
        select: function from the number of frames in the segment to indices in it (`range` takes all), or the
            indices. In any order, repeated if wished.
        start, end: seconds on the container's clock; the segment are the frames with `start <= timestamp < end`, or
            the one on show at `start` if none begins in it. Default: the whole video.
        backend: `"torchcodec"` (>= 0.17, decodes with the system's FFmpeg), `"pyav"` (brings its own), or `"auto"`.
            Without `timeout`, auto is torchcodec if it works, then PyAV for files that torchcodec's FFmpeg cannot
            read. With it, auto is PyAV, which starts 20 times faster in the helper process.
        num_threads: threads of the decoder, 0 for one per core. One is best wherever several processes decode, as
            DataLoader workers do. More help a lone process with large pictures; with PyAV only in files that are
            coded in slices.
        timeout: seconds that a download may stall, that opening may take, and then each wanted frame. With a limit
            the video is decoded in a helper process, which is stopped when it hangs: one for each process and thread
            that decodes, started in 0.15 s, 60 MB large, about 5 % slower. `None` sets no limit and decodes in this
            process; no decoder is known to hang with one thread.

    Raises:
        VideoDecodingError: the file cannot be opened, has no video, no frame in the segment, or one of the wanted
            frames does not decode or hangs; nothing is repeated or left out in silence. A folder lacks a picture, or
            seconds are asked of it. Carries path, reason and timestamp reached.
        IndexError: `select` names a frame outside the segment.
        ValueError: `end` is not greater than `start`.
        ImportError: no decoder is installed.
    """

    def read(stream: Stream) -> DecodedVideo:
        first, stop = _segment(stream, start, end)
        chosen = select(stop - first) if callable(select) else select
        indices = [first + _checked(index(i), stop - first, stream.name) for i in chosen]
        frames, times = _read_frames(stream, indices), stream.timestamps
        timestamps = None if times is None else times[indices].tolist() if indices else []
        return DecodedVideo(frames, indices, timestamps, stream.info)

    return _with_stream(read, source, backend, num_threads, timeout)


def probe_video(source: Any, *, backend: Backend = "auto", timeout: float | None = 60.0) -> VideoInfo:
    """Facts about the best video stream: reads all packets and decodes the first frame.

    Of a folder of pictures it reads the names, and the header of the first.

    Args and errors are those of `decode_video`.
    """
    return _with_stream(lambda stream: stream.info, source, backend, 1, timeout)


def _with_stream(
    read: Callable[[Stream], Result],
    source: Any,
    backend: Backend,
    num_threads: int,
    timeout: float | None,
) -> Result:
    with local_file(source, timeout) as (path, name):
        if os.path.isdir(path):
            return read(FrameFolderStream(path, name))
        engines = _engines(backend, in_helper=timeout is not None)
        for engine in engines:
            try:
                if timeout is None:
                    stream: Stream = open_stream(engine, path, name, num_threads)
                else:
                    stream = HelperStream(engine, path, name, num_threads, timeout)
                with closing(stream):
                    return read(stream)
            except VideoDecodingError:
                if engine == engines[-1]:
                    raise
    raise AssertionError("there is at least one engine")


def _engines(backend: Backend, in_helper: bool) -> list[str]:
    """Which libraries to try, in this order."""
    if backend not in ("auto", "torchcodec", "pyav"):
        raise ValueError(f"backend={backend!r}; expected 'auto', 'torchcodec' or 'pyav'.")
    pyav = ["pyav"] if backend != "torchcodec" and _is_installed("av") else []
    if backend == "pyav" or (in_helper and pyav):
        engines = pyav
    else:
        engines = [*(["torchcodec"] if torchcodec_problem() is None else []), *pyav]
    if engines:
        return engines
    remedy = "`pip install av`, which brings FFmpeg"
    if backend == "torchcodec":
        remedy = "FFmpeg and `pip install 'torchcodec>=0.17'`, or use backend='pyav'"
    problem = "" if backend == "pyav" else f" torchcodec: {torchcodec_problem()}"
    raise ImportError(f"decoding video with backend={backend!r} needs {remedy}.{problem}")


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # its import is blocked: sys.modules[module] is None
        return False


def _segment(stream: Stream, start: float | None, end: float | None) -> tuple[int, int]:
    """First frame of the segment and the one behind its last."""
    times, duration = stream.timestamps, stream.info.duration
    if times is None or duration is None:
        if start is not None or end is not None:
            raise VideoDecodingError(
                stream.name,
                f"start={start} and end={end} are seconds, but the frame rate of its pictures is unknown; give the "
                "segment a folder of its own, or use the video file",
            )
        return 0, stream.info.num_frames
    if start is not None and end is not None and end <= start:
        raise ValueError(f"end={end} must be greater than start={start}.")
    close = 1e-6  # a time stamp that was written down with six digits still means its frame
    first = 0 if start is None else int(np.searchsorted(times, start - close))
    stop = len(times) if end is None else int(np.searchsorted(times, end - close))
    finish = float(times[0]) + duration
    if first >= stop and start is not None and times[0] <= start < finish:
        shown = int(np.searchsorted(times, start + close, side="right")) - 1
        return shown, shown + 1
    if first >= stop:
        wanted = f"between {'its start' if start is None else start} and {'its end' if end is None else end} s"
        span = f"it runs from {times[0]:.3f} to {finish:.3f} s"
        raise VideoDecodingError(stream.name, f"no frame lies {wanted}; {span}")
    return first, stop


def _checked(number: int, num_frames: int, name: str) -> int:
    if not 0 <= number < num_frames:
        raise IndexError(f"frame {number} was selected; {name} has frames 0 to {num_frames - 1} in the segment.")
    return number


def _read_frames(stream: Stream, indices: list[int]) -> torch.Tensor:
    """uint8 `[len(indices), 3, height, width]`."""
    numbers, places = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
    frames = np.empty((len(numbers), stream.info.height, stream.info.width, 3), np.uint8)
    for row, picture in enumerate(stream.pictures(numbers.tolist())):
        if picture.shape != frames.shape[1:]:
            height, width, _ = picture.shape
            at = None if stream.timestamps is None else float(stream.timestamps[numbers[row]])
            before = f"{stream.info.width}x{stream.info.height}"
            raise VideoDecodingError(stream.name, f"its picture changes from {before} to {width}x{height}", at)
        frames[row] = picture
    if indices != numbers.tolist():
        frames = frames[places]
    return torch.from_numpy(frames).permute(0, 3, 1, 2)
