"""Captions of the segments of one video, however long it is."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BATCH_SIZE = 64  # segments that are captioned together


@dataclass(frozen=True)
class Caption:
    """What is seen in a segment, in seconds of the file."""

    start: float
    end: float
    text: str


def even_segments(seconds: float, length: float) -> list[tuple[float, float]]:
    """A video in segments of equal length; the last one may be shorter."""
    if not 0 < length < math.inf:
        raise ValueError(f"segments of {length:g} s; expected more than 0.")
    count = max(math.ceil(round(seconds / length, 6)), 1)  # 16.5 s are five times 3.3 s, which is a bit less to Python
    return [(number * length, min((number + 1) * length, seconds)) for number in range(count)]


def caption_segments(
    model: Any,
    processor: Any,
    features: Tensor,
    subtitles: Any,
    segments: Sequence[tuple[float, float]],
    **options: Any,
) -> list[Caption]:
    """
    Args:
        model: writes captions.
        processor: of the model. A video that is longer than the model reads is divided into windows of the longest
            length, half a window apart; a segment is read in the first window that holds it whole.
        features: `[rows, width]` of the video.
        subtitles: what the processor takes.
        segments: start and end of each, in seconds.
        options: of `generate`, such as `num_beams`.

    Returns:
        A caption of each segment, in their order.

    Raises:
        ValueError: a segment has no length, starts behind the video, or is longer than what the model reads at once.

    Example:
        >>> caption_segments(model, processor, features, "talk.srt", even_segments(60.0, 10.0), num_beams=4)[0].text
        'a woman explains a slide'
    """
    captions: dict[tuple[float, float], str] = {}
    for window, inside in _windows(processor, features, subtitles, segments):
        for first in range(0, len(inside), BATCH_SIZE):
            some = inside[first : first + BATCH_SIZE]
            shifted = [(start - window["start"], end - window["start"]) for start, end in some]
            inputs = processor(
                video_features=window["video_features"], subtitles=window["subtitles"], segments=shifted
            )
            with torch.inference_mode():
                written = model.generate(**inputs.to(model.device), **options)
            texts = processor.batch_decode(written, skip_special_tokens=True)
            captions |= zip(some, (" ".join(text.split()) for text in texts))  # a blank line would end a subtitle
    return [Caption(*segment, captions[segment]) for segment in segments]


def _windows(
    processor: Any, features: Tensor, subtitles: Any, segments: Sequence[tuple[float, float]]
) -> Iterator[tuple[dict[str, Any], list[tuple[float, float]]]]:
    """Each window with the segments that are read in it; every segment is in one."""
    seconds, end_of_video = processor.seconds_per_feature, len(features) * processor.seconds_per_feature
    for start, end in segments:
        if not 0 <= start < min(end, end_of_video):
            raise ValueError(
                f"segment {start:g} to {end:g} s; expected seconds within the {end_of_video:g} s of the video's "
                "features, the end after the start."
            )
    windows, longest = [{"video_features": features, "subtitles": subtitles, "start": 0.0}], end_of_video
    if len(features) > processor.max_frames:
        longest = processor.max_frames * seconds
        windows = processor.windows(features, subtitles, longest, longest / 2)
    left = list(dict.fromkeys(segments))
    for window in windows:
        end = window["start"] + len(window["video_features"]) * seconds
        inside = [one for one in left if window["start"] <= one[0] and min(one[1], end_of_video) <= end]
        left = [one for one in left if one not in inside]
        if inside:
            yield window, inside
    if left:
        start, end = left[0]
        raise ValueError(
            f"segment {start:g} to {end:g} s lies in no window of {longest:g} s, one every {longest / 2:g} s, which "
            f"the model reads; give segments of at most {longest / 2:g} s, which always lie in one."
        )
