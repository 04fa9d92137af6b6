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


def filtered_rows(
    source: Any, choose: Callable[[Stream], np.ndarray], shortest_edge: int, crop: int | None, number: int
) -> Iterator[tuple[int, np.ndarray]]:
    """
    Decode the frames that `choose` names. Beside the rows at hand, only frames that later rows share are in memory.

    Args:
        source: what `decode_video` takes.
        choose: gets the open video, with `info` and `whole`, and returns the positions of frames, int64 `[rows,
            frames]`.
        shortest_edge: pixels of the shorter side; the other one keeps the ratio, rounded down.
        crop: side of the square in the centre that is kept; `None` keeps all.
        number: rows at a time.

    Yields:
        The position of the first row, and uint8 `[rows, frames, height, width, 3]`. Position 0 may come again: then
        the file is damaged, the frames have been counted anew, and all rows follow once more.

    Raises:
        VideoDecodingError: the video cannot be read, perhaps only after some rows; or its end is missing.

    Example:

    ```python
    for first, frames in filtered_rows("talk.mp4", lambda stream: middle_frames(stream.whole, 1.5), 224, 224, 8):
        print(first, frames.shape)  # 0 (8, 1, 224, 224, 3)
    ```
    """

    def read(stream: Stream) -> Iterator[tuple[int, np.ndarray]]:
        info = stream.info
        if info.is_truncated:
            reason = f"it declares {info.declared_duration:.1f} s, but ends after {info.duration:.1f} s"
            raise VideoDecodingError(stream.name, reason)
        rows = choose(stream)
        last_row = {frame: row for row, frames in enumerate(rows.tolist()) for frame in frames}
        wanted = sorted(last_row)
        pictures = zip(wanted, stream.pictures(wanted, scaled_size(info.width, info.height, shortest_edge)))
        kept: dict[int, np.ndarray] = {}
        for first in range(0, len(rows), number):
            part = rows[first : first + number]
            chunk = None
            for frame in np.unique(part).tolist():
                while frame not in kept:
                    decoded, picture = next(pictures)
                    kept[decoded] = crop_centre(picture, crop)
                if chunk is None:
                    chunk = np.empty((*part.shape, *kept[frame].shape), np.uint8)
                chunk[part == frame] = kept[frame]
                if last_row[frame] < first + len(part):
                    del kept[frame]
            assert chunk is not None
            yield first, chunk

    yield from iterate_stream(read, source)


def scaled_size(width: int, height: int, shortest_edge: int) -> tuple[int, int]:
    """Width and height at which the shorter side has `shortest_edge` pixels; the other one is rounded down."""
    if width <= height:
        return shortest_edge, int(height * shortest_edge / width)
    return int(width * shortest_edge / height), shortest_edge


def crop_centre(picture: np.ndarray, side: int | None) -> np.ndarray:
    """The square in the centre of `[height, width, 3]`; half a pixel goes to the top and the left."""
    if side is None:
        return picture
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    return picture[top : top + side, left : left + side]
