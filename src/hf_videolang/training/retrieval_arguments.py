"""The keys of a retrieval recipe: model and data (`RetrievalArguments`), and how to train."""

from dataclasses import dataclass

from .arguments import ContrastiveTrainingArguments, FinetuningArguments, option


@dataclass(kw_only=True)
class RetrievalArguments(FinetuningArguments):
    """Model and data of a run. The help texts explain the fields."""

    features: str | None = option(None, "folder of stored features, read in place of the videos")


@dataclass
class RetrievalTrainingArguments(ContrastiveTrainingArguments):
    """
    [`ContrastiveTrainingArguments`] for pairs of video and text.

    Args:
        loss (`str`, defaults to `"contrastive"`): `"contrastive"`, `"dual_softmax"`, `"hard_negative"` or
            `"ranking"`, see `hf_videolang.losses`.
        loss_options (`dict`, *optional*): further arguments of the loss, e.g. `{"num_negatives": 5}`.
        max_steps (`int`, defaults to -1): updates; if not positive, `ceil(num_train_epochs * videos / global batch)`
            (clip_vip §4), so the incomplete batch of an epoch counts as well.
        metric_for_best_model (`str`, defaults to `"text_to_video_R1"`): retrieval has no evaluation loss, which is the
            Trainer's default.

    Example:
        >>> args = RetrievalTrainingArguments("runs/first", per_device_train_batch_size=16, learning_rate=1e-6)
    """

    loss: str = option("contrastive", "contrastive, dual_softmax, hard_negative or ranking")
    loss_options: dict | None = option(None, """further arguments of the loss, e.g. '{"num_negatives": 5}'""")
    metric_for_best_model: str | None = option("text_to_video_R1", "the score that chooses the best checkpoint")
