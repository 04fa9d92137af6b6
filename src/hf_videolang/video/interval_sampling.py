"""Which frames of a video stand for each interval of it: a single one, or a short clip (hero A3, A4)."""

import math
from fractions import Fraction

import numpy as np
import torch

from .decoded_video import Cut
from .sampling import constant_rate_indices

FRAMES_PER_SECOND = 30  # of clips


def middle_frames(cut: Cut, seconds: float) -> np.ndarray:
    """
    The frame near the middle of each interval, as FFmpeg's filter `fps=1/seconds` takes it (hero A4).

    A video that is hardly longer than one interval is read at 2 frames for each whole second.

    Args:
        cut: the whole video, with times.
        seconds: length of an interval.

    Returns:
        int64 `[intervals, 1]`, at least one: positions of frames.
    """
    rate, duration = 1 / Fraction(seconds), _stated_duration(cut)
    if duration is not None and 0 < duration < seconds + 0.1:
        rate = Fraction(2, max(int(duration), 1))
    return _at_rate(cut, rate)[:, None]


def interval_clips(cut: Cut, seconds: float, num_frames: int) -> np.ndarray:
    """
    Frames at 30 a second, cut into clips of one interval, of each of which some are read (hero A3).

    The last frame fills up the last second, and the last second an even number of intervals. Of these, those that
    begin within the stated duration are kept. The slower the video, the shorter is the part of a clip that is read:
    `2 * num_frames` frames at the rate of the file, as if it had been decoded without a change of rate.

    Args:
        cut: the whole video, with times.
        seconds: length of an interval.
        num_frames: frames to read of each.

    Returns:
        int64 `[intervals, num_frames]`, positions of frames.
    """
    shown = _at_rate(cut, FRAMES_PER_SECOND)
    shown = np.concatenate([shown, shown[-1:].repeat(-len(shown) % FRAMES_PER_SECOND)])
    whole_seconds = shown.reshape(-1, FRAMES_PER_SECOND)
    missing = -len(whole_seconds) % round(2 * seconds)
    whole_seconds = np.concatenate([whole_seconds, whole_seconds[-1:].repeat(missing, axis=0)])
    clips = whole_seconds.reshape(-1, round(seconds * FRAMES_PER_SECOND))
    duration = _stated_duration(cut)
    if duration is not None:
        clips = clips[: max(math.ceil(duration / seconds), 1)]
    return clips[:, clip_positions(cut.frame_rate, clips.shape[1], num_frames)]


def clip_positions(frame_rate: float | Fraction | None, length: int, num_frames: int) -> np.ndarray:
    """
    Which frames of a clip of `length` frames at 30 a second are read: int64 `[num_frames]`.

    Args:
        frame_rate: of the file; `None` counts as 30.
    """
    last = 2 * num_frames * math.floor(frame_rate or FRAMES_PER_SECOND) / FRAMES_PER_SECOND - 1
    return torch.linspace(0, last, num_frames).clamp(0, length - 1).long().numpy()


def _at_rate(cut: Cut, rate: float | Fraction) -> np.ndarray:
    """The frames on show at a constant rate. The clock starts with the first frame, as with the `ffmpeg` command."""
    assert cut.ticks is not None and cut.end is not None and cut.time_base is not None, "pictures have no times"
    first = int(cut.ticks[0])
    return constant_rate_indices(cut.ticks - first, cut.end - first, cut.time_base, rate)


def _stated_duration(cut: Cut) -> float | None:
    """Seconds that the header states for the stream."""
    if cut.header_duration is None or cut.time_base is None:
        return None
    return float(cut.header_duration * cut.time_base)
