"""
S3D (arXiv 1712.04851) as trained by MIL-NCE on HowTo100M (arXiv 1912.06430): one vector for each short clip.

Letters for shapes: B batch, N clips of a video, F frames of a clip, C channels, D width of the last block, P
projection. Tensors are channels-last. At inference, each batch norm is folded into its convolution at the call, so
that stored parameters stay as they are, and a convolution runs in as few dimensions as its kernel has.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from hf_videolang.models.shared.pushed_card import PushedCardMixin
from hf_videolang.models.shared.strict_loading import StrictLoadingMixin

from .configuration_s3d import BLOCKS, S3DConfig


@dataclass
class S3DVideoModelOutput(ModelOutput):
    """
    Output of [`S3DVideoModel`].

    Args:
        video_features (`torch.Tensor` [B, N, P]): one row for each clip, not normalised. VideoCLIP reads these rows. A
            masked clip has a row of zeros.
        last_hidden_state (`torch.Tensor` [B, N, D]): the rows before the last linear layer.
        pooler_output (`torch.Tensor` [B, D]): mean of `last_hidden_state` over the real clips.
        video_embeds (`torch.Tensor` [B, P]): mean of `video_features` over the real clips.
    """

    video_features: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None
    video_embeds: torch.Tensor | None = None


@dataclass
class S3DOutput(ModelOutput):
    """
    Output of [`S3DModel`].

    Args:
        logits_per_video (`torch.Tensor` [videos, texts]): dot products, neither normalised nor scaled.
        logits_per_text (`torch.Tensor` [texts, videos]): its transpose.
        text_embeds (`torch.Tensor` [texts, P]), video_embeds (`torch.Tensor` [videos, P]): not normalised.
        video_model_output (`S3DVideoModelOutput`): with the rows of the single clips.
    """

    logits_per_video: torch.Tensor | None = None
    logits_per_text: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None
    video_embeds: torch.Tensor | None = None
    video_model_output: S3DVideoModelOutput | None = None

    def to_tuple(self) -> tuple[Any, ...]:
        return tuple(value.to_tuple() if isinstance(value, ModelOutput) else value for value in self.values())


def _norm_and_relu(x: torch.Tensor, conv: Any, norm: Any) -> torch.Tensor:
    """Convolution, batch norm, ReLU. With running statistics, the norm is a part of the convolution's weights."""
    if norm.training:
        return F.relu(norm(conv(x)), inplace=True)
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    weight = conv.weight * scale.view(-1, 1, 1, 1, 1)
    return _convolve(x, weight, norm.bias - norm.running_mean * scale, conv.padding).relu_()


def _convolve(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, padding: tuple[int, ...]) -> torch.Tensor:
    """
    `F.conv3d` of a channels-last input. A kernel over one instant or one place needs fewer dimensions, which is faster
    and takes less memory on a CPU: over neither it is a matrix product.
    """
    frames, height, width = weight.shape[2:]
    if frames == height == width == 1:
        return F.linear(x.movedim(1, -1), weight.flatten(1), bias).movedim(-1, 1)
    if frames == 1:  # pictures
        weight = weight[:, :, 0].contiguous(memory_format=torch.channels_last)
        pictures = F.conv2d(x.transpose(1, 2).flatten(0, 1), weight, bias, padding=padding[1:])
        return pictures.unflatten(0, (len(x), -1)).transpose(1, 2)
    if height == width == 1:  # [B, C, frames, places]
        weight = weight[..., 0].contiguous(memory_format=torch.channels_last)
        return F.conv2d(x.flatten(3), weight, bias, padding=padding[:2]).unflatten(3, x.shape[3:])
    return F.conv3d(x, weight.contiguous(memory_format=torch.channels_last_3d), bias, padding=padding)


class S3DConv(nn.Module):
    """Convolution, batch norm and ReLU; if `separable`, once over space (1x3x3) and once over time (3x1x1)."""

    def __init__(self, inner: int, outer: int, kernel_size: tuple[int, ...] = (1, 1, 1), separable: bool = False):
        super().__init__()
        self.separable = separable
        if separable:
            self.conv1 = nn.Conv3d(inner, outer, (1, 3, 3), padding=(0, 1, 1), bias=False)
            self.conv2 = nn.Conv3d(outer, outer, (3, 1, 1), padding=(1, 0, 0), bias=False)
            self.bn2 = nn.BatchNorm3d(outer)
        else:
            self.conv1 = nn.Conv3d(inner, outer, kernel_size, bias=False)
        self.bn1 = nn.BatchNorm3d(outer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = _norm_and_relu(x, self.conv1, self.bn1)
        return _norm_and_relu(x, self.conv2, self.bn2) if self.separable else x


class S3DGating(nn.Module):
    """Self gating: each channel is multiplied by a gate that depends on the means of all channels."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = torch.sigmoid(self.fc(x.mean(dim=(2, 3, 4))))[:, :, None, None, None]
        return x * gate if torch.is_grad_enabled() else x.mul_(gate)


class S3DInceptionBlock(nn.Module):
    """Four branches over the same input, each with its own gating, side by side."""

    def __init__(self, inner: int, channels: list[int] | tuple[int, ...]):
        super().__init__()
        b0, b1a, b1b, b2a, b2b, b3 = channels
        self.conv_b0 = S3DConv(inner, b0)
        self.conv_b1_a = S3DConv(inner, b1a)
        self.conv_b1_b = S3DConv(b1a, b1b, separable=True)
        self.conv_b2_a = S3DConv(inner, b2a)
        self.conv_b2_b = S3DConv(b2a, b2b, separable=True)
        self.conv_b3_b = S3DConv(inner, b3)
        self.gating_b0 = S3DGating(b0)
        self.gating_b1 = S3DGating(b1b)
        self.gating_b2 = S3DGating(b2b)
        self.gating_b3 = S3DGating(b3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branches = (
            self.gating_b0(self.conv_b0(x)),
            self.gating_b1(self.conv_b1_b(self.conv_b1_a(x))),
            self.gating_b2(self.conv_b2_b(self.conv_b2_a(x))),
            self.gating_b3(self.conv_b3_b(F.max_pool3d(x, 3, stride=1, padding=1))),
        )
        return torch.cat(branches, dim=1)


class S3DMaxPool(nn.Module):
    """
    Max pooling that halves an axis with stride 2 and rounds up.

    The original pads with zeros first. All values are at least 0, so the padding changes a result only where a window
    would lie in it: at the end of an axis of odd length with kernel 3.
    """

    def __init__(self, kernel_size: tuple[int, ...], stride: tuple[int, ...]):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        axes = zip(x.shape[2:], self.kernel_size, self.stride, strict=True)
        ends = [int(kernel > stride and size % stride) for size, kernel, stride in axes]
        if any(ends):
            x = F.pad(x, (0, ends[2], 0, ends[1], 0, ends[0]))
        return F.max_pool3d(x, self.kernel_size, self.stride, ceil_mode=True)


class S3DPreTrainedModel(PushedCardMixin, StrictLoadingMixin, PreTrainedModel):
    """Initialisation, loading and saving of every S3D class. A checkpoint that lacks a weight raises."""

    config: S3DConfig
    base_model_prefix = "s3d"
    model_tags = ["hf_videolang", "s3d", "video-text-retrieval"]
    input_modalities = ("video", "text")
    accepts_loss_kwargs = False
    _no_split_modules = ["S3DVideoModel"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if isinstance(module, nn.Conv3d):
            init.kaiming_normal_(module.weight, nonlinearity="relu")


class S3DVideoModel(S3DPreTrainedModel):
    """
    The video network: a row of features for each clip of `frames_per_clip` frames. Also loads from a folder of the
    whole model.

    ```python
    model = S3DVideoModel.from_pretrained("org/s3d-howto100m")
    rows = model(**processor(videos=["kitchen.mp4"])).video_features  # one for each second
    ```
    """

    base_model_prefix = "video_model"
    main_input_name = "pixel_values_videos"
    input_modalities = ("video",)
    _keys_to_ignore_on_load_unexpected = [r"^text_model\."]

    def __init__(self, config: S3DConfig):
        super().__init__(config)
        stem, last = config.stem_channels
        self.conv1 = S3DConv(24, stem, (2, 4, 4))
        self.maxpool_2a = S3DMaxPool((1, 3, 3), (1, 2, 2))
        self.conv_2b = S3DConv(stem, stem)
        self.conv_2c = S3DConv(stem, last, separable=True)
        self.gating = S3DGating(last)
        self.maxpool_3a = S3DMaxPool((1, 3, 3), (1, 2, 2))
        self.maxpool_4a = S3DMaxPool((3, 3, 3), (2, 2, 2))
        self.maxpool_5a = S3DMaxPool((2, 2, 2), (2, 2, 2))
        for name, channels in zip(BLOCKS, config.block_channels, strict=True):
            setattr(self, f"mixed_{name}", S3DInceptionBlock(last, channels))
            last = channels[0] + channels[2] + channels[4] + channels[5]
        self.fc = nn.Linear(last, config.projection_dim)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.conv1.conv1

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        video_attention_mask: torch.Tensor | None = None,
        **kwargs,
    ) -> S3DVideoModelOutput:
        """
        Args:
            pixel_values_videos: [B, N * frames_per_clip, 3, H, W], H and W even. Integers are in 0..255, floats in
                0..1.
            video_attention_mask: [B, N], 1 = clip, 0 = padding, which is not computed. `None`: all clips are real.

        Returns:
            [`S3DVideoModelOutput`].

        Raises:
            ValueError: the input has another shape than the model expects.
        """
        clips = self._clips(pixel_values_videos, video_attention_mask)
        batch, number = clips.shape[:2]
        mask = torch.ones(batch, number) if video_attention_mask is None else video_attention_mask
        mask = mask.to(clips.device, self.fc.weight.dtype)[:, :, None]
        clips = clips.flatten(0, 1)
        if video_attention_mask is None:
            real = torch.arange(len(clips), device=clips.device)
        else:
            real = mask.flatten().nonzero()[:, 0]
        encoded = [self.encode_clips(clips[chunk]) for chunk in real.split(self.config.clips_per_chunk)]
        hidden = mask.new_zeros(batch * number, self.fc.in_features).index_copy(0, real, torch.cat(encoded))
        hidden = hidden.unflatten(0, (batch, number))
        pooled = hidden.sum(dim=1) / mask.sum(dim=1)
        return S3DVideoModelOutput(
            video_features=self.fc(hidden) * mask,
            last_hidden_state=hidden,
            pooler_output=pooled,
            video_embeds=self.fc(pooled),
        )

    def _clips(self, pixels: torch.Tensor | None, mask: torch.Tensor | None) -> torch.Tensor:
        """[B, N * F, 3, H, W] -> [B, N, F, 3, H, W]"""
        frames = self.config.frames_per_clip
        fits = pixels is not None and pixels.ndim == 5 and pixels.shape[2] == 3
        if not fits or not pixels.shape[1] or pixels.shape[1] % frames or any(side % 2 for side in pixels.shape[3:]):
            given = None if pixels is None else tuple(pixels.shape)
            raise ValueError(
                f"pixel_values_videos is {given}; expected [batch, clips * {frames} frames, 3, height, width] with "
                "even height and width. Use the processor saved with the model; it completes the last clip with "
                f"black frames."
            )
        if mask is not None and mask.shape != (pixels.shape[0], pixels.shape[1] // frames):
            raise ValueError(
                f"video_attention_mask is {tuple(mask.shape)}; expected [batch, clips] = "
                f"{(pixels.shape[0], pixels.shape[1] // frames)}, one value for {frames} frames."
            )
        return pixels.unflatten(1, (-1, frames))

    def encode_clips(self, clips: torch.Tensor) -> torch.Tensor:
        """
        Args:
            clips: [B, F, 3, H, W], integers in 0..255 or floats in 0..1.

        Returns:
            [B, D], the mean of the last block over time and space.
        """
        x = self._stem_input(clips)
        if self.training:  # batch statistics include the slices that the original drops
            x = self.conv1(F.pad(x, (1, 0) * 3))[:, :, 1:, 1:, 1:]
        else:
            x = self.conv1(x)
        x = self.maxpool_2a(x)
        x = self.maxpool_3a(self.gating(self.conv_2c(self.conv_2b(x))))
        for name in BLOCKS:
            if name == "4b":
                x = self.maxpool_4a(x)
            if name == "5b":
                x = self.maxpool_5a(x)
            x = self.get_submodule(f"mixed_{name}")(x)
        return x.mean(dim=(2, 3, 4))

    def _stem_input(self, clips: torch.Tensor) -> torch.Tensor:
        """
        [B, F, 3, H, W] -> [B, 24, F/2 + 1, H/2 + 3, W/2 + 3]: blocks of 2x2x2 pixels become channels, colours fastest.

        The original pads by 1 frame and 2 rows and columns on each side, and drops the first slices of the result.
        This equals 0 and 1 in front.
        """
        batch, frames, _, height, width = clips.shape
        shape = (batch, frames // 2 + 1, height // 2 + 3, width // 2 + 3, 24)
        x = torch.zeros(shape, dtype=self.fc.weight.dtype, device=clips.device)
        blocks = clips.view(batch, frames // 2, 2, 3, height // 2, 2, width // 2, 2).permute(0, 1, 4, 6, 2, 5, 7, 3)
        inside = x[:, :-1, 1:-2, 1:-2].unflatten(-1, (2, 2, 2, 3))
        inside.copy_(blocks)
        if not clips.is_floating_point():
            x.div_(255)
        return x.permute(0, 4, 1, 2, 3)


class S3DTextModel(nn.Module):
    """The text module (s3d §2): maximum over the positions of a two-layer network on word vectors."""

    def __init__(self, config: S3DConfig):
        super().__init__()
        self.config = config
        self.word_embd = nn.Embedding(config.vocab_size, config.word_embed_dim)
        self.fc1 = nn.Linear(config.word_embed_dim, config.text_hidden_size)
        self.fc2 = nn.Linear(config.text_hidden_size, config.projection_dim)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """[B, words] -> [B, P]. Fewer words than `max_words` are padded, since empty positions take part."""
        missing = self.config.max_words - input_ids.shape[1]
        if missing < 0:
            raise ValueError(
                f"A text has {input_ids.shape[1]} words but the model reads {self.config.max_words}; tokenise with "
                f"truncation=True, max_length={self.config.max_words}."
            )
        input_ids = F.pad(input_ids, (0, missing), value=self.config.pad_token_id)
        return self.fc2(F.relu(self.fc1(self.word_embd(input_ids))).amax(dim=1))


class S3DModel(S3DPreTrainedModel):
    """
    The video network and the text module of MIL-NCE, for retrieval by dot product.

    ```python
    model = S3DModel.from_pretrained("org/s3d-howto100m")
    inputs = processor(videos=["kitchen.mp4"], text=["cut tomato", "open door"])
    print(model(**inputs).logits_per_video)
    ```
    """

    def __init__(self, config: S3DConfig):
        super().__init__(config)
        self.video_model = S3DVideoModel._from_config(config)
        self.text_model = S3DTextModel(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.text_model.word_embd

    def set_input_embeddings(self, value: nn.Module):
        self.text_model.word_embd = value

    @can_return_tuple
    def get_text_features(self, input_ids: torch.Tensor, **kwargs) -> BaseModelOutputWithPooling:
        """
        Args:
            input_ids: [B, words], at most `max_words`.

        Returns:
            `pooler_output` [B, P], not normalised.
        """
        return BaseModelOutputWithPooling(pooler_output=self.text_model(input_ids))

    @can_return_tuple
    def get_video_features(
        self, pixel_values_videos: torch.Tensor, video_attention_mask: torch.Tensor | None = None, **kwargs
    ) -> BaseModelOutputWithPooling:
        """
        Arguments and errors as in [`S3DVideoModel`].

        Returns:
            `pooler_output` [B, P], the mean over the clips, and `last_hidden_state` [B, N, P], the rows of the single
            clips. Neither is normalised.
        """
        output = self.video_model(pixel_values_videos, video_attention_mask)
        return BaseModelOutputWithPooling(last_hidden_state=output.video_features, pooler_output=output.video_embeds)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        video_attention_mask: torch.Tensor | None = None,
        **kwargs,
    ) -> S3DOutput:
        """
        Takes text, video or both. With one of them, the fields that need the other are `None`.

        Args:
            input_ids: [texts, words], see [`get_text_features`].
            pixel_values_videos, video_attention_mask: see [`S3DVideoModel`].
            attention_mask: unused, since empty positions take part.

        Raises:
            ValueError: neither text nor video is given.
        """
        if input_ids is None and pixel_values_videos is None:
            raise ValueError("Both input_ids and pixel_values_videos are None; pass text, video or both.")
        text_embeds = video_output = video_embeds = logits_per_video = logits_per_text = None
        if input_ids is not None:
            text_embeds = self.text_model(input_ids)
        if pixel_values_videos is not None:
            video_output = self.video_model(pixel_values_videos, video_attention_mask)
            video_embeds = video_output.video_embeds
        if text_embeds is not None and video_embeds is not None:
            logits_per_text = text_embeds @ video_embeds.t()
            logits_per_video = logits_per_text.t()
        return S3DOutput(
            logits_per_video=logits_per_video,
            logits_per_text=logits_per_text,
            text_embeds=text_embeds,
            video_embeds=video_embeds,
            video_model_output=video_output,
        )


__all__ = ["S3DModel", "S3DPreTrainedModel", "S3DVideoModel"]
