"""
Frames of a video of any length, as FFmpeg's filters `fps`, `scale` and `crop` give them, a few rows at a time.

`scale` is FFmpeg's own, in the graph that also converts to RGB. `fps` and `crop` choose frames and pixels; choosing
them by number gives the same bytes, decodes less, and leaves one way of decoding, with its limits and its errors.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .decode import Stream, iterate_stream
from .decoded_video import VideoDecodingError

BLACK = -1  # a frame that is not in the video


def filtered_rows(
    source: Any,
    choose: Callable[[Stream], np.ndarray],
    shortest_edge: int | None,
    crop: tuple[int, int] | None,
    number: int,
) -> Iterator[tuple[int, np.ndarray]]:
    """
    Decode the frames that `choose` names. Beside the rows at hand, only frames that later rows share are in memory.

    Args:
        source: what `decode_video` takes.
        choose: gets the open video, with `info` and `whole`, and returns the positions of frames, int64 `[rows,
            frames]`, or `BLACK`.
        shortest_edge: pixels of the shorter side, see `scaled_size`; `None` keeps the size.
        crop: height and width of the centre that is kept, see `crop_centre`; `None` keeps all.
        number: rows at a time.

    Yields:
        The position of the first row, and uint8 `[rows, frames, height, width, 3]`. Position 0 may come again: then
        the file is damaged, the frames have been counted anew, and all rows follow once more.

    Raises:
        VideoDecodingError: the video cannot be read, perhaps only after some rows; or its end is missing.

    Example:

    ```python
    for first, frames in filtered_rows("talk.mp4", lambda stream: middle_frames(stream.whole, 1.5), 224, None, 8):
        print(first, frames.shape)  # 0 (8, 1, 224, 398, 3)
    ```
    """

    def read(stream: Stream) -> Iterator[tuple[int, np.ndarray]]:
        info = stream.info
        if info.is_truncated:
            reason = f"it declares {info.declared_duration:.1f} s, but ends after {info.duration:.1f} s"
            raise VideoDecodingError(stream.name, reason)
        rows = choose(stream)
        size = shortest_edge and scaled_size(info.width, info.height, shortest_edge)
        wanted, places = np.unique(rows[::-1], return_index=True)
        last_rows = (len(rows) - 1 - places // rows.shape[1])[wanted != BLACK]
        wanted = wanted[wanted != BLACK]
        pictures = zip(wanted, last_rows, stream.pictures(wanted, size or None))
        kept: dict[int, tuple[int, np.ndarray]] = {}  # frame → the last row that needs it, and its picture
        for first in range(0, len(rows), number):
            part, chunk = rows[first : first + number], None
            for frame in np.unique(part[part != BLACK]).tolist():
                while frame not in kept:
                    decoded, last_row, picture = next(pictures)
                    kept[decoded] = last_row, crop_centre(picture, crop)
                last_row, picture = kept[frame]
                if chunk is None:
                    chunk = np.zeros((*part.shape, *picture.shape), np.uint8)
                for place in zip(*np.nonzero(part == frame)):
                    chunk[place] = picture
                if last_row < first + len(part):
                    del kept[frame]
            assert chunk is not None, "a part of the rows is all black"
            yield first, chunk

    yield from iterate_stream(read, source)


def scaled_size(width: int, height: int, shortest_edge: int) -> tuple[int, int]:
    """Width and height at which the shorter side has `shortest_edge` pixels; the other one is rounded down."""
    if width <= height:
        return shortest_edge, int(height * shortest_edge / width)
    return int(width * shortest_edge / height), shortest_edge


def crop_centre(picture: np.ndarray, shape: tuple[int, int] | None) -> np.ndarray:
    """The centre of `[height, width, 3]`, of this height and width; half a pixel goes to the top and the left."""
    if shape is None:
        return picture
    top, left = ((side - kept) // 2 for side, kept in zip(picture.shape, shape))
    return picture[top : top + shape[0], left : left + shape[1]]
