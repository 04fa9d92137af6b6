"""
SlowFast (arXiv 1812.03982): the slow pathway sees few frames with many channels, the fast one many frames with few.

Letters for shapes: B batch, F frames of a clip, A alpha, C channels, D width of the pooled features.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.modeling_outputs import ImageClassifierOutput
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from hf_videolang.models.shared.pushed_card import PushedCardMixin
from hf_videolang.models.shared.strict_loading import StrictLoadingMixin

from .configuration_slowfast import SlowFastConfig


@dataclass
class SlowFastModelOutput(ModelOutput):
    """
    Output of [`SlowFastModel`].

    Args:
        pooler_output (`torch.Tensor` [B, D]): means of both pathways over time and space, slow then fast. 2048 and
            256 numbers in SlowFast-R50.
        slow_hidden_state (`torch.Tensor` [B, C, F/A, height, width]): what the last stage of the slow pathway gives.
        fast_hidden_state (`torch.Tensor` [B, C, F, height, width]): that of the fast pathway.
    """

    pooler_output: torch.Tensor | None = None
    slow_hidden_state: torch.Tensor | None = None
    fast_hidden_state: torch.Tensor | None = None


class SlowFastStem(nn.Module):
    """Convolution, batch norm and ReLU, then max pooling over space."""

    def __init__(self, channels: int, frames: int):
        super().__init__()
        padding = (frames // 2, 3, 3)
        self.conv = nn.Conv3d(3, channels, (frames, 7, 7), stride=(1, 2, 2), padding=padding, bias=False)
        self.norm = nn.BatchNorm3d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool3d(F.relu(self.norm(self.conv(x))), (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))


class SlowFastBottleneck(nn.Module):
    """Three convolutions beside a shortcut. The first one of a stage has a convolution in its shortcut."""

    def __init__(self, inner: int, outer: int, frames: int, stride: int, is_first: bool):
        super().__init__()
        width, steps = outer // 4, (1, stride, stride)
        self.conv_a = nn.Conv3d(inner, width, (frames, 1, 1), padding=(frames // 2, 0, 0), bias=False)
        self.norm_a = nn.BatchNorm3d(width)
        self.conv_b = nn.Conv3d(width, width, (1, 3, 3), stride=steps, padding=(0, 1, 1), bias=False)
        self.norm_b = nn.BatchNorm3d(width)
        self.conv_c = nn.Conv3d(width, outer, 1, bias=False)
        self.norm_c = nn.BatchNorm3d(outer)
        self.is_first = is_first
        if is_first:
            self.shortcut_conv = nn.Conv3d(inner, outer, 1, stride=steps, bias=False)
            self.shortcut_norm = nn.BatchNorm3d(outer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = self.shortcut_norm(self.shortcut_conv(x)) if self.is_first else x
        x = F.relu(self.norm_a(self.conv_a(x)))
        x = F.relu(self.norm_b(self.conv_b(x)))
        return F.relu(shortcut + self.norm_c(self.conv_c(x)))


class SlowFastFusion(nn.Module):
    """The fast pathway at the slow one's rate, joined behind the slow channels."""

    def __init__(self, channels: int, alpha: int):
        super().__init__()
        self.conv = nn.Conv3d(channels, 2 * channels, (7, 1, 1), stride=(alpha, 1, 1), padding=(3, 0, 0), bias=False)
        self.norm = nn.BatchNorm3d(2 * channels)

    def forward(self, slow: torch.Tensor, fast: torch.Tensor) -> torch.Tensor:
        return torch.cat([slow, F.relu(self.norm(self.conv(fast)))], dim=1)


class SlowFastPreTrainedModel(PushedCardMixin, StrictLoadingMixin, PreTrainedModel):
    """Initialisation, loading and saving of every SlowFast class. A checkpoint that lacks a weight raises."""

    config: SlowFastConfig
    base_model_prefix = "slowfast"
    main_input_name = "pixel_values_videos"
    model_tags = ["hf_videolang", "slowfast", "video-classification"]
    input_modalities = ("video",)
    accepts_loss_kwargs = False
    _no_split_modules = ["SlowFastBottleneck"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if isinstance(module, nn.Conv3d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class SlowFastModel(SlowFastPreTrainedModel):
    """
    Both pathways without the classifier: one vector a clip. Also loads from a folder with the classifier.

    ```python
    model = SlowFastModel.from_pretrained("org/slowfast-r50-8x8")
    features = model(**processor("kitchen.mp4", return_tensors="pt")).pooler_output  # [1, 2304]
    ```
    """

    _keys_to_ignore_on_load_unexpected = [r"^classifier\."]

    def __init__(self, config: SlowFastConfig):
        super().__init__(config)
        slow, fast = config.stem_channels
        self.slow_stem, self.fast_stem = SlowFastStem(slow, frames=1), SlowFastStem(fast, frames=5)
        self.fusions, self.slow_stages, self.fast_stages = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for number, depth in enumerate(config.depths):
            slow_out, fast_out = (channels * 4 * 2**number for channels in config.stem_channels)
            frames, stride = 1 if number < 2 else 3, 1 if number == 0 else 2
            self.fusions.append(SlowFastFusion(fast, config.alpha))
            self.slow_stages.append(_stage(slow + 2 * fast, slow_out, depth, frames, stride))
            self.fast_stages.append(_stage(fast, fast_out, depth, 3, stride))
            slow, fast = slow_out, fast_out
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.fast_stem.conv

    @can_return_tuple
    def forward(self, pixel_values_videos: torch.Tensor | None = None, **kwargs) -> SlowFastModelOutput:
        """
        Args:
            pixel_values_videos: [B, F, 3, H, W], as the processor makes them: minus 0.45, over 0.225. F is usually
                `num_frames`, and a multiple of `alpha`.

        Returns:
            [`SlowFastModelOutput`].

        Raises:
            ValueError: the input has another shape than the model expects.
        """
        slow, fast = self._pathways(pixel_values_videos)
        slow, fast = self.slow_stem(slow), self.fast_stem(fast)
        for fusion, slow_stage, fast_stage in zip(self.fusions, self.slow_stages, self.fast_stages):
            slow, fast = slow_stage(fusion(slow, fast)), fast_stage(fast)
        pooled = torch.cat([slow.mean(dim=(2, 3, 4)), fast.mean(dim=(2, 3, 4))], dim=1)
        return SlowFastModelOutput(pooler_output=pooled, slow_hidden_state=slow, fast_hidden_state=fast)

    def _pathways(self, pixels: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """The frames of both pathways, channels first. The slow ones are spread evenly, rounded down."""
        alpha = self.config.alpha
        if pixels is None or pixels.ndim != 5 or pixels.shape[2] != 3 or pixels.shape[1] % alpha:
            given = None if pixels is None else tuple(pixels.shape)
            raise ValueError(
                f"pixel_values_videos is {given}; expected [batch, frames, 3, height, width] with "
                f"{self.config.num_frames} frames, or another multiple of {alpha}. Use the processor saved with the "
                "model."
            )
        frames = pixels.shape[1]
        chosen = torch.linspace(0, frames - 1, frames // alpha, device=pixels.device).long()
        fast = pixels.transpose(1, 2).to(self.fast_stem.conv.weight.dtype)
        return fast.index_select(2, chosen), fast


class SlowFastForVideoClassification(SlowFastPreTrainedModel):
    """
    SlowFast with a linear classifier over dropped-out pooled features, such as that of Kinetics-400.

    ```python
    model = SlowFastForVideoClassification.from_pretrained("org/slowfast-r50-8x8").eval()
    logits = model(**processor("archery.mp4", return_tensors="pt")).logits
    print(model.config.id2label[logits.argmax(-1).item()])
    ```
    """

    _keys_that_may_be_new = [r"^classifier\."]

    def __init__(self, config: SlowFastConfig):
        super().__init__(config)
        self.slowfast = SlowFastModel._from_config(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self, pixel_values_videos: torch.Tensor | None = None, labels: torch.Tensor | None = None, **kwargs
    ) -> ImageClassifierOutput:
        """
        Args:
            pixel_values_videos: as of [`SlowFastModel`], with its errors.
            labels: [B], the class of each clip.

        Returns:
            `logits` [B, num_labels] and, with `labels`, their cross entropy as `loss`.
        """
        pooled = self.slowfast(pixel_values_videos).pooler_output
        logits = self.classifier(F.dropout(pooled, self.config.dropout, self.training))
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return ImageClassifierOutput(loss=loss, logits=logits)


def _stage(inner: int, outer: int, depth: int, frames: int, stride: int) -> nn.Sequential:
    """Bottlenecks of one width. The first halves the picture, if `stride` is 2."""
    first = SlowFastBottleneck(inner, outer, frames, stride, is_first=True)
    return nn.Sequential(first, *(SlowFastBottleneck(outer, outer, frames, 1, False) for _ in range(depth - 1)))


__all__ = ["SlowFastForVideoClassification", "SlowFastModel", "SlowFastModelOutput"]
