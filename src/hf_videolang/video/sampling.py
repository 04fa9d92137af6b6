"""Which frames of a video are read: by counting (clip_vip §5.2), or by time at a constant rate (videoclip A1)."""

from fractions import Fraction

import numpy as np


def uniform_indices(total_frames: int, num_frames: int, generator: np.random.RandomState | None = None) -> np.ndarray:
    """`num_frames` positions spread evenly from the first frame to the last; a clip with fewer frames repeats some.

    All published CLIP-ViP configurations use this rule (`sample_rate` 0).

    Args:
        total_frames: frames of the video.
        num_frames: frames to take.
        generator: given in training, it moves both ends of the range inwards by up to one step, as the original does
            with NumPy's global generator (two draws, start first). Positions that the original would take from outside
            the video (with two frames only) move to its ends.

    Returns:
        int64 `[num_frames]`, each in `0..total_frames - 1`.

    Raises:
        ValueError: `total_frames` or `num_frames` is below 1, or a single frame shall be jittered, which has no step.

    Example:

    ```python
    uniform_indices(10, 4)  # array([0, 3, 6, 9])
    ```
    """
    if total_frames < 1 or num_frames < 1:
        raise ValueError(
            f"num_frames is {num_frames} and the video has {total_frames} frames; both must be at least 1."
        )
    first, last = 0, total_frames - 1
    if generator is not None:
        if num_frames == 1:
            raise ValueError("num_frames is 1, but jitter needs at least 2 frames; sample one frame without it.")
        step = total_frames // (num_frames - 1)
        first, last = generator.randint(step + 1), last - step + generator.randint(step + 1)
    return np.linspace(first, last, num_frames).astype(np.int64).clip(0, total_frames - 1)


def constant_rate_indices(ticks: np.ndarray, end: int, time_base: Fraction, rate: float | Fraction) -> np.ndarray:
    """The frame on show at each tick of a constant rate, as FFmpeg's `fps` filter chooses it (videoclip A1).

    A frame is on show from the tick nearest to its time. So a video slower than `rate` repeats frames and a faster one
    loses some. The first tick is that of the first frame.

    Args:
        ticks: int64 `[frames]`, ascending, when each frame is first shown, in units of `time_base`.
        end: when the last frame ends, in the same units.
        time_base: seconds of one unit.
        rate: ticks of the new rate per second.

    Returns:
        int64 `[ticks of the new rate]`, at least one, each a position in `ticks`.

    Example:

    ```python
    constant_rate_indices(np.arange(4), 4, Fraction(1, 10), 30)  # 10 frames a second: array([0, 0, 0, 1, 1, 1, ...])
    ```
    """
    ratio = Fraction(rate) * time_base

    def nearest(tick):  # of the new rate, in integers; a half is rounded up
        return (2 * tick * ratio.numerator + ratio.denominator) // (2 * ratio.denominator)

    shown = nearest(ticks)
    new_ticks = np.arange(shown[0], max(nearest(end), shown[0] + 1))
    return np.searchsorted(shown, new_ticks, side="right") - 1
