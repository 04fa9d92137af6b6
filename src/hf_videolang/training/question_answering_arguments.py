"""The keys of a recipe for questions: model and data (`QuestionAnsweringArguments`), and how to train."""

from dataclasses import dataclass
from typing import Literal

from .arguments import SubtitledVideoArguments, VideoTrainingArguments, option


@dataclass(kw_only=True)
class QuestionAnsweringArguments(SubtitledVideoArguments):
    """Model and data of a run. The help texts explain the fields."""

    head: Literal["open", "soft", "multiple_choice", "count", "statement"] | None = option(
        None,
        "how questions are answered: open (one of the answers), soft (the same, trained on scored answers), "
        "multiple_choice (one of the question's options), count, or statement (whether a statement is true). Another "
        "head than the model's starts new. Default: the model's own; where it has none, what the training questions "
        "have: options, scored answers, or answers",
    )
    answers: dict | str | None = option(
        None,
        "answers of an open or soft head: a file (one answer a line, or JSON), or the most frequent ones of the "
        """training split: '{"min_count": 1, "max_size": 1500}'. If the model has such a head, they must be its """
        "own; 'new' takes those of the training split and starts a new head. Default: the model's own, or new",
    )


@dataclass
class QuestionAnsweringTrainingArguments(VideoTrainingArguments):
    """
    [`VideoTrainingArguments`] for questions about videos. An item is a question. Of scored answers the score is
    `overall_soft_accuracy`, of counts `overall_MSE`.
    """

    metric_for_best_model: str | None = option("overall_accuracy", "the score that chooses the best checkpoint")
