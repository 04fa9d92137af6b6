"""Videos to the pixels of ClipBERT (clipbert §5, §6): short clips, resized, padded to a square, normalised."""

import random
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import PILImageResampling
from transformers.processing_utils import VideosKwargs
from transformers.utils import logging
from transformers.video_utils import VideoMetadata

from hf_videolang.models.shared.any_video import AnyVideoProcessor
from hf_videolang.models.shared.batch_clips import batch_clips
from hf_videolang.models.shared.separable_resize import separable_resize
from hf_videolang.video.decoded_video import Cut, VideoDecodingError

from .clip_windows_clipbert import window_indices

logger = logging.get_logger(__name__)
MAX_ASPECT_RATIO = 5


class ClipBertVideoProcessorKwargs(VideosKwargs, total=False):
    """
    Options of `ClipBertVideoProcessor` beyond those of every video processor.

    num_clips (`int`, defaults to 1):
        Clips of a video.
    sampling (`str`, defaults to `"random"`):
        Where the clips lie in training, that is with `seed`: `"random"` draws each start, `"uniform"` takes those of
        the test. `"whole"` makes one clip of the whole video, with and without `seed`.
    single_clip (`str`, defaults to `"start"`):
        Where the clip lies at test, if there is one: at the `"start"` of the video (questions) or in its `"middle"`
        (retrieval).
    seed (`int`, *optional*):
        For training. The starts are drawn as the original draws them. Pass another seed to each call.
    """

    num_clips: int
    sampling: Literal["random", "uniform", "whole"]
    single_clip: Literal["start", "middle"]
    seed: int | None


class ClipBertVideoProcessor(AnyVideoProcessor):
    """
    Turns videos into `pixel_values_videos` `[videos, clips, frames, 3, size, size]`, float32.

    What a video may be: see `AnyVideoProcessor`. All clips of a file come from one pass of the decoder. A folder of
    pictures and frames in memory have no rate; pass `video_metadata={"fps": …}`. With `do_sample_frames=False` all
    frames are kept and cut into `num_clips` clips.

    A frame is resized so that its longer side has `size["longest_edge"]` pixels, without antialiasing, and padded
    with black at the right and the bottom. The padding is normalised, too. Integers lie in 0..255; floats must lie in
    0..1.

    Args:
        num_frames (`int`, defaults to 2), fps (`float`, defaults to 2): a clip has `num_frames` frames and is
            `num_frames / fps` seconds long.
        num_clips, sampling, single_clip, seed: see `ClipBertVideoProcessorKwargs`. At test, clip i of N starts at
            i / N of the way that a clip can move.
        size (defaults to `{"longest_edge": 448}`): side of the square.
        image_mean, image_std (default to the means of ImageNet and 1): of RGB pixels in 0..255.

    Raises:
        VideoDecodingError: a video cannot be read.
        TypeError, ValueError: an input is not a video, has an impossible shape or values out of range, or its frame
            rate is unknown. The message names the input and the remedy.

    ```python
    processor = ClipBertVideoProcessor(num_clips=4)
    processor(["kitchen.mp4"], return_tensors="pt")["pixel_values_videos"].shape  # [1, 4, 2, 3, 448, 448]
    ```
    """

    auto_map = {"AutoVideoProcessor": "video_processing_clipbert.ClipBertVideoProcessor"}
    resample = PILImageResampling.BILINEAR
    image_mean = [123.675, 116.28, 103.53]
    image_std = [1.0, 1.0, 1.0]
    size = {"longest_edge": 448}
    default_to_square = False
    do_rescale = False
    do_normalize = True
    num_frames = 2
    num_clips = 1
    fps = 2
    sampling = "random"
    single_clip = "start"
    seed = None
    new_generator = random.Random
    valid_kwargs = ClipBertVideoProcessorKwargs  # type: ignore[assignment]
    model_input_names = ["pixel_values_videos"]

    def sample_frames(
        self,
        metadata: VideoMetadata,
        num_frames: int | None = None,
        fps: float | None = None,
        num_clips: int | None = None,
        sampling: str | None = None,
        single_clip: str | None = None,
        seed: int | random.Random | None = None,
        **kwargs,
    ) -> np.ndarray:
        """
        Positions of the frames of all clips.

        Args:
            metadata: facts about the video, with its time stamps if it is a `CutMetadata`.
            num_frames, fps, num_clips, sampling, single_clip: as of the processor, which also gives the values that
                are `None`.
            seed: an integer, or a generator that moves on from call to call.

        Returns:
            int64 `[clips * frames]`.

        Raises:
            ValueError: a number is not positive, or the frame rate is unknown.
        """
        num_frames = self.num_frames if num_frames is None else num_frames
        num_clips = self.num_clips if num_clips is None else num_clips
        sampling, single_clip = sampling or self.sampling, single_clip or self.single_clip
        generator = random.Random(seed) if isinstance(seed, int) else seed
        if num_clips < 1:
            raise ValueError(f"num_clips is {num_clips}; a video needs at least one clip.")

        def starts(free: float) -> list[float]:
            if generator is not None and sampling == "random":
                return [generator.uniform(0, free) for _ in range(num_clips)]
            if num_clips == 1 and single_clip == "middle":
                return [free / 3]  # clip 1 of 3
            return [free * clip / num_clips for clip in range(num_clips)]

        if sampling == "whole":
            if num_clips > 1:
                raise ValueError(f"num_clips is {num_clips}, but sampling='whole' makes one clip of the whole video.")
            return np.linspace(0, metadata.total_num_frames - 1, num_frames).astype(np.int64)
        cut = getattr(metadata, "cut", None)
        if cut is None:
            cut = Cut(metadata.total_num_frames, None if metadata.fps is None else Fraction(metadata.fps))
        return window_indices(cut, num_frames, self.fps if fps is None else fps, starts).flatten()

    def read_clip(self, video: Any, seed: int | None = None) -> torch.Tensor:
        """
        Read the frames of all clips of one video, without resize and normalisation.

        Args:
            video: a path or a dictionary with `"path"` or `"bytes"`, `"start"`, `"end"`.
            seed: for training: draws the clips, and refuses videos beyond an aspect ratio of 5:1, as the original
                does.

        Returns:
            uint8 `[clips * frames, 3, height, width]`. The processor makes clips of it with `do_sample_frames=False`.

        Raises:
            VideoDecodingError: the video cannot be read or, in training, is refused.
        """
        frames, _ = self.fetch_videos(video, partial(self.sample_frames, seed=seed))
        height, width = frames.shape[2:]
        if seed is not None and is_extreme(height, width):
            name = video.get("path") if isinstance(video, dict) else video
            raise VideoDecodingError(str(name), f"{width}x{height} pixels are beyond an aspect ratio of 5:1")
        return frames

    def input_protocol(self) -> dict[str, str | int]:
        """What the model sees of a video, part of every printed result."""
        if self.sampling == "whole":
            clips, sampling = "1", "the whole video"
        else:
            place = f"at the {self.single_clip}" if self.num_clips == 1 else "uniform"
            clips, sampling = str(self.num_clips), f"{place}, {self.num_frames / self.fps:g} s a clip"
        return {
            "clips": clips,
            "frames": f"{self.num_frames} a clip",
            "sampling": sampling,
            "pixels": f"longest edge {self.size['longest_edge']} without antialiasing, padded to a square",
        }

    def _read_file(self, video: Any, sample_indices_fn: Callable | None, known: Mapping[str, Any] | None):
        if sample_indices_fn is not None and known is not None and known.get("fps") is not None:
            sample_indices_fn = partial(_at_rate, sample_indices_fn, known["fps"])
        return super()._read_file(video, sample_indices_fn, known)

    def _preprocess(self, videos: list[Callable[[], torch.Tensor]], num_clips: int, **kwargs) -> BatchFeature:
        def process(read: Callable[[], torch.Tensor]) -> list[torch.Tensor]:
            frames = read()
            height, width = frames.shape[2:]
            if is_extreme(height, width):
                logger.warning(
                    f"a video of {width}x{height} pixels is beyond 5:1, which ClipBERT never saw in training."
                )
            if num_clips < 1 or len(frames) % num_clips:
                raise ValueError(
                    f"{len(frames)} frames cannot be cut into num_clips={num_clips} clips of equal length."
                )
            return [self._process_picture(frame, **kwargs) for frame in frames]

        data = batch_clips(map(process, videos), limit=len(videos))
        if "video_attention_mask" in data:
            raise ValueError("the videos have clips of different lengths; process them one by one.")
        pixels = data["pixel_values_videos"].unflatten(1, (num_clips, -1))
        return BatchFeature(data={"pixel_values_videos": pixels}, tensor_type=kwargs.get("return_tensors"))

    def _process_picture(self, frame: torch.Tensor, **options) -> torch.Tensor:
        """The original's order: resize, pad, normalise; in float32, without rounding (clipbert §6)."""
        picture = frame.float()
        if frame.is_floating_point():
            low, high = (value.item() for value in picture.aminmax())
            if not (low >= 0 and high <= 1):  # catches NaN, too
                raise ValueError(f"float frames have values from {low:g} to {high:g}; expected 0..1.")
            picture = picture * 255
        if options["do_resize"]:
            picture = resize_to_square(picture, options["size"].longest_edge)
        if options["do_normalize"]:
            mean, std = (picture.new_tensor(options[key]).view(-1, 1, 1) for key in ("image_mean", "image_std"))
            picture = (picture - mean) / std
        return picture


def resize_to_square(picture: torch.Tensor, side: int) -> torch.Tensor:
    """`[3, height, width]` -> `[3, side, side]`: the picture at the top left, black elsewhere."""
    height, width = picture.shape[1:]
    if height >= width:
        new_height, new_width = side, max(1, int(side * width / height))
    else:
        new_height, new_width = max(1, int(side * height / width)), side
    if picture.device.type == "cpu":
        resized = separable_resize(picture, new_height, new_width, "bilinear", antialias=False)
    else:
        resized = torch.nn.functional.interpolate(picture[None], (new_height, new_width), mode="bilinear")[0]
    return torch.nn.functional.pad(resized, (0, side - new_width, 0, side - new_height))


def is_extreme(height: int, width: int) -> bool:
    """Whether a picture is beyond an aspect ratio of 5:1, which the original leaves out of training."""
    return max(height, width) > MAX_ASPECT_RATIO * min(height, width)


def _at_rate(sample: Callable, fps: float, metadata: VideoMetadata) -> np.ndarray:
    """The frames that `sample` takes of a video whose rate the user states."""
    return sample(VideoMetadata(total_num_frames=metadata.total_num_frames, fps=fps))


__all__ = ["ClipBertVideoProcessor"]
