"""Decode chosen frames of a video, or only its facts."""

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from operator import index
from typing import Any, TypeVar

import numpy as np
import torch

from .decoded_video import Cut, DecodedVideo, UnconfirmedIndexError, VideoDecodingError, VideoInfo
from .decoding_helper import HelperStream
from .frame_folder import FrameFolderStream
from .sources import local_file
from .video_stream import VideoStream

Select = Callable[[Cut], Sequence[int]] | Sequence[int]
Stream = VideoStream | HelperStream | FrameFolderStream
Result = TypeVar("Result")


def decode_video(
    source: Any,
    select: Select | None = None,
    *,
    start: float | None = None,
    end: float | None = None,
    num_threads: int = 1,
    timeout: float | None = 60.0,
) -> DecodedVideo:
    """Decode the frames of a video that `select` names, and only these.

    Frames come from the video stream that FFmpeg calls the best, upright, numbered in presentation order. The packets
    are read once to count and time the frames. Then one pass with the decoder seeks only where a key frame lies
    between its position and the next wanted frame, and leaves out pictures of H.264 that nobody needs.

    Packets do not always tell the frames: not in AVI or VP8, nor in old or interlaced video outside MP4, nor if the
    file is damaged or its time stamps are wrong. Then all frames are decoded once to count and time them, which takes
    up to twice as long.

    Args:
        source: path (str or Path), URL (http(s), or any that fsspec knows: `zip://`, `hf://`, `s3://`), bytes, or an
            open binary file. All but paths are first written to a temporary file. The path may name a folder with the
            frames as pictures, `<name>_000.jpg` and so on (`.jpg`, `.jpeg`, `.png`; at least three digits). Pillow
            reads these, so `num_threads` and `timeout` have no effect, and the `timestamps` are None.
        select: indices of frames in the cut, in any order, repeated if wished; or a function that gets the `Cut` and
            returns them. The function may be called a second time, if the first count turns out to be wrong. Default:
            every frame.
        start, end: seconds on the container's clock. The cut has the frames with `start <= timestamp < end`, or the
            one on show at `start` if none begins in it. Default: the whole video.
        num_threads: threads of the decoder, 0 for one per core. They help only with large pictures coded in slices.
            One is best wherever several processes decode, as DataLoader workers do.
        timeout: seconds that a download may stall, that opening may take, and then each wanted frame. With a limit the
            video is decoded in a helper process, which is stopped when it hangs: one for each process and thread that
            decodes, started in 0.15 s, 60 MB large, about 5 % slower. `None` sets no limit and decodes in this
            process; no decoder is known to hang with one thread.

    Raises:
        VideoDecodingError: the file cannot be opened, has no video, has no frame in the cut, or a wanted frame does
            not decode, is damaged, or hangs. No frame is ever repeated or left out silently. Also: a folder lacks a
            picture, or `start` or `end` is given for a folder. Carries path, reason and timestamp reached.
        IndexError: `select` names a frame outside the cut.
        ValueError: `end` is not greater than `start`.
        ImportError: PyAV is not installed.

    Example:

    ```python
    decode_video("kitchen.mp4", lambda cut: range(0, cut.num_frames, 30), start=2.0, end=9.5).frames
    ```
    """

    def read(stream: Stream) -> DecodedVideo:
        first, cut = _cut(stream, start, end)
        chosen = range(cut.num_frames) if select is None else select(cut) if callable(select) else select
        numbers = [index(number) for number in chosen]
        if outside := [number for number in numbers if not 0 <= number < cut.num_frames]:
            last = cut.num_frames - 1
            raise IndexError(f"frame {outside[0]} was selected; {stream.name} has frames 0 to {last} in the segment.")
        indices = [first + number for number in numbers]
        frames, seconds = stack_pictures(stream, indices), stream.whole.seconds
        timestamps = None if seconds is None else seconds[indices].tolist() if indices else []
        return DecodedVideo(frames, indices, timestamps, stream.info)

    return with_stream(read, source, num_threads, timeout)


def probe_video(source: Any, *, timeout: float | None = 60.0) -> VideoInfo:
    """Facts about a video. Reads all packets and decodes the first frame, or all where packets do not tell the frames.

    For a folder of pictures it reads the names, and the header of the first.

    Args and errors are those of `decode_video`.
    """
    return with_stream(lambda stream: stream.info, source, timeout=timeout)


def check_video(source: Any, *, timeout: float | None = 60.0) -> VideoInfo:
    """Decode every frame of a video and keep none.

    Args and errors are those of `decode_video`.
    """

    def read(stream: Stream) -> VideoInfo:
        for _ in stream.pictures(range(stream.info.num_frames)):
            pass
        return stream.info

    return with_stream(read, source, timeout=timeout)


def with_stream(
    read: Callable[[Stream], Result], source: Any, num_threads: int = 1, timeout: float | None = 60.0
) -> Result:
    """Open a video for a function that takes one picture at a time, and return its result.

    Args:
        read: gets the stream, with `name`, `info`, `whole` and `pictures(numbers)`, which it may call once. If the
            decoder then contradicts the packets, all frames are counted by decoding them, and `read` is called again.
        source, num_threads, timeout: as for `decode_video`, with the same errors.
    """

    def read_once(stream: Stream) -> Iterator[Result]:
        yield read(stream)

    with closing(iterate_stream(read_once, source, num_threads, timeout)) as results:
        return next(results)


def iterate_stream(
    read: Callable[[Stream], Iterator[Result]], source: Any, num_threads: int = 1, timeout: float | None = 60.0
) -> Generator[Result, None, None]:
    """As `with_stream`, but `read` yields results one by one. It may begin again after it has yielded some."""
    with local_file(source, timeout) as (path, name):
        if os.path.isdir(path):
            yield from read(FrameFolderStream(path, name))
            return

        def open_file(count: bool) -> Stream:
            if timeout is None:
                return VideoStream(path, name, num_threads, count)
            return HelperStream(path, name, num_threads, timeout, count)

        with suppress(UnconfirmedIndexError), closing(open_file(count=False)) as stream:
            yield from read(stream)
            return
        with closing(open_file(count=True)) as stream:
            yield from read(stream)


def _cut(stream: Stream, start: float | None, end: float | None) -> tuple[int, Cut]:
    """Number of the first frame of the cut, and the cut."""
    whole, times = stream.whole, stream.whole.seconds
    if start is None and end is None:
        return 0, whole
    if times is None or whole.ticks is None or whole.duration is None:
        raise VideoDecodingError(
            stream.name,
            f"start={start} and end={end} are seconds, but the frame rate of its pictures is unknown; give the "
            "segment a folder of its own, or use the video file",
        )
    if start is not None and end is not None and end <= start:
        raise ValueError(f"end={end} must be greater than start={start}.")
    close = 1e-6  # a time stamp that was written down with six digits still means its frame
    first = 0 if start is None else int(np.searchsorted(times, start - close))
    stop = len(times) if end is None else int(np.searchsorted(times, end - close))
    finish = float(times[0]) + whole.duration
    if first >= stop and start is not None and times[0] <= start < finish:
        stop = int(np.searchsorted(times, start + close, side="right"))
        first = stop - 1
    if first >= stop:
        wanted = f"between {'its start' if start is None else start} and {'its end' if end is None else end} s"
        raise VideoDecodingError(stream.name, f"no frame lies {wanted}; it runs from {times[0]:.3f} to {finish:.3f} s")
    ends_at = whole.end if stop == len(times) else int(whole.ticks[stop])
    return first, replace(whole, num_frames=stop - first, ticks=whole.ticks[first:stop], end=ends_at)


def stack_pictures(stream: Stream, indices: list[int], shape: tuple[int, int] | None = None) -> torch.Tensor:
    """The frames of an open video in the given order, perhaps repeated: uint8 `[len(indices), 3, height, width]`.

    Args:
        shape: height and width to which FFmpeg brings each picture as it is decoded.
    """
    height, width = shape or (stream.info.height, stream.info.width)
    numbers, places = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
    frames = np.empty((len(numbers), height, width, 3), np.uint8)
    for row, picture in enumerate(stream.pictures(numbers.tolist(), shape and (width, height))):
        frames[row] = picture
    if indices != numbers.tolist():
        frames = frames[places]
    return torch.from_numpy(frames).permute(0, 3, 1, 2)
