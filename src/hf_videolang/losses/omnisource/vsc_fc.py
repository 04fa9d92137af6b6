"""Variant (d), that of the released models: video with both texts in one problem, frame with caption in another."""

from torch import Tensor

from ..contrastive import contrastive_loss
from .vsc import vsc_loss


def vsc_fc_loss(
    video: Tensor, subtitle: Tensor, frame: Tensor, caption: Tensor, logit_scale: Tensor | float
) -> Tensor:
    """
    `X(V,S,C) + NCE(F,C)` with X of [`vsc_loss`].

    Directions are added; the paper's average, variant (d), is half of it. Original: `NCELearnableTempLoss_vsc_fc`.
    Arguments and errors as in [`omnisource_loss`].
    """
    return vsc_loss(video, subtitle, caption, logit_scale) + contrastive_loss(frame, caption, logit_scale)
