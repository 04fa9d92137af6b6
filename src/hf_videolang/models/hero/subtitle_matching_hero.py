"""Which subtitle is shown with which frame, and the frames of a span of seconds (hero §3, §5, §7.3)."""

import math
from collections.abc import Sequence

import numpy as np

from hf_videolang.video.subtitles import Subtitle

LONG_SECONDS, LONG_FRAMES = 16, 11  # if the last subtitle lasts longer, only this many frames count


def match_frames(subtitles: Sequence[Subtitle], num_frames: int, seconds_per_frame: float) -> list[int]:
    """
    The subtitle of each frame: of those that touch it, the one that overlaps it most.

    Args:
        subtitles: in their order.
        num_frames: of the whole video. Frame r covers the seconds from r to r + 1, times `seconds_per_frame`.

    Returns:
        `num_frames` numbers of subtitles, -1 for none.
    """
    limit = np.float32(seconds_per_frame) * np.float32(num_frames)
    starts = np.array([one["start"] for one in subtitles], np.float32)
    ends = np.array([one["end"] for one in subtitles], np.float32)
    frame_starts, frame_ends = starts / np.float32(seconds_per_frame), ends / np.float32(seconds_per_frame)
    touching: list[list[int]] = [[] for _ in range(num_frames)]
    for number, (start, end) in enumerate(zip(frame_starts, frame_ends)):
        if starts[number] >= limit:
            continue
        first, behind = math.floor(start), math.ceil(end)
        if number == len(subtitles) - 1 and min(ends[number], limit) - starts[number] > LONG_SECONDS:
            behind = min(behind, first + LONG_FRAMES)
        for frame in range(first, min(behind, num_frames)):
            touching[frame].append(number)

    def best(frame: int) -> int:
        overlaps = np.zeros(len(subtitles), np.float32)
        for number in touching[frame]:
            start, end = frame_starts[number], frame_ends[number]
            intersection = max(0, min(end, frame + 1) - max(start, frame))
            overlaps[number] = intersection / (max(end, frame + 1) - min(start, frame))
        return int(overlaps.argmax())  # the first on ties, and 0 if none overlaps, as in the original

    return [best(frame) if touching[frame] else -1 for frame in range(num_frames)]


def group_frames(num_frames: int, frames_per_group: int) -> list[int]:
    """The group of each frame of a video without subtitles."""
    return [frame // frames_per_group for frame in range(num_frames)]


def cut_frames(frame_subtitles: Sequence[int], num_subtitles: int, max_frames: int) -> tuple[list[int], list[int]]:
    """
    Keep the first `max_frames` frames and the subtitles that belong to them.

    Returns:
        The subtitles that are kept, and the place among them of each frame's subtitle. A subtitle whose frames are
        all cut off is left out; so are all subtitles behind the first one that loses a frame.
    """
    kept = []
    for number in range(num_subtitles):
        frames = [frame for frame, subtitle in enumerate(frame_subtitles) if subtitle == number]
        inside = [frame for frame in frames if frame < max_frames]
        if inside or not frames:
            kept.append(number)
        if len(inside) < len(frames):
            break
    place = {number: row for row, number in enumerate(kept)}
    return kept, [place.get(number, -1) for number in frame_subtitles[:max_frames]]


def span_frames(start: float, end: float, num_frames: int, seconds_per_frame: float) -> tuple[int, int]:
    """First and last frame of a span of seconds, at least two frames where the video has them; -1, -1 for NaN."""
    if math.isnan(start) or math.isnan(end):
        return -1, -1
    first = min(math.floor(start / seconds_per_frame), num_frames - 1)
    return first, min(max(math.ceil(end / seconds_per_frame) - 1, first + 1), num_frames - 1)


def segment_frames(start: float, end: float, num_frames: int, seconds_per_frame: float) -> tuple[int, int]:
    """
    First frame of a segment to be captioned, and the one behind its last: at least one frame (hero §5). Infinity as
    its end is the end of the video.

    Raises:
        ValueError: the segment has no length, or starts before or behind the video.
    """
    if not 0 <= start < end:
        raise ValueError(f"segment {start:g} to {end:g} s; expected seconds from 0 on, the end behind the start.")
    first = math.floor(start / seconds_per_frame)
    if first >= num_frames:
        raise ValueError(
            f"segment {start:g} to {end:g} s starts behind the last row of features that is read, which ends at "
            f"{num_frames * seconds_per_frame:g} s."
        )
    return first, max(round(min(end / seconds_per_frame, num_frames)), first + 1)
