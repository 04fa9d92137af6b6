"""
Frames of a video of any length, as FFmpeg's filters `fps`, `scale` and `crop` give them, a few rows at a time.

`scale` is FFmpeg's own, in the graph that also converts to RGB. `fps` and `crop` choose frames and pixels; choosing
them by number gives the same bytes, decodes less, and leaves one way of decoding, with its limits and its errors.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .decode import Stream, iterate_stream
from .decoded_video import Cut, VideoDecodingError


def filtered_rows(
    source: Any, choose: Callable[[Cut], np.ndarray], shortest_edge: int, crop: int | None, number: int
) -> Iterator[tuple[int, np.ndarray]]:
    """
    Decode the frames that `choose` names. Only those that rows at hand still need are in memory.

    Args:
        source: what `decode_video` takes, except a folder of pictures, whose frame rate is unknown.
        choose: gets the whole video, and returns the positions of its frames, int64 `[rows, frames]`.
        shortest_edge: pixels of the shorter side; the other one keeps the ratio, rounded down.
        crop: side of the square in the centre that is kept; `None` keeps all.
        number: rows at a time.

    Yields:
        The position of the first row, and uint8 `[rows, frames, height, width, 3]`. Position 0 may come again: then
        the file is damaged, the frames have been counted anew, and all rows follow once more.

    Raises:
        VideoDecodingError: the video cannot be read, perhaps only after some rows; its end is missing; or it has no
            times.

    Example:

    ```python
    for first, frames in filtered_rows("talk.mp4", lambda cut: middle_frames(cut, 1.5), 224, 224, 8):
        print(first, frames.shape)  # 0 (8, 1, 224, 224, 3)
    ```
    """

    def read(stream: Stream) -> Iterator[tuple[int, np.ndarray]]:
        info = stream.info
        if stream.whole.ticks is None:
            raise VideoDecodingError(stream.name, "its frame rate is unknown; make a video file of the pictures")
        if info.is_truncated:
            reason = f"it declares {info.declared_duration:.1f} s, but ends after {info.duration:.1f} s"
            raise VideoDecodingError(stream.name, reason)
        rows = choose(stream.whole)
        last_row = {frame: row for row, frames in enumerate(rows.tolist()) for frame in frames}
        wanted, size = sorted(last_row), scaled_size(info.width, info.height, shortest_edge)
        pictures = zip(wanted, stream.pictures(wanted, size))
        kept: dict[int, np.ndarray] = {}
        ready: list[np.ndarray] = []
        for row, frames in enumerate(rows.tolist()):
            while max(frames) > max(kept, default=-1):
                frame, picture = next(pictures)
                kept[frame] = crop_centre(picture, crop)
            ready.append(np.stack([kept[frame] for frame in frames]))
            kept = {frame: picture for frame, picture in kept.items() if last_row[frame] > row}
            if len(ready) == number or row + 1 == len(rows):
                yield row + 1 - len(ready), np.stack(ready)
                ready = []

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
