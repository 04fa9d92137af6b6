"""The keys of a retrieval recipe: model and data (`RetrievalArguments`), and how to train."""

from dataclasses import MISSING, dataclass
from typing import Literal

from .arguments import ContrastiveTrainingArguments, ModelArguments, option


@dataclass(kw_only=True)
class RetrievalArguments(ModelArguments):
    """Model and data of a run. The help texts explain the fields."""

    data_dir: str = option(MISSING, "folder with videos and annotations, in any sub-folders")
    dataset: str = option("videofolder", "videofolder (your own clips) or a benchmark, e.g. msrvtt-1ka")
    train_split: str = option("train", "split to train on; train+validation is the whole published list")
    select_on: Literal["validation", "test", "none"] = option(
        "validation",
        "split that is evaluated during training and chooses the checkpoint. 'test' is what many authors did: it "
        "reports the best of many looks at the test set. 'none' keeps the last checkpoint",
    )
    test: bool = option(True, "evaluate the chosen checkpoint on the test split, if there is one")


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
