"""Reranking as a post-processing: other scores order the best candidates of each query."""

import torch
from torch import Tensor


def best_candidates(similarity: Tensor, top: int) -> Tensor:
    """Whether a candidate is among the `top` best of its query: bool `[queries, gallery]`. See [`reranked`]."""
    order = similarity.argsort(dim=1, descending=True, stable=True)[:, :top]
    return torch.zeros(similarity.shape, dtype=torch.bool).scatter(1, order, True)


def reranked(similarity: Tensor, pair_scores: Tensor, top: int) -> Tensor:
    """
    Put the `top` best candidates of each query in the order of `pair_scores`. The rest stay behind them in the first
    order.

    Args:
        similarity (`[queries, gallery]`): decides who is among the best.
        pair_scores (`[queries, gallery]`): higher is better; NaN where a pair has no score. Such a candidate counts to
            the rest.
        top: candidates of a query. With all of them the order is that of `pair_scores`.

    Returns:
        int64 `[queries, gallery]`: numbers in the new order, for ranks. Ties within either kind of score stay ties.

    Example:
        >>> reranked(torch.tensor([[0.9, 0.8, 0.1]]), torch.tensor([[-1.0, 2.0, torch.nan]]), top=2)
        tensor([[4, 5, 0]])
    """
    chosen = best_candidates(similarity, top) & ~pair_scores.isnan()
    first, second = (
        scores.unique(return_inverse=True)[1] for scores in (similarity, pair_scores.nan_to_num(-torch.inf))
    )
    return torch.where(chosen, first.max() + 1 + second, first)
