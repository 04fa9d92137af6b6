"""What the video processors of all families share: all that a user may pass as a video becomes RGB frames."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from transformers.video_processing_utils import BaseVideoProcessor
from transformers.video_utils import VideoMetadata

from hf_videolang.models.shared.remote_code import RemoteCodeMixin
from hf_videolang.video.video_inputs import flatten_videos, holds_frames, read_frames, select_frames, to_rgb_frames


class AnyVideoProcessor(RemoteCodeMixin, BaseVideoProcessor):
    """
    Reads videos. A family adds `sample_frames`, which chooses frames, and `_preprocess`, which makes pixels of them.

    A video is one of these; a list may mix them:
    - a path, a URL, bytes or a binary file,
    - a dictionary with `"path"` or `"bytes"`, as `datasets` has them, and optionally `"start"` and `"end"` in seconds,
    - a torchcodec `VideoDecoder` or a PyAV container,
    - frames in memory: an array or tensor, channels first or last, or a list of PIL images or arrays.

    Only the sampled frames of a file are decoded.

    Attributes:
        new_generator: of random numbers, as `sample_frames` takes it as `seed`, of a family that draws frames.
    """

    do_resize = do_convert_rgb = do_sample_frames = True
    new_generator: Callable[[int], Any]

    def fetch_videos(self, video_url_or_urls: Any, sample_indices_fn=None):
        """Decode the sampled frames of a file or decoder: uint8 `[frames, 3, height, width]` and `VideoMetadata`."""
        if isinstance(video_url_or_urls, list):
            return list(zip(*[self.fetch_videos(video, sample_indices_fn) for video in video_url_or_urls]))
        return read_frames(video_url_or_urls, sample_indices_fn)

    def _read_file(self, video: Any, sample_indices_fn: Callable | None, known: Mapping[str, Any] | None):
        """`fetch_videos`. A family that measures in seconds may obey the rate in `known`, which the user states."""
        return self.fetch_videos(video, sample_indices_fn)

    def _decode_and_sample_videos(
        self, videos: Any, video_metadata: Any = None, do_sample_frames=None, sample_indices_fn=None
    ):
        if (seed := getattr(sample_indices_fn, "keywords", {}).get("seed")) is not None:
            # One generator for the whole call, so that videos of equal length get different frames.
            sample_indices_fn = partial(sample_indices_fn, seed=self.new_generator(seed))
        videos = flatten_videos(videos)
        known_metadata = _flatten(video_metadata)
        if video_metadata is None or isinstance(video_metadata, Mapping):  # for all videos
            known_metadata *= len(videos)
        if len(known_metadata) != len(videos):
            raise ValueError(
                f"{len(known_metadata)} entries of video_metadata for {len(videos)} videos; pass one a video."
            )
        metadata: list[VideoMetadata] = []

        def read(video: Any, known: Any, data_format: str | None) -> torch.Tensor:
            if holds_frames(video):
                frames, facts = select_frames(video, sample_indices_fn, known)
            else:
                frames, facts = self._read_file(video, sample_indices_fn, known)
                data_format = "channels_first"
            metadata.append(facts)
            return to_rgb_frames(frames, data_format)

        # Each clip is read when its turn comes in `_preprocess`, so that the frames of only one are in memory.
        return [partial(read, video, known) for video, known in zip(videos, known_metadata, strict=True)], metadata

    def _prepare_input_videos(self, videos: list[Callable], input_data_format=None, device=None, **kwargs):
        return [lambda read=read: read(input_data_format).to(device) for read in videos]


def _flatten(entries: Any) -> list:
    """Lists of any depth as one list, a single entry as a list of one."""
    if isinstance(entries, (list, tuple)):
        return [one for entry in entries for one in _flatten(entry)]
    return [entries]


def check_range(frames: torch.Tensor) -> None:
    """
    Raises:
        ValueError: integers are not in 0..255, or floats are not in 0..1.
    """
    if frames.dtype == torch.uint8:
        return
    low, high = (value.item() for value in frames.double().aminmax())
    if not (low >= 0 and high <= (1 if frames.is_floating_point() else 255)):  # catches NaN, too
        raise ValueError(
            f"{frames.dtype} frames have values from {low:g} to {high:g}; expected 0..255 for integers and 0..1 for "
            "floats. Divide floats in 0..255 by 255; pass do_rescale=False to take the values as they are."
        )
