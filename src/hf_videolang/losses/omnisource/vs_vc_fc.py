"""Variant (c): video with subtitle, video with caption, frame with caption, in three separate problems."""

from torch import Tensor

from ..contrastive import contrastive_loss
from .vs_vc import vs_vc_loss


def vs_vc_fc_loss(
    video: Tensor, subtitle: Tensor, frame: Tensor, caption: Tensor, logit_scale: Tensor | float
) -> Tensor:
    """
    `NCE(V,S) + NCE(V,C) + NCE(F,C)`.

    Each NCE is the sum of both directions; the paper's average, variant (c), is half of it. Original:
    `NCELearnableTempLoss_vs_vc_fc`. Arguments and errors as in [`omnisource_loss`].
    """
    return vs_vc_loss(video, subtitle, caption, logit_scale) + contrastive_loss(frame, caption, logit_scale)
