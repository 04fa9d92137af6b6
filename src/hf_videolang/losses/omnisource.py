"""Omnisource cross-modal learning: videos, frames, subtitles and captions in one objective (CLIP-ViP, §3 of the paper)."""

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from .contrastive import contrastive_loss, matching_cross_entropy, scaled_similarities

OmnisourceVariant = Literal["vs_fc", "vs_vc", "vs_vc_fc", "vsc", "vsc_fc", "joint"]


def omnisource_loss(
    video: Tensor,
    subtitle: Tensor,
    frame: Tensor,
    caption: Tensor,
    logit_scale: Tensor | float,
    variant: OmnisourceVariant = "vsc_fc",
) -> Tensor:
    """
    The pre-training objectives of CLIP-ViP. V video, S subtitle, F middle frame, C caption of that frame;
    NCE is [`contrastive_loss`] (the sum of both directions, twice the paper's average), X is
    [`video_to_both_texts_loss`].

    | variant | formula | paper | original class |
    |---|---|---|---|
    | `vs_fc` | NCE(V,S) + NCE(F,C) | (a) | `VidImgDivideNCELearnableTempLoss` |
    | `vs_vc` | NCE(V,S) + NCE(V,C) | (b) | `NCELearnableTempLoss_vs_vc` |
    | `vs_vc_fc` | NCE(V,S) + NCE(V,C) + NCE(F,C) | (c) | `NCELearnableTempLoss_vs_vc_fc` |
    | `vsc` | X(V,S,C) | - | `NCELearnableTempLoss_vsc` |
    | `vsc_fc` | X(V,S,C) + NCE(F,C) | (d), the released models | `NCELearnableTempLoss_vsc_fc` |
    | `joint` | NCE([V;F], [S;C]), one problem of twice the batch | - | `VidImgNCELearnableTempLoss` |

    Args:
        video, subtitle, frame, caption (`Tensor` `[batch, dim]`): L2-normalised, row i of all four from one clip.
        logit_scale (`Tensor` or `float`): log of the factor on the cosine.
        variant (`str`, defaults to `"vsc_fc"`): see the table; those without F leave `frame` unused.

    Returns:
        `Tensor` without dimensions.

    Raises:
        ValueError: unknown variant, or shapes that differ.
    """

    def nce(first: Tensor, second: Tensor) -> Tensor:
        return contrastive_loss(first, second, logit_scale)

    match variant:
        case "vs_fc":
            return nce(video, subtitle) + nce(frame, caption)
        case "vs_vc":
            return nce(video, subtitle) + nce(video, caption)
        case "vs_vc_fc":
            return nce(video, subtitle) + nce(video, caption) + nce(frame, caption)
        case "vsc":
            return video_to_both_texts_loss(video, subtitle, caption, logit_scale)
        case "vsc_fc":
            return video_to_both_texts_loss(video, subtitle, caption, logit_scale) + nce(frame, caption)
        case "joint":
            return nce(torch.cat([video, frame]), torch.cat([subtitle, caption]))
    raise ValueError(f"variant is {variant!r}; expected one of {', '.join(get_args(OmnisourceVariant))}.")


def video_to_both_texts_loss(
    video: Tensor, subtitle: Tensor, caption: Tensor, logit_scale: Tensor | float
) -> Tensor:
    """
    X(V,S,C) of SPEC §3: each video has two positives, its subtitle and its caption.

    The text-to-video terms are plain, `CE(s S V') + CE(s C V')`. In the two video-to-text terms each positive stands
    against the 2 (batch - 1) subtitles and captions of the *other* videos; the other positive of the same video is
    left out of the denominator. The paper's factor 1/2 is absent, as in the authors' code.

    Arguments, result and errors as [`omnisource_loss`].
    """
    to_subtitle = scaled_similarities(video, subtitle, logit_scale)
    to_caption = scaled_similarities(video, caption, logit_scale)
    same_video = torch.eye(len(video), dtype=torch.bool, device=video.device)
    match = torch.arange(len(video), device=video.device)

    def one_positive(positive: Tensor, other: Tensor) -> Tensor:
        return cross_entropy(torch.cat([positive, other.masked_fill(same_video, -torch.inf)], dim=1), match)

    return (
        matching_cross_entropy(scaled_similarities(subtitle, video, logit_scale))
        + matching_cross_entropy(scaled_similarities(caption, video, logit_scale))
        + one_positive(to_subtitle, to_caption)
        + one_positive(to_caption, to_subtitle)
    )
