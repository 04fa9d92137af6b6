"""HERO's heads for questions with options and for statements (hero §4). Letters for shapes as in `modeling_hero`."""

from dataclasses import dataclass
from typing import Unpack

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import can_return_tuple

from .configuration_hero import HeroConfig
from .modeling_hero import HeroModel, mean_cross_entropy, pool
from .modeling_hero_encoders import MASKED, HeroPredictionHead, HeroPreTrainedModel


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


def video_of_each_question(
    videos: tuple[torch.Tensor | None, ...], index: torch.Tensor | None
) -> tuple[torch.Tensor | None, ...]:
    """Inputs [V, ...] to [questions, ...]; `None` as index leaves them."""
    return videos if index is None else tuple(None if value is None else value[index] for value in videos)


class HeroAnswerModel(HeroPreTrainedModel):
    """What the heads for questions and statements share: the frames, pooled by attention, and a prediction."""

    def __init__(self, config: HeroConfig):
        super().__init__(config)
        self.hero = HeroModel._from_config(config)
        self.answer_pool = nn.Linear(config.hidden_size, 1, bias=False)
        self.answer_head = HeroPredictionHead(config.hidden_size, 1)

    def _answer(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[V, C, L, D] and [V, L] -> [V, C]."""
        pooled = pool(self.answer_pool(states), states, mask[:, None].expand(states.shape[:3]))
        return self.answer_head(pooled)[..., 0]


def _fill_with_lowest(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return scores.masked_fill(mask, torch.finfo(scores.dtype).min)  # under autocast not the dtype of the states


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
        if module is self.span_pool:  # initialised after answer_pool
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
        videos = video_features, video_attention_mask, subtitle_input_ids, subtitle_attention_mask, frame_subtitles
        videos = video_of_each_question(videos, video_index)
        output = self.hero(*videos, input_ids, attention_mask, return_dict=True, **kwargs)
        states, mask = output.last_hidden_state, output.attention_mask
        is_absent = ~attention_mask.bool().any(dim=-1)
        logits = _fill_with_lowest(self._answer(states, mask), is_absent)
        weights = _fill_with_lowest(self.span_pool(states), is_absent[..., None, None]).softmax(dim=1)
        spans = self.span_head((weights * states).sum(dim=1)).masked_fill(mask[..., None] == 0, MASKED)
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
        video_index: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> HeroAnswerOutput:
        """
        Args:
            input_ids, attention_mask: [V, N], the separator and the statement.
            video_features, video_attention_mask, subtitle_input_ids, subtitle_attention_mask, frame_subtitles: see
                [`HeroModel`].
            video_index: [statements], the video of each statement, as of [`HeroForMultipleChoice`].
            labels: [V], 1 = true, 0 = false.

        Raises:
            ValueError: as of [`HeroModel`], or `input_ids` is not [videos, tokens].
        """
        if input_ids is None or input_ids.ndim != 2:
            raise ValueError(
                f"input_ids has shape {None if input_ids is None else tuple(input_ids.shape)}; expected [videos, "
                "tokens], which the processor makes of statement=…."
            )
        videos = video_features, video_attention_mask, subtitle_input_ids, subtitle_attention_mask, frame_subtitles
        videos = video_of_each_question(videos, video_index)
        text_mask = None if attention_mask is None else attention_mask[:, None]
        output = self.hero(*videos, input_ids[:, None], text_mask, return_dict=True, **kwargs)
        logits = self._answer(output.last_hidden_state, output.attention_mask)
        loss = None
        if labels is not None:
            loss = F.binary_cross_entropy_with_logits(logits.float()[:, 0], labels.float())
        return HeroAnswerOutput(loss=loss, logits=logits, last_hidden_state=output.last_hidden_state)


__all__ = ["HeroForMultipleChoice", "HeroForSequenceClassification"]
