"""Which frames ClipBERT reads: short windows of a video, and a few frames of each (clipbert §5, A2)."""

from collections.abc import Callable, Sequence

import numpy as np

from hf_videolang.video.decoded_video import Cut


def window_indices(cut: Cut, num_frames: int, fps: float, starts: Callable[[float], Sequence[float]]) -> np.ndarray:
    """
    Positions of the frames of some windows, each `num_frames / fps` seconds long.

    The first frame of a window is the first that is shown in it, the last lies a frame before its end; the others are
    spread evenly between them. A window that is longer than the video repeats the last frame.

    As in the original, windows are laid out in frames of the average rate and then found by integer time stamps. A
    file whose header states no duration for the stream (Matroska, WebM) and a list of frames have no time stamps to go
    by; there, frames are counted. Windows start from the first frame of the cut. Where header and decoder count other
    frames, the decoder is right.

    Args:
        cut: count, rate and times of the frames.
        num_frames: frames of a window, at least 1.
        fps: frames a second at which a window would hold `num_frames`.
        starts: gets how far a window can be moved, in frames of the video, and returns where the windows begin.

    Returns:
        int64 `[windows, num_frames]`.

    Raises:
        ValueError: `num_frames` or `fps` is not positive, or the rate is unknown.

    Example:

    ```python
    window_indices(Cut(90, Fraction(30)), 2, 2, lambda free: [0, free / 2])  # array([[0, 29], [30, 59]])
    ```
    """
    if num_frames < 1 or fps <= 0:
        raise ValueError(f"num_frames is {num_frames} and fps is {fps}; both must be positive.")
    if cut.num_frames == 1:
        return np.zeros((len(starts(0.0)), num_frames), np.int64)
    if cut.frame_rate is None:
        raise ValueError(
            "the frame rate of the video is unknown, and windows are measured in seconds; pass "
            'video_metadata={"fps": …}, or sampling="whole" to spread the frames over the whole video.'
        )
    length = num_frames / fps * float(cut.frame_rate)
    windows = []
    for start in starts(max(cut.num_frames - length, 0)):
        end = start + length - 1
        if cut.ticks is None or cut.end is None or cut.header_duration is None:
            picks = np.linspace(start, end, num_frames).clip(0, cut.num_frames - 1)
            windows.append(picks.astype(np.int64))
            continue
        ticks = cut.ticks - cut.ticks[0]
        ticks_a_frame = int(cut.end - cut.ticks[0]) / cut.num_frames
        first = int(np.searchsorted(ticks, int(start * ticks_a_frame)))
        last = int(np.searchsorted(ticks, int(end * ticks_a_frame), side="right"))  # one frame beyond the end
        last = min(last, cut.num_frames - 1)
        picks = np.linspace(0, length - 1, num_frames).clip(0, last - first)
        windows.append(first + picks.astype(np.int64))
    return np.stack(windows)
