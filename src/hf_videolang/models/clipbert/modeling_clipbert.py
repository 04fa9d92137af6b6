"""
ClipBERT (arXiv 2102.06183): a ResNet sees single frames, a BERT reads a text together with the grid of a clip.

Letters for shapes: N clips of a video, T frames of a clip, L tokens of a text, G tokens of a clip (cells of its grid),
D width. Frames are averaged and logits of clips are pooled, so the order of frames and of clips changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import PreTrainedModel
from transformers.models.bert.modeling_bert import (
    BertEmbeddings,
    BertEncoder,
    BertLayer,
    BertLMPredictionHead,
    BertPooler,
    BertPreTrainingHeads,
    BertSelfAttention,
)
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import can_return_tuple
from transformers.utils.output_capturing import capture_outputs

from hf_videolang.models.shared.pushed_card import PushedCardMixin
from hf_videolang.models.shared.strict_loading import StrictLoadingMixin

from .configuration_clipbert import ClipBertConfig

AGGREGATIONS: dict[str, Callable] = {"mean": torch.mean, "max": torch.amax, "logsumexp": torch.logsumexp}


@dataclass
class ClipBertVideoOutput(ModelOutput):
    """
    Output of `get_video_features`.

    Args:
        video_embeds (`torch.Tensor` [videos, N, G, D]): visual tokens. `forward` takes them in place of pixels.
        grid_features (`torch.Tensor` [videos, N, T, rows, columns, D]): output of the CNN for each frame.
    """

    video_embeds: torch.Tensor | None = None
    grid_features: torch.Tensor | None = None


@dataclass
class ClipBertModelOutput(ModelOutput):
    """
    Output of [`ClipBertModel`].

    Args:
        last_hidden_state (`torch.Tensor` [N, texts, L + G, D]): the tokens of a text, then those of a clip.
        pooler_output (`torch.Tensor` [N, texts, D]): first token after a linear layer and tanh.
        video_embeds (`torch.Tensor` [videos, N, G, D]): as in [`ClipBertVideoOutput`].
        hidden_states (tuple of `torch.Tensor` [N * texts, L + G, D]): on request: embeddings, then layers' outputs.
        attentions (tuple of `torch.Tensor` [N * texts, heads, L + G, L + G]): on request, with eager attention.
    """

    last_hidden_state: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None
    video_embeds: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class ClipBertHeadOutput(ModelOutput):
    """
    Output of the heads for retrieval and questions.

    Args:
        loss (`torch.Tensor`, scalar): with `labels`, of `logits`.
        logits (`torch.Tensor` [texts, labels], for multiple choice [questions, options]): of all clips together, by
            `config.score_aggregation`.
        clip_logits (`torch.Tensor` [N, texts, labels] or [N, questions, options]): of each clip.
        scores (`torch.Tensor` [texts]): for retrieval, how well text and video match, in 0..1.
        video_embeds, hidden_states, attentions: as in [`ClipBertModelOutput`].
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    clip_logits: torch.Tensor | None = None
    scores: torch.Tensor | None = None
    video_embeds: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class ClipBertForPreTrainingOutput(ModelOutput):
    """
    Output of [`ClipBertForPreTraining`]. Several clips are pooled by `config.score_aggregation`.

    Args:
        loss (`torch.Tensor`, scalar): sum of the losses whose labels are given.
        prediction_logits (`torch.Tensor` [texts, L, vocabulary]): for each token of a text, of the word behind it.
        matching_logits (`torch.Tensor` [texts, 2]): whether text and video match; label 1 is a match.
        video_embeds, hidden_states, attentions: as in [`ClipBertModelOutput`].
    """

    loss: torch.Tensor | None = None
    prediction_logits: torch.Tensor | None = None
    matching_logits: torch.Tensor | None = None
    video_embeds: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class ClipBertConvolution(nn.Conv2d):
    """A convolution without bias, and a batch norm that never changes."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)
        self.norm = FrozenBatchNorm2d(out_channels)

    def forward(self, pictures):
        return self.norm(super().forward(pictures))


class ClipBertBottleneck(nn.Module):
    """Block of a ResNet. `stride_in_1x1` puts the stride where the released CNN has it."""

    def __init__(self, in_channels: int, channels: int, out_channels: int, stride: int, stride_in_1x1: bool):
        super().__init__()
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = ClipBertConvolution(in_channels, out_channels, 1, stride)
        self.conv1 = ClipBertConvolution(in_channels, channels, 1, stride if stride_in_1x1 else 1)
        self.conv2 = ClipBertConvolution(channels, channels, 3, 1 if stride_in_1x1 else stride)
        self.conv3 = ClipBertConvolution(channels, out_channels, 1)

    def forward(self, features):
        hidden = nn.functional.relu_(self.conv1(features))
        hidden = nn.functional.relu_(self.conv2(hidden))
        return nn.functional.relu_(self.conv3(hidden) + self.shortcut(features))


class ClipBertStem(nn.Module):
    """First convolution and max-pooling of a ResNet."""

    def __init__(self, config: ClipBertConfig):
        super().__init__()
        self.conv1 = ClipBertConvolution(3, config.stem_channels, 7, stride=2)

    def forward(self, pictures):
        return nn.functional.max_pool2d(nn.functional.relu_(self.conv1(pictures)), 3, stride=2, padding=1)


class ClipBertBackbone(GradientCheckpointingLayer):
    """
    ResNet of detectron2 (clipbert §1.1), whose names it keeps. The first stages do not train.

    transformers' ResNet fixes the bottleneck at a quarter of the output, trains its batch norms and has the stride in
    the 3x3 convolution.
    """

    def __init__(self, config: ClipBertConfig):
        super().__init__()
        self.stem = ClipBertStem(config)
        self.config = config
        in_channels = config.stem_channels
        for stage, depth in enumerate(config.depths):
            channels, out_channels = config.bottleneck_channels * 2**stage, config.res2_channels * 2**stage
            blocks = []
            for block in range(depth):
                stride = 2 if stage and not block else 1
                blocks.append(ClipBertBottleneck(in_channels, channels, out_channels, stride, config.stride_in_1x1))
                in_channels = out_channels
            self.add_module(f"res{stage + 2}", nn.Sequential(*blocks))
        self.out_channels = in_channels

    def frozen_stages(self):
        return nn.Sequential(*list(self.children())[: self.config.num_frozen_stages])

    def forward(self, features):
        """What the frozen stages make of [pictures, 3, H, W] -> [pictures, channels, H / 32, W / 32], rounded up."""
        for stage in list(self.children())[self.config.num_frozen_stages :]:
            features = stage(features)
        return features


class ClipBertCNN(nn.Module):
    """Backbone, grid encoder (clipbert §1.2) and, where the config asks for it, a fusion of frames that is learnt."""

    def __init__(self, config: ClipBertConfig):
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.backbone = ClipBertBackbone(config)
        self.grid_encoder = nn.Conv2d(self.backbone.out_channels, width, 3, padding=1, bias=False)
        self.temporal_fusion: nn.Module = nn.Identity()
        if config.temporal_fusion == "conv3d":
            self.temporal_fusion = nn.Conv3d(width, width, 3, padding=1)
        elif config.temporal_fusion == "conv2plus1d":
            self.temporal_fusion = nn.Sequential(
                nn.Conv3d(width, width, (1, 3, 3), padding=(0, 1, 1)),
                nn.ReLU(),
                nn.Conv3d(width, width, (3, 1, 1), padding=(1, 0, 0)),
            )

    def forward(self, clips):
        """RGB pixels [clips, T, 3, H, W] -> grid of each frame [clips, T, rows, columns, D], of a clip without T."""
        pictures = clips.flatten(0, 1).to(self.grid_encoder.weight.dtype)
        if self.config.channel_order == "BGR":
            pictures = pictures.flip(1)
        frozen_stages = self.backbone.frozen_stages()
        if self.backbone.gradient_checkpointing and self.training:
            # Clip by clip, so that the backward pass holds the activations of one.
            parts = [frozen_stages(part) for part in pictures.split(clips.shape[1])]
            # A reentrant checkpoint needs an input with gradient.
            hidden = torch.cat([self.backbone(part.detach().requires_grad_()) for part in parts])
        else:
            hidden = self.backbone(frozen_stages(pictures))
        grid = self.grid_encoder(hidden)
        grid = nn.functional.relu(nn.functional.max_pool2d(grid, 2)).unflatten(0, clips.shape[:2])
        fused = self.temporal_fusion(grid.transpose(1, 2)).mean(dim=2)
        return grid.movedim(2, -1), fused.movedim(1, -1)


class ClipBertVisualEmbeddings(nn.Module):
    """Row, column and type embedding of the cells of a grid (clipbert §2)."""

    def __init__(self, config: ClipBertConfig):
        super().__init__()
        self.config = config
        self.row_position_embeddings = nn.Embedding(config.max_grid_rows, config.hidden_size)
        self.col_position_embeddings = nn.Embedding(config.max_grid_columns, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(1, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, grid):
        """[clips, rows, columns, D] -> [clips, G, D]; in training perhaps of some cells only, the same for all."""
        rows, columns = grid.shape[1:3]
        if rows > self.config.max_grid_rows or columns > self.config.max_grid_columns:
            raise ValueError(
                f"the frames give a grid of {rows} x {columns} cells, but the position tables have "
                f"{self.config.max_grid_rows} rows and {self.config.max_grid_columns} columns; use smaller frames."
            )
        numbers = torch.arange(max(rows, columns), device=grid.device)
        grid = grid + self.row_position_embeddings(numbers[:rows])[:, None]
        tokens = (grid + self.col_position_embeddings(numbers[:columns])).flatten(1, 2)
        kept = self.config.pixel_random_sampling_size
        if self.training and 0 < kept < tokens.shape[1]:
            chosen = np.sort(np.random.choice(tokens.shape[1], size=kept, replace=False))  # as the original draws
            tokens = tokens[:, torch.from_numpy(chosen).to(tokens.device)]
        return self.dropout(self.LayerNorm(tokens + self.token_type_embeddings(torch.zeros_like(numbers[:1]))))


class ClipBertPreTrainedModel(PushedCardMixin, StrictLoadingMixin, PreTrainedModel):
    """Initialisation and the interface to transformers."""

    config: ClipBertConfig
    base_model_prefix = "clipbert"
    input_modalities = ("video", "text")
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False
    _no_split_modules = ["BertEmbeddings", "BertLayer", "ClipBertBottleneck", "ClipBertVisualEmbeddings"]
    _supports_sdpa = True
    _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": BertLayer, "attentions": BertSelfAttention}
    # The head of another task. A new one starts random, which `from_pretrained` announces.
    _keys_that_may_be_new = [r"^(cls|classifier|regressor)\."]
    _keys_to_ignore_on_load_unexpected = [r"^(cls|classifier|regressor)\."]
    # What the paper's ablation freezes, in our reading (clipbert A17). The other parts always train.
    freezable_parts = {"cnn": ["cnn.backbone"], "language_model": ["embeddings", "encoder", "pooler"]}

    @torch.no_grad()
    def _init_weights(self, module):
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):  # torch's own rule
            init.kaiming_uniform_(module.weight, a=5**0.5)
            if module.bias is not None:
                bound = module.weight[0].numel() ** -0.5
                init.uniform_(module.bias, -bound, bound)
            return
        super()._init_weights(module)
        if isinstance(module, FrozenBatchNorm2d):
            for name, fill in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
                init.constant_(getattr(module, name), fill)
        elif isinstance(module, BertEmbeddings):
            init.copy_(module.position_ids, torch.arange(module.position_ids.shape[-1])[None])
            init.zeros_(module.token_type_ids)
        elif isinstance(module, BertLMPredictionHead):
            init.zeros_(module.bias)

    def tie_weights(self, *args, **kwargs):
        """Also freezes, since this ends initialisation and loading, and loading replaces the parameters."""
        super().tie_weights(*args, **kwargs)
        for module in self.modules():
            if isinstance(module, ClipBertBackbone):
                module.frozen_stages().requires_grad_(False)


class ClipBertModel(ClipBertPreTrainedModel):
    """
    CNN and cross-modal BERT without a head (clipbert §1 and §2; `ClipBertBaseModel` of the original).

    ```python
    model = ClipBertModel.from_pretrained("org/clipbert-base")
    inputs = processor(videos=["kitchen.mp4"], text=["a chef slices onions", "a dog on a beach"])
    print(model(**inputs).pooler_output.shape)
    ```
    """

    _input_embed_layer = "word_embeddings"

    def __init__(self, config: ClipBertConfig):
        super().__init__(config)
        self.cnn = ClipBertCNN(config)
        self.embeddings = BertEmbeddings(config)
        self.visual_embeddings = ClipBertVisualEmbeddings(config)
        self.encoder = BertEncoder(config)
        self.pooler = BertPooler(config)
        self.post_init()

    @can_return_tuple
    def get_video_features(self, pixel_values_videos: torch.Tensor, **kwargs) -> ClipBertVideoOutput:
        """
        Args:
            pixel_values_videos: [videos, N, T, 3, H, W] or, with one clip, [videos, T, 3, H, W]; RGB, as the processor
                gives them.

        Raises:
            ValueError: the pixels have another number of dimensions, or more cells than the position tables have.

        ```python
        video_embeds = model.get_video_features(**processor(videos=["kitchen.mp4"])).video_embeds
        ```
        """
        if pixel_values_videos.ndim not in (5, 6):
            raise ValueError(
                f"pixel_values_videos has shape {tuple(pixel_values_videos.shape)}; expected [videos, clips, frames, "
                "3, height, width], or [videos, frames, 3, height, width] for one clip."
            )
        if pixel_values_videos.ndim == 5:
            pixel_values_videos = pixel_values_videos[:, None]
        shape = pixel_values_videos.shape[:2]
        grid, fused = self.cnn(pixel_values_videos.flatten(0, 1))
        tokens = self.visual_embeddings(fused)
        return ClipBertVideoOutput(video_embeds=tokens.unflatten(0, shape), grid_features=grid.unflatten(0, shape))

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        video_index: torch.Tensor | None = None,
        video_embeds: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ClipBertModelOutput:
        """
        Args:
            input_ids: [texts, L].
            pixel_values_videos: see `get_video_features`. The CNN sees each video once, however many texts it has.
            attention_mask: [texts, L], 1 = token, 0 = padding. `None`: all are tokens. Visual tokens are never masked.
            video_index: [texts], the video that each text is about. `None`: the one of its row, or the only one.
            video_embeds: [videos, N, G, D] of `get_video_features`, in place of pixels.

        Raises:
            ValueError: the texts cannot be matched with the videos, they have options, or not exactly one of pixels
                and `video_embeds` is given.
        """
        if input_ids is None or (pixel_values_videos is None) == (video_embeds is None):
            raise ValueError("pass input_ids, and either pixel_values_videos or video_embeds.")
        if input_ids.ndim != 2:
            raise ValueError(
                f"input_ids has shape {tuple(input_ids.shape)}; expected [texts, tokens]. Only a model for multiple "
                "choice takes options."
            )
        if video_embeds is None:
            video_embeds = self.get_video_features(pixel_values_videos, return_dict=True).video_embeds
        texts, (videos, clips) = input_ids.shape[0], video_embeds.shape[:2]
        if video_index is not None:
            visual = video_embeds[video_index]
        elif videos in (1, texts):
            visual = video_embeds.expand(texts, -1, -1, -1)
        else:
            raise ValueError(
                f"{texts} texts and {videos} videos; pass video_index, the video that each text is about."
            )
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        visual = visual.transpose(0, 1).flatten(0, 1)
        hidden_states = torch.cat([self.embeddings(input_ids.repeat(clips, 1)), visual], dim=1)
        mask = nn.functional.pad(attention_mask.repeat(clips, 1), (0, visual.shape[1]), value=1)
        mask = create_bidirectional_mask(config=self.config, inputs_embeds=hidden_states, attention_mask=mask)
        hidden_states = self.encoder(hidden_states, attention_mask=mask, **kwargs).last_hidden_state
        return ClipBertModelOutput(
            last_hidden_state=hidden_states.unflatten(0, (clips, texts)),
            pooler_output=self.pooler(hidden_states).unflatten(0, (clips, texts)),
            video_embeds=video_embeds,
        )


class ClipBertHeadModel(ClipBertPreTrainedModel):
    """What all heads share: the base model, the usual head on its pooled output, and the pooling of clips."""

    # Of the processor and of the config, when a head is new (clipbert §5, §9).
    video_settings = {"single_clip": "start"}
    head_settings = {"pixel_random_sampling_size": 0}

    def __init__(self, config: ClipBertConfig):
        super().__init__(config)
        self.clipbert = ClipBertModel._from_config(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def new_classifier(self, num_labels: int) -> nn.Sequential:
        width = self.config.hidden_size
        return nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, num_labels))

    def get_video_features(self, pixel_values_videos: torch.Tensor, **kwargs) -> ClipBertVideoOutput:
        """As of [`ClipBertModel`]."""
        return self.clipbert.get_video_features(pixel_values_videos, **kwargs)

    def pool_clips(self, clip_logits: torch.Tensor) -> torch.Tensor:
        """[N, …] -> […] by `config.score_aggregation`; on logits, before any softmax (clipbert §4)."""
        return AGGREGATIONS[self.config.score_aggregation](clip_logits, dim=0)


def _beside_logits(output: ClipBertModelOutput) -> dict[str, Any]:
    """What the output of every head has of the base model's."""
    return {name: output[name] for name in ("video_embeds", "hidden_states", "attentions") if name in output}


class ClipBertForVideoTextRetrieval(ClipBertHeadModel):
    """
    Whether a text describes a video (clipbert §3; the original's class of this name).

    The loss is the cross entropy of [no match, match] or, with `config.retrieval_loss = "ranking"`, the mean over all
    texts that do not match their video of max(0, margin + score - score of the match).

    ```python
    model = ClipBertForVideoTextRetrieval.from_pretrained("org/clipbert-msrvtt")
    inputs = processor(videos=["kitchen.mp4"], text=["a chef slices onions", "a dog on a beach"])
    print(model(**inputs).scores)
    ```

    `prepare_videos`, `prepare_texts` and `score_pairs` score many texts against many videos.
    """

    video_settings = {"single_clip": "middle"}

    def __init__(self, config: ClipBertConfig):
        super().__init__(config)
        self.classifier = self.new_classifier(1 if config.retrieval_loss == "ranking" else 2)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        video_index: torch.Tensor | None = None,
        video_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ClipBertHeadOutput:
        """
        Args:
            input_ids, pixel_values_videos, attention_mask, video_index, video_embeds: see [`ClipBertModel`].
            labels: [texts], 1 = the text describes its video, 0 = it does not.

        Raises:
            ValueError: as of [`ClipBertModel`]; or no video has both kinds of text, which the ranking loss compares.
        """
        output = self.clipbert(
            input_ids, pixel_values_videos, attention_mask, video_index, video_embeds, return_dict=True, **kwargs
        )
        clip_logits = self.classifier(self.dropout(output.pooler_output))
        logits, loss = self.pool_clips(clip_logits), None
        is_ranking = self.config.retrieval_loss == "ranking"
        scores = logits[:, 0].sigmoid() if is_ranking else logits.softmax(dim=-1)[:, 1]
        if labels is not None and is_ranking:
            videos = output.video_embeds.shape[0]
            if video_index is None:
                video_index = torch.arange(len(scores), device=scores.device) % videos
            loss = self.ranking_loss(scores, labels, video_index)
        elif labels is not None:
            loss = nn.functional.cross_entropy(logits, labels)
        return ClipBertHeadOutput(
            loss=loss, logits=logits, clip_logits=clip_logits, scores=scores, **_beside_logits(output)
        )

    def prepare_videos(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        """
        All of `score_pairs` that depends on the videos alone: the CNN and the projections of the first layer.

        Args:
            pixel_values_videos: see [`ClipBertModel`].

        Returns:
            [videos, N, G, 4 * D]: visual tokens, and their queries, keys and values.
        """
        return self._with_projections(self.get_video_features(pixel_values_videos, return_dict=True).video_embeds)

    def prepare_texts(self, input_ids: torch.Tensor) -> torch.Tensor:
        """The same for texts of one length without padding, [texts, L]: [texts, L, 4 * D]."""
        return self._with_projections(self.clipbert.embeddings(input_ids))

    def _with_projections(self, tokens: torch.Tensor) -> torch.Tensor:
        attention = self.clipbert.encoder.layer[0].attention.self
        return torch.cat([tokens, attention.query(tokens), attention.key(tokens), attention.value(tokens)], dim=-1)

    def score_pairs(self, videos: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        """
        How well texts and videos match; in evaluation mode as `forward`, but for the order of sums (clipbert §14).

        No padding is computed, and of the last layer only the first token, which alone is read.

        Args:
            videos: [pairs, N, G, 4 * D], rows of `prepare_videos`.
            texts: [pairs, L, 4 * D], rows of `prepare_texts`.

        Returns:
            [pairs], log-odds of a match. `scores` of the output are their sigmoid; near 1 it has too few digits to
            rank by.

        ```python
        videos = model.prepare_videos(processor(videos=["a.mp4", "b.mp4"])["pixel_values_videos"])
        texts = model.prepare_texts(processor(text="a dog digs", padding=False)["input_ids"])
        model.score_pairs(videos, texts.expand(2, -1, -1))
        ```
        """
        clips = videos.shape[1]
        states = torch.cat([texts.expand(clips, -1, -1, -1), videos.transpose(0, 1)], dim=2).flatten(0, 1)
        hidden, query, key, value = states.chunk(4, dim=-1)
        layers = self.clipbert.encoder.layer
        for number, layer in enumerate(layers):
            attention = layer.attention.self
            wanted = hidden[:, :1] if number == len(layers) - 1 else hidden
            if number > 0:
                query, key, value = attention.query(wanted), attention.key(hidden), attention.value(hidden)
            heads = (
                tokens.unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)
                for tokens in (query[:, : wanted.shape[1]], key, value)
            )
            context = nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
            hidden = layer.feed_forward_chunk(layer.attention.output(context, wanted))
        logits = self.pool_clips(self.classifier(self.clipbert.pooler(hidden)).unflatten(0, (clips, -1)))
        return logits[:, 0] if self.config.retrieval_loss == "ranking" else logits[:, 1] - logits[:, 0]

    def ranking_loss(self, scores: torch.Tensor, labels: torch.Tensor, video_index: torch.Tensor) -> torch.Tensor:
        """Over all pairs of a match and another text of the same video (clipbert §3.2). All arguments are [texts]."""
        is_match = labels.bool()
        is_pair = video_index[~is_match, None] == video_index[None, is_match]
        if not is_pair.any():
            raise ValueError(
                f"the ranking loss needs a video with a text of label 1 and one of label 0; got {labels}."
            )
        return (self.config.margin + scores[~is_match, None] - scores[None, is_match]).relu()[is_pair].mean()


class ClipBertForVisualQuestionAnswering(ClipBertHeadModel):
    """
    Answers a question by one of a fixed set of answers, or by a count (clipbert §3; of the original,
    `ClipBertForSequenceClassification` and `ClipBertForRegression`).

    `config.problem_type` decides the loss: cross entropy, binary cross entropy with soft targets (a sum over answers,
    the mean over questions), or for counts the squared error.

    ```python
    model = ClipBertForVisualQuestionAnswering.from_pretrained("org/clipbert-msrvtt-qa")
    inputs = processor(videos="clip.mp4", text="what is the man doing?")
    model.config.id2label[model(**inputs).logits.argmax(-1).item()]
    ```
    """

    def __init__(self, config: ClipBertConfig):
        super().__init__(config)
        if config.problem_type == "regression":
            width = config.hidden_size
            self.regressor = nn.Sequential(
                nn.Linear(width, width),
                nn.ELU(),
                nn.BatchNorm1d(width),
                nn.Dropout(config.hidden_dropout_prob),
                nn.Linear(width, 1),
            )
        else:
            self.classifier = self.new_classifier(config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        video_index: torch.Tensor | None = None,
        video_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ClipBertHeadOutput:
        """
        Args:
            input_ids, pixel_values_videos, attention_mask, video_index, video_embeds: see [`ClipBertModel`].
            labels: [texts], rows of the answers; for soft targets [texts, answers] in 0..1; for counts [texts].
        """
        output = self.clipbert(
            input_ids, pixel_values_videos, attention_mask, video_index, video_embeds, return_dict=True, **kwargs
        )
        pooled = self.dropout(output.pooler_output)
        if self.config.problem_type == "regression":
            clip_logits = self.regressor(pooled.flatten(0, 1)).unflatten(0, pooled.shape[:2])
        else:
            clip_logits = self.classifier(pooled)
        logits, loss = self.pool_clips(clip_logits), None
        if labels is not None and self.config.problem_type == "regression":
            loss = nn.functional.mse_loss(logits[:, 0], labels.to(logits.dtype))
        elif labels is not None and self.config.problem_type == "multi_label_classification":
            targets = labels.to(logits.dtype)
            loss = nn.functional.binary_cross_entropy_with_logits(logits, targets) * logits.shape[-1]
        elif labels is not None:
            loss = nn.functional.cross_entropy(logits, labels)
        return ClipBertHeadOutput(loss=loss, logits=logits, clip_logits=clip_logits, **_beside_logits(output))

    @staticmethod
    def counts(logits: torch.Tensor) -> torch.Tensor:
        """The whole numbers from 1 to 10 that `logits` [texts, 1] of a count mean: int64 [texts] (clipbert §4)."""
        return (logits[:, 0] + 0.5).trunc().clamp(1, 10).long()


class ClipBertForMultipleChoice(ClipBertHeadModel):
    """
    Chooses among the options of a question (clipbert §3; the original's class of this name).

    ```python
    model = ClipBertForMultipleChoice.from_pretrained("org/clipbert-tgif-action")
    inputs = processor(videos="clip.gif", text="what does the boy do 3 times?", choices=["nod", "clap", "spin"])
    print(model(**inputs).logits.softmax(-1))
    ```
    """

    def __init__(self, config: ClipBertConfig):
        super().__init__(config)
        self.classifier = self.new_classifier(1)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        video_index: torch.Tensor | None = None,
        video_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ClipBertHeadOutput:
        """
        Args:
            input_ids, attention_mask: [questions, options, L]. An option whose mask is 0 throughout fills up a
                question with fewer options. Its logit is the lowest number, so its probability is 0.
            pixel_values_videos, video_embeds: see [`ClipBertModel`].
            video_index: [questions], the video that each question is about; as of [`ClipBertModel`].
            labels: [questions], number of the right option from 0.

        Raises:
            ValueError: as of [`ClipBertModel`], or `input_ids` has no options.
        """
        if input_ids is None or input_ids.ndim != 3:
            raise ValueError(
                f"input_ids has shape {None if input_ids is None else tuple(input_ids.shape)}; expected [questions, "
                "options, tokens], which the processor makes of text=… and choices=[…]."
            )
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        pixels_or_embeds = pixel_values_videos if video_embeds is None else video_embeds
        questions, options = input_ids.shape[:2]
        if video_index is None and pixels_or_embeds is not None and len(pixels_or_embeds) == questions:
            video_index = torch.arange(questions, device=input_ids.device)
        if video_index is not None:
            video_index = video_index.repeat_interleave(options)
        output = self.clipbert(
            input_ids.flatten(0, 1),
            pixel_values_videos,
            attention_mask.flatten(0, 1),
            video_index,
            video_embeds,
            return_dict=True,
            **kwargs,
        )
        clip_logits = (
            self.classifier(self.dropout(output.pooler_output)).squeeze(-1).unflatten(1, (questions, options))
        )
        is_absent, lowest = ~attention_mask.bool().any(dim=-1), torch.finfo(clip_logits.dtype).min
        logits = self.pool_clips(clip_logits).masked_fill(is_absent, lowest)
        return ClipBertHeadOutput(
            loss=None if labels is None else nn.functional.cross_entropy(logits, labels),
            logits=logits,
            clip_logits=clip_logits.masked_fill(is_absent, lowest),
            **_beside_logits(output),
        )


class ClipBertForPreTraining(ClipBertHeadModel):
    """
    Masked words, and whether a text describes a picture or video (clipbert §3.1; the original's class of this name).

    ```python
    model = ClipBertForPreTraining.from_pretrained("org/clipbert-base")
    inputs = processor(images="kitchen.jpg", text="a chef [MASK] onions")
    print(processor.tokenizer.decode(model(**inputs).prediction_logits[0, 3].argmax()))
    ```
    """

    _tied_weights_keys = {
        "cls.predictions.decoder.weight": "clipbert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }

    def __init__(self, config: ClipBertConfig):
        super().__init__(config)
        self.cls = BertPreTrainingHeads(config)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.cls.predictions.decoder

    def set_output_embeddings(self, value: nn.Module):
        self.cls.predictions.decoder = value
        self.cls.predictions.bias = value.bias

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        video_index: torch.Tensor | None = None,
        video_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        matching_labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ClipBertForPreTrainingOutput:
        """
        Args:
            input_ids, pixel_values_videos, attention_mask, video_index, video_embeds: see [`ClipBertModel`].
            labels: [texts, L], the words behind the masks, -100 elsewhere. As in the original, their loss is the sum
                over all words divided by the number of all positions, padding included.
            matching_labels: [texts], 1 = the text describes its video, 0 = it does not.
        """
        output = self.clipbert(
            input_ids, pixel_values_videos, attention_mask, video_index, video_embeds, return_dict=True, **kwargs
        )
        words = output.last_hidden_state[:, :, : -output.video_embeds.shape[2]]
        prediction_logits, matching_logits = map(self.pool_clips, self.cls(words, output.pooler_output))
        losses = []
        if labels is not None:
            summed = nn.functional.cross_entropy(prediction_logits.flatten(0, 1), labels.flatten(), reduction="sum")
            losses.append(summed / labels.numel())
        if matching_labels is not None:
            losses.append(nn.functional.cross_entropy(matching_logits, matching_labels))
        return ClipBertForPreTrainingOutput(
            loss=torch.stack(losses).sum() if losses else None,
            prediction_logits=prediction_logits,
            matching_logits=matching_logits,
            **_beside_logits(output),
        )


__all__ = [
    "ClipBertForMultipleChoice",
    "ClipBertForPreTraining",
    "ClipBertForVideoTextRetrieval",
    "ClipBertForVisualQuestionAnswering",
    "ClipBertModel",
    "ClipBertPreTrainedModel",
]
