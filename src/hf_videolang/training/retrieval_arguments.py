"""The keys of a retrieval recipe: what to train on what (`RetrievalArguments`), and how (`RetrievalTrainingArguments`)."""

from dataclasses import dataclass, field
from typing import Literal

from transformers import TrainingArguments

from .contrastive_arguments import ContrastiveTrainingArguments, option


@dataclass
class RetrievalArguments:
    """Model and data of a run; each field's meaning stands in its help text."""

    _argument_group_name = "model and data"
    _required = ("model", "data_dir")

    model: str | None = option(
        None, "model folder or Hub id to start from; conversion/ makes one of the authors' files"
    )
    freeze_text_model: bool = option(False, "train no weight of the text tower")
    freeze_text_projection: bool = option(False, "do not train the text projection either")
    dataset: str = option("videofolder", "videofolder (your own clips) or a benchmark, e.g. msrvtt-1ka")
    data_dir: str | None = option(None, "folder with videos and annotations, in any sub-folders")
    train_split: str = option("train", "split to train on; train+validation is the whole published list")
    select_on: Literal["validation", "test", "none"] = option(
        "validation",
        "split that is evaluated during training and chooses the checkpoint, by text-to-video R@1. 'test' is what the "
        "authors did (by R@1 after DSL): it reports the best of many looks at the test set. 'none': the last one",
    )
    test: bool = option(True, "evaluate the chosen checkpoint on the test split; without one a note says so")
    num_frames: int | None = option(None, "frames of a clip; the model's own when not given. Saved with the model")
    max_length: int | None = option(None, "tokens of a text, at most 77; the model's own when not given. Saved")


@dataclass
class RetrievalTrainingArguments(ContrastiveTrainingArguments):
    """
    `ContrastiveTrainingArguments` with the defaults of CLIP-ViP's fine-tuning (clip_vip §4).

    Args:
        loss (`str`, defaults to `"contrastive"`): `"contrastive"`, `"dual_softmax"`, `"hard_negative"` or
            `"ranking"`, see `hf_videolang.losses`.
        loss_options (`dict`, *optional*): further arguments of the loss, e.g. `{"num_negatives": 5}`.
        max_steps (`int`, defaults to -1): updates; when not positive, `ceil(num_train_epochs * videos / global
            batch)` as in the original, which an incomplete last batch does not shorten.
    """

    _help_only = (
        "loss",
        "loss_options",
        *ContrastiveTrainingArguments._help_only,
    )
    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, "loss_options"]

    loss: str = option("contrastive", "contrastive, dual_softmax, hard_negative or ranking")
    loss_options: dict | str | None = field(
        default=None, metadata={"help": 'further arguments of the loss, e.g. {"num_negatives": 5}'}
    )

    learning_rate: float = option(1e-6, "highest learning rate")
    weight_decay: float = option(0.2, "weight decay, of LayerNorm gains too, as in the original")
    eval_strategy: str = option("steps", "when to evaluate the split of select_on")
    eval_steps: float | None = option(100, "updates between evaluations")
    eval_on_start: bool = option(True, "evaluate before the first update")
    save_steps: float = option(100, "updates between checkpoints")
    load_best_model_at_end: bool = option(True, "keep the best checkpoint, not the last one")
    metric_for_best_model: str | None = option(
        "text_to_video_R1", "what is best, on the split of select_on; of ranks the lowest"
    )
