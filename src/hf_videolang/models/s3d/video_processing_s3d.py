"""Videos to the pixels of S3D (s3d §4, videoclip A1, A2): 30 frames a second, shorter side 224, centre crop."""

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate, pad
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import PILImageResampling
from transformers.processing_utils import VideosKwargs
from transformers.video_utils import VideoMetadata

from hf_videolang.models.shared.any_video import AnyVideoProcessor, check_range
from hf_videolang.models.shared.batch_clips import batch_clips
from hf_videolang.video.decode import Stream, stack_pictures, with_stream
from hf_videolang.video.decoded_video import VideoDecodingError
from hf_videolang.video.filtered_frames import BLACK, filtered_rows, scaled_size
from hf_videolang.video.sampling import constant_rate_indices
from hf_videolang.video.video_inputs import CutMetadata, is_torchcodec, metadata_of, video_source


class S3DVideoProcessorKwargs(VideosKwargs, total=False):
    """
    Options of `S3DVideoProcessor` beyond those of every video processor.

    frames_per_clip (`int`, defaults to 30):
        Frames that become one row of features: a second at 30 frames a second.
    max_clips (`int`, *optional*):
        Only this many clips at the start of a video, or of the cut that is asked for, are read. `None` reads all.
    """

    frames_per_clip: int
    max_clips: int | None


class S3DVideoProcessor(AnyVideoProcessor):
    """
    Turns videos into `pixel_values_videos` `[videos, clips * 30, 3, 224, 224]`, uint8, and `video_attention_mask`
    `[videos, clips]`, 1 for a clip and 0 for padding.

    A clip is one second, which becomes one row of features. Frames are taken at 30 a second from the time stamps, as
    FFmpeg's `fps` filter takes them: slow videos repeat frames, fast ones lose some. Black frames complete the last
    second. The shorter side becomes 224 pixels, and the centre is cut out. FFmpeg shrinks the frames while it
    decodes, to the pixels of the original, so that a minute of video needs half a GB, whatever its resolution.

    What a video may be: see `AnyVideoProcessor`. With `"start"` and `"end"`, a dictionary reads the clips
    floor(start) to ceil(end), counted from the first frame, as they would stand in a file of features. Frames in
    memory and folders of pictures have no time stamps: they count as 30 a second, unless `video_metadata={"fps": ...}`
    says otherwise. Floats in 0..1 are rounded to 0..255.

    Args:
        fps (`int` or `float`, defaults to 30): frames a second.
        frames_per_clip, max_clips: see `S3DVideoProcessorKwargs`.
        size (defaults to `{"shortest_edge": 224}`), crop_size (defaults to 224 x 224): the resize, bicubic with
            antialiasing, and the crop.

    Raises:
        VideoDecodingError: a video cannot be read, or nothing of it lies between `start` and `end`.
        TypeError, ValueError: an input is not a video, has an impossible shape, or has values out of range.

    ```python
    processor = S3DVideoProcessor.from_pretrained("org/s3d-howto100m")
    pixels = processor("kitchen.mp4", return_tensors="pt")["pixel_values_videos"]
    ```
    """

    auto_map = {"AutoVideoProcessor": "video_processing_s3d.S3DVideoProcessor"}
    resample = PILImageResampling.BICUBIC
    size = {"shortest_edge": 224}
    crop_size = {"height": 224, "width": 224}
    default_to_square = False
    fps = 30
    frames_per_clip = 30
    max_clips = None
    valid_kwargs = S3DVideoProcessorKwargs  # type: ignore[assignment]
    model_input_names = ["pixel_values_videos", "video_attention_mask"]

    def sample_frames(
        self,
        metadata: VideoMetadata,
        fps: float | None = None,
        frames_per_clip: int | None = None,
        max_clips: int | None = None,
        start: float | None = None,
        end: float | None = None,
        **kwargs,
    ) -> np.ndarray:
        """
        Positions of the frames to read; a position is repeated where the video is slower than `fps`.

        Args:
            metadata: facts about the video; those of a file have time stamps. Without, frames are evenly spaced.
            fps, frames_per_clip, max_clips: as of the processor, which also gives the values that are `None`.
            start, end: seconds from the first frame.

        Returns:
            int64 `[frames]`, empty if nothing lies between `start` and `end`.
        """
        fps = self.fps if fps is None else fps
        frames_per_clip = self.frames_per_clip if frames_per_clip is None else frames_per_clip
        max_clips = self.max_clips if max_clips is None else max_clips
        cut = getattr(metadata, "cut", None)
        if cut is not None and cut.ticks is not None:
            shown = constant_rate_indices(cut.ticks, cut.end, cut.time_base, fps)
        else:  # evenly spaced
            number, spacing = metadata.total_num_frames, 1 / Fraction(metadata.fps or fps).limit_denominator(10000)
            shown = constant_rate_indices(np.arange(number), number, spacing, fps)
        clips_per_second = fps / frames_per_clip
        first = math.floor((start or 0) * clips_per_second)
        stop = math.ceil(len(shown) / frames_per_clip if end is None else end * clips_per_second)
        if max_clips is not None:
            stop = min(stop, first + max_clips)
        return shown[first * frames_per_clip : stop * frames_per_clip]

    def fetch_videos(self, video_url_or_urls: Any, sample_indices_fn=None):
        """Decode and shrink the sampled frames of a file: uint8 `[frames, 3, height, width]`, and `VideoMetadata`."""
        if isinstance(video_url_or_urls, list) or is_torchcodec(video_url_or_urls):
            return super().fetch_videos(video_url_or_urls, sample_indices_fn)
        source, start, end = video_source(video_url_or_urls)
        options = getattr(sample_indices_fn, "keywords", {})

        def read(stream: Stream) -> tuple[torch.Tensor, VideoMetadata]:
            info = stream.info
            indices = np.arange(info.num_frames)
            if sample_indices_fn is not None:
                indices = _sampled(stream, sample_indices_fn, start, end)
            frames = stack_pictures(stream, indices.tolist(), self._shape(info.height, info.width, options))
            return frames, metadata_of(info, indices.tolist())

        return with_stream(read, source)

    def read_clip(self, video: Any, seed: int | None = None) -> torch.Tensor:
        """
        Read the frames of one video as this processor samples and shrinks them.

        Args:
            video: a path or a dictionary with `"path"` or `"bytes"`, `"start"`, `"end"`.
            seed: unused, since nothing is drawn.

        Returns:
            uint8 `[frames, 3, height, width]`, not yet cropped.

        Raises:
            VideoDecodingError: the video cannot be read.
        """
        return self.fetch_videos(video, self.sample_frames)[0]

    def read_clips(self, video: Any, number: int) -> Iterator[tuple[int, torch.Tensor]]:
        """
        Read a video of any length, a few clips at a time. Together they are what the processor makes of the video.

        Args:
            video: as for `read_clip`.
            number: clips at a time; no more are in memory.

        Yields:
            The position of the first clip, and uint8 `[clips * frames_per_clip, 3, height, width]`. Position 0 may
            come again: then the file is damaged, the frames have been counted anew, and all clips follow once more.

        Raises:
            VideoDecodingError: the video cannot be read, perhaps only after some clips; or its end is missing.
        """
        source, start, end = video_source(video)

        def choose(stream: Stream) -> np.ndarray:
            indices = _sampled(stream, self.sample_frames, start, end)
            missing = -len(indices) % self.frames_per_clip
            return np.pad(indices, (0, missing), constant_values=BLACK).reshape(-1, self.frames_per_clip)

        edge = self.size["shortest_edge"] if self.do_resize else None
        crop = (self.crop_size["height"], self.crop_size["width"]) if self.do_resize else None
        for first, clips in filtered_rows(source, choose, edge, crop, number):
            yield first, torch.from_numpy(clips).flatten(0, 1).permute(0, 3, 1, 2)

    def input_protocol(self) -> dict[str, str | int]:
        """What the model sees of a video, part of every printed result."""
        height, width = self.crop_size["height"], self.crop_size["width"]
        return {
            "frames": f"{self.fps} a second" + (f", the first {self.max_clips} clips" if self.max_clips else ""),
            "sampling": f"by time stamps, {self.frames_per_clip} frames a clip",
            "pixels": f"shortest edge {self.size['shortest_edge']} antialiased, {height}x{width} centre",
        }

    def _preprocess(self, videos: list[Callable[[], torch.Tensor]], frames_per_clip: int, **kwargs) -> BatchFeature:
        def process(read: Callable[[], torch.Tensor]) -> torch.Tensor:
            frames = read()
            check_range(frames)
            shrunk = torch.stack([self._crop(self._shrink(frame, kwargs), kwargs) for frame in frames])
            return self._whole_clips(shrunk, frames_per_clip)

        data = batch_clips(map(process, videos), limit=len(videos), frames_per_step=frames_per_clip)
        data["video_attention_mask"] = data["video_attention_mask"].to(data["pixel_values_videos"].device)
        return BatchFeature(data=data, tensor_type=kwargs.get("return_tensors"))

    def _shape(self, height: int, width: int, options: dict) -> tuple[int, int]:
        """Height and width of the picture before the crop: its ratio is kept, and the longer side rounded down."""
        if not options.get("do_resize", self.do_resize):
            return height, width
        return scaled_size(width, height, options.get("size", self.size)["shortest_edge"])[::-1]

    def _shrink(self, picture: torch.Tensor, options: dict) -> torch.Tensor:
        """`[3, height, width]` of any type -> bytes of the shape before the crop."""
        if picture.is_floating_point():
            picture = picture.mul(255).round_()
        picture = picture.to(torch.uint8)
        shape = self._shape(*picture.shape[1:], options)
        if shape == tuple(picture.shape[1:]):
            return picture
        resized = interpolate(picture[None].cpu(), shape, mode="bicubic", antialias=True)  # of bytes on the CPU alone
        return resized[0].to(picture.device)

    def _whole_clips(self, frames: torch.Tensor, frames_per_clip: int) -> torch.Tensor:
        """Black frames complete the last clip."""
        missing = -len(frames) % frames_per_clip
        return pad(frames, (0,) * 6 + (0, missing)) if missing else frames

    def _crop(self, picture: Any, options: dict) -> Any:
        """The centre of `[3, height, width]`; half a pixel goes to the top and the left."""
        if not options.get("do_resize", self.do_resize):
            return picture
        crop = options.get("crop_size", self.crop_size)
        top, left = (picture.shape[1] - crop["height"]) // 2, (picture.shape[2] - crop["width"]) // 2
        return picture[:, top : top + crop["height"], left : left + crop["width"]]


def _sampled(stream: Stream, sample: Callable, start: float | None, end: float | None) -> np.ndarray:
    """The positions of a cut that a rule chooses, at least one."""
    info = stream.info
    indices = sample(CutMetadata(total_num_frames=info.num_frames, cut=stream.whole), start=start, end=end)
    if not len(indices):
        length = f"{info.num_frames} frames" if info.duration is None else f"{info.duration:.3f} s"
        reason = f"it is {length} long, and nothing of it lies between {start} and {end} s"
        raise VideoDecodingError(stream.name, reason)
    return indices


__all__ = ["S3DVideoProcessor"]
