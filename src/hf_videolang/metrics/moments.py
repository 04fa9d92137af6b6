"""Moments found by a query in videos: which spans to answer with, and how many answers are right."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

TOP = (1, 5, 10, 100)
IOUS = (0.5, 0.7)


def top_moments(
    starts: Tensor,
    ends: Tensor,
    weights: Tensor | None = None,
    min_frames: int = 2,
    max_frames: int = 16,
    top: int = 200,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """
    The spans with the highest products of probabilities, best first (hero §9.1).

    Args:
        starts, ends (`Tensor` `[..., videos, frames]`): probabilities that the moment starts and ends at a frame.
        weights (`Tensor` `[..., videos]`): weight of each video. `None`: all are 1.
        min_frames, max_frames: a span is a candidate if `min_frames <= last - first < max_frames`.
        top: how many spans to return; fewer if there are fewer candidates.

    Returns:
        Video, first frame, last frame and score of each span, each `[..., top]`. A score of 0 is no candidate.
    """
    frames = starts.shape[-1]
    offsets = range(min_frames, min(max_frames, frames))
    products = starts.new_zeros(*starts.shape[:-1], max(len(offsets), 1), frames)
    for row, offset in enumerate(offsets):
        products[..., row, : frames - offset] = starts[..., : frames - offset] * ends[..., offset:]
    if weights is not None:
        products *= weights[..., None, None]
    candidates = products.flatten(-3)
    scores, places = candidates.topk(min(top, candidates.shape[-1]), dim=-1)
    per_video = products.shape[-2:].numel()
    video, place = places // per_video, places % per_video
    first = place % frames
    return video, first, first + place // frames + min_frames, scores


def temporal_iou(spans: np.ndarray, reference: Sequence[float]) -> np.ndarray:
    """
    Intersection of spans `[n, 2]` with one of seconds, divided by the hull of both: float32 `[n]` (hero §9.3).

    For spans that overlap, the hull is the union.
    """
    start, end = np.asarray(reference, np.float32)
    starts, ends = np.asarray(spans, np.float32).reshape(-1, 2).T
    intersection = np.maximum(np.float32(0), np.minimum(ends, end) - np.maximum(starts, start))
    hull = np.maximum(ends, end) - np.minimum(starts, start)
    return np.divide(intersection, hull, out=np.zeros_like(hull), where=hull != 0)


def suppress_overlaps(predictions: Sequence[Sequence[Any]], threshold: float) -> list[list[Any]]:
    """
    Non-maximum suppression: leave out a moment that overlaps a better one of the same video.

    Args:
        predictions: `[video, start, end, score]`, best first.
        threshold: the IoU above which a moment is left out.
    """
    kept: list[list[Any]] = []
    for video, start, end, score in predictions:
        better = [one[1:3] for one in kept if one[0] == video]
        if not better or temporal_iou(np.array(better), (start, end)).max() <= threshold:
            kept.append([video, start, end, score])
    return kept


def moment_recalls(
    predictions: Sequence[Sequence[Sequence[Any]]],
    references: Sequence[Mapping[str, Any]],
    top: Sequence[int] = TOP,
    ious: Sequence[float] = IOUS,
) -> dict[str, float]:
    """
    How many queries have a right moment among the first K: right video, and IoU of at least a threshold (hero §9.3).

    Args:
        predictions: for each query, `[video, start, end, score]`, best first, in seconds.
        references: for each query `{"video": …, "spans": [[start, end], …]}`. Of four or more spans, the annotations
            of as many people, at least two must be hit.

    Returns:
        `{"R1_IoU0.5": 0.25, …}`, shares.

    Example:
        >>> moment_recalls([[["a", 0.0, 4.0, 1.0]]], [{"video": "a", "spans": [[0.0, 5.0]]}], top=[1])
        {'R1_IoU0.5': 1.0, 'R1_IoU0.7': 1.0}
    """
    hits = np.zeros((len(references), len(ious), len(top)))
    for query, (found, reference) in enumerate(zip(predictions, references, strict=True)):
        found = found[: max(top)]
        is_video = np.array([one[0] == reference["video"] for one in found], dtype=bool)
        spans = np.array([one[1:3] for one in found], dtype=np.float32)
        overlaps = np.stack([temporal_iou(spans, span) for span in reference["spans"]])
        needed = 2 if len(reference["spans"]) >= 4 else 1
        for row, iou in enumerate(ious):
            is_hit = ((overlaps >= iou).sum(axis=0) >= needed) & is_video
            hits[query, row] = [is_hit[:k].any() for k in top]
    shares = hits.mean(axis=0)
    return {
        f"R{k}_IoU{iou}": float(shares[row, column]) for row, iou in enumerate(ious) for column, k in enumerate(top)
    }


def video_recalls(
    predictions: Sequence[Sequence[Any]], videos: Sequence[Any], top: Sequence[int] = TOP
) -> dict[str, float]:
    """
    How many queries have their video among the first K.

    Args:
        predictions: for each query the videos, best first.
        videos: the video of each query.

    Returns:
        `{"R1": 0.5, …}`, shares.
    """
    return {
        f"R{k}": float(np.mean([video in found[:k] for found, video in zip(predictions, videos, strict=True)]))
        for k in top
    }


def average_recall(recalls: Mapping[str, float], iou: float | None = None) -> float:
    """
    AveR, the mean of R@1, R@5 and R@10, each rounded to hundredths of a per cent as the benchmark does (hero §9.3).

    Args:
        recalls: of [`moment_recalls`], with the `iou` to read (0.7 in the benchmark), or of [`video_recalls`].
    """
    suffix = "" if iou is None else f"_IoU{iou}"
    return sum(round(recalls[f"R{k}{suffix}"], 4) for k in (1, 5, 10)) / 3
