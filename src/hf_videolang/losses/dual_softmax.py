"""The contrastive loss on logits that a dual softmax has weighted."""

from torch import Tensor

from .contrastive import matching_cross_entropy, scaled_similarities


def dual_softmax_loss(video: Tensor, text: Tensor, logit_scale: Tensor | float) -> Tensor:
    """
    The contrastive loss on logits multiplied by their softmax over the other axis.

    `CE(A * P(A)) + CE(A' * P(A'))` with `A = s V T'` and P the softmax over axis 0. The gradient flows through P.
    Original: `NCELearnableTempDSLLoss`, which the paper does not mention. To post-process scores, use
    `hf_videolang.metrics.dual_softmax`. Arguments and errors are those of [`contrastive_loss`].
    """
    logits = scaled_similarities(video, text, logit_scale)
    # The softmax of logits.T over axis 0 equals the transposed softmax of logits over axis 1.
    return matching_cross_entropy(logits * logits.softmax(0)) + matching_cross_entropy((logits * logits.softmax(1)).T)
