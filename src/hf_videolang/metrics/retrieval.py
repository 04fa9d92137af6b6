"""Recall, median and mean rank of text-video retrieval."""

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
    Score text-to-video and video-to-text retrieval. Time and memory are linear in the size of the matrix.

    Args:
        similarity (`[texts, videos]` tensor, array or nested list): higher is better.
        labels (sequence of `int`, *optional*): the video (column) of each text (row). A video may have several
            captions or none. Without labels, text i belongs to video i, and the matrix must be square.
        ties (`str`, defaults to `"original"`): see [`text_to_video_ranks`].
        recall_at (sequence of `int`, defaults to `(1, 5, 10)`): the k of R@k.

    Returns:
        The result of [`rank_metrics`] for `"text_to_video"` and for `"video_to_text"`.

    Raises:
        ValueError: the matrix has NaN or is empty, the labels do not fit it, or `ties` is unknown.

    Example:
        >>> retrieval_metrics([[0.9, 0.1], [0.6, 0.4]])["text_to_video"]
        {'R1': 0.5, 'R5': 1.0, 'R10': 1.0, 'MedianR': 1.5, 'MeanR': 1.5}
    """
    return {
        "text_to_video": rank_metrics(text_to_video_ranks(similarity, labels, ties), recall_at),
        "video_to_text": rank_metrics(video_to_text_ranks(similarity, labels, ties), recall_at),
    }


def text_to_video_ranks(
    similarity: Similarity, labels: Sequence[int] | None = None, ties: Ties = "original"
) -> np.ndarray:
    """
    The rank of each text's video among all videos; the best rank is 1.

    Suppose g videos score higher than the right one, and e others score exactly the same. Then the text counts as

    | `ties` | ranks of the text |
    |---|---|
    | `"original"` | all of g+1 … g+1+e, as in the authors' evaluation. A text with ties has several ranks |
    | `"optimistic"` | g+1 |
    | `"pessimistic"` | g+1+e |
    | `"average"` | g+1+e/2 |

    Arguments and errors are those of [`retrieval_metrics`].

    Returns:
        `np.ndarray` of ranks, in the order of the texts.
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
    The rank of each video's best-scored own text among all texts; the best rank is 1.

    If a video has several texts, its best one counts, and only the texts of other videos can tie with it. Videos
    without a text are left out.

    Arguments, ties and errors are those of [`text_to_video_ranks`].

    Returns:
        `np.ndarray` of ranks, in the order of the videos that have a text.
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
    Summarise ranks, as the authors' `compute_metrics` does.

    Returns:
        `R1`, `R5`, … (share of ranks ≤ k, 0 to 1), `MedianR` and `MeanR` (ranks, 1 is the best).
    """
    recalls = {f"R{k}": float(np.mean(ranks <= k)) for k in recall_at}
    # The original averages ranks from 0 and then adds 1. Averaging ranks from 1 can differ in the last bit.
    return {**recalls, "MedianR": float(np.median(ranks)), "MeanR": float(np.mean(ranks - 1) + 1)}


def chance_metrics(
    labels: Sequence[int], num_videos: int, recall_at: Sequence[int] = (1, 5, 10)
) -> dict[str, dict[str, float]]:
    """
    What random scores give: the expected recalls and mean ranks, and the median of the ranks.

    Args:
        labels (sequence of `int`): the video of each text. A video with several texts is found by the best of them.
        num_videos: videos of the gallery.
        recall_at: the k of R@k.

    Returns:
        The same mapping as [`retrieval_metrics`].

    Example:
        >>> chance_metrics([0, 1, 2, 3], num_videos=4)["text_to_video"]
        {'R1': 0.25, 'R5': 1.0, 'R10': 1.0, 'MedianR': 2.5, 'MeanR': 2.5}
    """
    texts = np.bincount(labels, minlength=num_videos)
    return {
        "text_to_video": _chance(np.ones(1, dtype=int), num_videos, recall_at),
        "video_to_text": _chance(texts[texts > 0], len(labels), recall_at),
    }


def _chance(right: np.ndarray, candidates: int, recall_at: Sequence[int]) -> dict[str, float]:
    """The ranks of queries that have so many `right` ones among the candidates in random order."""
    sizes, counts = np.unique(right, return_counts=True)
    share, place = counts / counts.sum(), np.arange(candidates)
    # The first k of n candidates hold none of the m right ones with probability (n-m)/n · (n-m-1)/(n-1) · … (k times).
    missed = np.cumprod(np.maximum(candidates - sizes[:, None] - place, 0) / (candidates - place), axis=1)
    found = 1 - share @ missed
    middle = [np.searchsorted(found, 0.5 - 1e-9), np.searchsorted(found, 0.5 + 1e-9)]
    return {
        **{f"R{k}": float(found[min(k, candidates) - 1]) for k in recall_at},
        "MedianR": float(np.mean(middle) + 1),
        "MeanR": float(share @ ((candidates + 1) / (sizes + 1))),
    }


def _resolve_ties(better: np.ndarray, equal: np.ndarray, ties: Ties) -> np.ndarray:
    """Ranks of queries, given how many other candidates score better and how many score the same."""
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
        raise ValueError(f"similarity has shape {list(scores.shape)}; expected [texts, videos], both at least 1.")
    if np.isnan(scores.max()):
        pairs = np.argwhere(np.isnan(scores))
        raise ValueError(
            f"similarity is NaN for {len(pairs)} pairs, the first text {pairs[0, 0]} with video {pairs[0, 1]}; "
            "no rank can be counted. Look for overflow in half precision or a feature of norm 0."
        )
    num_texts, num_videos = scores.shape
    if labels is None and num_texts != num_videos:
        raise ValueError(
            f"similarity is {num_texts} texts by {num_videos} videos and has no labels; pass labels, the index of the "
            "video of each text."
        )
    columns = np.arange(num_texts) if labels is None else np.asarray(labels)
    unknown = np.setdiff1d(columns, np.arange(num_videos))[:3].tolist()
    if columns.shape != (num_texts,) or columns.dtype.kind not in "iu" or unknown:
        raise ValueError(
            f"labels are {list(columns.shape)} of {columns.dtype}, unknown are {unknown}; expected for each of the "
            f"{num_texts} texts the index of its video, an integer from 0 to {num_videos - 1}."
        )
    return scores, columns
