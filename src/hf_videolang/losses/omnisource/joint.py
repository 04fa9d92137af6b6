"""Videos and frames against subtitles and captions in one problem of twice the batch."""

import torch
from torch import Tensor

from ..contrastive import contrastive_loss


def joint_loss(video: Tensor, subtitle: Tensor, frame: Tensor, caption: Tensor, logit_scale: Tensor | float) -> Tensor:
    """
    `NCE([V;F], [S;C])`: every text is a negative of every other clip's video and frame, also of its own clip's other
    picture.

    The sum of both directions. No variant of the paper. Original: `VidImgNCELearnableTempLoss`. Arguments and errors
    as in [`omnisource_loss`].
    """
    return contrastive_loss(torch.cat([video, frame]), torch.cat([subtitle, caption]), logit_scale)
