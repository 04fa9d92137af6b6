"""Contrastive loss with the dual-softmax prior inside."""

from torch import Tensor

from .contrastive import matching_cross_entropy, scaled_similarities


def dual_softmax_loss(video: Tensor, text: Tensor, logit_scale: Tensor | float) -> Tensor:
    """
    The contrastive loss on logits weighted by their softmax over the other side: a pair counts where both agree.

    `A = s V T'`; `CE(A * P(A)) + CE(A' * P(A'))`, P the softmax over axis 0; the gradient flows through P. The sum of
    both directions. Original: `NCELearnableTempDSLLoss` (not in the paper). As a post-processing of scores see
    `hf_videolang.metrics.dual_softmax` instead.

    Args:
        video, text (`Tensor` `[batch, dim]`): L2-normalised; text i describes video i.
        logit_scale (`Tensor` or `float`): log of the factor on the cosine.

    Returns:
        `Tensor` without dimensions.

    Raises:
        ValueError: the shapes differ or are not `[batch, dim]`.
    """
    logits = scaled_similarities(video, text, logit_scale)
    # The softmax of logits.T over axis 0 is, transposed back, the softmax of logits over axis 1.
    return matching_cross_entropy(logits * logits.softmax(0)) + matching_cross_entropy((logits * logits.softmax(1)).T)
