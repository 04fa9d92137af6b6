"""
HERO (arXiv 2005.00200) as the VALUE benchmark extends it (arXiv 2106.04632).

Letters for shapes: V videos, L frames of the longest video, F width of a row of features, S subtitles, T tokens of a
subtitle, Q queries, C texts of a video (choices), N tokens of a text, D width. A frame is a row of features.

Each subtitle is read together with its frames by the cross-modal BERT. The states of the frames, added to the frames
themselves, are read in their order by the temporal BERT. The layers are transformers' own. With `config.text_config`,
CLIP's text encoder reads the texts first: CLIP-Enhanced (arXiv 2110.07137), as far as it is published (hero §11).
"""

import random
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextModel
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.bert.modeling_bert import BertAttention
from transformers.utils import ModelOutput, TransformersKwargs, logging
from transformers.utils.generic import can_return_tuple

from hf_videolang.losses.moment_ranking import moment_ranking_losses

from .configuration_hero import HeroConfig, HeroQueryConfig
from .modeling_hero_encoders import (
    MASKED,
    HeroCrossModalModel,
    HeroEncoderPreTrainedModel,
    HeroFrameEmbeddings,
    HeroPositionEmbeddings,
    HeroPreTrainedModel,
    HeroProjection,
    HeroTemporalModel,
    HeroTextEmbeddings,
    HeroTextProjection,
)
from .modeling_hero_fusion import HeroFeatureFusion, HeroSequenceFusion, of_frames

logger = logging.get_logger(__name__)


@dataclass
class HeroModelOutput(ModelOutput):
    """
    Output of [`HeroModel`].

    Args:
        last_hidden_state (`torch.Tensor` [V, L, D], with texts [V, C, L, D]): the frames. Those of padding are not 0.
            With texts and fusion by sequence, the subtitles stand behind the frames.
        fused_frames (`torch.Tensor` of the same shape): what the temporal BERT read.
        attention_mask (`torch.Tensor` [V, L]): 1 = frame or subtitle, 0 = padding.
    """

    last_hidden_state: torch.Tensor | None = None
    fused_frames: torch.Tensor | None = None
    attention_mask: torch.Tensor | None = None


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
        cross_modal, size = config.cross_modal_config, config.video_feature_size
        is_joint = config.fusion == "cross_modal"
        if config.text_config is None:
            self.text_model, embeddings = None, HeroTextEmbeddings(cross_modal)
        else:
            self.text_model = CLIPTextModel._from_config(config.text_config)
            embeddings = HeroTextProjection(cross_modal, config.text_config.hidden_size, config.text_norm)
        self.cross_modal_model = HeroCrossModalModel._from_config(
            cross_modal,
            embeddings=embeddings,
            frame_embeddings=HeroFrameEmbeddings(cross_modal, size, config.max_frames) if is_joint else None,
        )
        if is_joint:
            self.frame_transform = HeroProjection(size, config.hidden_size, cross_modal.hidden_dropout_prob)
        elif config.fusion == "sequence":
            self.fusion = HeroSequenceFusion(config)
        else:
            self.fusion = HeroFeatureFusion(config)
        self.temporal_model = HeroTemporalModel._from_config(
            config.temporal_config, has_positions=config.fusion != "sequence"
        )
        self.post_init()

    def _init_weights(self, module):
        HeroEncoderPreTrainedModel._init_weights(self, module)

    def get_input_embeddings(self) -> nn.Module:
        if self.text_model is not None:
            return self.text_model.get_input_embeddings()
        return self.cross_modal_model.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module):
        if self.text_model is not None:
            self.text_model.set_input_embeddings(value)
        else:
            self.cross_modal_model.embeddings.word_embeddings = value

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
        if self.config.channels == "video":
            subtitle_input_ids, subtitle_attention_mask, frame_subtitles = self._one_subtitle(mask)
        elif self.config.channels == "subtitles":
            features = torch.zeros_like(features)
        if input_ids is not None and attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        subtitles, texts = (subtitle_input_ids, subtitle_attention_mask), (input_ids, attention_mask)
        if self.config.fusion == "cross_modal":
            states, text_embeds = self._read_subtitles(features, frame_subtitles, subtitles, texts, kwargs)
            fused = self.frame_transform(features)[:, None] + states
        else:
            pooled = self._pool_subtitles(subtitles, texts, kwargs)
            text_embeds = None if input_ids is None else self._embed_texts(input_ids)
            if self.config.fusion == "sequence":
                fused = self.fusion(features, pooled)
                mask = torch.cat([mask, subtitle_attention_mask.any(dim=-1).to(mask.dtype)], dim=1)
            else:
                fused = self.fusion(features, pooled, frame_subtitles)
        videos, number = fused.shape[:2]
        states = self.temporal_model(
            fused.flatten(0, 1),
            mask.repeat_interleave(number, dim=0),
            None if text_embeds is None else text_embeds.flatten(0, 1),
            None if attention_mask is None else attention_mask.flatten(0, 1),
            **kwargs,
        )
        states = states.unflatten(0, (videos, number))
        if input_ids is None:  # the subtitles of a sequence only serve the frames
            states, fused, mask = states[:, 0, : features.shape[1]], fused[:, 0], mask[:, : features.shape[1]]
        return HeroModelOutput(last_hidden_state=states, fused_frames=fused, attention_mask=mask)

    def place_texts(
        self, input_ids: torch.Tensor, is_there: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        What the cross-modal BERT takes as `input_ids` and `text_states`.

        HERO's are the ids alone. CLIP reads every different text once, and the ids become places in its states.

        Args:
            input_ids: [..., N].
            is_there: [...], whether the text is read.
        """
        if self.text_model is None:
            return input_ids, None
        length = input_ids.shape[-1]
        if torch.compiler.is_compiling():
            is_there = torch.ones_like(is_there)
            texts, number = input_ids.flatten(0, -2), torch.arange(is_there.numel(), device=input_ids.device)
        else:
            texts, number = input_ids[is_there].unique(dim=0, return_inverse=True)
        states = self.cross_modal_model.embeddings(self.text_model(texts, **kwargs).last_hidden_state)
        within = number[:, None] * length + torch.arange(length, device=input_ids.device)
        places = torch.zeros_like(input_ids).masked_scatter(is_there[..., None], within)
        return places, states.flatten(0, 1)

    def text_positions(self, length: int, device: torch.device) -> torch.Tensor:
        """[length]. CLIP's states have theirs already."""
        return self._clamped(torch.arange(length, device=device))

    def _clamped(self, positions: torch.Tensor) -> torch.Tensor:
        if self.text_model is not None:
            return positions
        return positions.clamp(max=self.cross_modal_model.embeddings.last_position)

    def _embed_texts(self, input_ids: torch.Tensor, text_states: torch.Tensor | None = None) -> torch.Tensor:
        """[..., N] -> [..., N, D]."""
        positions = self.text_positions(input_ids.shape[-1], input_ids.device)
        return self.cross_modal_model.embed_tokens(input_ids, positions, text_states)

    def _one_subtitle(self, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """An empty subtitle [V, 1, 1 or 2] that is shown with all frames of the mask [V, L], and with which frames."""
        text = self.config.text_config
        ids = [self.config.cross_modal_config.bos_token_id] if text is None else [text.bos_token_id, text.eos_token_id]
        subtitle_ids = torch.tensor(ids, device=mask.device).expand(len(mask), 1, -1)
        return subtitle_ids, torch.ones_like(subtitle_ids), mask.long() - 1

    def _pool_subtitles(self, subtitles, texts, kwargs) -> torch.Tensor:
        """[V, C, S, D], the highest state of each subtitle with a text behind it, over padding, too (hero §2.6)."""
        (ids, mask), (text_ids, text_mask) = (value[:, None] for value in subtitles), texts
        if text_ids is not None:
            count, number = ids.shape[2], text_ids.shape[1]
            ids, mask = (
                torch.cat([own.expand(-1, number, -1, -1), text[:, :, None].expand(-1, -1, count, -1)], dim=-1)
                for own, text in ((ids, text_ids), (mask, text_mask))
            )
            order = mask.argsort(dim=-1, descending=True, stable=True)[..., : mask.sum(dim=-1).amax()]
            ids, mask = ids.gather(-1, order), mask.gather(-1, order)
        states = self.cross_modal_model.read_texts(ids.flatten(0, 2), mask.flatten(0, 2), **kwargs)
        return states.amax(dim=1).unflatten(0, ids.shape[:3])

    def _read_subtitles(
        self, features, frame_subtitles, subtitles, texts, kwargs
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        [V, C, L, D], the frames as the cross-modal BERT reads them with their subtitle, 0 without one; and the
        embeddings of the texts [V, C, N, D].
        """
        (subtitle_ids, subtitle_mask), (text_ids, text_mask) = subtitles, texts
        (videos, count, tokens), device = subtitle_ids.shape, subtitle_ids.device
        numbers = torch.arange(count, device=device)
        is_shown = (frame_subtitles[:, None] == numbers[:, None]).any(dim=-1)  # [V, S]
        rows = (numbers + count * torch.arange(videos, device=device)[:, None]).masked_fill(~is_shown, -1)
        token_rows = rows[..., None].masked_fill(subtitle_mask == 0, -1).flatten(1)
        ids, text_states = self.place_texts(subtitle_ids, is_shown, **kwargs)
        ids, positions = ids.flatten(1), self.text_positions(tokens, device).repeat(videos, count)
        frame_rows = rows.gather(1, frame_subtitles.clamp(min=0)).masked_fill(frame_subtitles < 0, -1)
        lengths = subtitle_mask.sum(dim=-1)
        frames = self.cross_modal_model.embed_frames(features, frame_subtitles)
        is_hidden = self.config.channels == "subtitles"
        if is_hidden:
            frames, frame_rows = frames[:, :0], frame_rows[:, :0]
        texts_of_each, longest, text_embeds = 1, tokens, None
        if text_ids is not None:
            texts_of_each, more = text_ids.shape[1:]
            longest += more
            text_ids, more_states = self.place_texts(text_ids, text_mask.any(dim=-1), **kwargs)
            if text_states is not None and more_states is not None:
                text_ids, text_states = text_ids + len(text_states), torch.cat([text_states, more_states])
            text_embeds = self._embed_texts(text_ids, text_states)
            behind = self._clamped((lengths[..., None] + torch.arange(more, device=device)).flatten(1))  # [V, S * N]
            text_rows = rows[:, None, :, None].masked_fill(text_mask[:, :, None] == 0, -1)  # [V, C, S, N]

            def of_each_text(value: torch.Tensor) -> torch.Tensor:
                return value[:, None].expand(-1, texts_of_each, *value.shape[1:])

            ids = torch.cat([of_each_text(ids), text_ids.repeat(1, 1, count)], dim=-1).flatten(0, 1)
            positions = of_each_text(torch.cat([positions, behind], dim=-1)).flatten(0, 1)
            token_rows = torch.cat([of_each_text(token_rows), text_rows.flatten(2)], dim=-1)
            frame_rows, frames = of_each_text(frame_rows), of_each_text(frames).flatten(0, 1)
            offsets = videos * count * torch.arange(texts_of_each, device=device)[:, None]
            token_rows = torch.where(token_rows < 0, -1, token_rows + offsets).flatten(0, 1)
            frame_rows = torch.where(frame_rows < 0, -1, frame_rows + offsets).flatten(0, 1)
        if self.text_model is None and not torch.compiler.is_compiling():
            last = self.cross_modal_model.embeddings.last_position
            if longest > last + 1:
                self._warn_of_long_rows(lengths + (0 if text_mask is None else text_mask.sum(-1).amax(1, True)), last)
        states, tokens_read = self.cross_modal_model(
            frames, frame_rows, ids, positions, token_rows, text_states, **kwargs
        )
        if is_hidden:  # in the place of a frame stands the first token of its subtitle (hero §2.7)
            first = tokens_read[:, : count * tokens : tokens].unflatten(0, (videos, texts_of_each))
            return of_frames(first, frame_subtitles), text_embeds
        return states.unflatten(0, (videos, texts_of_each)), text_embeds

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
        (queries, tokens), device = input_ids.shape, input_ids.device
        rows = torch.arange(queries, device=device)[:, None].masked_fill(attention_mask == 0, -1)
        frames = torch.zeros(queries, 0, self.config.hidden_size, dtype=self.dtype, device=device)
        ids, text_states = self.hero.place_texts(input_ids, attention_mask.any(dim=-1), **kwargs)
        positions = self.hero.text_positions(tokens, device).expand(queries, -1)
        _, states = self.hero.cross_modal_model(frames, rows[:, :0], ids, positions, rows, text_states, **kwargs)
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
        videos = video_features, video_attention_mask, subtitle_input_ids, subtitle_attention_mask, frame_subtitles
        output = self.hero(*videos, return_dict=True, **kwargs)
        return HeroVideoOutput(frame_embeds=output.last_hidden_state, video_attention_mask=output.attention_mask)

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
            videos = video_features, video_attention_mask, subtitle_input_ids, subtitle_attention_mask, frame_subtitles
            encoded = self.get_video_features(*videos, return_dict=True, **kwargs)
            frame_embeds, video_attention_mask = encoded.frame_embeds, encoded.video_attention_mask
        output = HeroRetrievalOutput(
            text_embeds=text_embeds, frame_embeds=frame_embeds, video_attention_mask=video_attention_mask
        )
        if text_embeds is None or frame_embeds is None:
            if text_embeds is frame_embeds or return_loss:
                raise ValueError("pass input_ids, video_features, or both; return_loss needs both.")
            return output
        queries, number = text_embeds.shape[0], frame_embeds.shape[0]
        if video_index is None and queries == number:
            video_index = torch.arange(queries, device=text_embeds.device)
        output.logits_per_text = self.video_scores(text_embeds, frame_embeds, video_attention_mask)
        similarity = self.frame_similarity(text_embeds, frame_embeds, video_index)
        own_mask = video_attention_mask if video_index is None else video_attention_mask[video_index]
        output.start_logits, output.end_logits = self.span_logits(similarity, own_mask)
        if return_loss:
            if video_index is None:
                raise ValueError(f"{queries} queries and {number} videos; pass video_index, the video of each query.")
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


__all__ = [
    "HeroForVideoTextRetrieval",
    "HeroModel",
    "HeroPreTrainedModel",
]
