"""Dual softmax (DSL) as a post-processing of retrieval scores."""

import torch
from torch import Tensor

from .retrieval import Similarity


def dual_softmax(similarity: Similarity, scale: float = 100.0) -> Tensor:
    """
    Re-weight similarities by their softmax over the texts: `x * softmax(scale * x, over texts)`.

    A video then counts less for a text if other texts score higher with it. One result serves both directions, as in
    the original evaluation (clip_vip §8). The softmax needs **all** test queries at once, which a live search does not
    have, so report these metrics apart from the raw ones.

    Args:
        similarity (`[texts, videos]` tensor, array or nested list): cosines.
        scale (`float`, defaults to 100.0): factor inside the softmax. A larger one is closer to a one-to-one matching.

    Returns:
        `Tensor` `[texts, videos]`, in the precision of the input.

    Example:
        >>> retrieval_metrics(dual_softmax(similarity))
    """
    scores = torch.as_tensor(similarity)
    return scores * (scale * scores).softmax(dim=0)
