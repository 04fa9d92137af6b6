"""Inputs beyond the processors' tests: torchcodec decoders without FFmpeg, pictures of 16 bits and of floats."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from hf_videolang.video import VideoDecodingError
from hf_videolang.video.video_inputs import flatten_videos, read_frames, to_rgb_frames
from tests.video.making import picture


class VideoDecoder:
    """The part of torchcodec's `VideoDecoder` that is read; the library itself needs FFmpeg on the system."""

    def __init__(self, num_frames: int = 9):
        self.metadata = SimpleNamespace(average_fps=10.0, width=64, height=48, duration_seconds=0.9)
        self.num_frames = num_frames

    def __len__(self) -> int:
        return self.num_frames

    def get_frames_at(self, indices: list[int]) -> SimpleNamespace:
        if max(indices) == 8:
            raise RuntimeError("Could not decode frame 8")
        return SimpleNamespace(data=torch.stack([torch.from_numpy(picture(i)).permute(2, 0, 1) for i in indices]))


def test_a_torchcodec_decoder():
    (decoder,) = flatten_videos(VideoDecoder())
    frames, metadata = read_frames(decoder, lambda known: [0, int(known.total_num_frames / known.fps * 5)])
    assert (metadata.total_num_frames, metadata.fps, metadata.duration) == (9, 10.0, 0.9)
    assert metadata.frames_indices == [0, 4]
    for frame, number in zip(frames, [0, 4], strict=True):
        np.testing.assert_array_equal(frame.permute(1, 2, 0), picture(number))
    with pytest.raises(VideoDecodingError, match="Could not decode frame 8"):
        read_frames(decoder, None)


def test_pictures_keep_their_range():
    """Pillow's own conversion turns all that is above 255 white, and floats in 0..1 black."""
    grey = picture(0)[..., 0]
    sixteen = Image.fromarray(grey.astype(np.uint16) * 257)
    assert sixteen.mode == "I;16"
    floats = Image.fromarray(grey.astype(np.float32) / 255)
    for image, expected in ((sixteen, grey), (floats, grey.astype(np.float32) / 255)):
        (frame,) = to_rgb_frames([image])
        assert frame.dtype == torch.from_numpy(expected).dtype
        for channel in frame:
            np.testing.assert_array_equal(channel, expected)
