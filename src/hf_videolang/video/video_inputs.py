"""Everything that a user may pass as a video (a file, frames in memory, an open decoder) as frames `[T, 3, H, W]`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from transformers.image_utils import load_image
from transformers.video_utils import VideoMetadata

from .decode import decode_video
from .decoded_video import Cut, VideoDecodingError, VideoInfo
from .frame_folder import rgb_array

SampleFrames = Callable[[VideoMetadata], Sequence[int]]


@dataclass
class CutMetadata(VideoMetadata):
    """Facts about a video before it is decoded: those that transformers has, and the times of its frames."""

    cut: Cut | None = None


EXPECTED_VIDEO = (
    "a path of a file or of a folder of pictures, a URL, bytes, a binary file, {'path', 'bytes'}, a torchcodec or "
    "PyAV decoder, frames as an array or tensor [frames, height, width, channels] or "
    "[frames, channels, height, width], or a list of frames"
)


def flatten_videos(videos: Any) -> list:
    """One video, or lists of videos nested to any depth, as a flat list with one entry a video.

    A list of pictures (PIL images or arrays of 2 or 3 dimensions) is one video, an array of 5 dimensions a batch. A
    column of `datasets` (`dataset["video"]`) counts as a list.

    Raises:
        ValueError: a list is empty.
        TypeError: an entry is no video.
    """
    if isinstance(videos, Sequence) and not isinstance(videos, (str, bytes, bytearray, memoryview)):
        videos = list(videos)
        if not videos:
            raise ValueError(f"an empty list holds no video; expected {EXPECTED_VIDEO}.")
        if all(_is_picture(item) for item in videos):
            return [videos]
        return [video for item in videos for video in flatten_videos(item)]
    is_array = isinstance(videos, (np.ndarray, torch.Tensor))
    if is_array and videos.ndim == 5:
        return list(videos)
    is_source = isinstance(videos, (str, Path, bytes, bytearray, memoryview, Mapping)) or hasattr(videos, "read")
    if is_source or is_torchcodec(videos) or _is_pyav(videos) or (is_array and videos.ndim == 4):
        return [videos]
    given = type(videos).__name__ + (f" of shape {tuple(videos.shape)}" if is_array else "")
    raise TypeError(f"{given} is no video; expected {EXPECTED_VIDEO}. Pass a single picture as `images`.")


def images_as_videos(images: Any) -> list[list]:
    """Pictures (PIL, array, path or URL; one, a list or an array of them) as videos of one frame.

    Raises:
        TypeError: something is no picture.
        What `transformers.image_utils.load_image` raises for a path or URL.
    """
    if isinstance(images, (np.ndarray, torch.Tensor)) and images.ndim == 4:
        images = list(images)
    elif not isinstance(images, Sequence) or isinstance(images, (str, bytes)):
        images = [images]
    images = [load_image(str(image)) if isinstance(image, (str, Path)) else image for image in images]
    for image in images:
        if not _is_picture(image):
            shape = f" of shape {tuple(image.shape)}" if hasattr(image, "shape") else ""
            raise TypeError(
                f"{type(image).__name__}{shape} is no picture; expected a PIL image, a path, a URL, or an array "
                "[height, width, channels] or [channels, height, width]."
            )
    return [[image] for image in images]


def holds_frames(video: Any) -> bool:
    """Whether an entry of `flatten_videos` has its frames in memory, so that nothing needs decoding."""
    return isinstance(video, (list, tuple, np.ndarray, torch.Tensor))


def select_frames(video: Any, sample: SampleFrames | None, given: Mapping | None) -> tuple[Any, VideoMetadata]:
    """The sampled frames of a video in memory, still in their own layout, and their metadata.

    Args:
        video: array, tensor or list of frames.
        sample: returns the positions of the frames to keep; `None` keeps all.
        given: what the user knows about the video, fields of `VideoMetadata`. `frames_indices`, one per frame, means
            that the frames were already sampled. Then `sample` gets the frame rate after sampling.

    Raises:
        ValueError: the video has 0 frames.
    """
    if not len(video):
        raise ValueError(f"the video has 0 frames (shape {tuple(video.shape)}); expected at least one.")
    known = VideoMetadata(**{"total_num_frames": len(video), **(given or {})})
    frames_per_second = None if known.fps is None else known.sampled_fps
    origin = range(len(video)) if known.frames_indices is None else known.frames_indices
    indices: Sequence[int] = range(len(video))
    if sample is not None:
        indices = sample(VideoMetadata(total_num_frames=len(video), fps=frames_per_second))
        video = [video[i] for i in indices] if isinstance(video, (list, tuple)) else video[list(indices)]
    known.frames_indices = [int(origin[i]) for i in indices]
    return video, known


def read_frames(video: Any, sample: SampleFrames | None) -> tuple[torch.Tensor, VideoMetadata]:
    """Decode the sampled frames of a file or an open decoder, and only these.

    Args:
        video: path (of a file, or of a folder of pictures), URL, bytes, binary file, torchcodec `VideoDecoder`, PyAV
            container, or a dictionary with "path" or "bytes" (those of `datasets`) and perhaps "start" and "end" in
            seconds, to which the video is cut.
        sample: gets number and rate of the frames and returns the positions of those to read; `None` reads all.

    Returns:
        uint8 frames, `[T, 3, H, W]`, and the facts about the video.

    Raises:
        VideoDecodingError: the video cannot be read.
        ValueError: a dictionary has no video.
    """
    if is_torchcodec(video):
        return _read_torchcodec(video, sample)
    source, start, end = video_source(video)

    def select(cut: Cut) -> Sequence[int]:
        rate = None if cut.frame_rate is None else float(cut.frame_rate)
        return sample(CutMetadata(total_num_frames=cut.num_frames, fps=rate, cut=cut))  # type: ignore[misc]

    decoded = decode_video(source, select if sample else None, start=start, end=end)
    return decoded.frames, metadata_of(decoded.info, decoded.indices)


def metadata_of(info: VideoInfo, indices: list[int]) -> VideoMetadata:
    """The facts about a file, and the positions of the frames that were read, as transformers has them."""
    return VideoMetadata(
        total_num_frames=info.num_frames,
        fps=info.frames_per_second,
        width=info.width,
        height=info.height,
        duration=info.duration,
        frames_indices=indices,
    )


def video_source(video: Any) -> tuple[Any, float | None, float | None]:
    """
    What `decode_video` takes for a video of `read_frames` other than a `VideoDecoder`, and the seconds of its cut.

    Raises:
        ValueError: a dictionary has no video.
    """
    source, start, end = video, None, None
    if isinstance(video, Mapping):
        start, end = video.get("start"), video.get("end")
        source = video.get("bytes") if video.get("bytes") is not None else video.get("path")
        if source is None:
            raise ValueError(f"a dictionary with the keys {sorted(video)} holds neither 'path' nor 'bytes'.")
    elif _is_pyav(video):
        source = _source_of_container(video)
    return source, start, end


def to_rgb_frames(video: Any, data_format: str | None = None) -> torch.Tensor:
    """Frames in memory as an RGB tensor `[T, 3, H, W]` of their own type. Grey is repeated, alpha is dropped.

    Args:
        video: array or tensor of 4 dimensions, or a list of pictures of one size.
        data_format: `"channels_first"` or `"channels_last"`; `None` finds it from the shape.

    Raises:
        ValueError: not exactly one dimension may be the channels (1, 3 or 4).
        RuntimeError: the pictures of a list differ in size.
    """
    if isinstance(video, (list, tuple)):
        return torch.stack([_picture_to_tensor(picture, data_format) for picture in video])
    return _to_rgb(_to_tensor(video), data_format)


def _picture_to_tensor(picture: Any, data_format: str | None) -> torch.Tensor:
    if isinstance(picture, PIL.Image.Image):
        return torch.from_numpy(rgb_array(picture).copy()).permute(2, 0, 1)
    tensor = _to_tensor(picture)
    return _to_rgb(tensor, data_format) if tensor.ndim == 3 else tensor.expand(3, -1, -1)


def _to_tensor(array: Any) -> torch.Tensor:
    # copies only what torch cannot share: negative strides, read-only memory
    return array if isinstance(array, torch.Tensor) else torch.from_numpy(np.require(array, requirements=["C", "W"]))


def _to_rgb(frames: torch.Tensor, data_format: str | None) -> torch.Tensor:
    """`[..., C, H, W]` or `[..., H, W, C]` with 1, 3 or 4 channels to `[..., 3, H, W]`."""
    first, last = frames.shape[-3] in (1, 3, 4), frames.shape[-1] in (1, 3, 4)
    if data_format is not None:
        first, last = first and data_format == "channels_first", last and data_format == "channels_last"
    if first == last:
        found = "two dimensions that may be" if first else "no dimension of 1, 3 or 4"
        raise ValueError(
            f"frames of shape {tuple(frames.shape)} have {found} channels (input_data_format={data_format}). If the "
            "layout is in doubt, pass input_data_format='channels_last' or 'channels_first'."
        )
    if last:
        frames = frames.movedim(-1, -3)
    return frames.expand(*frames.shape[:-3], 3, -1, -1) if frames.shape[-3] == 1 else frames[..., :3, :, :]


def _read_torchcodec(decoder: Any, sample: SampleFrames | None) -> tuple[torch.Tensor, VideoMetadata]:
    facts = decoder.metadata
    metadata = VideoMetadata(
        total_num_frames=len(decoder),
        fps=facts.average_fps,
        width=facts.width,
        height=facts.height,
        duration=facts.duration_seconds,
    )
    indices = [int(i) for i in (range(len(decoder)) if sample is None else sample(metadata))]
    try:
        frames = decoder.get_frames_at(indices).data
    except RuntimeError as error:
        raise VideoDecodingError("<VideoDecoder>", str(error)) from error
    metadata.frames_indices = indices
    return to_rgb_frames(frames), metadata


def _source_of_container(container: Any) -> str | bytes:
    """The path or bytes that a PyAV container reads. A new decoder gets them, so that the container stays put."""
    if container.file is None:
        return container.name
    file = container.file.file
    position = file.tell()
    file.seek(0)
    data = file.read()
    file.seek(position)
    return data


def _is_picture(item: Any) -> bool:
    is_array = isinstance(item, (np.ndarray, torch.Tensor)) and item.ndim in (2, 3)
    return is_array or isinstance(item, PIL.Image.Image)


def is_torchcodec(video: Any) -> bool:
    return hasattr(video, "get_frames_at")  # needs no import of torchcodec


def _is_pyav(video: Any) -> bool:
    return hasattr(video, "demux") and hasattr(video, "streams")  # needs no import of av
