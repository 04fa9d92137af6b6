"""What a model that ranks at random would score."""

from collections.abc import Sequence

import numpy as np


def chance_metrics(
    labels: Sequence[int], num_videos: int, recall_at: Sequence[int] = (1, 5, 10)
) -> dict[str, dict[str, float]]:
    """
    Expected recalls and mean ranks, and the median of the rank distribution, under a uniformly random order.

    Args:
        labels (sequence of `int`): the video of each text, as for [`retrieval_metrics`]; `range(n)` for n pairs.
        num_videos (`int`): size of the gallery.
        recall_at (sequence of `int`, defaults to `(1, 5, 10)`): the k of R@k.

    Returns:
        The same keys as [`retrieval_metrics`]; text to video R1 is 1 / num_videos.
    """
    captions = np.bincount(labels, minlength=num_videos)
    return {
        "text_to_video": _best_of(np.ones(1, dtype=int), num_videos, recall_at),
        "video_to_text": _best_of(captions[captions > 0], len(labels), recall_at),
    }


def _best_of(matches: np.ndarray, candidates: int, recall_at: Sequence[int]) -> dict[str, float]:
    """Best rank of `matches[i]` right answers among `candidates` in random order, averaged over the queries i."""
    numbers, queries = np.unique(matches, return_counts=True)
    ranks = np.arange(candidates)
    # P(best rank > r) for r = 1 … candidates: none of the first r places holds one of the m matches.
    missed = np.stack([np.cumprod(np.maximum(candidates - m - ranks, 0) / (candidates - ranks)) for m in numbers])
    found = 1 - queries @ missed / queries.sum()
    lower = np.argmax(found > 0.5 - 1e-9) + 1
    upper = np.argmax(found > 0.5 + 1e-9) + 1
    return {
        **{f"R{k}": float(found[min(k, candidates) - 1]) for k in recall_at},
        "MedianR": float(lower + upper) / 2,
        "MeanR": float(queries @ ((candidates + 1) / (numbers + 1)) / queries.sum()),
    }
