"""Which frames of a video are read. Frames are counted; the frame rate plays no role (clip_vip §5.2)."""

from typing import Literal

import numpy as np


def uniform_indices(total_frames: int, num_frames: int, generator: np.random.RandomState | None = None) -> np.ndarray:
    """
    `num_frames` positions spread evenly from the first frame to the last; a clip with fewer frames repeats some.

    The rule of all published CLIP-ViP configurations (`sample_rate` 0).

    Args:
        total_frames: frames there are.
        num_frames: frames to take.
        generator: given in training, it jitters both ends of the range inwards by up to one step, as the original
            does with NumPy's global generator (two draws, start first). Positions that the original would take from
            outside the video (two frames only) are moved to its ends.

    Returns:
        int64 `[num_frames]`, each in `0..total_frames - 1`.

    Raises:
        ValueError: fewer than one frame, there or asked for; jitter of a single frame, which has no step.
    """
    _check_counts(total_frames, num_frames)
    first, last = 0, total_frames - 1
    if generator is not None:
        if num_frames == 1:
            raise ValueError("num_frames is 1, but jitter needs at least 2 frames; sample one frame without it.")
        step = total_frames // (num_frames - 1)
        first, last = generator.randint(step + 1), last - step + generator.randint(step + 1)
    return np.linspace(first, last, num_frames).astype(np.int64).clip(0, total_frames - 1)


def interval_indices(
    total_frames: int,
    num_frames: int,
    frame_interval: int,
    *,
    num_clips: int = 1,
    generator: np.random.RandomState | None = None,
    random_start: bool = True,
    frame_jitter: bool = True,
    beyond_end: Literal["loop", "repeat_last"] = "loop",
    keep_tail: bool = False,
    sample_twice: bool = False,
) -> np.ndarray:
    """
    Clips of `num_frames` frames, each `frame_interval` frames after the one before (`sample_rate` > 0, the
    original's `SampleFrames`).

    Args:
        total_frames: frames there are.
        num_frames, frame_interval: frames of one clip and the distance between them.
        num_clips: clips; the video is cut into as many equal stretches, one clip starts in each.
        generator: without one, every clip starts in the middle of its stretch and nothing is drawn. With one, what
            the next two arguments name is drawn from it. The original draws frame jitter at test time, too.
        random_start: a clip starts anywhere in its stretch.
        frame_jitter: each frame moves later by 0 to `frame_interval - 1`.
        beyond_end: positions past the last frame start over (`"loop"`), or repeat the clip's last position inside
            the video (`"repeat_last"`).
        keep_tail: stretches of fractional length, so that random starts reach the last frames.
        sample_twice: the centred clips, followed by as many from the starts of the stretches.

    Returns:
        int64 `[clips * num_frames]`, clip by clip, each in `0..total_frames - 1`.

    Raises:
        ValueError: fewer than one frame, clip or frame of distance.
    """
    _check_counts(total_frames, num_frames)
    if frame_interval < 1 or num_clips < 1:
        raise ValueError(f"frame_interval is {frame_interval} and num_clips is {num_clips}; both must be at least 1.")
    num_starts = total_frames - num_frames * frame_interval + 1
    if generator is not None and random_start:
        starts = _random_starts(total_frames, num_starts, num_clips, keep_tail, generator)
    elif num_starts > 0:
        stretches = np.arange(num_clips) * (num_starts / num_clips)
        starts = stretches + num_starts / num_clips / 2
        if sample_twice:
            starts = np.concatenate([starts, stretches])
    else:
        starts = np.zeros(num_clips)
    indices = starts.astype(np.int64)[:, None] + np.arange(num_frames) * frame_interval
    if generator is not None and frame_jitter:
        indices += generator.randint(frame_interval, size=indices.shape)
    if beyond_end == "loop":
        indices %= total_frames
    else:
        inside = indices < total_frames
        indices = np.where(inside, indices, np.where(inside, indices, 0).max(axis=1, keepdims=True))
    return indices.ravel()


def _random_starts(
    total_frames: int, num_starts: int, num_clips: int, keep_tail: bool, generator: np.random.RandomState
) -> np.ndarray:
    """One start a clip, with the draws and the special cases of the original for videos hardly long enough."""
    stretches = np.arange(num_clips)
    if keep_tail:
        if num_starts <= 0:
            return np.zeros(num_clips)
        length = num_starts / num_clips
        return stretches * length + generator.uniform(0, length, num_clips)
    whole_length = num_starts // num_clips
    if whole_length > 0:
        return stretches * whole_length + generator.randint(whole_length, size=num_clips)
    if total_frames > max(num_clips, total_frames - num_starts + 1):
        return np.sort(generator.randint(num_starts, size=num_clips))
    if whole_length == 0:
        return np.around(stretches * (num_starts / num_clips))
    return np.zeros(num_clips)


def _check_counts(total_frames: int, num_frames: int) -> None:
    if total_frames < 1:
        raise ValueError(f"the video has {total_frames} frames; at least 1 is needed to sample from.")
    if num_frames < 1:
        raise ValueError(f"num_frames is {num_frames}; ask for at least 1.")
