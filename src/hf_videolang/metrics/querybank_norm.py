"""Querybank normalisation (QB-Norm) as a post-processing of text-to-video scores."""

from typing import Any

import torch
from torch import Tensor

from .product import Product, row_blocks
from .retrieval import Processing, Similarity


def querybank_norm(similarity: Similarity, querybank_similarity: Similarity, k: int = 1, beta: float = 20.0) -> Tensor:
    """
    Lower the scores of "hub" videos, which are close to many queries. A bank of training queries tells which they are.

    The dynamic inverted softmax of Bogolin et al., *Cross Modal Retrieval with Querybank Normalisation* (CVPR 2022).
    With bank queries b, test query q, videos v and similarities s:

    - the active videos A are those among the `k` best of at least one bank query;
    - if the best video of q is in A, `s'(q, v) = exp(beta s(q, v)) / sum over b of exp(beta s(b, v))` for all v;
      otherwise `s'(q, .) = s(q, .)`.

    Rows end up on different scales, so only ranks **within a row** are meaningful: use it for text to video. For video
    to text, pass the transposed matrix and the similarities of a bank of training videos to the texts.

    Args:
        similarity (`[queries, gallery]` tensor, array or nested list): test texts by test videos.
        querybank_similarity (`[bank, gallery]`): training texts by the same test videos. The paper takes all training
            texts; a few thousand are nearly as good.
        k (`int`, defaults to 1): videos of a bank query that count as hubs. A larger k normalises more queries.
        beta (`float`, defaults to 20.0): inverse temperature.

    Returns:
        `Tensor` `[queries, gallery]`.

    Raises:
        ValueError: the matrices differ in the size of the gallery, the bank is empty, or `k` exceeds the gallery.

    Example:
        >>> retrieval_metrics(querybank_norm(test_texts @ videos.T, training_texts @ videos.T))["text_to_video"]
    """
    return querybank_norm_by_rows(querybank_similarity, k, beta)(torch.as_tensor(similarity))


def querybank_norm_by_rows(querybank_similarity: Similarity, k: int = 1, beta: float = 20.0) -> Processing:
    """The same for blocks of rows of `similarity`: see `retrieval_metrics`."""
    bank: Any = querybank_similarity
    if not isinstance(bank, Product):
        bank = torch.as_tensor(bank)
    if bank.ndim != 2 or not len(bank):
        raise ValueError(
            f"querybank_similarity has shape {list(bank.shape)}; expected [bank, gallery], with at least one bank "
            "query."
        )
    if not 1 <= k <= bank.shape[1]:
        raise ValueError(f"k is {k}; expected 1 to the size of the gallery, {bank.shape[1]}.")
    active = torch.zeros(bank.shape[1], dtype=torch.bool)
    for _, block in row_blocks(bank):
        active[block.topk(k, dim=1).indices.flatten()] = True
    log_sums = torch.cat([torch.logsumexp(beta * block, dim=1) for _, block in row_blocks(bank.T)])

    def normalize(scores: Tensor) -> Tensor:
        if scores.ndim != 2 or scores.shape[1] != bank.shape[1]:
            raise ValueError(
                f"similarity has shape {list(scores.shape)} and querybank_similarity {list(bank.shape)}; expected "
                "[queries, gallery] and [bank, gallery] over the same gallery."
            )
        is_hub = active[scores.argmax(dim=1)][:, None]
        return torch.where(is_hub, (beta * scores - log_sums.to(scores)).exp(), scores)

    return normalize
