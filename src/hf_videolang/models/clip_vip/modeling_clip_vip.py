"""
CLIP-ViP (arXiv 2209.06430): CLIP over video, with proxy tokens that carry information between frames.

Letters for shapes: B batch, T frames, L patches of a frame, M proxy tokens (class token included), S tokens of a
sequence, D width, P projection. The video tower reads [class token, added proxies, patches of frame 0, of frame 1, …].
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import nn
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import can_return_tuple
from transformers.utils.output_capturing import capture_outputs

from hf_videolang.models.shared.pushed_card import PushedCardMixin
from hf_videolang.models.shared.strict_loading import StrictLoadingMixin

from .configuration_clip_vip import CLIPViPConfig, CLIPViPTextConfig, CLIPViPVisionConfig

PER_FRAME_FUSIONS = ("mean_pooling", "sequence_transformer")


@dataclass
class CLIPViPOutput(ModelOutput):
    """
    Output of [`CLIPViPModel`].

    Args:
        loss (`torch.Tensor`, scalar): with `return_loss=True`. Mean of the text-to-video and video-to-text cross
            entropies of the local batch, half of `hf_videolang.losses.contrastive_loss`, which sums the two.
        logits_per_video (`torch.Tensor` [videos, texts]): exp(logit_scale) times the cosine similarities.
        logits_per_text (`torch.Tensor` [texts, videos]): its transpose.
        text_embeds (`torch.Tensor` [texts, P]): unit vectors.
        video_embeds (`torch.Tensor` [videos, P]): unit vectors.
        text_model_output, vision_model_output (`BaseModelOutputWithPooling`): outputs of `get_text_features` and
            `get_video_features`. `vision_model_output.last_hidden_state` is `None` with `pooled_only`.
    """

    loss: torch.Tensor | None = None
    logits_per_video: torch.Tensor | None = None
    logits_per_text: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None
    video_embeds: torch.Tensor | None = None
    text_model_output: BaseModelOutputWithPooling | None = None
    vision_model_output: BaseModelOutputWithPooling | None = None


@dataclass
class CLIPViPTextModelOutput(ModelOutput):
    """
    Output of [`CLIPViPTextModelWithProjection`].

    Args:
        text_embeds (`torch.Tensor` [B, P]): projected, not normalised.
        last_hidden_state (`torch.Tensor` [B, S, D]), hidden_states, attentions: as in [`CLIPViPTextModel`].
    """

    text_embeds: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class CLIPViPVisionModelOutput(ModelOutput):
    """
    Output of [`CLIPViPVisionModelWithProjection`].

    Args:
        video_embeds (`torch.Tensor` [B, P]): projected, not normalised.
        last_hidden_state (`torch.Tensor` [B, M + T*L, D]), hidden_states, attentions: as in [`CLIPViPVisionModel`].
    """

    video_embeds: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


def unit_vectors(features: torch.Tensor) -> torch.Tensor:
    """Divide by the Euclidean norm of the last axis. As in the original, no epsilon is added."""
    return features / features.norm(dim=-1, keepdim=True)


def _with_init_std(module: nn.Module, config: CLIPViPTextConfig | CLIPViPVisionConfig, std: float):
    """
    Note the standard deviation of its initial weights on a leaf module. transformers may initialise a single missing
    weight, and then visits the leaf alone.
    """
    module.init_std = std * config.initializer_factor  # type: ignore[assignment]
    return module


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention step by step. q, k, v are [B, heads, length, d]. The mask is boolean (`True` = keep) or additive."""
    scores = torch.matmul(query, key.transpose(-1, -2)) * scaling
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    weights = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


class CLIPViPAttention(nn.Module):
    """Multi-head attention of CLIP. Every token sees every token that the mask keeps."""

    def __init__(self, config: CLIPViPTextConfig | CLIPViPVisionConfig):
        super().__init__()
        self.config = config
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = False
        width, depth = config.hidden_size, config.num_hidden_layers
        self.k_proj = _with_init_std(nn.Linear(width, width), config, (2 * depth * width) ** -0.5)
        self.v_proj = _with_init_std(nn.Linear(width, width), config, (2 * depth * width) ** -0.5)
        self.q_proj = _with_init_std(nn.Linear(width, width), config, (2 * depth * width) ** -0.5)
        self.out_proj = _with_init_std(nn.Linear(width, width), config, width**-0.5)

    def split_heads(self, x: torch.Tensor) -> torch.Tensor:
        """[B, length, D] -> [B, heads, length, d]"""
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def attend(self, query, key, value, attention_mask=None, **kwargs):
        """q, k, v [B, length, D] -> output [B, length, D] and, with eager attention, weights [B, heads, q, k]."""
        attention: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        output, weights = attention(
            self,
            *(self.split_heads(x) for x in (query, key, value)),
            attention_mask,
            scaling=self.scaling,
            dropout=self.config.attention_dropout if self.training else 0.0,
            **kwargs,
        )
        return output.flatten(2), weights

    def forward(self, hidden_states, attention_mask=None, pooled_only=False, num_frames=None, **kwargs):
        queries = hidden_states[:, :1] if pooled_only else hidden_states
        output, weights = self.attend(
            self.q_proj(queries), self.k_proj(hidden_states), self.v_proj(hidden_states), attention_mask, **kwargs
        )
        return self.out_proj(output), weights


class CLIPViPProxyAttention(CLIPViPAttention):
    """
    Proxy-guided attention (clip_vip §1.2, `forward2` of the original's CLIPAttention). A proxy sees everything, a
    patch sees the proxies and its own frame.

    This equals one masked attention over all tokens at a fraction of its cost. The proxies' keys and values are
    repeated in front of each frame, and frames become the batch. The proxies' queries read the same folded keys, so
    that backward keeps no second copy. A mask hides the repeats from them.
    """

    def forward(self, hidden_states, attention_mask=None, pooled_only=False, num_frames=None, **kwargs):
        proxies = self.config.num_proxy_tokens

        def by_frame(x):  # [B, M + T*L, D] -> [B, T, M + L, D]
            patches = x[:, proxies:].unflatten(1, (num_frames, -1))
            shared = x[:, None, :proxies].expand(-1, num_frames, -1, -1)
            return torch.cat([shared, patches], dim=2)

        all_values = self.v_proj(hidden_states)
        key, value = by_frame(self.k_proj(hidden_states)), by_frame(all_values)
        query = self.q_proj(hidden_states[:, :1] if pooled_only else hidden_states)
        # A copy of these few rows, so that backward does not keep all queries for them.
        proxy_query = query[:, :proxies].contiguous()
        output, weights = self.attend(proxy_query, key.flatten(1, 2), value.flatten(1, 2), attention_mask, **kwargs)
        if pooled_only:
            return self.out_proj(output), weights

        # No mask is needed: a patch of a real frame sees real tokens, and no other frame sees a padded one.
        query = query[:, proxies:].unflatten(1, (num_frames, -1)).flatten(0, 1)
        frame_output, frame_weights = self.attend(query, key.flatten(0, 1), value.flatten(0, 1), **kwargs)
        frame_output = frame_output.unflatten(0, (-1, num_frames)).flatten(1, 2)
        if weights is not None and kwargs.get("output_attentions", self.config.output_attentions):
            # The output is computed from the returned maps, so that it has gradients with respect to them.
            weights = self._over_all_tokens(weights, frame_weights, num_frames)
            output = torch.matmul(weights, self.split_heads(all_values)).transpose(1, 2).flatten(2)
            return self.out_proj(output), weights
        # Two projections: backward keeps the two outputs of attention and no joined copy of them.
        return torch.cat([self.out_proj(output), self.out_proj(frame_output)], dim=1), weights

    def _over_all_tokens(self, proxy_weights, frame_weights, num_frames: int) -> torch.Tensor:
        """
        [B, heads, M, T*(M + L)] and [B*T, heads, L, M + L] -> [B, heads, M + T*L, M + T*L], zero from a patch to
        another frame.
        """
        proxies = self.config.num_proxy_tokens
        proxy_weights = proxy_weights.unflatten(-1, (num_frames, -1))
        proxy_weights = torch.cat([proxy_weights[..., 0, :proxies], proxy_weights[..., proxies:].flatten(-2)], dim=-1)
        to_proxies, to_patches = (
            frame_weights.unflatten(0, (-1, num_frames))
            .transpose(1, 2)
            .split([proxies, frame_weights.shape[-2]], dim=-1)
        )
        same_frame = torch.eye(num_frames, dtype=to_patches.dtype, device=to_patches.device)
        to_patches = torch.einsum("bhtqk,tu->bhtquk", to_patches, same_frame)
        patch_weights = torch.cat([to_proxies.flatten(2, 3), to_patches.flatten(4, 5).flatten(2, 3)], dim=-1)
        return torch.cat([proxy_weights, patch_weights], dim=2)


class QuickGELUFunction(torch.autograd.Function):
    """
    x * sigmoid(1.702 x) as silu(1.702 x) / 1.702 (clip_vip §1.2).

    Forward makes one new tensor of this size, [B, S, 4D], where the formula makes three, and backward keeps x alone.
    On a CPU, fresh memory costs more time than the arithmetic. x is not changed, since a forward hook may hold it.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return QuickGELUFunction.in_place(x * 1.702)

    @staticmethod
    def in_place(scaled):
        """Write the activation over 1.702 x."""
        return nn.functional.silu(scaled, inplace=True).mul_(1 / 1.702)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True, and silu_backward has no derivative
            gate = torch.sigmoid(1.702 * x)
            return gradient * gate * (1 + 1.702 * x * (1 - gate))
        return torch.ops.aten.silu_backward(gradient, x * 1.702)  # the factors 1.702 and 1 / 1.702 cancel


class QuickGELU(nn.Module):
    """CLIP's activation, see [`QuickGELUFunction`]."""

    def forward(self, hidden_states):
        if torch.compiler.is_compiling():
            # The compiler fuses the formula itself, and the one of torch 2.11 takes in-place work for a constant.
            return hidden_states * torch.sigmoid(1.702 * hidden_states)
        return QuickGELUFunction.apply(hidden_states)


class CLIPViPMLP(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, config: CLIPViPTextConfig | CLIPViPVisionConfig):
        super().__init__()
        self.activation_fn = QuickGELU() if config.hidden_act == "quick_gelu" else ACT2FN[config.hidden_act]
        width, inner, depth = config.hidden_size, config.intermediate_size, config.num_hidden_layers
        self.fc1 = _with_init_std(nn.Linear(width, inner), config, (2 * width) ** -0.5)
        self.fc2 = _with_init_std(nn.Linear(inner, width), config, (2 * depth * width) ** -0.5)

    def forward(self, hidden_states):
        inner = self.fc1(hidden_states)
        if self._may_write_over(inner):
            return self.fc2(QuickGELUFunction.in_place(inner.mul_(1.702)))
        return self.fc2(self.activation_fn(inner))

    def _may_write_over(self, inner: torch.Tensor) -> bool:
        """In inference, if no hook holds the tensor: the same bits without a second tensor of its size."""
        hooks = [(layer._forward_hooks, layer._forward_pre_hooks) for layer in (self.fc1, self.activation_fn)]
        is_inference = not (inner.requires_grad or torch.compiler.is_compiling())
        return is_inference and isinstance(self.activation_fn, QuickGELU) and not any(map(any, hooks))


class CLIPViPEncoderLayer(GradientCheckpointingLayer):
    """Pre-norm transformer block of both towers."""

    def __init__(self, config: CLIPViPTextConfig | CLIPViPVisionConfig, attention_class=CLIPViPAttention):
        super().__init__()
        self.self_attn = attention_class(config)
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = CLIPViPMLP(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden_states, attention_mask=None, pooled_only=False, num_frames=None, **kwargs):
        """[B, S, D] -> [B, S, D], or [B, 1, D] for the first token alone if `pooled_only`."""
        attended, _ = self.self_attn(
            self.layer_norm1(hidden_states), attention_mask, pooled_only, num_frames, **kwargs
        )
        hidden_states = (hidden_states[:, :1] if pooled_only else hidden_states) + attended
        return hidden_states + self.mlp(self.layer_norm2(hidden_states))


class CLIPViPEncoder(nn.Module):
    """The blocks of one tower. With `pooled_only`, the last block computes the first token alone."""

    def __init__(self, config: CLIPViPTextConfig | CLIPViPVisionConfig, attention_class=CLIPViPAttention):
        super().__init__()
        self.layers = nn.ModuleList(
            [CLIPViPEncoderLayer(config, attention_class) for _ in range(config.num_hidden_layers)]
        )
        self.gradient_checkpointing = False

    def forward(self, hidden_states, attention_mask=None, pooled_only=False, num_frames=None, **kwargs):
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            hidden_states = layer(hidden_states, attention_mask, pooled_only and index == last, num_frames, **kwargs)
        return hidden_states


class CLIPViPTextEmbeddings(nn.Module):
    """Token plus position embedding."""

    def __init__(self, config: CLIPViPTextConfig):
        super().__init__()
        tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_embedding = _with_init_std(tokens, config, 0.02)
        self.position_embedding = _with_init_std(positions, config, 0.02)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        length, longest = input_ids.shape[-1], self.position_embedding.num_embeddings
        if length > longest:
            raise ValueError(
                f"The text has {length} tokens but the model has positions for {longest}; "
                f"tokenise with truncation=True, max_length={longest}."
            )
        positions = torch.arange(length, device=input_ids.device)
        return self.token_embedding(input_ids) + self.position_embedding(positions)


class CLIPViPPatchEmbedding(nn.Conv2d):
    """A convolution whose stride is its kernel, so that every pixel is read once: one matrix product."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """[B, channels, H, W] -> [B, D, H / patch size, W / patch size]"""
        patches = pixels.unflatten(-1, (-1, self.stride[1])).unflatten(-3, (-1, self.stride[0]))
        patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3)  # [B, rows, columns, channels * patch size ** 2]
        return nn.functional.linear(patches, self.weight.flatten(1)).permute(0, 3, 1, 2)


class CLIPViPVisionEmbeddings(nn.Module):
    """
    Video -> tokens (clip_vip §1.1, CLIPVisionViPEmbeddings of the original). A patch gets its spatial position and
    the temporal embedding of its frame. Every proxy gets position row 0 and no time.
    """

    def __init__(self, config: CLIPViPVisionConfig):
        super().__init__()
        self.config = config
        self.class_embedding = nn.Parameter(torch.empty(config.hidden_size))
        patches = CLIPViPPatchEmbedding(
            config.num_channels, config.hidden_size, config.patch_size, config.patch_size, bias=False
        )
        positions = nn.Embedding((config.image_size // config.patch_size) ** 2 + 1, config.hidden_size)
        self.patch_embedding = _with_init_std(patches, config, config.initializer_range)
        self.position_embedding = _with_init_std(positions, config, config.initializer_range)
        added_proxies = config.num_proxy_tokens - 1
        self.added_cls = nn.Parameter(torch.empty(added_proxies, config.hidden_size)) if added_proxies else None
        self.temporal_embedding = (
            nn.Parameter(torch.empty(1, config.num_frames, config.hidden_size))
            if config.use_temporal_embedding
            else None
        )

    def frame_embedding(self, num_frames: int, video_attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """
        Temporal embedding of each frame, [1, T, D], or [B, T, D] with a mask [B, T].

        A clip of another length than the table interpolates it as the original does:
        `interpolate(..., mode="linear", align_corners=False)`. The length of a clip is its number of real frames. The
        weight of a table row is a triangle around the frame's position in the table.
        """
        table = self.temporal_embedding[0]
        rows = torch.arange(table.shape[0], device=table.device, dtype=torch.float32)
        if video_attention_mask is None:
            frame = torch.arange(num_frames, device=table.device, dtype=torch.float32)[None]
            length: torch.Tensor | int = num_frames
        else:
            frame = video_attention_mask.cumsum(dim=1).float() - 1
            length = video_attention_mask.sum(dim=1, keepdim=True).clamp(min=1)
        position = ((frame + 0.5) * (table.shape[0] / length) - 0.5).clamp(0, table.shape[0] - 1)
        weights = (1 - (position[..., None] - rows).abs()).clamp(min=0)
        return weights.to(table.dtype) @ table

    def forward(self, pixel_values_videos, video_attention_mask=None) -> torch.Tensor:
        """[B, T, channels, H, W], mask [B, T] or `None` -> [B, M + T*L, D]."""
        batch, frames = pixel_values_videos.shape[:2]
        pixels = pixel_values_videos.flatten(0, 1).to(self.patch_embedding.weight.dtype)
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2).unflatten(0, (batch, frames))
        positions = torch.arange(self.position_embedding.num_embeddings, device=patches.device)
        position_embeds = self.position_embedding(positions)

        patches = patches + position_embeds[1:]
        if self.temporal_embedding is not None:
            patches = patches + self.frame_embedding(frames, video_attention_mask)[:, :, None]
        proxies = self.class_embedding[None]
        if self.added_cls is not None:
            proxies = torch.cat([proxies, self.added_cls])
        proxies = (proxies + position_embeds[0]).expand(batch, -1, -1)
        return torch.cat([proxies, patches.flatten(1, 2)], dim=1)


class CLIPViPSequenceTransformer(nn.Module):
    """
    Transformer over frame features, CLIP4Clip's "seqTransf" (clip_vip §7), with a residual around all of it. Its
    LayerNorms use eps 1e-12.
    """

    def __init__(self, config: CLIPViPVisionConfig):
        super().__init__()
        block_config = CLIPViPTextConfig(
            hidden_size=config.projection_dim,
            intermediate_size=4 * config.projection_dim,
            num_hidden_layers=config.num_sequence_layers,
            num_attention_heads=config.num_sequence_heads,
            hidden_act=config.hidden_act,
            layer_norm_eps=1e-12,
            initializer_factor=config.initializer_factor,
        )
        positions = nn.Embedding(config.max_sequence_frames, config.projection_dim)
        self.frame_position_embedding = _with_init_std(positions, config, 0.02)
        self.layers = nn.ModuleList([CLIPViPEncoderLayer(block_config) for _ in range(config.num_sequence_layers)])
        for layer in self.layers:
            layer.self_attn.config = config  # attention implementation and dropout are the video tower's

    def forward(self, frame_features: torch.Tensor, video_attention_mask: torch.Tensor | None = None):
        """[B, T, P], mask [B, T] or `None` -> [B, T, P]."""
        frames, longest = frame_features.shape[1], self.frame_position_embedding.num_embeddings
        if frames > longest:
            raise ValueError(
                f"The clip has {frames} frames but the sequence transformer has positions for {longest}; "
                f"sample at most {longest} frames."
            )
        positions, mask = torch.arange(frames, device=frame_features.device), None
        if video_attention_mask is not None:
            mask = video_attention_mask.bool()  # padding may stand anywhere; positions count real frames only
            positions = torch.where(mask, mask.cumsum(dim=1) - 1, positions)
            mask = mask[:, None, None]
        hidden_states = frame_features + self.frame_position_embedding(positions)
        for layer in self.layers:
            hidden_states = layer(hidden_states, mask)
        return frame_features + hidden_states


class CLIPViPPreTrainedModel(PushedCardMixin, StrictLoadingMixin, PreTrainedModel):
    """Initialisation, loading and saving of every CLIP-ViP class. A checkpoint that lacks a weight raises."""

    config: CLIPViPConfig
    base_model_prefix = "clip_vip"
    model_tags = ["hf_videolang", "clip-vip", "video-text-retrieval"]
    input_modalities = ("video", "text")
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False
    _no_split_modules = [
        "CLIPViPTextEmbeddings",
        "CLIPViPVisionEmbeddings",
        "CLIPViPEncoderLayer",
        "CLIPViPSequenceTransformer",
    ]
    _supports_sdpa = True
    _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": CLIPViPEncoderLayer, "attentions": CLIPViPAttention}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """CLIP's scheme (clip_vip §2). The added proxies start at N(0, 1), the temporal embedding at 0."""
        super()._init_weights(module)
        if hasattr(module, "init_std") and module.weight is not None:
            init.normal_(module.weight, std=module.init_std)
        elif isinstance(module, CLIPViPVisionEmbeddings):
            config = module.config
            init.normal_(module.class_embedding, std=config.hidden_size**-0.5 * config.initializer_factor)
            if module.added_cls is not None:
                init.normal_(module.added_cls)
            if module.temporal_embedding is not None:
                init.zeros_(module.temporal_embedding)
        elif isinstance(module, CLIPViPModel):
            init.constant_(module.logit_scale, module.config.logit_scale_init_value)


class CLIPViPTextModel(CLIPViPPreTrainedModel):
    """
    CLIP's text transformer without projection (clip_vip §1.3). Also loads from a folder of the whole model.

    ```python
    model = CLIPViPTextModel.from_pretrained("org/clip-vip-b16")
    pooled = model(**processor(text=["a chef slices onions"])).pooler_output
    ```
    """

    config: CLIPViPTextConfig
    base_model_prefix = "text_model"
    input_modalities = ("text",)
    _input_embed_layer = "token_embedding"
    _keys_to_ignore_on_load_unexpected = [
        r"^(vision_model|visual_projection|sequence_transformer|text_projection|logit_scale)"
    ]

    def __init__(self, config: CLIPViPTextConfig):
        super().__init__(config)
        self.embeddings = CLIPViPTextEmbeddings(config)
        self.encoder = CLIPViPEncoder(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Unpack[TransformersKwargs]
    ) -> BaseModelOutputWithPooling:
        """
        Args:
            input_ids: [B, S], S at most `max_position_embeddings`. Each row must hold `eos_token_id`.
            attention_mask: [B, S], 1 = token. Attention is causal, so it only changes hidden states of padding.

        Returns:
            `last_hidden_state` [B, S, D] after the final LayerNorm. `pooler_output` [B, D] is its row at the *first*
            `eos_token_id`. `hidden_states` on request: the embeddings, then each block's output.

        Raises:
            ValueError: more tokens than positions.
        """
        hidden_states = self.embeddings(input_ids)
        # By position, because transformers 5.24 renames the last argument, the cache of keys and values.
        mask = create_causal_mask(self.config, hidden_states, attention_mask, None)
        hidden_states = self.encoder(hidden_states, mask, is_causal=True, **kwargs)
        hidden_states = self.final_layer_norm(hidden_states)
        rows = torch.arange(hidden_states.shape[0], device=hidden_states.device)
        ends = (input_ids.to(hidden_states.device) == self.config.eos_token_id).int().argmax(dim=-1)
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=hidden_states[rows, ends])


class CLIPViPVisionModel(CLIPViPPreTrainedModel):
    """
    The video tower without projection (clip_vip §1.1). Also loads from a folder of the whole model.

    ```python
    model = CLIPViPVisionModel.from_pretrained("org/clip-vip-b16")
    tokens = model(**processor(videos=["kitchen.mp4"])).last_hidden_state
    ```
    """

    config: CLIPViPVisionConfig
    base_model_prefix = "vision_model"
    main_input_name = "pixel_values_videos"
    input_modalities = ("video",)
    _input_embed_layer = "patch_embedding"
    _keys_to_ignore_on_load_unexpected = [
        r"^(text_model|text_projection|sequence_transformer|visual_projection|logit_scale)"
    ]

    def __init__(self, config: CLIPViPVisionConfig):
        super().__init__(config)
        self.embeddings = CLIPViPVisionEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        attention_class = CLIPViPProxyAttention if config.frame_fusion == "proxy" else CLIPViPAttention
        self.encoder = CLIPViPEncoder(config, attention_class)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    def _check_input(self, pixels: torch.Tensor, mask: torch.Tensor | None):
        frame = (self.config.num_channels, self.config.image_size, self.config.image_size)
        if pixels.ndim != 5 or tuple(pixels.shape[2:]) != frame or not pixels.is_floating_point():
            raise ValueError(
                f"pixel_values_videos is {pixels.dtype} of shape {tuple(pixels.shape)}; expected normalised floats of "
                f"shape [batch, frames, {', '.join(map(str, frame))}]. Use the processor saved with the model. An "
                "image is a video of one frame: image[:, None]."
            )
        if mask is not None and mask.shape != pixels.shape[:2]:
            raise ValueError(
                f"video_attention_mask is {tuple(mask.shape)}; expected [batch, frames] = {tuple(pixels.shape[:2])}."
            )

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        video_attention_mask: torch.Tensor | None = None,
        pooled_only: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """
        Args:
            pixel_values_videos: [B, T, channels, H, W], normalised. T is free; an image has T = 1.
            video_attention_mask: [B, T], 1 = frame, 0 = padding. A padded clip gives the same output as alone. Each
                clip needs a frame. `None` (all frames are real) is faster.
            pooled_only: compute only the class token in the last block. `pooler_output` is the same, and
                `last_hidden_state` is `None`. Ignored when hidden states or attentions are requested.

        Returns:
            `last_hidden_state` [B, M + T*L, D], not normalised. `pooler_output` [B, D] is its token 0 after
            `post_layernorm`. `hidden_states` on request: the output of `pre_layrnorm`, then each block's output.
            `attentions` on request and with eager attention: [B, heads, M + T*L, M + T*L] a block.
            If frames pass the tower one by one (`frame_fusion` is "mean_pooling" or "sequence_transformer"), the
            shapes are [B*T, 1 + L, D] and, for `pooler_output`, [B, T, D].

        Raises:
            ValueError: the input has another shape than the model expects.
        """
        self._check_input(pixel_values_videos, video_attention_mask)
        clip_shape = pixel_values_videos.shape[:2]
        if self.config.frame_fusion in PER_FRAME_FUSIONS:
            pixel_values_videos, video_attention_mask = pixel_values_videos.flatten(0, 1)[:, None], None
        pooled_only = pooled_only and not any(
            kwargs.get(name, getattr(self.config, name)) for name in ("output_hidden_states", "output_attentions")
        )
        hidden_states = self.pre_layrnorm(self.embeddings(pixel_values_videos, video_attention_mask))
        hidden_states = self.encoder(
            hidden_states,
            self._key_mask(video_attention_mask, pixel_values_videos),
            pooled_only,
            pixel_values_videos.shape[1],
            **kwargs,
        )
        pooled = self.post_layernorm(hidden_states[:, 0])
        if self.config.frame_fusion in PER_FRAME_FUSIONS:
            pooled = pooled.unflatten(0, clip_shape)
        return BaseModelOutputWithPooling(
            last_hidden_state=None if pooled_only else hidden_states, pooler_output=pooled
        )

    def _key_mask(self, video_attention_mask: torch.Tensor | None, pixels: torch.Tensor) -> torch.Tensor | None:
        """
        [B, T] -> [B or 1, 1, 1, keys], `True` = attend to this key. Keys are all tokens, [M + T*L]. In proxy attention
        they are [T, M + L] flattened, and the proxies' repeats in later frames are hidden.
        """
        proxies, frames = self.config.num_proxy_tokens, pixels.shape[1]
        patches = (self.config.image_size // self.config.patch_size) ** 2
        if self.config.frame_fusion == "proxy":
            if video_attention_mask is None:
                video_attention_mask = torch.ones(1, frames, device=pixels.device)
            patch_mask = video_attention_mask.bool()[:, :, None].expand(-1, -1, patches)
            first_frame = (torch.arange(frames, device=pixels.device) == 0)[None, :, None]
            proxy_mask = first_frame.expand(patch_mask.shape[0], -1, proxies)
            return torch.cat([proxy_mask, patch_mask], dim=2).flatten(1)[:, None, None]
        if video_attention_mask is None:
            return None
        mask = video_attention_mask.bool().repeat_interleave(patches, dim=1)
        return nn.functional.pad(mask, (proxies, 0), value=True)[:, None, None]


def _projection(config: CLIPViPTextConfig | CLIPViPVisionConfig) -> nn.Linear:
    width = config.hidden_size
    return _with_init_std(nn.Linear(width, config.projection_dim, bias=False), config, width**-0.5)


class CLIPViPTextModelWithProjection(CLIPViPPreTrainedModel):
    """
    The text tower with its projection.

    ```python
    model = CLIPViPTextModelWithProjection.from_pretrained("org/clip-vip-b16")
    text_embeds = model(**processor(text=["a chef slices onions"])).text_embeds
    ```
    """

    config: CLIPViPTextConfig
    base_model_prefix = "text_model"
    input_modalities = ("text",)
    _keys_to_ignore_on_load_unexpected = [r"^(vision_model|visual_projection|sequence_transformer|logit_scale)"]

    def __init__(self, config: CLIPViPTextConfig):
        super().__init__(config)
        self.text_model = CLIPViPTextModel._from_config(config)
        self.text_projection = _projection(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Unpack[TransformersKwargs]
    ) -> CLIPViPTextModelOutput:
        """Arguments and errors as in [`CLIPViPTextModel`]; `text_embeds` is [B, P], not normalised."""
        output = self.text_model(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        return CLIPViPTextModelOutput(
            text_embeds=self.text_projection(output.pooler_output),
            last_hidden_state=output.last_hidden_state,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )


class VideoProjectionMixin:
    """The video tower with its projection: one vector a clip."""

    def _add_video_tower(self, config: CLIPViPVisionConfig) -> None:
        self.vision_model = CLIPViPVisionModel._from_config(config)
        self.visual_projection = _projection(config)
        self.sequence_transformer = (
            CLIPViPSequenceTransformer(config) if config.frame_fusion == "sequence_transformer" else None
        )

    def _project_video(self, pooler_output, video_attention_mask=None) -> torch.Tensor:
        """`pooler_output` of the video tower -> [B, P], by `frame_fusion`."""
        features = self.visual_projection(pooler_output)
        if self.sequence_transformer is not None:
            features = self.sequence_transformer(features, video_attention_mask)
        if self.vision_model.config.frame_fusion not in PER_FRAME_FUSIONS:
            return features
        features = unit_vectors(features)
        if video_attention_mask is None:
            return features.mean(dim=1)
        mask = video_attention_mask.to(features)[:, :, None]  # device_map may place it on another device
        return (features * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


class CLIPViPVisionModelWithProjection(VideoProjectionMixin, CLIPViPPreTrainedModel):
    """
    The video tower with its projection, and the sequence transformer where `frame_fusion` asks for it.

    ```python
    model = CLIPViPVisionModelWithProjection.from_pretrained("org/clip-vip-b16")
    video_embeds = model(**processor(videos=["kitchen.mp4"])).video_embeds
    ```
    """

    config: CLIPViPVisionConfig
    base_model_prefix = "vision_model"
    main_input_name = "pixel_values_videos"
    input_modalities = ("video",)
    _keys_to_ignore_on_load_unexpected = [r"^(text_model|text_projection|logit_scale)"]

    def __init__(self, config: CLIPViPVisionConfig):
        super().__init__(config)
        self._add_video_tower(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        video_attention_mask: torch.Tensor | None = None,
        pooled_only: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CLIPViPVisionModelOutput:
        """Arguments and errors as in [`CLIPViPVisionModel`]; `video_embeds` is [B, P], not normalised."""
        output = self.vision_model(pixel_values_videos, video_attention_mask, pooled_only, **kwargs)
        return CLIPViPVisionModelOutput(
            video_embeds=self._project_video(output.pooler_output, video_attention_mask),
            last_hidden_state=output.last_hidden_state,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )


class CLIPViPModel(VideoProjectionMixin, CLIPViPPreTrainedModel):
    """
    Both towers, for text-to-video and video-to-text retrieval (clip_vip §1.5, `VidCLIP` of the original).

    ```python
    model = CLIPViPModel.from_pretrained("org/clip-vip-b16")
    processor = CLIPViPProcessor.from_pretrained("org/clip-vip-b16")
    inputs = processor(videos=["kitchen.mp4"], text=["a chef slices onions", "a dog on a beach"])
    print(model(**inputs).logits_per_video.softmax(-1))
    ```
    """

    def __init__(self, config: CLIPViPConfig):
        super().__init__(config)
        self.text_model = CLIPViPTextModel._from_config(config.text_config)
        self._add_video_tower(config.vision_config)
        self.text_projection = _projection(config.text_config)
        self.logit_scale = nn.Parameter(torch.tensor(float(config.logit_scale_init_value)))
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        self.text_model.set_input_embeddings(value)

    @can_return_tuple
    def get_text_features(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Unpack[TransformersKwargs]
    ) -> BaseModelOutputWithPooling:
        """
        Arguments and errors as in [`CLIPViPTextModel`].

        Returns:
            Output of the text tower, whose `pooler_output` [B, P] is projected and not normalised.

        ```python
        features = model.get_text_features(**processor(text=["a chef slices onions"])).pooler_output
        ```
        """
        output = self.text_model(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        output.pooler_output = self.text_projection(output.pooler_output)
        return output

    @can_return_tuple
    def get_video_features(
        self,
        pixel_values_videos: torch.Tensor,
        video_attention_mask: torch.Tensor | None = None,
        pooled_only: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """
        Arguments and errors as in [`CLIPViPVisionModel`]; here `pooled_only` is the default.

        Returns:
            Output of the video tower, whose `pooler_output` [B, P] is projected and not normalised.

        ```python
        features = model.get_video_features(**processor(videos=["kitchen.mp4"])).pooler_output
        ```
        """
        output = self.vision_model(pixel_values_videos, video_attention_mask, pooled_only, **kwargs)
        output.pooler_output = self._project_video(output.pooler_output, video_attention_mask)
        return output

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        video_attention_mask: torch.Tensor | None = None,
        return_loss: bool | None = None,
        pooled_only: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CLIPViPOutput:
        """
        Takes text, video or both. With one of them, the fields that need the other are `None`.

        Args:
            input_ids, attention_mask: [texts, S], see [`CLIPViPTextModel`].
            pixel_values_videos [videos, T, channels, H, W], video_attention_mask [videos, T], pooled_only: see
                [`CLIPViPVisionModel`]. `pooled_only=False` adds `vision_model_output.last_hidden_state`.
            return_loss: also compute the loss of the local batch. Text i belongs to video i.

        Raises:
            ValueError: neither text nor video is given, or `return_loss` without as many texts as videos.
        """
        if input_ids is None and pixel_values_videos is None:
            raise ValueError("Both input_ids and pixel_values_videos are None; pass text, video or both.")
        text_output = video_output = text_embeds = video_embeds = None
        logits_per_text = logits_per_video = loss = None
        if input_ids is not None:
            text_output = self.get_text_features(input_ids, attention_mask, return_dict=True, **kwargs)
            text_embeds = unit_vectors(text_output.pooler_output)
        if pixel_values_videos is not None:
            video_output = self.get_video_features(
                pixel_values_videos, video_attention_mask, pooled_only, return_dict=True, **kwargs
            )
            video_embeds = unit_vectors(video_output.pooler_output)
        if text_embeds is not None and video_embeds is not None:
            scale = self.logit_scale.exp().to(text_embeds.device)
            logits_per_text = scale * text_embeds @ video_embeds.t().to(text_embeds.device)
            logits_per_video = logits_per_text.t()
        if return_loss:
            if logits_per_text is None or logits_per_text.shape[0] != logits_per_text.shape[1]:
                given = None if logits_per_text is None else tuple(logits_per_text.shape)
                raise ValueError(
                    f"return_loss needs as many texts as videos, text i for video i; got {given} (texts, videos)."
                )
            pairs = torch.arange(logits_per_text.shape[0], device=logits_per_text.device)
            cross_entropy = nn.functional.cross_entropy
            loss = (cross_entropy(logits_per_text, pairs) + cross_entropy(logits_per_video, pairs)) / 2
        return CLIPViPOutput(
            loss=loss,
            logits_per_video=logits_per_video,
            logits_per_text=logits_per_text,
            text_embeds=text_embeds,
            video_embeds=video_embeds,
            text_model_output=text_output,
            vision_model_output=video_output,
        )


__all__ = [
    "CLIPViPModel",
    "CLIPViPPreTrainedModel",
    "CLIPViPTextModel",
    "CLIPViPTextModelWithProjection",
    "CLIPViPVisionModel",
    "CLIPViPVisionModelWithProjection",
]
