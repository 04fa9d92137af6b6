"""
Omnisource cross-modal learning (CLIP-ViP, §3 of the paper): videos, frames, subtitles and captions in one objective.

V video, S subtitle, F middle frame of the video, C caption of that frame. NCE is [`contrastive_loss`], the **sum** of
both directions as in the authors' code, where the paper writes the average: every value here is twice the paper's.

| variant | formula | paper | original class |
|---|---|---|---|
| `vs_fc` | NCE(V,S) + NCE(F,C) | (a) | `VidImgDivideNCELearnableTempLoss` |
| `vs_vc` | NCE(V,S) + NCE(V,C) | (b) | `NCELearnableTempLoss_vs_vc` |
| `vs_vc_fc` | NCE(V,S) + NCE(V,C) + NCE(F,C) | (c) | `NCELearnableTempLoss_vs_vc_fc` |
| `vsc_fc` | X(V,S,C) + NCE(F,C) | (d), the released models | `NCELearnableTempLoss_vsc_fc` |
| `vsc` | X(V,S,C), each video with two positives | - | `NCELearnableTempLoss_vsc` |
| `joint` | NCE([V;F], [S;C]), one problem of twice the batch | - | `VidImgNCELearnableTempLoss` |
"""

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from .joint import joint_loss
from .vs_fc import vs_fc_loss
from .vs_vc import vs_vc_loss
from .vs_vc_fc import vs_vc_fc_loss
from .vsc import vsc_loss
from .vsc_fc import vsc_fc_loss

OmnisourceVariant = Literal["vs_fc", "vs_vc", "vs_vc_fc", "vsc", "vsc_fc", "joint"]
OMNISOURCE_LOSSES: dict[str, Callable[..., Tensor]] = {
    "vs_fc": vs_fc_loss,
    "vs_vc": vs_vc_loss,
    "vs_vc_fc": vs_vc_fc_loss,
    "vsc": vsc_loss,
    "vsc_fc": vsc_fc_loss,
    "joint": joint_loss,
}


def omnisource_loss(
    video: Tensor,
    subtitle: Tensor,
    frame: Tensor | None,
    caption: Tensor,
    logit_scale: Tensor | float,
    variant: OmnisourceVariant = "vsc_fc",
) -> Tensor:
    """
    One of the pre-training objectives of CLIP-ViP by its name; each stands in a file of that name.

    Args:
        video, subtitle, frame, caption (`Tensor` `[batch, dim]`): L2-normalised, row i of all four from one clip.
            `vs_vc` and `vsc` leave `frame` unused.
        logit_scale (`Tensor` or `float`): log of the factor on the cosine.
        variant (`str`, defaults to `"vsc_fc"`): that of the released models; see the table above.

    Returns:
        `Tensor` without dimensions.

    Raises:
        ValueError: unknown variant, or shapes that differ.
    """
    if variant not in OMNISOURCE_LOSSES:
        raise ValueError(f"variant is {variant!r}; expected one of {', '.join(OMNISOURCE_LOSSES)}.")
    if variant in ("vs_vc", "vsc"):
        return OMNISOURCE_LOSSES[variant](video, subtitle, caption, logit_scale)
    return OMNISOURCE_LOSSES[variant](video, subtitle, frame, caption, logit_scale)


__all__ = [
    "OMNISOURCE_LOSSES",
    "OmnisourceVariant",
    "joint_loss",
    "omnisource_loss",
    "vs_fc_loss",
    "vs_vc_fc_loss",
    "vs_vc_loss",
    "vsc_fc_loss",
    "vsc_loss",
]
