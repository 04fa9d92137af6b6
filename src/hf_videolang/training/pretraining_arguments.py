"""The keys of a post-pretraining recipe: what to train on what (`PretrainingArguments`), and how (`PretrainingTrainingArguments`)."""

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from .contrastive_arguments import ContrastiveTrainingArguments, option


@dataclass
class PretrainingArguments:
    """Model and data of a run; each field's meaning stands in its help text."""

    _argument_group_name = "model and data"
    _required = ("model", "sources")

    model: str | None = option(None, "model folder or Hub id to start from; conversion/ makes one of CLIP's weights")
    freeze_text_model: bool = option(False, "train no weight of the text tower")
    freeze_text_projection: bool = option(False, "do not train the text projection either")
    sources: dict | str | None = field(
        default=None,
        metadata={
            "help": 'where the clips are: a folder of .tar or .parquet shards, a glob, a Hub data set; or {"name": {"data": folder, '
            '"captions": caption store, "ratio": 1, "split": "train", "subtitle_column": …, "caption_column": …}, …} for '
            "captions from a store and for several sources by turns"
        },
    )
    evaluation: dict | str | None = field(
        default=None,
        metadata={
            "help": 'retrieval sets to evaluate every eval_steps, none by default: {"msrvtt-1ka": folder} for benchmarks, or '
            '{"name": {"dataset": benchmark or videofolder, "data_dir": folder, "split": "test"}}. They choose '
            "nothing but with load_best_model_at_end and metric_for_best_model: NAME_text_to_video_R1"
        },
    )
    num_frames: int | None = option(None, "frames of a clip; the model's own when not given. Saved with the model")
    max_length: int | None = option(None, "tokens of a text, at most 77; the model's own when not given. Saved")

    def __post_init__(self):
        self.sources = _mapping("sources", self.sources)
        self.evaluation = _mapping("evaluation", self.evaluation)


def _mapping(key: str, value: Any) -> Any:
    """A mapping that came as JSON, on the command line or through a recipe, is one again; other text stays."""
    if not isinstance(value, str) or not value.lstrip().startswith("{"):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"{key} is {value!r}, which is no JSON: {error}.") from error


@dataclass
class PretrainingTrainingArguments(ContrastiveTrainingArguments):
    """
    `ContrastiveTrainingArguments` with the defaults of CLIP-ViP's post-pretraining (clip_vip §4).

    An epoch has as many batches as one pass over each source takes, together; sources whose share of the steps differs
    from their share of the clips are seen more or less often than once in it.

    Args:
        loss (`str`, defaults to `"vsc_fc"`): a variant of [`omnisource_loss`], or `"contrastive"`, video against its
            text alone. What it does not compare is not encoded.
        video_text (`str`, defaults to `"subtitle"`), on_missing_text (`str`, defaults to `"raise"`): see
            [`PretrainingCollator`]. The number of missing texts is logged as `missing_texts`.
        on_broken_video (`str`, defaults to `"raise"`): "raise" or "replace"; to skip a clip would make batches of
            different size.
        max_steps (`int`, defaults to -1): updates, which the learning rate spans; when not positive,
            `ceil(num_train_epochs * clips / (global batch * gradient_accumulation_steps))` (clip_vip §4).
        stop_at_step (`int`, *optional*): save a checkpoint and end after this update, as if the run went on: the
            schedule still spans `max_steps` (`break_step` of the original). Resume with a later one or none.

    Raises:
        ValueError: `ignore_data_skip`, `data_seed`, or a number of epochs that is not positive.
    """

    _help_only = (
        "loss",
        "video_text",
        "on_missing_text",
        "stop_at_step",
        *ContrastiveTrainingArguments._help_only,
    )

    loss: str = option("vsc_fc", "vs_fc, vs_vc, vs_vc_fc, vsc, vsc_fc, joint or contrastive (no captions)")
    video_text: Literal["subtitle", "caption", "caption_and_subtitle", "either"] = option(
        "subtitle", "the text of a video"
    )
    on_missing_text: Literal["raise", "replace", "none"] = option(
        "raise",
        "what to do with a clip without subtitle or caption; none writes the word None for a caption, as the authors did",
    )
    on_broken_video: Literal["raise", "replace"] = option(
        "raise", "what to do in training with a video that does not decode"
    )
    stop_at_step: int | None = option(None, "end after this update; the schedule still spans all")

    learning_rate: float = option(5e-6, "highest learning rate")
    weight_decay: float = option(0.05, "weight decay, of LayerNorm gains too, as in the original")
    max_grad_norm: float = option(5.0, "gradients are clipped to this norm")
    num_train_epochs: float = option(5, "passes over the clips")
    per_device_train_batch_size: int = option(32, "clips a process; the global batch gives the negatives")
    eval_strategy: str = option("steps", "when to evaluate the sets of evaluation")
    eval_steps: float | None = option(1000, "updates between evaluations")
    save_steps: float = option(0.01, "updates between checkpoints; below 1 a share of all")
    ignore_data_skip: bool = field(default=False, metadata={"help": "must stay off: skipping reads nothing"})

    def __post_init__(self):
        super().__post_init__()
        if self.num_train_epochs <= 0:
            raise ValueError(f"num_train_epochs is {self.num_train_epochs}; expected more than 0.")
        if self.data_seed is not None:
            raise ValueError("data_seed must be left out: the order of the clips follows from seed.")
        if self.ignore_data_skip:
            raise ValueError("ignore_data_skip must be false: a resumed run would begin its epoch anew.")
