"""Recall, median and mean rank of text-video retrieval."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from .product import Product, row_blocks

Ties = Literal["original", "optimistic", "pessimistic", "average"]
Similarity = Tensor | np.ndarray | Sequence[Sequence[float]] | Product
Processing = Callable[[Tensor], Tensor]  # changes the scores of some queries, a row each


def retrieval_metrics(
    similarity: Similarity,
    labels: Sequence[int] | None = None,
    ties: Ties = "original",
    recall_at: Sequence[int] = (1, 5, 10),
    processing: Sequence[Processing] | None = None,
) -> dict[str, dict[str, float]]:
    """
    Score text-to-video and video-to-text retrieval. Time is linear in the size of the matrix; of a [`Product`], one
    block of rows is in memory at a time.

    Suppose g candidates score higher than the right one, and e others score exactly the same. Then the query counts as

    | `ties` | ranks of the query |
    |---|---|
    | `"original"` | all of g+1 … g+1+e, as in the authors' evaluation. A query with ties has several ranks |
    | `"optimistic"` | g+1 |
    | `"pessimistic"` | g+1+e |
    | `"average"` | g+1+e/2 |

    If a video has several texts, its best one counts, and only the texts of other videos can tie with it. Videos
    without a text ask nothing.

    Args:
        similarity (`[texts, videos]` tensor, array, nested list or [`Product`]): higher is better.
        labels (sequence of `int`, *optional*): the video (column) of each text (row). A video may have several
            captions or none. Without labels, text i belongs to video i, and the matrix must be square.
        ties (`str`, defaults to `"original"`): see above.
        recall_at (sequence of `int`, defaults to `(1, 5, 10)`): the k of R@k.
        processing (*optional*): changes the scores before they are compared: a function for blocks of rows
            `[texts, videos]`, for text to video, and one for blocks of `[videos, texts]`, for video to text.

    Returns:
        The result of [`rank_metrics`] for `"text_to_video"` and for `"video_to_text"`.

    Raises:
        ValueError: the matrix has NaN or is empty, the labels do not fit it, or `ties` is unknown.

    Example:
        >>> retrieval_metrics([[0.9, 0.1], [0.6, 0.4]])["text_to_video"]
        {'R1': 0.5, 'R5': 1.0, 'R10': 1.0, 'MedianR': 1.5, 'MeanR': 1.5}
    """
    scores, columns = _checked(similarity, labels)
    texts = np.arange(len(columns))
    to_videos, to_texts = processing or (None, None)
    return {
        "text_to_video": rank_metrics(*_count(scores, texts, columns, to_videos), ties, recall_at),
        "video_to_text": rank_metrics(*_count(scores.T, columns, texts, to_texts), ties, recall_at),
    }


def rank_metrics(
    better: np.ndarray, equal: np.ndarray, ties: Ties = "original", recall_at: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """
    Summarise ranks, as the authors' `compute_metrics` does.

    Args:
        better: for each query, the candidates that score higher than the right one.
        equal: for each query, the other candidates that score the same.
        ties, recall_at: as for [`retrieval_metrics`].

    Returns:
        `R1`, `R5`, … (share of ranks ≤ k, 0 to 1), `MedianR` and `MeanR` (ranks, 1 is the best).
    """
    match ties:  # `ranks` begin with 0 and ascend; `counts` say how many entries have each of them
        case "original":
            ranks = np.arange((better + equal).max() + 1)
            begin, end = (np.bincount(edge, minlength=len(ranks) + 1) for edge in (better, better + equal + 1))
            counts = np.cumsum(begin - end)[:-1]
        case "optimistic":
            ranks, counts = np.unique(better, return_counts=True)
        case "pessimistic":
            ranks, counts = np.unique(better + equal, return_counts=True)
        case "average":
            ranks, counts = np.unique(better + equal / 2, return_counts=True)
        case _:
            raise ValueError(f"ties is {ties!r}; expected 'original', 'optimistic', 'pessimistic' or 'average'.")
    up_to = np.cumsum(counts)
    total = int(up_to[-1])
    middle = ranks[np.searchsorted(up_to, [(total - 1) // 2, total // 2], side="right")]
    return {
        **{f"R{k}": float(counts[ranks <= k - 1].sum() / total) for k in recall_at},
        "MedianR": float(middle.mean() + 1),
        "MeanR": float(ranks @ counts / total + 1),
    }


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
    """The ranks of queries, each with its number of `right` candidates, among all candidates in random order."""
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


def _count(
    scores: Any, queries: np.ndarray, right: np.ndarray, process: Processing | None
) -> tuple[np.ndarray, np.ndarray]:
    """
    For each query that asks, how many candidates score higher than its best right one, and how many others the same.

    `scores` is `[queries, candidates]`. Candidate `right[i]` is right for query `queries[i]`.
    """
    better, equal = [], []
    for first, rows in row_blocks(scores):
        block = _array(process(rows) if process else rows)
        lowest = block.min(axis=1)
        if np.isnan(lowest).any():
            pairs = np.argwhere(np.isnan(block))
            raise ValueError(
                f"similarity is NaN for {len(pairs)} pairs, the first query {first + pairs[0, 0]} with candidate "
                f"{pairs[0, 1]}; no rank can be counted. Look for overflow in half precision or a feature of norm 0."
            )
        here = (queries >= first) & (queries < first + len(block))
        row, column = queries[here] - first, right[here]
        own, best = block[row, column], lowest
        np.maximum.at(best, row, own)
        own_at_best = np.bincount(row[own == best[row]], minlength=len(best))
        asks = np.unique(row)
        better.append(np.count_nonzero(block > best[:, None], axis=1)[asks])
        equal.append((np.count_nonzero(block == best[:, None], axis=1) - own_at_best)[asks])
    return np.concatenate(better), np.concatenate(equal)


def _array(scores: Any) -> np.ndarray:
    if isinstance(scores, Tensor):
        scores = scores.detach().cpu()
        if scores.dtype == torch.bfloat16:  # unknown to NumPy
            scores = scores.float()
    return np.asarray(scores)


def _checked(similarity: Similarity, labels: Sequence[int] | None) -> tuple[Any, np.ndarray]:
    scores = similarity if isinstance(similarity, Tensor | Product) else np.asarray(similarity)
    if scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(f"similarity has shape {list(scores.shape)}; expected [texts, videos], both at least 1.")
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
