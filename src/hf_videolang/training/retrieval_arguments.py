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
    [`ContrastiveTrainingArguments`] for pairs of video and text.

    Args:
        loss (`str`, defaults to `"contrastive"`): `"contrastive"`, `"dual_softmax"`, `"hard_negative"` or
            `"ranking"`, see `hf_videolang.losses`.
        loss_options (`dict`, *optional*): further arguments of the loss, e.g. `{"num_negatives": 5}`.
        num_negatives (`int`, defaults to 1): of a pair scorer: captions of other videos beside each caption. It has a
            loss of its own and needs neither of the two above.
        max_steps (`int`, defaults to -1): updates; if not positive, `ceil(num_train_epochs * videos / global batch)`
            (clip_vip §4), so the incomplete batch of an epoch counts as well.
        metric_for_best_model (`str`, defaults to `"text_to_video_R1"`): retrieval has no evaluation loss, which is the
            Trainer's default.

    Example:
        >>> args = RetrievalTrainingArguments("runs/first", per_device_train_batch_size=16, learning_rate=1e-6)
    """

    loss: str = option("contrastive", "contrastive, dual_softmax, hard_negative or ranking")
    loss_options: dict | None = option(None, """further arguments of the loss, e.g. '{"num_negatives": 5}'""")
    num_negatives: int = option(1, "captions of other videos that a pair scorer reads beside each caption")
    metric_for_best_model: str | None = option("text_to_video_R1", "the score that chooses the best checkpoint")
