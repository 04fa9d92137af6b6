"""Which seconds of a video show what: each second gets a label, or a sentence finds its stretches of time."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

SECONDS_AT_ONCE = 8  # of pixels, and
WINDOWS_AT_ONCE = 16  # of features: they bound memory and change no result
SHORTEST_STRETCH = 3  # seconds; training had no shorter clips (videoclip §6.1)


@dataclass(frozen=True)
class VideoPart:
    """
    A stretch of a video.

    Attributes:
        start, end: seconds from the first frame. They are whole, so the last second may be incomplete.
        label: what is seen there, or the query that found it.
        score: mean over its seconds of the product of second and label. Products have no scale: compare them within
            one video.
    """

    start: float
    end: float
    label: str
    score: float


def segment_video(
    video: Any,
    labels: Sequence[str],
    model: Any,
    processor: Any,
    *,
    background: Literal["original"] | float | None = None,
    video_features: Tensor | None = None,
) -> list[VideoPart]:
    """
    Give each second of a video the label that fits best, and join equal neighbours.

    Args:
        video: path, URL or bytes, of any length. It is read a few seconds at a time.
        labels: short descriptions of what may be seen.
        model, processor: VideoCLIP and the like, with states for single seconds; see `load_model_and_processor`.
        background (*optional*): a second whose best score is not above this number gets no label. `"original"` takes
            the largest product of two labels (videoclip §7.4), under which the released weights call nearly all
            background. By default every second gets a label.
        video_features (`Tensor` `[seconds, width]`, *optional*): stored features of the video, read in its place.

    Returns:
        The parts in order. Seconds of background are in none.

    Raises:
        VideoDecodingError: the video cannot be read.
        ValueError: no label, one label under `"original"`, a model without states for seconds, or features that the
            model was not trained with.

    Example:
        >>> model, processor = load_model_and_processor("org/videoclip")
        >>> segment_video("lesson.mp4", ["crack eggs", "slice onions"], model, processor)
        [VideoPart(start=0.0, end=14.0, label='crack eggs', score=212.4), ...]
    """
    text_embeds = embed_texts(labels, model, processor)
    threshold = background_threshold(text_embeds) if background == "original" else background
    return label_parts(score_seconds(video, text_embeds, model, processor, video_features), labels, threshold)


def search_video(
    video: Any,
    queries: Sequence[str],
    model: Any,
    processor: Any,
    *,
    top: int = 5,
    video_features: Tensor | None = None,
) -> list[VideoPart]:
    """
    Find the stretches of a video that fit a sentence best.

    A stretch has 3 seconds or more, as the clips in training had, and its score is the mean over its seconds.

    Args:
        queries: sentences. Each gets stretches of its own.
        top (defaults to 5): stretches for a query. They do not overlap.
        video, model, processor, video_features: as for [`segment_video`], with the same errors.

    Returns:
        The stretches of the first query, the best first, then those of the second, and so on.

    Example:
        >>> search_video("lesson.mp4", ["the onion goes into the pan"], model, processor)[0]
        VideoPart(start=42.0, end=46.0, label='the onion goes into the pan', score=187.1)
    """
    scores = score_seconds(video, embed_texts(queries, model, processor), model, processor, video_features)
    return [part for number, query in enumerate(queries) for part in best_stretches(scores[:, number], query, top)]


@torch.no_grad()
def embed_texts(texts: Sequence[str], model: Any, processor: Any) -> Tensor:
    """`[texts, dim]`. Args and errors are those of [`segment_video`]."""
    if not texts or isinstance(texts, str):
        raise ValueError(f"labels or queries are {texts!r}; expected a list of one text or more.")
    if not hasattr(model, "make_features"):
        raise ValueError(
            f"{type(model).__name__} has no states for single seconds; docs/tasks/segmentation.md names the systems "
            "that have them."
        )
    return model.get_text_features(**processor(text=list(texts)).to(model.device)).pooler_output.float()


@torch.no_grad()
def score_seconds(
    video: Any, text_embeds: Tensor, model: Any, processor: Any, video_features: Tensor | None = None
) -> Tensor:
    """
    Compare each second of a video with each text, in overlapping windows as the original does (videoclip §6.3, §7.4).

    Args:
        text_embeds: `[texts, dim]` of [`embed_texts`].
        video, model, processor, video_features: as for [`segment_video`], with the same errors.

    Returns:
        `[seconds, texts]` on the CPU: products of states and texts, averaged over the windows that hold the second.
    """
    rows = read_features(video, model, processor) if video_features is None else video_features
    window = model.config.video_config.max_video_length
    starts = window_starts(len(rows), window)
    windows = []
    for first in range(0, len(starts), WINDOWS_AT_ONCE):
        chunk = [rows[start : start + window] for start in starts[first : first + WINDOWS_AT_ONCE]]
        inputs = processor(video_features=chunk).to(model.device)
        states = model.get_video_features(**inputs, attend_to_cls=False).last_hidden_state[:, 1:-1]
        windows.extend(states.float())
    return (merge_windows(windows, starts, len(rows)) @ text_embeds.T).cpu()


def read_features(video: Any, model: Any, processor: Any) -> Tensor:
    """Decode a video of any length and encode it as it comes: `[seconds, width]`, on the CPU."""
    reader = copy(processor.video_processor)
    reader.max_clips = None  # a window has a limit; the video has none
    rows: list[Tensor] = []
    for first, pixels in reader.read_clips(video, SECONDS_AT_ONCE):
        if first == 0:  # perhaps once more, of a damaged file
            rows.clear()
        rows.append(model.make_features(pixels[None].to(model.device))[0].float().cpu())
    return torch.cat(rows)


def window_starts(seconds: int, window: int) -> range:
    """First seconds of the windows, half a window apart; the last one reaches the end."""
    stride = max(window // 2, 1)
    return range(0, max(seconds - window, 0) + stride, stride)


def merge_windows(windows: Sequence[Tensor], starts: Sequence[int], seconds: int) -> Tensor:
    """The windows' values `[window, dim]`, perhaps with padding behind the video, averaged: `[seconds, dim]`."""
    total = windows[0].new_zeros(seconds, windows[0].shape[1])
    count = windows[0].new_zeros(seconds, 1)
    for values, start in zip(windows, starts, strict=True):
        length = min(len(values), seconds - start)
        total[start : start + length] += values[:length]
        count[start : start + length] += 1
    return total / count


def background_threshold(text_embeds: Tensor) -> float:
    """
    The original's threshold for background: the largest product of two labels (videoclip §7.4).

    Raises:
        ValueError: there is one label.
    """
    if len(text_embeds) < 2:
        raise ValueError(
            "background is 'original' with one label, but its threshold is the largest product of two labels; give "
            "more labels, or a number."
        )
    return (text_embeds @ text_embeds.T).fill_diagonal_(-torch.inf).max().item()


def label_seconds(scores: Tensor, threshold: float | None = None) -> Tensor:
    """
    Args:
        scores: `[seconds, labels]`.
        threshold (*optional*): a second whose best score is not above it is background.

    Returns:
        `[seconds]`, the number of the best label, -1 for background.
    """
    best = scores.max(dim=1)
    return best.indices if threshold is None else best.indices.where(best.values > threshold, -1)


def label_parts(scores: Tensor, labels: Sequence[str], threshold: float | None = None) -> list[VideoPart]:
    """Join equal neighbours of [`label_seconds`]. Seconds of background are in no part."""
    chosen, parts = label_seconds(scores, threshold).tolist(), []
    for number, group in groupby(range(len(chosen)), key=chosen.__getitem__):
        seconds = list(group)
        if number >= 0:
            start, end = seconds[0], seconds[-1] + 1
            parts.append(VideoPart(float(start), float(end), labels[number], scores[start:end, number].mean().item()))
    return parts


def best_stretches(scores: Tensor, query: str, top: int) -> list[VideoPart]:
    """
    Args:
        scores: `[seconds]` of a query.
        top: stretches to find; a short video has fewer.
    """
    shortest = min(SHORTEST_STRETCH, len(scores))
    sums = pad(scores.double().cumsum(0), (1, 0))
    candidates = []
    # Whatever is longer consists of such stretches, and its mean is never above the best of theirs.
    for length in range(shortest, min(2 * shortest, len(scores) + 1)):
        means = (sums[length:] - sums[:-length]) / length
        candidates += [(-mean, start, length) for start, mean in enumerate(means.tolist())]
    found: list[VideoPart] = []
    for negative, start, length in sorted(candidates):
        if len(found) == top:
            break
        if all(start >= part.end or start + length <= part.start for part in found):
            found.append(VideoPart(float(start), float(start + length), query, -negative))
    return found
