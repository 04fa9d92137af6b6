"""Variant (a): video with subtitle, frame with caption, in two separate problems."""

from torch import Tensor

from ..contrastive import contrastive_loss


def vs_fc_loss(video: Tensor, subtitle: Tensor, frame: Tensor, caption: Tensor, logit_scale: Tensor | float) -> Tensor:
    """
    `NCE(V,S) + NCE(F,C)`: the caption trains the tower on single frames only.

    Each NCE is the sum of both directions; the paper's average, variant (a), is half of it. Original:
    `VidImgDivideNCELearnableTempLoss`. Arguments and errors as in [`omnisource_loss`].
    """
    return contrastive_loss(video, subtitle, logit_scale) + contrastive_loss(frame, caption, logit_scale)
