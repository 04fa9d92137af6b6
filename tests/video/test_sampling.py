"""Frame positions against literal examples and a pure-Python twin. The golden case `frame_sampling` has 225 more."""

import numpy as np
import pytest

from hf_videolang.video.sampling import interval_indices, uniform_indices


@pytest.mark.parametrize(
    ("total_frames", "num_frames", "expected"),
    [
        (10, 4, [0, 3, 6, 9]),
        (11, 4, [0, 3, 6, 10]),  # 0, 3.33, 6.67, 10
        (12, 12, list(range(12))),
        (3, 12, [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2]),  # a short clip repeats, its last frame comes once
        (1, 3, [0, 0, 0]),
        (7, 1, [0]),
    ],
)
def test_uniform_positions(total_frames, num_frames, expected):
    indices = uniform_indices(total_frames, num_frames)
    assert indices.tolist() == expected
    assert indices.dtype == np.int64


def test_uniform_positions_equal_a_loop():
    for total_frames in (2, 5, 29, 30, 299, 1801):
        for num_frames in (2, 3, 4, 12, 32):
            step = (total_frames - 1) / (num_frames - 1)
            expected = [int(i * step) for i in range(num_frames - 1)] + [total_frames - 1]
            assert uniform_indices(total_frames, num_frames).tolist() == expected


def test_jitter_moves_both_ends_by_at_most_one_step():
    generator = np.random.RandomState(3)
    firsts, lasts = set(), set()
    for _ in range(300):
        indices = uniform_indices(25, 4, generator)
        assert (np.diff(indices) >= 0).all()
        firsts.add(int(indices[0]))
        lasts.add(int(indices[-1]))
    assert firsts == set(range(9))  # step int(25 / 3) = 8
    assert lasts == set(range(16, 25))


def test_jitter_stays_inside_the_video():
    generator = np.random.RandomState(0)
    for total_frames in (1, 2, 3, 7, 40):
        for num_frames in (2, 3, 4, 12):
            for _ in range(20):
                indices = uniform_indices(total_frames, num_frames, generator)
                assert indices.shape == (num_frames,)
                assert indices.min() >= 0 and indices.max() < total_frames


def test_interval_positions_without_a_generator_are_centred():
    # 4 frames 3 apart take 12 positions; 20 - 12 + 1 = 9 starts, the middle one is 4
    assert interval_indices(20, 4, 3).tolist() == [4, 7, 10, 13]
    # two stretches of 4.5 starts: their middles are 2.25 and 6.75
    assert interval_indices(20, 4, 3, num_clips=2).tolist() == [2, 5, 8, 11, 6, 9, 12, 15]


def test_interval_positions_beyond_the_end():
    assert interval_indices(5, 4, 3).tolist() == [0, 3, 1, 4]  # 0 3 6 9, modulo 5
    assert interval_indices(5, 4, 3, beyond_end="repeat_last").tolist() == [0, 3, 3, 3]


def test_interval_jitter_moves_each_frame_within_its_interval():
    generator = np.random.RandomState(1)
    centred = interval_indices(20, 4, 3)
    shifts = {tuple(interval_indices(20, 4, 3, generator=generator, random_start=False) - centred) for _ in range(200)}
    assert {shift for row in shifts for shift in row} == {0, 1, 2}
    starts = {int(interval_indices(20, 4, 3, generator=generator, frame_jitter=False)[0]) for _ in range(200)}
    assert starts == set(range(9))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: uniform_indices(0, 4), "the video has 0 frames"),
        (lambda: uniform_indices(9, 0), "num_frames is 0"),
        (lambda: uniform_indices(9, 1, np.random.RandomState(0)), "jitter needs at least 2 frames"),
        (lambda: interval_indices(0, 4, 2), "the video has 0 frames"),
        (lambda: interval_indices(9, 4, 0), "frame_interval is 0"),
        (lambda: interval_indices(9, 4, 2, num_clips=0), "num_clips is 0"),
    ],
)
def test_impossible_counts_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
