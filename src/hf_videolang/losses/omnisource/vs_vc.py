"""Variant (b): video with subtitle and video with caption, in two separate problems."""

from torch import Tensor

from ..contrastive import contrastive_loss


def vs_vc_loss(video: Tensor, subtitle: Tensor, caption: Tensor, logit_scale: Tensor | float) -> Tensor:
    """
    `NCE(V,S) + NCE(V,C)`: the caption of its middle frame is a second text of the video; no frame is encoded.

    Each NCE is the sum of both directions; the paper's average, variant (b), is half of it. Original:
    `NCELearnableTempLoss_vs_vc`. Arguments and errors as in [`omnisource_loss`].
    """
    return contrastive_loss(video, subtitle, logit_scale) + contrastive_loss(video, caption, logit_scale)
