"""
Pre-training objectives over videos, frames, subtitles and captions (clip_vip §3).

V is the video, S its subtitle, F its middle frame, C the caption of that frame. NCE is [`contrastive_loss`], the
**sum** of both directions as in the authors' code. The paper averages them, so each value here is twice the paper's.

| variant | formula | paper | original class |
|---|---|---|---|
| `vs_fc` | NCE(V,S) + NCE(F,C) | (a) | `VidImgDivideNCELearnableTempLoss` |
| `vs_vc` | NCE(V,S) + NCE(V,C) | (b) | `NCELearnableTempLoss_vs_vc` |
| `vs_vc_fc` | NCE(V,S) + NCE(V,C) + NCE(F,C) | (c) | `NCELearnableTempLoss_vs_vc_fc` |
| `vsc_fc` | X(V,S,C) + NCE(F,C) | (d), the released models | `NCELearnableTempLoss_vsc_fc` |
| `vsc` | X(V,S,C): each video has two positives | - | `NCELearnableTempLoss_vsc` |
| `joint` | NCE([V;F], [S;C]): one problem of twice the batch | - | `VidImgNCELearnableTempLoss` |

Arguments are as in [`contrastive_loss`]; row i of all is one clip. The names of a function's arguments tell the
trainer which features to encode.

    >>> loss = OMNISOURCE_LOSSES["vsc_fc"](video, subtitle, frame, caption, model.logit_scale)
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from .contrastive import contrastive_loss, matching_cross_entropy, scaled_similarities

Scale = Tensor | float


def vs_fc_loss(video: Tensor, subtitle: Tensor, frame: Tensor, caption: Tensor, logit_scale: Scale) -> Tensor:
    """`NCE(V,S) + NCE(F,C)`: the caption trains the tower on single frames only."""
    return contrastive_loss(video, subtitle, logit_scale) + contrastive_loss(frame, caption, logit_scale)


def vs_vc_loss(video: Tensor, subtitle: Tensor, caption: Tensor, logit_scale: Scale) -> Tensor:
    """`NCE(V,S) + NCE(V,C)`: the caption is a second text of the video. No frame is encoded."""
    return contrastive_loss(video, subtitle, logit_scale) + contrastive_loss(video, caption, logit_scale)


def vs_vc_fc_loss(video: Tensor, subtitle: Tensor, frame: Tensor, caption: Tensor, logit_scale: Scale) -> Tensor:
    """`NCE(V,S) + NCE(V,C) + NCE(F,C)`."""
    return vs_vc_loss(video, subtitle, caption, logit_scale) + contrastive_loss(frame, caption, logit_scale)


def vsc_loss(video: Tensor, subtitle: Tensor, caption: Tensor, logit_scale: Scale) -> Tensor:
    """
    X(V,S,C) = `CE(s S V') + CE(s C V') + v2s + v2c`.

    In the two video-to-text terms each positive competes with the 2 (batch - 1) subtitles and captions of the *other*
    videos. The denominator leaves out the other positive of the same video:

    `v2s = mean_i -log(e^{s v_i s_i} / (e^{s v_i s_i} + sum_{j != i} (e^{s v_i s_j} + e^{s v_i c_j})))`, v2c alike.

    The four terms are added. The paper multiplies them by 1/2, the authors' code does not.
    """
    to_subtitle = scaled_similarities(video, subtitle, logit_scale)
    to_caption = scaled_similarities(video, caption, logit_scale)
    same_video = torch.eye(len(video), dtype=torch.bool, device=video.device)
    match = torch.arange(len(video), device=video.device)

    def one_positive(positive: Tensor, other: Tensor) -> Tensor:
        return cross_entropy(torch.cat([positive, other.masked_fill(same_video, -torch.inf)], dim=1), match)

    return (
        matching_cross_entropy(to_subtitle.T)
        + matching_cross_entropy(to_caption.T)
        + one_positive(to_subtitle, to_caption)
        + one_positive(to_caption, to_subtitle)
    )


def vsc_fc_loss(video: Tensor, subtitle: Tensor, frame: Tensor, caption: Tensor, logit_scale: Scale) -> Tensor:
    """`X(V,S,C) + NCE(F,C)`: the objective of the released models."""
    return vsc_loss(video, subtitle, caption, logit_scale) + contrastive_loss(frame, caption, logit_scale)


def joint_loss(video: Tensor, subtitle: Tensor, frame: Tensor, caption: Tensor, logit_scale: Scale) -> Tensor:
    """`NCE([V;F], [S;C])`: the other picture and the other text of the same clip are negatives, too."""
    return contrastive_loss(torch.cat([video, frame]), torch.cat([subtitle, caption]), logit_scale)


OMNISOURCE_LOSSES: dict[str, Callable[..., Tensor]] = {
    "vs_fc": vs_fc_loss,
    "vs_vc": vs_vc_loss,
    "vs_vc_fc": vs_vc_fc_loss,
    "vsc": vsc_loss,
    "vsc_fc": vsc_fc_loss,
    "joint": joint_loss,
}
