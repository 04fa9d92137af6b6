"""Fusions that pool each subtitle to one vector first (hero §2.6). Shapes as in `modeling_hero`."""

import torch
from torch import nn

from .configuration_hero import HeroConfig
from .modeling_hero_encoders import HeroFrameEmbeddings, HeroProjection, HeroSubtitleEmbeddings


def of_frames(subtitles: torch.Tensor, frame_subtitles: torch.Tensor) -> torch.Tensor:
    """What belongs to the subtitle of each frame, 0 without one: [V, C, S, D] and [V, L] -> [V, C, L, D]."""
    shown = frame_subtitles[:, None, :, None].expand(-1, subtitles.shape[1], -1, subtitles.shape[-1])
    return subtitles.gather(2, shown.clamp(min=0)).masked_fill(shown < 0, 0)


class HeroFeatureFusion(nn.Module):
    """Fusion by sum or concatenation: the vector of a subtitle joins each of its frames."""

    def __init__(self, config: HeroConfig):
        super().__init__()
        size, dropout = config.hidden_size, config.cross_modal_config.hidden_dropout_prob
        self.frame_transform = HeroProjection(config.video_feature_size, size, dropout)
        self.subtitle_transform = HeroProjection(size, size, dropout)
        is_sum = config.fusion == "sum"
        self.joint_transform = None if is_sum else HeroProjection(2 * size, size, dropout)

    def forward(self, features: torch.Tensor, subtitles: torch.Tensor, frame_subtitles: torch.Tensor) -> torch.Tensor:
        """Features [V, L, F], vectors of subtitles [V, C, S, D] and the subtitle of each frame -> [V, C, L, D]."""
        shown = self.subtitle_transform(of_frames(subtitles, frame_subtitles))
        frames = self.frame_transform(features)[:, None].expand_as(shown)
        if self.joint_transform is None:
            return frames + shown
        return self.joint_transform(torch.cat([frames, shown], dim=-1))


class HeroSequenceFusion(nn.Module):
    """Fusion by sequence: the vectors of the subtitles stand behind the frames."""

    def __init__(self, config: HeroConfig):
        super().__init__()
        cross_modal = config.cross_modal_config
        self.frame_embeddings = HeroFrameEmbeddings(cross_modal, config.video_feature_size, config.max_frames)
        self.subtitle_embeddings = HeroSubtitleEmbeddings(cross_modal)

    def forward(self, features: torch.Tensor, subtitles: torch.Tensor) -> torch.Tensor:
        """Features [V, L, F] and vectors of subtitles [V, C, S, D] -> [V, C, L + S, D]."""
        kind = self.subtitle_embeddings.type_embedding(features.device)
        frames = self.frame_embeddings(features, torch.arange(features.shape[1], device=features.device), kind)
        subtitles = self.subtitle_embeddings(subtitles)
        return torch.cat([frames[:, None].expand(-1, subtitles.shape[1], -1, -1), subtitles], dim=2)
