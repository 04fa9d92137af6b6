"""
HERO (arXiv 2005.00200) as the VALUE benchmark extends it (arXiv 2106.04632).

Letters for shapes: V videos, L frames of the longest video, F width of a row of features, S subtitles, T tokens of a
subtitle, Q queries, C texts of a video (choices), N tokens of a text, D width. A frame is a row of features.

Each subtitle is read together with its frames by the cross-modal BERT. The states of the frames, added to the frames
themselves, are read in their order by the temporal BERT. The layers are transformers' own.
"""

import random
from dataclasses import dataclass
from typing import Any, Unpack

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_utils import PreTrainedModel
from transformers.models.bert.modeling_bert import BertAttention, BertEncoder
from transformers.utils import ModelOutput, TransformersKwargs, logging
from transformers.utils.generic import can_return_tuple

from hf_videolang.losses.moment_ranking import moment_ranking_losses
from hf_videolang.models.shared.pushed_card import PushedCardMixin
from hf_videolang.models.shared.strict_loading import StrictLoadingMixin

from .configuration_hero import HeroConfig, HeroCrossModalConfig, HeroQueryConfig, HeroTemporalConfig

logger = logging.get_logger(__name__)

NORM_EPS = 1e-5  # of every norm outside the BERT layers (hero §1)
MASKED = -1e4  # the original's score of what is masked
PACKED_LENGTH = 256  # positions of the sequences into which short rows are packed


@dataclass
class HeroModelOutput(ModelOutput):
    """
    Output of [`HeroModel`].

    Args:
        last_hidden_state (`torch.Tensor` [V, L, D], with texts [V, C, L, D]): the frames. Those of padding are not 0.
        fused_frames (`torch.Tensor` of the same shape): what the temporal BERT read.
    """

    last_hidden_state: torch.Tensor | None = None
    fused_frames: torch.Tensor | None = None


@dataclass
class HeroVideoOutput(ModelOutput):
    """
    Output of `get_video_features`. Both fields keep the length to which the batch was padded: the span head reads two
    frames on each side, so padding acts on the last two frames (hero §3).

    Args:
        frame_embeds (`torch.Tensor` [V, L, D]): the frames. Those of padding are not 0.
        video_attention_mask (`torch.Tensor` [V, L]): 1 = frame, 0 = padding.
    """

    frame_embeds: torch.Tensor | None = None
    video_attention_mask: torch.Tensor | None = None


@dataclass
class HeroTextOutput(ModelOutput):
    """
    Output of `get_text_features`.

    Args:
        text_embeds (`torch.Tensor` [Q, D]): the queries, not normalised.
        last_hidden_state (`torch.Tensor` [Q, N, D]): their tokens as the cross-modal BERT gives them, 0 at padding.
    """

    text_embeds: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None


@dataclass
class HeroRetrievalOutput(ModelOutput):
    """
    Output of [`HeroForVideoTextRetrieval`]. Without a query, or without a video, the fields that need it are `None`.

    Args:
        loss (`torch.Tensor`, scalar): with `return_loss=True`, the weighted sum of the three parts.
        span_loss (`torch.Tensor`, scalar): cross entropies of start and end.
        video_ranking_loss, query_ranking_loss (`torch.Tensor`, scalars): the match against other videos, and against
            other queries.
        logits_per_text (`torch.Tensor` [Q, V]): the highest cosine of the query and a frame.
        start_logits, end_logits (`torch.Tensor` [Q, L] or [Q, V, L]): for each frame, whether the moment starts and
            ends there; -10000 at padding. They are of the query's own video if `video_index` says which, or if there
            are as many queries as videos; otherwise of every video.
        text_embeds (`torch.Tensor` [Q, D]), frame_embeds (`torch.Tensor` [V, L, D]): of both encoders.
        video_attention_mask (`torch.Tensor` [V, L]): of `frame_embeds`.
    """

    loss: torch.Tensor | None = None
    span_loss: torch.Tensor | None = None
    video_ranking_loss: torch.Tensor | None = None
    query_ranking_loss: torch.Tensor | None = None
    logits_per_text: torch.Tensor | None = None
    start_logits: torch.Tensor | None = None
    end_logits: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None
    frame_embeds: torch.Tensor | None = None
    video_attention_mask: torch.Tensor | None = None


@dataclass
class HeroAnswerOutput(ModelOutput):
    """
    Output of the heads for questions and statements.

    Args:
        loss (`torch.Tensor`, scalar): with `labels`.
        logits (`torch.Tensor` [V, C], for statements [V, 1]): a choice that fills up has the lowest number.
        start_logits, end_logits (`torch.Tensor` [V, L]): of multiple choice: whether the moment that answers the
            question starts and ends at a frame; -10000 at padding.
        last_hidden_state (`torch.Tensor` [V, C, L, D]): the frames as each text sees them.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    start_logits: torch.Tensor | None = None
    end_logits: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None


class HeroPreTrainedModel(PushedCardMixin, StrictLoadingMixin, PreTrainedModel):
    """
    Initialisation, loading and saving of every HERO class. The parts have the same names in all classes, so a folder
    with several heads loads into each class whose heads it has. A head that is missing raises, unless
    `from_pretrained` gets `new_head=True`.
    """

    config: HeroConfig
    base_model_prefix = "hero"
    model_tags = ["hf_videolang", "hero"]
    input_modalities = ("video", "text")
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False
    _no_split_modules = ["BertLayer"]
    _supports_sdpa = True
    _new_head_by_default = False
    _keys_that_may_be_new = [r"^(query|start|end|answer|span)_"]
    _keys_to_ignore_on_load_unexpected = [r"^(query|start|end|answer|span)_"]

    @torch.no_grad()
    def _init_weights(self, module):
        """As torch starts the modules of the heads; the encoders have a rule of their own (hero §10)."""
        if isinstance(module, (nn.Linear, nn.Conv1d)):
            init.kaiming_uniform_(module.weight, a=5**0.5)
            if module.bias is not None:
                bound = module.weight[0].numel() ** -0.5
                init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)


class HeroEncoderPreTrainedModel(HeroPreTrainedModel):
    """Parts that start with a normal distribution, as BERT does."""

    def _init_weights(self, module):
        PreTrainedModel._init_weights(self, module)


class HeroProjection(nn.Module):
    """Norm, dropout, linear layer and ReLU."""

    def __init__(self, in_size: int, out_size: int, dropout: float):
        super().__init__()
        self.LayerNorm = nn.LayerNorm(in_size, eps=NORM_EPS)
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(in_size, out_size)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return F.relu(self.dense(self.dropout(self.LayerNorm(states))))


class HeroPredictionHead(nn.Module):
    """Two linear layers with GELU and a norm between them."""

    def __init__(self, hidden_size: int, num_outputs: int):
        super().__init__()
        self.linear1 = nn.Linear(hidden_size, 2 * hidden_size)
        self.LayerNorm = nn.LayerNorm(2 * hidden_size, eps=NORM_EPS)
        self.linear2 = nn.Linear(2 * hidden_size, num_outputs)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.linear2(self.LayerNorm(F.gelu(self.linear1(states))))


class HeroPositionEmbeddings(nn.Module):
    """Adds positions 0, 1, 2, … to states [batch, length, D], then a norm and dropout."""

    def __init__(self, config: HeroTemporalConfig | HeroQueryConfig):
        super().__init__()
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=NORM_EPS)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        positions = torch.arange(states.shape[-2], device=states.device)
        return self.dropout(self.LayerNorm(states + self.position_embeddings(positions)))


class HeroTextEmbeddings(nn.Module):
    """Words, positions from 0 and type 1, then a norm and dropout (hero §2.2). Type 0 is never read."""

    def __init__(self, config: HeroCrossModalConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=NORM_EPS)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    @property
    def last_position(self) -> int:
        """RoBERTa's table has two rows more than its 512 positions."""
        return self.position_embeddings.num_embeddings - 3

    def type_embedding(self, device: torch.device) -> torch.Tensor:
        """[D], of texts and of frames."""
        return self.token_type_embeddings(torch.ones((), dtype=torch.long, device=device))

    def forward(self, input_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Positions behind the last one share it."""
        states = self.word_embeddings(input_ids) + self.position_embeddings(positions.clamp(max=self.last_position))
        return self.dropout(self.LayerNorm(states + self.type_embedding(input_ids.device)))


class HeroFrameEmbeddings(nn.Module):
    """Rows of features [V, L, F] to the width of the text, each with its position within its subtitle (hero §2.2)."""

    def __init__(self, config: HeroCrossModalConfig, video_feature_size: int, max_frames: int):
        super().__init__()
        self.feature_LayerNorm = nn.LayerNorm(video_feature_size, eps=NORM_EPS)
        self.dense = nn.Linear(video_feature_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(max_frames, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=NORM_EPS)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, features: torch.Tensor, positions: torch.Tensor, type_embedding: torch.Tensor) -> torch.Tensor:
        states = self.dense(self.feature_LayerNorm(features)) + self.position_embeddings(positions) + type_embedding
        return self.dropout(self.LayerNorm(states))


def pack_rows(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Lay rows of mixed lengths one after the other into sequences of one length, so that little is padding.

    Args:
        rows: [tokens], the row of each token. Tokens of a row keep their order.

    Returns:
        The place of each token in the flattened sequences, int64 [tokens], and the row at each place, -1 at padding,
        int64 [sequences, length].
    """
    order = rows.argsort(stable=True)
    lengths = rows[order].unique_consecutive(return_counts=True)[1]
    sizes = lengths.tolist()
    length = max(*sizes, min(PACKED_LENGTH, len(rows)), 1) if sizes else 1
    places_of_rows, end = [], 0
    for size in sizes:
        left = length - end % length
        end += left if size > left else 0  # to the start of the next sequence
        places_of_rows.append(end)
        end += size
    starts = torch.tensor(places_of_rows, dtype=torch.long, device=rows.device)
    ahead = torch.arange(len(rows), device=rows.device) - (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
    places = torch.empty_like(rows)
    places[order] = starts.repeat_interleave(lengths) + ahead
    row_at = rows.new_full((max(-(-end // length), 1) * length,), -1)
    row_at[places] = rows
    return places, row_at.unflatten(0, (-1, length))


class HeroCrossModalModel(HeroEncoderPreTrainedModel):
    """The BERT over rows, each of the frames of a subtitle and its text (hero §2.3)."""

    config: HeroCrossModalConfig

    def __init__(self, config: HeroCrossModalConfig, video_feature_size: int, max_frames: int):
        super().__init__(config)
        self.embeddings = HeroTextEmbeddings(config)
        self.frame_embeddings = HeroFrameEmbeddings(config, video_feature_size, max_frames)
        self.encoder = BertEncoder(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module):
        self.embeddings.word_embeddings = value

    def embed_frames(self, features: torch.Tensor, frame_subtitles: torch.Tensor) -> torch.Tensor:
        """[V, L, F] -> [V, L, D]. A frame's position counts the frames of its subtitle before it."""
        same = (frame_subtitles[:, :, None] == frame_subtitles[:, None]) & (frame_subtitles >= 0)[:, :, None]
        positions = same.long().tril(-1).sum(dim=-1)
        return self.frame_embeddings(features, positions, self.embeddings.type_embedding(features.device))

    def forward(
        self,
        frames: torch.Tensor,
        frame_rows: torch.Tensor,
        input_ids: torch.Tensor,
        positions: torch.Tensor,
        token_rows: torch.Tensor,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            frames: [batch, L, D] of `embed_frames`.
            frame_rows: [batch, L], the number of the row to which a frame belongs, -1 for none. No two items of the
                batch share a number.
            input_ids, positions, token_rows: [batch, tokens].

        Returns:
            States of frames [batch, L, D] and of tokens [batch, tokens, D], 0 where there is no row.
        """
        is_frame, is_token = frame_rows >= 0, token_rows >= 0
        if torch.compiler.is_compiling():  # a graph cannot pack, which depends on the data
            states = torch.cat([frames, self.embeddings(input_ids, positions)], dim=1)
            states = self._encode(states, torch.cat([frame_rows, token_rows], dim=1), kwargs)
            states = states * torch.cat([is_frame, is_token], dim=1)[..., None]
            return states[:, : frames.shape[1]], states[:, frames.shape[1] :]
        tokens = self.embeddings(input_ids[is_token], positions[is_token])
        states = torch.cat([frames[is_frame], tokens])
        places, row_at = pack_rows(torch.cat([frame_rows[is_frame], token_rows[is_token]]))
        packed = states.new_zeros(row_at.numel(), states.shape[-1]).index_copy(0, places, states)
        states = self._encode(packed.unflatten(0, row_at.shape), row_at, kwargs).flatten(0, 1)[places]
        result = []
        for is_there, found in zip((is_frame, is_token), states.split([int(is_frame.sum()), len(tokens)])):
            result.append(found.new_zeros(*is_there.shape, found.shape[-1]).masked_scatter(is_there[..., None], found))
        return result[0], result[1]

    def _encode(self, states: torch.Tensor, rows: torch.Tensor, kwargs: Any) -> torch.Tensor:
        """[sequences, length, D]; a token sees its own row."""
        others = (rows[:, None, :, None] != rows[:, None, None]).to(states.dtype) * MASKED
        return self.encoder(states, attention_mask=others, **kwargs).last_hidden_state


class HeroTemporalModel(HeroEncoderPreTrainedModel):
    """The BERT over time (hero §2.5). Of texts behind the frames, it reads the embeddings (hero §4)."""

    config: HeroTemporalConfig

    def __init__(self, config: HeroTemporalConfig):
        super().__init__(config)
        self.embeddings = HeroPositionEmbeddings(config)
        self.encoder = BertEncoder(config)
        self.post_init()

    def forward(
        self,
        frames: torch.Tensor,
        mask: torch.Tensor,
        text_embeds: torch.Tensor | None = None,
        text_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        """[batch, L, D] -> [batch, L, D], perhaps with a text [batch, N, D] for each; the masks are [batch, L | N]."""
        states = self.embeddings(frames)
        if text_embeds is not None and text_mask is not None:
            states, mask = torch.cat([states, text_embeds], dim=1), torch.cat([mask, text_mask], dim=1)
        mask = create_bidirectional_mask(config=self.config, inputs_embeds=states, attention_mask=mask)
        return self.encoder(states, attention_mask=mask, **kwargs).last_hidden_state[:, : frames.shape[1]]


class HeroQueryModel(HeroPreTrainedModel):
    """Makes one vector of the tokens of a query: a block of self-attention, then attention pooling (hero §3)."""

    config: HeroQueryConfig

    def __init__(self, config: HeroQueryConfig):
        super().__init__(config)
        self.projection = HeroProjection(config.hidden_size, config.hidden_size, config.hidden_dropout_prob)
        self.embeddings = HeroPositionEmbeddings(config)
        self.attention = BertAttention(config)
        self.pooling = nn.Linear(config.hidden_size, 1, bias=False)
        self.post_init()

    def forward(self, states: torch.Tensor, mask: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> torch.Tensor:
        """[Q, N, D] -> [Q, D]; the mask is [Q, N]."""
        states = self.embeddings(self.projection(states))
        full_mask = create_bidirectional_mask(config=self.config, inputs_embeds=states, attention_mask=mask)
        states, _ = self.attention(states, full_mask, **kwargs)
        return pool(self.pooling(states), states, mask)


def pool(scores: torch.Tensor, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """States [..., length, D], averaged by the softmax of scores [..., length, 1] where mask [..., length] is 1."""
    weights = scores[..., 0].masked_fill(mask == 0, MASKED).softmax(dim=-1)
    return (weights[..., None, :] @ states)[..., 0, :]


def mean_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Over all targets that are not negative, and 0 if all are (hero §4)."""
    counts = targets >= 0
    summed = F.cross_entropy(logits.float(), targets.masked_fill(~counts, -100), reduction="sum")
    return summed / counts.sum().clamp(min=1)


class HeroModel(HeroPreTrainedModel):
    """
    Both encoders without a head (hero §2).

    ```python
    model = HeroModel.from_pretrained("org/hero")
    inputs = processor(video_features=np.load("clip.npy"), subtitles="clip.srt")
    frames = model(**inputs).last_hidden_state
    ```
    """

    def __init__(self, config: HeroConfig):
        super().__init__(config)
        size, dropout = config.video_feature_size, config.cross_modal_config.hidden_dropout_prob
        self.cross_modal_model = HeroCrossModalModel._from_config(
            config.cross_modal_config, video_feature_size=size, max_frames=config.max_frames
        )
        self.frame_transform = HeroProjection(size, config.hidden_size, dropout)
        self.temporal_model = HeroTemporalModel._from_config(config.temporal_config)
        self.post_init()

    def _init_weights(self, module):
        HeroEncoderPreTrainedModel._init_weights(self, module)

    def get_input_embeddings(self) -> nn.Module:
        return self.cross_modal_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        self.cross_modal_model.set_input_embeddings(value)

    @can_return_tuple
    def forward(
        self,
        video_features: torch.Tensor | None = None,
        video_attention_mask: torch.Tensor | None = None,
        subtitle_input_ids: torch.Tensor | None = None,
        subtitle_attention_mask: torch.Tensor | None = None,
        frame_subtitles: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> HeroModelOutput:
        """
        Args:
            video_features: [V, L, F], rows of features in their order. What stands at padding does not matter.
            video_attention_mask: [V, L], 1 = frame, 0 = padding. `None`: all are frames.
            subtitle_input_ids: [V, S, T], each starting with the separator and padded at its end.
            subtitle_attention_mask: [V, S, T], 1 = token, 0 = padding; all 0 where a video has fewer subtitles.
                `None`: all are tokens.
            frame_subtitles: [V, L], the number of the subtitle that is shown with a frame, -1 for none. A subtitle
                without frames changes nothing and is not computed.
            input_ids, attention_mask: [V, C, N], texts with which each video is read: every subtitle is followed by
                the text, and so are the frames (hero §4). A text of mask 0 throughout fills up. `None`: no text.

        Raises:
            ValueError: an input is missing or has another shape; a frame has a subtitle that is not there, or padding
                has one.
        """
        mask, frame_subtitles = self._check(
            video_features, video_attention_mask, subtitle_input_ids, subtitle_attention_mask, frame_subtitles
        )
        features = video_features.to(self.dtype).masked_fill(mask[..., None] == 0, 0)
        if subtitle_attention_mask is None:
            subtitle_attention_mask = torch.ones_like(subtitle_input_ids)
        if input_ids is not None and attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        read = self._read_subtitles(
            features, subtitle_input_ids, subtitle_attention_mask, frame_subtitles, input_ids, attention_mask, kwargs
        )
        fused = self.frame_transform(features)[:, None] + read
        videos, texts = fused.shape[:2]
        text_embeds = text_mask = None
        if input_ids is not None:
            positions = torch.arange(input_ids.shape[-1], device=input_ids.device)
            text_embeds = self.cross_modal_model.embeddings(input_ids, positions).flatten(0, 1)
            text_mask = attention_mask.flatten(0, 1)
        frames_mask = mask.repeat_interleave(texts, dim=0)
        states = self.temporal_model(fused.flatten(0, 1), frames_mask, text_embeds, text_mask, **kwargs)
        states = states.unflatten(0, (videos, texts))
        if input_ids is None:
            states, fused = states[:, 0], fused[:, 0]
        return HeroModelOutput(last_hidden_state=states, fused_frames=fused)

    def _read_subtitles(
        self, features, subtitle_ids, subtitle_mask, frame_subtitles, text_ids, text_mask, kwargs
    ) -> torch.Tensor:
        """[V, C, L, D], the frames as the cross-modal BERT reads them with their subtitle; 0 without one."""
        (videos, subtitles, tokens), device = subtitle_ids.shape, subtitle_ids.device
        numbers = torch.arange(subtitles, device=device)
        is_shown = (frame_subtitles[:, None] == numbers[:, None]).any(dim=-1)  # [V, S]
        rows = (numbers + subtitles * torch.arange(videos, device=device)[:, None]).masked_fill(~is_shown, -1)
        token_rows = rows[..., None].masked_fill(subtitle_mask == 0, -1).flatten(1)
        ids, positions = subtitle_ids.flatten(1), torch.arange(tokens, device=device).repeat(videos, subtitles)
        frame_rows = rows.gather(1, frame_subtitles.clamp(min=0)).masked_fill(frame_subtitles < 0, -1)
        lengths = subtitle_mask.sum(dim=-1)
        longest = tokens
        frames = self.cross_modal_model.embed_frames(features, frame_subtitles)
        texts = 1
        if text_ids is not None:
            texts, more = text_ids.shape[1:]
            longest += more
            behind = (lengths[..., None] + torch.arange(more, device=device)).flatten(1)  # [V, S * N]
            text_rows = rows[:, None, :, None].masked_fill(text_mask[:, :, None] == 0, -1)  # [V, C, S, N]

            def of_each_text(value: torch.Tensor) -> torch.Tensor:
                return value[:, None].expand(-1, texts, *value.shape[1:])

            ids = torch.cat([of_each_text(ids), text_ids.repeat(1, 1, subtitles)], dim=-1).flatten(0, 1)
            positions = of_each_text(torch.cat([positions, behind], dim=-1)).flatten(0, 1)
            token_rows = torch.cat([of_each_text(token_rows), text_rows.flatten(2)], dim=-1)
            frame_rows, frames = of_each_text(frame_rows), of_each_text(frames).flatten(0, 1)
            offsets = videos * subtitles * torch.arange(texts, device=device)[:, None]
            token_rows = torch.where(token_rows < 0, -1, token_rows + offsets).flatten(0, 1)
            frame_rows = torch.where(frame_rows < 0, -1, frame_rows + offsets).flatten(0, 1)
        last = self.cross_modal_model.embeddings.last_position
        if longest > last + 1 and not torch.compiler.is_compiling():
            self._warn_of_long_rows(lengths + (0 if text_mask is None else text_mask.sum(-1).amax(1, True)), last)
        states, _ = self.cross_modal_model(frames, frame_rows, ids, positions, token_rows, **kwargs)
        return states.unflatten(0, (videos, texts))

    @staticmethod
    def _warn_of_long_rows(lengths: torch.Tensor, last: int) -> None:
        for video, subtitle in (lengths > last + 1).nonzero().tolist()[:1]:
            logger.warning_once(
                f"Subtitle {subtitle} of video {video} has {int(lengths[video, subtitle])} tokens with the text "
                f"behind it; those from number {last + 1} on share one position, as in the original."
            )

    def _check(
        self, features, mask, subtitle_ids, subtitle_mask, frame_subtitles
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The mask of the frames, and the subtitle of each frame."""
        config = self.config
        shape = None if features is None else tuple(features.shape)
        if (
            shape is None
            or len(shape) != 3
            or shape[2] != config.video_feature_size
            or not 0 < shape[1] <= config.max_frames
        ):
            raise ValueError(
                f"video_features is {shape}; expected [videos, 1 to {config.max_frames} frames, "
                f"{config.video_feature_size}]. Use the processor saved with the model, and the features that it was "
                f"trained on ({config.features or 'of unknown extractors'})."
            )
        if subtitle_ids is None or frame_subtitles is None or subtitle_ids.ndim != 3:
            raise ValueError(
                "subtitle_input_ids [videos, subtitles, tokens] and frame_subtitles [videos, frames] are needed. The "
                "processor makes them, also for a video without subtitles."
            )
        mask = torch.ones(shape[:2], dtype=torch.long, device=features.device) if mask is None else mask
        for name, value, expected in (
            ("video_attention_mask", mask, shape[:2]),
            ("frame_subtitles", frame_subtitles, shape[:2]),
            ("subtitle_input_ids", subtitle_ids, (shape[0], *subtitle_ids.shape[1:])),
            ("subtitle_attention_mask", subtitle_ids if subtitle_mask is None else subtitle_mask, subtitle_ids.shape),
        ):
            if tuple(value.shape) != tuple(expected):
                raise ValueError(f"{name} is {tuple(value.shape)}; expected {tuple(expected)}.")
        if torch.compiler.is_compiling():
            return mask, frame_subtitles
        is_there = torch.ones(subtitle_ids.shape[:2], dtype=torch.bool, device=subtitle_ids.device)
        if subtitle_mask is not None:
            is_there = subtitle_mask.any(dim=-1)
        is_there = F.pad(is_there, (1, 0), value=True)  # -1, no subtitle, is the first
        number = frame_subtitles + 1
        inside = (number >= 0) & (number < is_there.shape[1])
        wrong = ~inside | ~is_there.gather(1, number.where(inside, 0)) | ((mask == 0) & (frame_subtitles != -1))
        if wrong.any():
            video, frame = wrong.nonzero()[0].tolist()
            raise ValueError(
                f"frame_subtitles[{video}, {frame}] is {int(frame_subtitles[video, frame])}; expected a subtitle with "
                f"tokens, from 0 to {is_there.shape[1] - 2}, or -1 for none, and -1 at padding."
            )
        return mask, frame_subtitles


class HeroForVideoTextRetrieval(HeroPreTrainedModel):
    """
    Finds videos, and moments in videos, by a query (hero §3; `HeroForVcmr` of the original).

    ```python
    model = HeroForVideoTextRetrieval.from_pretrained("org/hero-tvr")
    inputs = processor(video_features=np.load("talk.npy"), subtitles="talk.srt", text="she explains the second slide")
    print(processor.post_process_moments(model(**inputs)))
    ```
    """

    model_tags = ["hf_videolang", "hero", "video-text-retrieval"]

    def __init__(self, config: HeroConfig):
        super().__init__(config)
        self.hero = HeroModel._from_config(config)
        self.query_model = HeroQueryModel._from_config(config.query_config)
        self.query_projection = nn.Linear(config.hidden_size, config.hidden_size)
        self.start_predictor = nn.Conv1d(1, 1, kernel_size=5, padding=2, bias=False)
        self.end_predictor = nn.Conv1d(1, 1, kernel_size=5, padding=2, bias=False)
        self.post_init()

    @can_return_tuple
    def get_text_features(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Unpack[TransformersKwargs]
    ) -> HeroTextOutput:
        """
        Args:
            input_ids, attention_mask: [Q, N], queries, each starting with the beginning-of-sentence token.

        ```python
        queries = model.get_text_features(**processor(text=["a man sits"])).text_embeds
        ```
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        cross_modal, (queries, tokens) = self.hero.cross_modal_model, input_ids.shape
        positions = torch.arange(tokens, device=input_ids.device).expand(queries, -1)
        rows = torch.arange(queries, device=input_ids.device)[:, None].masked_fill(attention_mask == 0, -1)
        frames = torch.zeros(queries, 0, self.config.hidden_size, dtype=self.dtype, device=input_ids.device)
        _, states = cross_modal(frames, rows[:, :0], input_ids, positions, rows, **kwargs)
        return HeroTextOutput(text_embeds=self.query_model(states, attention_mask, **kwargs), last_hidden_state=states)

    @can_return_tuple
    def get_video_features(
        self,
        video_features: torch.Tensor,
        video_attention_mask: torch.Tensor | None = None,
        subtitle_input_ids: torch.Tensor | None = None,
        subtitle_attention_mask: torch.Tensor | None = None,
        frame_subtitles: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> HeroVideoOutput:
        """
        Arguments and errors as of [`HeroModel`].

        ```python
        encoded = model.get_video_features(**processor(video_features=features, subtitles="clip.srt"))
        ```
        """
        states = self.hero(
            video_features,
            video_attention_mask,
            subtitle_input_ids,
            subtitle_attention_mask,
            frame_subtitles,
            return_dict=True,
            **kwargs,
        ).last_hidden_state
        if video_attention_mask is None:
            video_attention_mask = torch.ones(states.shape[:2], dtype=torch.long, device=states.device)
        return HeroVideoOutput(frame_embeds=states, video_attention_mask=video_attention_mask)

    def video_scores(
        self, text_embeds: torch.Tensor, frame_embeds: torch.Tensor, video_attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """The highest cosine of each query [Q, D] and a frame of each video [V, L, D]: [Q, V]."""
        products = torch.einsum("qd,vld->qvl", F.normalize(text_embeds, dim=-1, eps=1e-5), frame_embeds)
        # Divided afterwards, since unit frames would be a copy of the whole corpus.
        cosines = products / torch.linalg.vector_norm(frame_embeds, dim=-1).clamp(min=1e-5)
        return cosines.masked_fill(video_attention_mask == 0, MASKED).amax(dim=-1)

    def frame_similarity(
        self, text_embeds: torch.Tensor, frame_embeds: torch.Tensor, video_index: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        Args:
            text_embeds: [Q, D].
            frame_embeds: [V, L, D], as encoded, padding included.
            video_index: [Q], the video of each query. `None`: all videos.

        Returns:
            Dot products [Q, L], for all videos [Q, V, L], as `span_logits` reads them.
        """
        queries = self.query_projection(text_embeds)
        if video_index is None:
            return torch.einsum("qd,vld->qvl", queries, frame_embeds)
        return torch.einsum("qd,qld->ql", queries, frame_embeds[video_index])

    def span_logits(
        self, similarity: torch.Tensor, video_attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Start and end logits [..., L] of similarities [..., L]; -10000 where the mask [..., L] is 0."""
        rows = similarity.reshape(-1, 1, similarity.shape[-1])
        starts, ends = (
            predictor(rows).view_as(similarity).masked_fill(video_attention_mask == 0, MASKED)
            for predictor in (self.start_predictor, self.end_predictor)
        )
        return starts, ends

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        video_attention_mask: torch.Tensor | None = None,
        subtitle_input_ids: torch.Tensor | None = None,
        subtitle_attention_mask: torch.Tensor | None = None,
        frame_subtitles: torch.Tensor | None = None,
        text_embeds: torch.Tensor | None = None,
        frame_embeds: torch.Tensor | None = None,
        video_index: torch.Tensor | None = None,
        start_positions: torch.Tensor | None = None,
        end_positions: torch.Tensor | None = None,
        return_loss: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> HeroRetrievalOutput:
        """
        Args:
            input_ids, attention_mask: [Q, N], queries.
            video_features, video_attention_mask, subtitle_input_ids, subtitle_attention_mask, frame_subtitles: see
                [`HeroModel`].
            text_embeds, frame_embeds: outputs of `get_text_features` and `get_video_features` in place of the inputs;
                `frame_embeds` with its `video_attention_mask`.
            video_index: [Q], the video of each query. `None` with as many queries as videos: query i is of video i.
            start_positions, end_positions: [Q], first and last frame of the moment; negative ones do not count.
                `None`: there is no span loss.
            return_loss: also compute the loss of the local batch.

        Raises:
            ValueError: neither text nor video is given, inputs are wrong as of [`HeroModel`], or `return_loss` cannot
                tell the video of a query.
        """
        if input_ids is not None:
            text_embeds = self.get_text_features(input_ids, attention_mask, return_dict=True, **kwargs).text_embeds
        if video_features is not None:
            encoded = self.get_video_features(
                video_features,
                video_attention_mask,
                subtitle_input_ids,
                subtitle_attention_mask,
                frame_subtitles,
                return_dict=True,
                **kwargs,
            )
            frame_embeds, video_attention_mask = encoded.frame_embeds, encoded.video_attention_mask
        output = HeroRetrievalOutput(
            text_embeds=text_embeds, frame_embeds=frame_embeds, video_attention_mask=video_attention_mask
        )
        if text_embeds is None or frame_embeds is None:
            if text_embeds is frame_embeds or return_loss:
                raise ValueError("pass input_ids, video_features, or both; return_loss needs both.")
            return output
        queries, videos = text_embeds.shape[0], frame_embeds.shape[0]
        if video_index is None and queries == videos:
            video_index = torch.arange(queries, device=text_embeds.device)
        output.logits_per_text = self.video_scores(text_embeds, frame_embeds, video_attention_mask)
        similarity = self.frame_similarity(text_embeds, frame_embeds, video_index)
        own_mask = video_attention_mask if video_index is None else video_attention_mask[video_index]
        output.start_logits, output.end_logits = self.span_logits(similarity, own_mask)
        if return_loss:
            if video_index is None:
                raise ValueError(f"{queries} queries and {videos} videos; pass video_index, the video of each query.")
            spans = None if start_positions is None else (start_positions, end_positions)
            losses = self.losses(output.logits_per_text, video_index, output.start_logits, output.end_logits, spans)
            output.span_loss, output.video_ranking_loss, output.query_ranking_loss = losses
            output.loss = torch.stack(losses).sum()
        return output

    def losses(
        self,
        logits_per_text: torch.Tensor,
        video_index: torch.Tensor,
        start_logits: torch.Tensor,
        end_logits: torch.Tensor,
        spans: tuple[torch.Tensor, torch.Tensor] | None = None,
        has_span_loss: bool = True,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """
        The span loss and the two ranking losses, each a mean times its weight (hero §3). A training step leaves out
        the span loss with the probability `config.span_drop_probability`, drawn by Python's `random`.

        Args:
            logits_per_text, video_index: [Q, V] and [Q] of the whole batch.
            start_logits, end_logits, spans: of the local queries, each [Q, L], and the positions, each [Q].
            has_span_loss: whether the span loss counts yet.
        """
        config = self.config
        span = start_logits.new_zeros(())
        if spans is not None:
            kept = has_span_loss and (not self.training or random.random() > config.span_drop_probability)
            # Times 0 instead of left out, so that every parameter has a gradient in every process.
            weight = config.span_loss_weight if kept else 0.0
            span = weight * sum(map(mean_cross_entropy, (start_logits, end_logits), spans))
        by_video, by_query = moment_ranking_losses(
            logits_per_text.float(),
            video_index,
            config.ranking_loss,
            config.margin,
            config.hard_pool_size,
            config.hard_negative_weight,
        )
        return span, config.video_ranking_weight * by_video.mean(), config.query_ranking_weight * by_query.mean()


class HeroAnswerModel(HeroPreTrainedModel):
    """What the heads for questions and statements share: the frames, pooled by attention, and a prediction."""

    def __init__(self, config: HeroConfig):
        super().__init__(config)
        self.hero = HeroModel._from_config(config)
        self.answer_pool = nn.Linear(config.hidden_size, 1, bias=False)
        self.answer_head = HeroPredictionHead(config.hidden_size, 1)

    def _answer(self, states: torch.Tensor, video_attention_mask: torch.Tensor | None) -> torch.Tensor:
        """[V, C, L, D] -> [V, C]."""
        mask = states.new_ones(states.shape[::2]) if video_attention_mask is None else video_attention_mask
        pooled = pool(self.answer_pool(states), states, mask[:, None].expand(states.shape[:3]))
        return self.answer_head(pooled)[..., 0]


class HeroForMultipleChoice(HeroAnswerModel):
    """
    Chooses among the answers to a question, and tells the moment that it looked at (hero §4; TVQA, How2QA, VLEP).

    ```python
    model = HeroForMultipleChoice.from_pretrained("org/hero-tvqa")
    inputs = processor(video_features=features, subtitles="clip.srt", question="who sits?", choices=["Ana", "Bo"])
    print(model(**inputs).logits.softmax(-1))
    ```
    """

    def __init__(self, config: HeroConfig):
        super().__init__(config)
        self.span_pool = nn.Linear(config.hidden_size, 1, bias=False)
        self.span_head = HeroPredictionHead(config.hidden_size, 2)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if module is self.span_pool:  # whose turn comes after answer_pool's
            init.copy_(module.weight, self.answer_pool.weight)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        video_attention_mask: torch.Tensor | None = None,
        subtitle_input_ids: torch.Tensor | None = None,
        subtitle_attention_mask: torch.Tensor | None = None,
        frame_subtitles: torch.Tensor | None = None,
        video_index: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        start_positions: torch.Tensor | None = None,
        end_positions: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> HeroAnswerOutput:
        """
        Args:
            input_ids, attention_mask: [V, C, N], for each choice the separator, the question, the separator and the
                choice. A choice of mask 0 throughout fills up a question with fewer; its probability is 0.
            video_features, video_attention_mask, subtitle_input_ids, subtitle_attention_mask, frame_subtitles: see
                [`HeroModel`].
            video_index: [questions], the video of each question. `None`: question i is about video i. Each question
                reads its video anew, so this saves no time.
            labels: [V], number of the right choice from 0; negative ones do not count.
            start_positions, end_positions: [V], first and last frame of the moment; negative ones do not count.

        Raises:
            ValueError: as of [`HeroModel`], or `input_ids` has no choices.
        """
        if input_ids is None or input_ids.ndim != 3:
            raise ValueError(
                f"input_ids has shape {None if input_ids is None else tuple(input_ids.shape)}; expected [videos, "
                "choices, tokens], which the processor makes of question=… and choices=[…]."
            )
        attention_mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        if video_index is not None and video_features is not None:
            given = video_attention_mask, subtitle_input_ids, subtitle_attention_mask, frame_subtitles
            video_features = video_features[video_index]
            video_attention_mask, subtitle_input_ids, subtitle_attention_mask, frame_subtitles = (
                None if value is None else value[video_index] for value in given
            )
        states = self.hero(
            video_features,
            video_attention_mask,
            subtitle_input_ids,
            subtitle_attention_mask,
            frame_subtitles,
            input_ids,
            attention_mask,
            return_dict=True,
            **kwargs,
        ).last_hidden_state
        is_absent, lowest = ~attention_mask.bool().any(dim=-1), torch.finfo(states.dtype).min
        logits = self._answer(states, video_attention_mask).masked_fill(is_absent, lowest)
        weights = self.span_pool(states).masked_fill(is_absent[..., None, None], lowest).softmax(dim=1)
        spans = self.span_head((weights * states).sum(dim=1))
        if video_attention_mask is not None:
            spans = spans.masked_fill(video_attention_mask[..., None] == 0, MASKED)
        start_logits, end_logits = spans.unbind(dim=-1)
        loss = None
        if labels is not None:
            loss = mean_cross_entropy(logits, labels)
            if start_positions is not None and end_positions is not None:
                spans = mean_cross_entropy(start_logits, start_positions) + mean_cross_entropy(
                    end_logits, end_positions
                )
                loss = loss + self.config.answer_span_loss_weight * spans / 2
        return HeroAnswerOutput(
            loss=loss, logits=logits, start_logits=start_logits, end_logits=end_logits, last_hidden_state=states
        )


class HeroForSequenceClassification(HeroAnswerModel):
    """
    Tells whether a statement about a video is true (hero §4; VIOLIN). It is if the logit is above 0.

    ```python
    model = HeroForSequenceClassification.from_pretrained("org/hero-violin")
    inputs = processor(video_features=features, subtitles="clip.srt", statement="the woman leaves")
    print(model(**inputs).logits.sigmoid())
    ```
    """

    def __init__(self, config: HeroConfig):
        super().__init__(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        video_attention_mask: torch.Tensor | None = None,
        subtitle_input_ids: torch.Tensor | None = None,
        subtitle_attention_mask: torch.Tensor | None = None,
        frame_subtitles: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> HeroAnswerOutput:
        """
        Args:
            input_ids, attention_mask: [V, N], the separator and the statement.
            video_features, video_attention_mask, subtitle_input_ids, subtitle_attention_mask, frame_subtitles: see
                [`HeroModel`].
            labels: [V], 1 = true, 0 = false.

        Raises:
            ValueError: as of [`HeroModel`], or `input_ids` is not [videos, tokens].
        """
        if input_ids is None or input_ids.ndim != 2:
            raise ValueError(
                f"input_ids has shape {None if input_ids is None else tuple(input_ids.shape)}; expected [videos, "
                "tokens], which the processor makes of statement=…."
            )
        states = self.hero(
            video_features,
            video_attention_mask,
            subtitle_input_ids,
            subtitle_attention_mask,
            frame_subtitles,
            input_ids[:, None],
            None if attention_mask is None else attention_mask[:, None],
            return_dict=True,
            **kwargs,
        ).last_hidden_state
        logits = self._answer(states, video_attention_mask)
        loss = None
        if labels is not None:
            loss = F.binary_cross_entropy_with_logits(logits.float()[:, 0], labels.float())
        return HeroAnswerOutput(loss=loss, logits=logits, last_hidden_state=states)


__all__ = [
    "HeroForMultipleChoice",
    "HeroForSequenceClassification",
    "HeroForVideoTextRetrieval",
    "HeroModel",
    "HeroPreTrainedModel",
]
