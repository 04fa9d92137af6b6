"""Dual softmax (DSL) as a post-processing of retrieval scores."""

import torch
from torch import Tensor

from .retrieval import Similarity


def dual_softmax(similarity: Similarity, scale: float = 100.0) -> Tensor:
    """
    `x * softmax(scale * x over the texts)`: a video is worth little to a text that other texts want more.

    The same result serves both directions, as in the original evaluation (clip_vip §8). It looks at **all** test queries
    at once, which a running search cannot, so report its metrics apart from the raw ones.

    Args:
        similarity (`[texts, videos]` tensor, array or nested list): cosines.
        scale (`float`, defaults to 100.0): factor inside the softmax; larger is closer to a one-to-one matching.

    Returns:
        `Tensor` `[texts, videos]`, in the precision of the input.
    """
    scores = torch.as_tensor(similarity)
    return scores * (scale * scores).softmax(dim=0)
