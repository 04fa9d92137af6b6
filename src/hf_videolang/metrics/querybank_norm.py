"""Querybank normalisation (QB-Norm) as a post-processing of text-to-video scores."""

import torch
from torch import Tensor

from .retrieval import Similarity


def querybank_norm(similarity: Similarity, querybank_similarity: Similarity, k: int = 1, beta: float = 20.0) -> Tensor:
    """
    Hold back "hub" videos that too many queries like, judged by a bank of training queries, not by the test queries.

    The dynamic inverted softmax of Bogolin et al., *Cross Modal Retrieval with Querybank Normalisation* (CVPR 2022).
    With bank queries b, test query q, videos v and similarities s:

    - active videos A: those among the `k` best of at least one bank query;
    - if the best video of q is in A: `s'(q, v) = exp(beta s(q, v)) / sum over b of exp(beta s(b, v))` for all v,
      otherwise `s'(q, .) = s(q, .)`.

    Rows end up on different scales, so only the ranks **within a row** mean something: use it for text to video. For
    video to text pass the transposed matrix and the similarities of a bank of training videos to the texts.

    Args:
        similarity (`[queries, gallery]` tensor, array or nested list): test texts by test videos.
        querybank_similarity (`[bank, gallery]`): training texts by the same test videos; the paper takes all training
            texts, a few thousand do nearly as well.
        k (`int`, defaults to 1): videos of a bank query that count as hubs; more normalises more queries.
        beta (`float`, defaults to 20.0): inverse temperature.

    Returns:
        `Tensor` `[queries, gallery]`.

    Raises:
        ValueError: the two matrices disagree about the gallery, the bank is empty, or `k` exceeds the gallery.
    """
    scores = torch.as_tensor(similarity)
    bank = torch.as_tensor(querybank_similarity).to(scores)
    if scores.ndim != 2 or bank.ndim != 2 or scores.shape[1] != bank.shape[1] or not len(bank):
        raise ValueError(
            f"similarity has shape {list(scores.shape)} and querybank_similarity {list(bank.shape)}; expected "
            "[queries, gallery] and [bank, gallery] over the same gallery, with at least one bank query."
        )
    if not 1 <= k <= bank.shape[1]:
        raise ValueError(f"k is {k}; expected 1 to the size of the gallery, {bank.shape[1]}.")
    active = torch.zeros(bank.shape[1], dtype=torch.bool, device=scores.device)
    active[bank.topk(k, dim=1).indices.flatten()] = True
    inverted_softmax = (beta * scores - torch.logsumexp(beta * bank, dim=0)).exp()
    return torch.where(active[scores.argmax(dim=1)][:, None], inverted_softmax, scores)
