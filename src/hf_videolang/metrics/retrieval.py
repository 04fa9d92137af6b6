"""
Recall, median and mean rank of text-video retrieval.

The folder also holds the same metric for the evaluate library: `evaluate.load(metric_path("retrieval"))`.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Ties = Literal["original", "optimistic", "pessimistic", "average"]
Similarity = Tensor | np.ndarray | Sequence[Sequence[float]]


def retrieval_metrics(
    similarity: Similarity,
    labels: Sequence[int] | None = None,
    ties: Ties = "original",
    recall_at: Sequence[int] = (1, 5, 10),
) -> dict[str, dict[str, float]]:
    """
    Both directions of text-video retrieval, e.g. `{"text_to_video": {"R1": 0.42, ..., "MeanR": 9.1}, ...}`.

    Time and memory are linear in the matrix (two comparisons an entry, one byte an entry); nothing is sorted.

    Args:
        similarity (`[texts, videos]` tensor, array or nested list): higher is better.
        labels (sequence of `int`, *optional*): the video (column) of each text (row), so that a video may have several
            captions or none. Without it text i belongs to video i and the matrix must be square.
        ties (`str`, defaults to `"original"`): see [`text_to_video_ranks`].
        recall_at (sequence of `int`, defaults to `(1, 5, 10)`): the k of R@k.

    Returns:
        For `"text_to_video"` and `"video_to_text"` what [`rank_metrics`] gives.

    Raises:
        ValueError: NaN, an empty matrix, labels that do not fit, an unknown `ties`.
    """
    return {
        "text_to_video": rank_metrics(text_to_video_ranks(similarity, labels, ties), recall_at),
        "video_to_text": rank_metrics(video_to_text_ranks(similarity, labels, ties), recall_at),
    }


def text_to_video_ranks(
    similarity: Similarity, labels: Sequence[int] | None = None, ties: Ties = "original"
) -> np.ndarray:
    """
    Rank, from 1, of each text's video among all videos.

    Videos that score exactly like the right one can be counted in four ways (g better ones, e equal others):

    | `ties` | entries of a text |
    |---|---|
    | `"original"` | every one of g+1 … g+1+e: the evaluation of the authors, which pools them all. A text with ties weighs more, and there are more entries than texts |
    | `"optimistic"` | g+1 |
    | `"pessimistic"` | g+1+e: what a constant model deserves |
    | `"average"` | g+1+e/2 |

    Arguments and errors as in [`retrieval_metrics`].

    Returns:
        `np.ndarray` of the entries, in the order of the texts.
    """
    scores, columns = _checked(similarity, labels)
    match = np.take_along_axis(scores, columns[:, None], axis=1)
    better = np.count_nonzero(scores > match, axis=1)
    equal = np.count_nonzero(scores == match, axis=1) - 1
    return _resolve_ties(better, equal, ties)


def video_to_text_ranks(
    similarity: Similarity, labels: Sequence[int] | None = None, ties: Ties = "original"
) -> np.ndarray:
    """
    Rank, from 1, of each video's best-scored own text among all texts.

    With several texts to a video the best of them counts, and ties among them are no ties: only the texts of other
    videos can stand before it. Videos without a text ask nothing and are left out.

    Arguments, ties and errors as in [`text_to_video_ranks`].

    Returns:
        `np.ndarray` of the entries, in the order of the videos that have a text.
    """
    scores, columns = _checked(similarity, labels)
    own = scores[np.arange(len(columns)), columns]
    best = np.full(scores.shape[1], own.min())
    np.maximum.at(best, columns, own)
    own_at_best = np.bincount(columns[own == best[columns]], minlength=len(best))
    better = np.count_nonzero(scores > best, axis=0)
    equal = np.count_nonzero(scores == best, axis=0) - own_at_best
    asked = np.unique(columns)
    return _resolve_ties(better[asked], equal[asked], ties)


def rank_metrics(ranks: np.ndarray, recall_at: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """
    `R1`, `R5`, … (share of entries with rank ≤ k, 0 to 1), `MedianR` and `MeanR` (ranks from 1) of pooled ranks.

    Original: `compute_metrics`.
    """
    recalls = {f"R{k}": float(np.mean(ranks <= k)) for k in recall_at}
    # The original averages ranks from 0 and adds 1, which can differ in the last bit.
    return {**recalls, "MedianR": float(np.median(ranks)), "MeanR": float(np.mean(ranks - 1) + 1)}


def _resolve_ties(better: np.ndarray, equal: np.ndarray, ties: Ties) -> np.ndarray:
    """Ranks from the numbers of strictly better and of equal other candidates of each query."""
    match ties:
        case "optimistic":
            return better + 1
        case "pessimistic":
            return better + equal + 1
        case "average":
            return better + equal / 2 + 1
        case "original":
            entries = equal + 1
            first_entry = np.repeat(np.cumsum(entries) - entries, entries)
            return np.repeat(better + 1, entries) + np.arange(entries.sum()) - first_entry
    raise ValueError(f"ties is {ties!r}; expected 'original', 'optimistic', 'pessimistic' or 'average'.")


def _checked(similarity: Similarity, labels: Sequence[int] | None) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(similarity, Tensor):
        similarity = similarity.detach().cpu()
        if similarity.dtype == torch.bfloat16:  # unknown to NumPy
            similarity = similarity.float()
    scores = np.asarray(similarity)
    if scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(f"similarity has shape {list(scores.shape)}; expected [texts, videos], neither 0.")
    if np.isnan(scores.max()):
        pairs = np.argwhere(np.isnan(scores))
        raise ValueError(
            f"similarity is NaN for {len(pairs)} pairs, the first text {pairs[0, 0]} with video {pairs[0, 1]}; "
            "a rank among NaN means nothing. Look for overflow in half precision or a feature of norm 0."
        )
    num_texts, num_videos = scores.shape
    if labels is None:
        if num_texts != num_videos:
            raise ValueError(
                f"similarity is {num_texts} texts by {num_videos} videos and has no labels; "
                "pass labels, the index of the video of each text."
            )
        return scores, np.arange(num_texts)
    columns = np.asarray(labels)
    if columns.shape != (num_texts,) or columns.dtype.kind not in "iu":
        raise ValueError(
            f"labels are {list(columns.shape)} of {columns.dtype}; expected one whole number for each of the "
            f"{num_texts} texts."
        )
    if columns.min() < 0 or columns.max() >= num_videos:
        raise ValueError(
            f"labels run from {columns.min()} to {columns.max()}; expected video indices 0 to {num_videos - 1}."
        )
    return scores, columns
