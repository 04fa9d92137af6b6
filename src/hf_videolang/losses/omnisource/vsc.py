"""Video with subtitle and caption in one problem: each video has two positives."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..contrastive import matching_cross_entropy, scaled_similarities


def vsc_loss(video: Tensor, subtitle: Tensor, caption: Tensor, logit_scale: Tensor | float) -> Tensor:
    """
    X(V,S,C) of clip_vip §3: `CE(s S V') + CE(s C V') + v2s + v2c`.

    The text-to-video terms are plain. In the two video-to-text terms each positive stands against the
    2 (batch - 1) subtitles and captions of the *other* videos; the other positive of the same video is left out of
    the denominator:

    `v2s = mean_i -log(e^{s v_i s_i} / (e^{s v_i s_i} + sum_{j != i} (e^{s v_i s_j} + e^{s v_i c_j})))`, v2c alike.

    All four terms are added; the paper's factor 1/2 is absent, as in the authors' code. Alone it is no variant of the
    paper. Original: `NCELearnableTempLoss_vsc`. Arguments and errors as in [`omnisource_loss`].
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
