"""Which frames stand for an interval: the sentences of hero A3 and A4, literally."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from hf_videolang.video.decoded_video import Cut
from hf_videolang.video.interval_sampling import clip_positions, interval_clips, middle_frames

CLIPS = {  # frames a second of the file → positions in a clip of 45 frames
    30: [*range(0, 45, 2), *[44] * 9],
    25: [int(k * (64 * 25 / 30 - 1) / 31) for k in range(27)] + [44] * 5,
    24: [
        *(0, 1, 3, 4, 6, 8, 9, 11, 12, 14, 16, 17, 19, 21, 22, 24),
        *(25, 27, 29, 30, 32, 34, 35, 37, 38, 40, 42, 43, 44, 44, 44, 44),
    ],
    3: [0] * 6 + [1] * 6 + [2] * 6 + [3] * 5 + [4] * 6 + [5] * 3,  # the first 0.2 s
}


def video(num_frames: int, rate: int, stated: bool = True) -> Cut:
    duration = num_frames if stated else None
    return Cut(num_frames, Fraction(rate), np.arange(num_frames), num_frames, Fraction(1, rate), duration)


@pytest.mark.parametrize(
    ("rate", "frames"),
    [
        (24, [17, 53, 89, 125, 161, 197, 233]),
        (25, [18, 56, 93, 131, 168, 206, 243]),
        (30, [22, 67, 112, 157, 202, 247, 292]),
        (3, [2, 6, 11, 15, 20, 24, 29]),
    ],
)
def test_a_row_of_frames_is_the_middle_of_its_interval(rate, frames):
    """Of 10 seconds: round(10 / 1.5) rows, each the last frame before (k + 0.5) * 1.5 s."""
    assert middle_frames(video(10 * rate, rate), 1.5)[:, 0].tolist() == frames
    literally = [max(i for i in range(10 * rate) if i / rate < (k + 0.5) * 1.5) for k in range(round(10 / 1.5))]
    assert literally == frames


@pytest.mark.parametrize("late", [1, 29, 1000])
def test_time_counts_from_the_first_frame(late):
    cut = video(100, 30)
    shifted = replace(cut, ticks=cut.ticks + late, end=cut.end + late)
    assert middle_frames(shifted, 1.5).tolist() == middle_frames(cut, 1.5).tolist()
    assert interval_clips(shifted, 1.5, 32).tolist() == interval_clips(cut, 1.5, 32).tolist()


@pytest.mark.parametrize(
    ("num_frames", "stated", "frames"),
    [
        (30, True, [7, 22]),  # 1 s, shorter than 1.6 s: 2 a second
        (30, False, [22]),  # Matroska states no duration
        (47, True, [7, 22, 37]),  # 1.57 s: still 2 a second
        (48, True, [22]),  # 1.6 s
        (12, True, [7]),  # 0.4 s
        (1, True, [0]),
    ],
)
def test_very_short_videos(num_frames, stated, frames):
    assert middle_frames(video(num_frames, 30, stated), 1.5)[:, 0].tolist() == frames


@pytest.mark.parametrize("rate", CLIPS)
def test_which_frames_of_a_clip_are_read(rate):
    assert len(CLIPS[rate]) == 32
    assert clip_positions(Fraction(rate), 45, 32).tolist() == CLIPS[rate]
    assert clip_positions(Fraction(rate) + Fraction(9, 10), 45, 32).tolist() == CLIPS[rate]  # rounded down


@pytest.mark.parametrize("rate", CLIPS)
def test_rows_of_clips(rate):
    """4 seconds are 120 frames at 30 a second, filled up to 6 s by the last second. ceil(4 / 1.5) clips are kept."""
    shown = [max(i for i in range(4 * rate) if i / rate < (k + 0.5) / 30) for k in range(120)]
    filled = [*shown, *shown[90:], *shown[90:]]
    expected = [[filled[45 * clip + position] for position in CLIPS[rate]] for clip in range(3)]
    assert interval_clips(video(4 * rate, rate), 1.5, 32).tolist() == expected
    assert len(interval_clips(video(4 * rate, rate, stated=False), 1.5, 32)) == 4  # all, if the duration is unknown


@pytest.mark.parametrize(
    ("num_frames", "rows"), [(1, 1), (30, 1), (45, 1), (46, 2), (90, 2), (91, 3), (180, 4), (181, 5)]
)
def test_number_of_rows_of_clips(num_frames, rows):
    assert interval_clips(video(num_frames, 30), 1.5, 32).shape == (rows, 32)


def test_the_last_frame_fills_up_the_last_second():
    """Of 40 frames the second clip repeats second 1, which is frames 30 to 39 and 20 times frame 39."""
    (clip,) = interval_clips(video(40, 30), 1.5, 32)
    seconds = [*range(30), *range(30, 40), *[39] * 20]
    assert clip.tolist() == [seconds[position] for position in CLIPS[30]]
    _, second = interval_clips(video(40, 30, stated=False), 1.5, 32)
    filled = [*seconds, *seconds[30:]]
    assert second.tolist() == [filled[45 + position] for position in CLIPS[30]]
