"""When the frames of a stream are shown, read from its packets or from what the decoder shows."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from .decoded_video import Cut


class Packet(NamedTuple):
    """What the container says about one coded picture; times in ticks. A packet of no size repeats a picture."""

    pts: int | None
    dts: int | None
    duration: int
    is_key: bool
    size: int


def indexed_ticks(packets: Sequence[Packet]) -> list[int]:
    """Presentation times of the packets, ascending; empty unless each has its own and the clock never goes back."""
    stamps = {packet.pts for packet in packets if packet.pts is not None}
    decoding = [packet.dts for packet in packets if packet.dts is not None]
    return sorted(stamps) if len(stamps) == len(packets) and decoding == sorted(decoding) else []


def shown_ticks(shown: Sequence[int | None], packets: Sequence[Packet], step: Fraction) -> list[int]:
    """Ascending times of all frames that the decoder shows.

    These are the frames' own stamps. If the stamps go back, the container has no presentation times, and the times of
    decoding take their place. If those go back too, as where recordings were joined, or if there are none, the frames
    are spread evenly.

    Args:
        shown: stamps of the frames in the order in which they are shown; None where the container gives none.
        packets: the coded pictures, in the order of the file.
        step: ticks between two frames, by the frame rate.
    """
    for stamps in (shown, [packet.dts for packet in packets]):
        ticks = [stamp for stamp in stamps if stamp is not None]
        if len(ticks) == len(shown) and all(a < b for a, b in pairwise(ticks)):
            return ticks
    return [round(number * step) for number in range(len(shown))]


def frame_times(
    ticks: Sequence[int],
    packets: Sequence[Packet],
    time_base: Fraction,
    stated_rate: Fraction | None,
    header_duration: int | None = None,
) -> Cut:
    """All frames of a video, from the ascending times at which they are shown.

    The frame rate is the stated one where the times agree with it up to their rounding to ticks, as Matroska rounds
    them to milliseconds. Otherwise the frames come at uneven distances, and the rate is their true average.
    """
    num_frames, span = len(ticks), ticks[-1] - ticks[0]
    end = max(((packet.pts or packet.dts or 0) + packet.duration for packet in packets), default=0)
    if end <= ticks[-1]:  # no duration is known
        end = ticks[-1] + round(span / max(num_frames - 1, 1))
    seconds, rate = (end - ticks[0]) * time_base, None
    if num_frames > 1:
        rate = num_frames / seconds
        if stated_rate and abs(stated_rate * seconds - num_frames) <= stated_rate * time_base:
            rate = stated_rate
    return Cut(num_frames, rate, np.array(ticks, np.int64), end, time_base, header_duration)
