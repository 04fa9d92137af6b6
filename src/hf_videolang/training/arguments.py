"""The arguments that tasks share: the model (`ModelArguments`), its data, and how to train it."""

import logging
from dataclasses import MISSING, dataclass, field
from typing import Any, Literal

import torch
from transformers import TrainingArguments

from hf_videolang.evaluation.scores import higher_is_better

logger = logging.getLogger(__name__)

DECAY_LAST_ADAMW = "decay_last_adamw"


def option(default: Any, help: str) -> Any:
    """A field that recipes and the command line set, with its line in `--help`; `MISSING` if it must be given."""
    return field(default=default, metadata={"help": help})


@dataclass(kw_only=True)
class ModelArguments:
    """The model of a run; tasks add their data. The help texts explain the fields."""

    _argument_group_name = "model and data"

    model: str = option(MISSING, "model folder or Hub id to start from; `hf-videolang convert` makes a folder")
    num_frames: int | None = option(None, "frames of a clip, saved with the model; default: as the model's processor")
    max_length: int | None = option(None, "tokens of a text, saved with the model; default: as the model's processor")
    freeze: list[str] | None = option(
        None, "names of the model's parts that are not trained, e.g. text_model; an unknown name lists them"
    )


@dataclass(kw_only=True)
class FinetuningArguments(ModelArguments):
    """Model and data of a run on one dataset with splits. The help texts explain the fields."""

    num_clips: int | None = option(
        None, "clips of a video in training, of a system that reads several; default: as the model's processor"
    )
    eval_num_clips: int | None = option(
        None, "clips of a video in evaluation, saved with the model; default: num_clips"
    )
    fps: float | None = option(None, "num_frames / fps is the length of a clip in seconds; saved with the model")
    sampling: Literal["random", "uniform", "whole"] | None = option(
        None, "where the clips lie in training: random (sparse), uniform (dense) or whole; saved with the model"
    )
    size: int | None = option(None, "pixels of a frame, saved with the model; default: as the model's processor")
    score_aggregation: Literal["mean", "max", "logsumexp"] | None = option(
        None, "how the scores of the clips become one: mean, max or logsumexp; saved with the model"
    )
    features: str | None = option(
        None,
        "folder of stored features, read in place of the videos; a model that names its features extracts there what "
        "is missing",
    )
    extractors: dict | None = option(
        None,
        "name of an extractor that the model names -> folder of its weights, for what features lacks, e.g. "
        """'{"clip-vit": "clip-vit-b32"}'""",
    )
    data_dir: str = option(MISSING, "folder with videos and annotations, in any sub-folders")
    dataset: str = option("videofolder", "videofolder (your own clips) or a benchmark, e.g. msrvtt-1ka")
    train_split: str = option("train", "split to train on; train+validation is the whole published list")
    select_on: Literal["validation", "test", "none"] = option(
        "validation",
        "split that is evaluated during training and chooses the checkpoint. 'test' is what many authors did: it "
        "reports the best of many looks at the test set. 'none' keeps the last checkpoint",
    )
    test: bool = option(True, "evaluate the chosen checkpoint on the test split, if there is one")


@dataclass(kw_only=True)
class SubtitledVideoArguments(FinetuningArguments):
    """Model and data of a run on videos that may have subtitles. The help texts explain the fields."""

    context_subtitles: int | None = option(
        None, "earlier subtitles that the model reads before each, of a system that reads them; saved with the model"
    )


@dataclass
class VideoTrainingArguments(TrainingArguments):
    """
    `transformers.TrainingArguments` with what training on videos adds. Defaults are the Trainer's; these differ:

    - `remove_unused_columns` is `False`: the collator decodes the records and needs their columns.
    - `use_cpu` is set on a machine without a GPU, so that several processes find each other and bf16 is allowed.
    - A process uses one GPU. The Trainer would use all that it sees (`nn.DataParallel`), with a larger batch.
    - `greater_is_better` follows the metric: of ranks the lowest is the best.
    - `max_steps`, if it is not positive, becomes `ceil(num_train_epochs * items / global batch)` as in the originals
      (clip_vip §4, clipbert §9): the incomplete batch of an epoch counts as well.

    The help texts explain the fields that it adds.

    Example:
        >>> args = VideoTrainingArguments("runs/first", learning_rate=1e-5, lr_scheduler_type="cosine")
    """

    _argument_group_name = "training"

    output_dir: str | None = option(None, "folder of the run: checkpoints, then the finished model")
    resume_from_checkpoint: str | None = option(
        None, "true continues from the last complete checkpoint in output_dir; or the folder of a checkpoint"
    )
    on_broken_video: Literal["raise", "replace", "skip"] = option(
        "raise",
        "a training video that does not decode stops the run, is replaced by another one, or is skipped (one process "
        "only). The log counts these as broken_videos; videos without a file are then left out before training. "
        "Evaluation always raises",
    )
    optim: str = option(
        TrainingArguments.__dataclass_fields__["optim"].default,
        f"one of the Trainer's names, or {DECAY_LAST_ADAMW}: the AdamW of the original scripts",
    )
    lr_multipliers: dict | None = option(
        None, """part of a parameter's name -> factor on its learning rate, e.g. '{"logit_scale": 10}'"""
    )
    sum_accumulated_gradients: bool = option(
        False, "add up the gradients of gradient_accumulation_steps batches, as some originals do, or average them"
    )
    remove_unused_columns: bool = False

    def __post_init__(self):
        if not self.use_cpu and not torch.accelerator.is_available():
            self.use_cpu = True
        if self.greater_is_better is None and not higher_is_better(self.metric_for_best_model or ""):
            self.greater_is_better = False
        decay_last = self.optim == DECAY_LAST_ADAMW
        if decay_last:
            self.optim = "adamw_torch"  # TrainingArguments accepts only the Trainer's names
        super().__post_init__()
        if decay_last:
            self.optim = DECAY_LAST_ADAMW
        if (visible := super().n_gpu) > 1:
            logger.warning(
                "This process trains on one of the %d GPUs that it sees; `accelerate launch` with multi_gpu.yaml "
                "starts a process for each.",
                visible,
            )

    @property
    def evaluator_options(self) -> dict[str, Any]:
        """What every evaluator takes."""
        return {"batch_size": self.eval_batch_size, "num_workers": self.dataloader_num_workers}

    @property
    def n_gpu(self) -> int:
        return min(super().n_gpu, 1)


@dataclass
class ContrastiveTrainingArguments(VideoTrainingArguments):
    """
    [`VideoTrainingArguments`] for contrastive losses. Two defaults differ because the exact gradient needs them:

    - `dataloader_drop_last` is `True`: every process must bring equally many pairs.
    - `ddp_find_unused_parameters` is `False`: the model may run several times before one backward pass.

    Gradient accumulation averages gradients and adds no negatives. Their number is `per_device_train_batch_size` times
    the number of processes; the gradient cache lets it grow without memory.
    """

    negatives: Literal["all", "process"] = option(
        "all",
        "compare a sample with the batches of all processes, or, as some originals do, with that of its own process "
        "alone; the loss is then the mean over the processes",
    )
    gradient_cache_chunk_size: int | None = option(
        None, "rows of a batch encoded at once: a large batch in little memory, for one more forward pass"
    )
    max_logit_scale: float | None = option(None, "clamp the model's logit_scale to [0, this] after every update")
    dataloader_drop_last: bool = True
    ddp_find_unused_parameters: bool | None = False
