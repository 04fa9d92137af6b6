"""Dual softmax (DSL) as a post-processing of retrieval scores."""

from functools import partial

import torch
from torch import Tensor

from .product import Product, row_blocks
from .retrieval import Processing, Similarity

SCALE = 100.0


def dual_softmax(similarity: Similarity, scale: float = SCALE, log_sums: Tensor | None = None) -> Tensor:
    """
    Re-weight similarities by their softmax over the texts: `x * softmax(scale * x, over texts)`.

    A video then counts less for a text if other texts score higher with it. One result serves both directions, as in
    the original evaluation (clip_vip §8). The softmax needs **all** test queries at once, which a live search does not
    have, so report these metrics apart from the raw ones.

    Args:
        similarity (`[texts, videos]` tensor, array or nested list): cosines.
        scale (`float`, defaults to 100.0): factor inside the softmax. A larger one is closer to a one-to-one matching.
        log_sums (`[videos]`, *optional*): where `similarity` holds some of the texts, `log sum exp(scale * x)` over
            all of them.

    Returns:
        `Tensor` `[texts, videos]`, in the precision of the input.

    Example:
        >>> retrieval_metrics(dual_softmax(similarity))
    """
    scores = torch.as_tensor(similarity)
    weights = scale * scores
    weights = weights.softmax(dim=0) if log_sums is None else (weights - log_sums).exp().to(scores.dtype)
    return scores * weights


def dual_softmax_by_rows(similarity: Tensor | Product) -> tuple[Processing, Processing]:
    """The same for blocks of rows `[texts, videos]`, and of rows `[videos, texts]`: see `retrieval_metrics`."""
    log_sums = None
    if isinstance(similarity, Product):
        log_sums = torch.empty(similarity.shape[1], dtype=torch.float64)
        for first, block in row_blocks(similarity.T):
            log_sums[first : first + len(block)] = (SCALE * block).double().logsumexp(1)
    return partial(dual_softmax, log_sums=log_sums), lambda rows: dual_softmax(rows.T).T
