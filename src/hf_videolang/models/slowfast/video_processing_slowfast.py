"""Videos to the pixels of SlowFast (slowfast §3): 32 frames of about two seconds, shorter side 256, centre crop."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import PILImageResampling
from transformers.processing_utils import VideosKwargs
from transformers.video_utils import VideoMetadata

from hf_videolang.models.shared.any_video import AnyVideoProcessor, check_range
from hf_videolang.models.shared.batch_clips import batch_clips
from hf_videolang.video.sampling import uniform_indices


class SlowFastVideoProcessorKwargs(VideosKwargs, total=False):
    """
    Options of `SlowFastVideoProcessor` beyond those of every video processor.

    clip_seconds (`float`, defaults to 64 / 30):
        Length of the clip in the middle of the video from which the frames are taken.
    """

    clip_seconds: float


class SlowFastVideoProcessor(AnyVideoProcessor):
    """
    Turns videos into `pixel_values_videos` `[videos, 32, 3, 256, 256]`, float32.

    A video is seen by one clip in its middle, of 64 frames at 30 a second, of which every other is read. The frames of
    a shorter video are spread over all of it, and repeated if there are fewer than 32. What a video may be: see
    `AnyVideoProcessor`. Frames in memory and folders of pictures count as 30 a second, unless
    `video_metadata={"fps": ...}` says otherwise.

    Features of VALUE are made by `hf-videolang extract --preset value-slowfast-r50`, with other frames.

    Args:
        num_frames (`int`, defaults to 32): frames of a clip.
        clip_seconds: see `SlowFastVideoProcessorKwargs`.
        size (defaults to `{"shortest_edge": 256}`), crop_size (defaults to 256 x 256): the bilinear resize and the
            centre.
        image_mean, image_std (default to 0.45, 0.225 of each colour): normalisation of values in 0..1.

    Raises:
        VideoDecodingError: a video cannot be read.
        TypeError, ValueError: an input is not a video, has an impossible shape, or has values out of range.

    ```python
    processor = SlowFastVideoProcessor.from_pretrained("org/slowfast-r50-8x8")
    pixels = processor("archery.mp4", return_tensors="pt")["pixel_values_videos"]
    ```
    """

    auto_map = {"AutoVideoProcessor": "video_processing_slowfast.SlowFastVideoProcessor"}
    resample = PILImageResampling.BILINEAR
    image_mean = [0.45, 0.45, 0.45]
    image_std = [0.225, 0.225, 0.225]
    size = {"shortest_edge": 256}
    crop_size = {"height": 256, "width": 256}
    default_to_square = False
    do_center_crop = True
    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = True
    num_frames = 32
    clip_seconds = 64 / 30
    valid_kwargs = SlowFastVideoProcessorKwargs  # type: ignore[assignment]
    model_input_names = ["pixel_values_videos"]

    def sample_frames(
        self, metadata: VideoMetadata, num_frames: int | None = None, clip_seconds: float | None = None, **kwargs
    ) -> np.ndarray:
        """
        Positions of the frames to read: int64 `[num_frames]`.

        Args:
            metadata: facts about the video: number and rate of its frames.
            num_frames, clip_seconds: as of the processor, which also gives the values that are `None`.
        """
        num_frames = self.num_frames if num_frames is None else num_frames
        clip_seconds = self.clip_seconds if clip_seconds is None else clip_seconds
        total = metadata.total_num_frames
        length = min(total, max(1, round(clip_seconds * (metadata.fps or 30))))
        return (total - length) // 2 + uniform_indices(length, num_frames)

    def input_protocol(self) -> dict[str, str | int]:
        """What the model sees of a video, part of every printed result."""
        height, width = self.crop_size["height"], self.crop_size["width"]
        return {
            "frames": self.num_frames,
            "sampling": f"uniform, {self.clip_seconds:.2f} s in the middle",
            "pixels": f"shortest edge {self.size['shortest_edge']} without antialiasing, {height}x{width} centre",
        }

    def _preprocess(self, videos: list[Callable[[], torch.Tensor]], **kwargs) -> BatchFeature:
        def process(read: Callable[[], torch.Tensor]) -> torch.Tensor:
            frames = read()
            if kwargs["do_rescale"]:
                check_range(frames)
            is_scaled = frames.is_floating_point()
            frames = frames.float()
            if kwargs["do_rescale"] and not is_scaled:
                frames = frames * kwargs["rescale_factor"]
            if kwargs["do_resize"]:
                frames = self.resize(frames, kwargs["size"], kwargs["resample"], antialias=False)
            if kwargs["do_center_crop"]:
                frames = self.center_crop(frames, kwargs["crop_size"])
            if kwargs["do_normalize"]:
                frames = self.normalize(frames, kwargs["image_mean"], kwargs["image_std"])
            return frames

        data: dict[str, Any] = batch_clips(map(process, videos), limit=len(videos))
        return BatchFeature(data=data, tensor_type=kwargs.get("return_tensors"))


__all__ = ["SlowFastVideoProcessor"]
