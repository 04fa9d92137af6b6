"""Frame positions against literal examples and a pure-Python twin. The golden case `frame_sampling` has more."""

import numpy as np
import pytest

from hf_videolang.video.sampling import uniform_indices


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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: uniform_indices(0, 4), "the video has 0 frames; both must be at least 1"),
        (lambda: uniform_indices(9, 0), "num_frames is 0 and the video has 9 frames"),
        (lambda: uniform_indices(9, 1, np.random.RandomState(0)), "jitter needs at least 2 frames"),
    ],
)
def test_impossible_counts_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
