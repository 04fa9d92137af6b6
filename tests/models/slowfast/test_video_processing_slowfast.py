"""Which frames and pixels SlowFast sees: literal cases."""

import numpy as np
import pytest
import torch
from transformers import AutoVideoProcessor
from transformers.video_utils import VideoMetadata

from hf_videolang.data.moving_shapes import write_video
from hf_videolang.models.slowfast.video_processing_slowfast import SlowFastVideoProcessor
from hf_videolang.video import VideoDecodingError
from tests.common.tiny.slowfast import SIDE, tiny_model, tiny_processor


@pytest.mark.parametrize(
    ("total", "rate", "first", "last"),
    [(300, 30, 118, 181), (300, 25, 123, 175), (32, 30, 0, 31), (5, 30, 0, 4), (300, None, 118, 181)],
)
def test_the_clip_lies_in_the_middle(total, rate, first, last):
    indices = SlowFastVideoProcessor().sample_frames(VideoMetadata(total_num_frames=total, fps=rate))
    assert len(indices) == 32 and (indices[0], indices[-1]) == (first, last) and (np.diff(indices) >= 0).all()


def test_a_file_becomes_the_input_of_the_model(tmp_path):
    frames = [np.full((40, 60, 3), 10 * i, np.uint8) for i in range(20)]
    path = write_video(tmp_path / "grey.mp4", frames, frames_per_second=10)
    pixels = tiny_processor(clip_seconds=0.8)(str(path), return_tensors="pt")["pixel_values_videos"]
    assert pixels.shape == (1, 8, 3, SIDE, SIDE) and pixels.dtype == torch.float32
    greys = (pixels[0].mean(dim=(1, 2, 3)) * 0.225 + 0.45) * 255 / 10
    assert greys.round().int().tolist() == list(range(6, 14))
    with torch.no_grad():
        assert tiny_model()(pixels).logits.shape == (1, 5)


def test_32_frames_in_memory_stay_as_they_are():
    frames = torch.randint(0, 256, (32, 3, SIDE, SIDE), dtype=torch.uint8)
    pixels = tiny_processor(num_frames=32)(frames, return_tensors="pt")["pixel_values_videos"]
    torch.testing.assert_close(pixels[0], (frames / 255 - 0.45) / 0.225)
    floats = tiny_processor(num_frames=32)(frames / 255, return_tensors="pt")["pixel_values_videos"]
    torch.testing.assert_close(floats, pixels)


def test_the_processor_travels_with_the_model(tmp_path):
    processor = tiny_processor(clip_seconds=1.5)
    processor.save_pretrained(tmp_path)
    loaded = AutoVideoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is SlowFastVideoProcessor and loaded.to_dict() == processor.to_dict()
    assert loaded.input_protocol() == {
        "frames": 8,
        "sampling": "uniform, 1.50 s in the middle",
        "pixels": "shortest edge 32 without antialiasing, 32x32 centre",
    }


def test_what_is_no_video_is_told(tmp_path):
    (tmp_path / "archery.mp4").write_text("dear diary")
    with pytest.raises(VideoDecodingError, match="archery.mp4"):
        tiny_processor()(str(tmp_path / "archery.mp4"))
    with pytest.raises(ValueError, match="values from 0 to 255"):
        tiny_processor()(np.linspace(0, 255, 8 * SIDE * SIDE * 3, dtype=np.float32).reshape(8, 3, SIDE, SIDE))
