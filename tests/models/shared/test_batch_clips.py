import pytest
import torch

from hf_videolang.models.shared.batch_clips import batch_clips


def clip(*values, size=(1, 2)):
    """Pictures of three channels, each filled with one value."""
    return torch.stack([torch.full((3, *size), float(value)) for value in values])


def test_shorter_clips_are_filled_up_and_masked():
    batch = batch_clips(iter([clip(1), clip(2, 3, 4), clip(5, 6)]), limit=5)
    assert batch["pixel_values_videos"].shape == (3, 3, 3, 1, 2)
    assert batch["pixel_values_videos"][:, :, 0, 0, 0].tolist() == [[1, 0, 0], [2, 3, 4], [5, 6, 0]]
    assert batch["video_attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1], [1, 1, 0]]


def test_clips_of_one_length_have_no_mask():
    batch = batch_clips([clip(1, 2), list(clip(3, 4))], limit=2)
    assert batch.keys() == {"pixel_values_videos"}
    assert batch["pixel_values_videos"][:, :, 2, 0, 1].tolist() == [[1, 2], [3, 4]]


def test_pictures_of_two_sizes():
    with pytest.raises(ValueError, match=r"heights and widths \[\(1, 2\), \(4, 1\)\] do not fit one batch"):
        batch_clips([clip(1, size=(4, 1)), clip(2)], limit=2)


def test_a_step_of_several_frames_has_one_value_of_the_mask():
    batch = batch_clips([clip(1, 2, 3, 4), clip(5, 6)], limit=2, frames_per_step=2)
    assert batch["video_attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert batch_clips([clip(1, 2)], limit=1, frames_per_step=2)["video_attention_mask"].tolist() == [[1]]
