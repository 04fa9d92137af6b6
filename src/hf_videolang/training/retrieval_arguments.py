"""The keys of a retrieval recipe: model and data (`RetrievalArguments`), and how to train."""

from dataclasses import dataclass
from typing import Literal

from .arguments import ContrastiveTrainingArguments, FinetuningArguments, option


@dataclass(kw_only=True)
class RetrievalArguments(FinetuningArguments):
    """Model and data of a run. The help texts explain the fields."""

    eval_captions: Literal["all", "first"] = option(
        "all",
        "captions of a video in evaluations of the run. A pair scorer reads each with every video: first is faster",
    )


@dataclass
class RetrievalTrainingArguments(ContrastiveTrainingArguments):
    """
    [`ContrastiveTrainingArguments`] for pairs of video and text. An item is a video, of a pair scorer a caption.

    Example:
        >>> args = RetrievalTrainingArguments("runs/first", per_device_train_batch_size=16, learning_rate=1e-6)
    """

    loss: str = option("contrastive", "contrastive, dual_softmax, hard_negative or ranking; a pair scorer has its own")
    loss_options: dict | None = option(None, """further arguments of the loss, e.g. '{"num_negatives": 5}'""")
    num_negatives: int = option(1, "captions of other videos that a pair scorer reads beside each caption")
    metric_for_best_model: str | None = option("text_to_video_R1", "the score that chooses the best checkpoint")
