"""The parts of HERO: its two BERTs, the layers around them, and how they start. Shapes as in `modeling_hero`."""

from typing import Any, Unpack

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_utils import PreTrainedModel
from transformers.models.bert.modeling_bert import BertEncoder
from transformers.utils import TransformersKwargs

from hf_videolang.models.shared.pushed_card import PushedCardMixin
from hf_videolang.models.shared.strict_loading import StrictLoadingMixin

from .configuration_hero import HeroConfig, HeroCrossModalConfig, HeroQueryConfig, HeroTemporalConfig

NORM_EPS = 1e-5  # of every norm outside the BERT layers (hero §1)
MASKED = -1e4  # the original's score of what is masked
PACKED_LENGTH = 128  # positions of the sequences into which short rows are packed


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
    _keys_that_may_be_new = [r"^(query|start|end|answer|span|caption|lm)_"]
    _keys_to_ignore_on_load_unexpected = [r"^(query|start|end|answer|span|caption|lm)_"]

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


class HeroTextEnd(nn.Module):
    """How text embeddings end: adds type 1, then a norm and dropout (hero §2.2). Type 0 is never read."""

    def __init__(self, config: HeroCrossModalConfig, has_norm: bool = True):
        super().__init__()
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=NORM_EPS) if has_norm else nn.Identity()
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def type_embedding(self, device: torch.device) -> torch.Tensor:
        """[D], of texts and of frames."""
        return self.token_type_embeddings(torch.ones((), dtype=torch.long, device=device))

    def end(self, states: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.LayerNorm(states + self.type_embedding(states.device)))


class HeroTextEmbeddings(HeroTextEnd):
    """Words and positions from 0 (hero §2.2)."""

    def __init__(self, config: HeroCrossModalConfig):
        super().__init__(config)
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)

    @property
    def last_position(self) -> int:
        """RoBERTa's table has two rows more than its 512 positions. Tokens behind the last one share it."""
        return self.position_embeddings.num_embeddings - 3

    def forward(self, input_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return self.end(self.word_embeddings(input_ids) + self.position_embeddings(positions))


class HeroTextProjection(HeroTextEnd):
    """States of CLIP's text encoder to the width of the cross-modal BERT (CLIP-Enhanced, hero §11)."""

    def __init__(self, config: HeroCrossModalConfig, in_size: int, has_norm: bool):
        super().__init__(config, has_norm)
        self.projection = nn.Linear(in_size, config.hidden_size)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.end(self.projection(states))


class HeroSubtitleEmbeddings(HeroTextEnd):
    """Vectors of subtitles [..., S, D] with their places, by RoBERTa's rule from 2 (hero §2.6)."""

    def __init__(self, config: HeroCrossModalConfig):
        super().__init__(config)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)

    def forward(self, subtitles: torch.Tensor) -> torch.Tensor:
        return self.end(subtitles + self.position_embeddings.weight[2 : 2 + subtitles.shape[-2]])


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
    length = max([1, min(PACKED_LENGTH, len(rows)), *sizes])
    # Best fit: the longest rows first, each into the fullest sequence that has room for it.
    with_room = [*([] for _ in range(length)), list(range(len(sizes)))[::-1]]
    starts = [0] * len(sizes)
    for row in sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True):
        room = next(room for room in range(sizes[row], length + 1) if with_room[room])
        sequence = with_room[room].pop()
        starts[row] = (sequence + 1) * length - room
        with_room[room - sizes[row]].append(sequence)
    ahead = torch.arange(len(rows), device=rows.device) - (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
    places = torch.empty_like(rows)
    places[order] = torch.tensor(starts, dtype=torch.long, device=rows.device).repeat_interleave(lengths) + ahead
    row_at = rows.new_full((max(starts, default=0) // length + 1, length), -1)
    row_at.view(-1)[places] = rows
    return places, row_at


class HeroCrossModalModel(HeroEncoderPreTrainedModel):
    """
    The BERT over rows, each of the frames of a subtitle and its text (hero §2.3).

    Args:
        embeddings: of the texts.
        frame_embeddings (*optional*): of the frames; without it, the rows are texts alone.
    """

    config: HeroCrossModalConfig

    def __init__(
        self,
        config: HeroCrossModalConfig,
        embeddings: HeroTextEmbeddings | HeroTextProjection,
        frame_embeddings: HeroFrameEmbeddings | None = None,
    ):
        super().__init__(config)
        self.embeddings = embeddings
        self.frame_embeddings = frame_embeddings
        self.encoder = BertEncoder(config)
        self.post_init()

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
        text_states: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            frames: [batch, L, D] of `embed_frames`.
            frame_rows: [batch, L], the number of the row to which a frame belongs, -1 for none. No two items of the
                batch share a number.
            input_ids, positions, token_rows: [batch, tokens].
            text_states: [states, D], in place of words and positions; `input_ids` then are places in it.

        Returns:
            States of frames [batch, L, D] and of tokens [batch, tokens, D], 0 where there is no row.
        """
        is_frame, is_token = frame_rows >= 0, token_rows >= 0
        if torch.compiler.is_compiling():  # a graph cannot pack, which depends on the data
            states = torch.cat([frames, self.embed_tokens(input_ids, positions, text_states)], dim=1)
            states = self._encode(states, torch.cat([frame_rows, token_rows], dim=1), kwargs)
            states = states * torch.cat([is_frame, is_token], dim=1)[..., None]
            return states[:, : frames.shape[1]], states[:, frames.shape[1] :]
        tokens = self.embed_tokens(input_ids[is_token], positions[is_token], text_states)
        states = torch.cat([frames[is_frame], tokens])
        places, row_at = pack_rows(torch.cat([frame_rows[is_frame], token_rows[is_token]]))
        packed = states.new_zeros(row_at.numel(), states.shape[-1]).index_copy(0, places, states)
        states = self._encode(packed.unflatten(0, row_at.shape), row_at, kwargs).flatten(0, 1)[places]
        result = []
        for is_there, found in zip((is_frame, is_token), states.split([int(is_frame.sum()), len(tokens)])):
            result.append(found.new_zeros(*is_there.shape, found.shape[-1]).masked_scatter(is_there[..., None], found))
        return result[0], result[1]

    def embed_tokens(
        self, input_ids: torch.Tensor, positions: torch.Tensor, text_states: torch.Tensor | None = None
    ) -> torch.Tensor:
        """[…] -> […, D], as of `forward`."""
        return self.embeddings(input_ids, positions) if text_states is None else text_states[input_ids]

    def read_texts(
        self, input_ids: torch.Tensor, mask: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> torch.Tensor:
        """[texts, N] -> [texts, N, D], states of padding, too. Positions are RoBERTa's (hero §2.6)."""
        padding: int = self.config.pad_token_id  # type: ignore[assignment]
        states = self.embeddings(input_ids.masked_fill(mask == 0, padding), mask.cumsum(dim=-1) * mask + padding)
        others = (1 - mask[:, None, None]).to(states.dtype) * MASKED
        return self.encoder(states, attention_mask=others, **kwargs).last_hidden_state

    def _encode(self, states: torch.Tensor, rows: torch.Tensor, kwargs: Any) -> torch.Tensor:
        """[sequences, length, D]; a token sees its own row."""
        others = (rows[:, None, :, None] != rows[:, None, None]).to(states.dtype) * MASKED
        return self.encoder(states, attention_mask=others, **kwargs).last_hidden_state


class HeroTemporalModel(HeroEncoderPreTrainedModel):
    """
    The BERT over time (hero §2.5). Of texts behind the frames, it reads the embeddings (hero §4).

    `has_positions=False` is for frames that bring their positions.
    """

    config: HeroTemporalConfig

    def __init__(self, config: HeroTemporalConfig, has_positions: bool = True):
        super().__init__(config)
        self.embeddings = HeroPositionEmbeddings(config) if has_positions else nn.Identity()
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
