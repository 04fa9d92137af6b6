"""The keys of a retrieval recipe: what to train on what (`RetrievalArguments`), and how (`RetrievalTrainingArguments`)."""

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from transformers import TrainingArguments

CHECKPOINTING = (
    "activation_checkpointing"
    if "activation_checkpointing" in TrainingArguments.__dataclass_fields__
    else "gradient_checkpointing"  # its name before transformers 5.23
)


def _option(default, help: str):
    return field(default=default, metadata={"help": help})


@dataclass
class RetrievalArguments:
    """Model and data of a run; each field's meaning stands in its help text."""

    _argument_group_name = "model and data"
    _required = ("model", "data_dir")

    model: str | None = _option(
        None, "model folder or Hub id to start from; conversion/ makes one of the authors' files"
    )
    freeze_text_model: bool = _option(False, "train no weight of the text tower")
    freeze_text_projection: bool = _option(False, "do not train the text projection either")
    dataset: str = _option("videofolder", "videofolder (your own clips) or a benchmark, e.g. msrvtt-1ka")
    data_dir: str | None = _option(None, "folder with videos and annotations, in any sub-folders")
    train_split: str = _option("train", "split to train on; train+validation is the whole published list")
    select_on: Literal["validation", "test", "none"] = _option(
        "validation",
        "split that is evaluated during training and chooses the checkpoint, by text-to-video R@1. 'test' is what the "
        "authors did (by R@1 after DSL): it reports the best of many looks at the test set. 'none': the last one",
    )
    test: bool = _option(True, "evaluate the chosen checkpoint on the test split; without one a note says so")
    num_frames: int | None = _option(
        None, "frames of a clip; the model's own when not given. Saved with the model"
    )
    max_length: int | None = _option(
        None, "tokens of a text, at most 77; the model's own when not given. Saved"
    )


@dataclass
class RetrievalTrainingArguments(TrainingArguments):
    """
    `TrainingArguments` with the defaults of CLIP-ViP's fine-tuning (SPEC §4) and what retrieval adds.

    Batches of one epoch are complete (`dataloader_drop_last`), since every process must bring equally many pairs;
    evaluation always sees every item. Gradient accumulation averages gradients and does not enlarge the set of
    negatives: that is `per_device_train_batch_size` times the number of processes.

    Args:
        loss (`str`, defaults to `"contrastive"`): `"contrastive"`, `"dual_softmax"`, `"hard_negative"` or
            `"ranking"`, see `hf_videolang.losses`.
        loss_options (`dict`, *optional*): further arguments of the loss, e.g. `{"num_negatives": 5}`.
        lr_multiplier (`float`, defaults to 1.0), lr_multiplier_name (`str`, defaults to `""`): factor on the learning
            rate of the parameters whose name contains the text.
        max_logit_scale (`float`, defaults to ln 200): after every update `logit_scale` is put back into [0, this].
        on_broken_video (`str`, defaults to `"raise"`): what to do in training with a video that does not decode:
            `"raise"`, `"replace"` it by another, or `"skip"` it (one process only). Each case is a warning, and the
            number since the last log line is logged as `broken_videos`. Evaluation always raises.
        checkpoint_activations (`bool`, defaults to `False`): recompute activations in the backward pass; the Trainer's
            switch for it changed its name between the versions that this package runs on.
        max_steps (`int`, defaults to -1): updates; when not positive, `ceil(num_train_epochs * videos / global
            batch)` as in the original, which an incomplete last batch does not shorten.
        optim: left at its default, the AdamW of the original; any other of the Trainer's takes its place, with the
            same choice of what is decayed, and without `lr_multiplier`.
    """

    _argument_group_name = "training"
    _help_only = (
        "output_dir", "loss", "loss_options", "lr_multiplier", "lr_multiplier_name", "max_logit_scale",
        "on_broken_video", "learning_rate", "weight_decay", "num_train_epochs", "max_steps", "warmup_steps",
        "lr_scheduler_type", "max_grad_norm", "per_device_train_batch_size", "per_device_eval_batch_size",
        "gradient_accumulation_steps", "checkpoint_activations", "bf16", "fp16", "use_cpu", "seed", "eval_steps", "save_steps",
        "save_total_limit", "logging_steps", "dataloader_num_workers", "report_to", "resume_from_checkpoint",
        "push_to_hub", "hub_model_id",
    )  # fmt: skip

    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, "loss_options"]

    loss: str = _option("contrastive", "contrastive, dual_softmax, hard_negative or ranking")
    loss_options: dict | str | None = field(
        default=None, metadata={"help": 'further arguments of the loss, e.g. {"num_negatives": 5}'}
    )
    lr_multiplier: float = _option(
        1.0, "factor on the learning rate of the parameters named by lr_multiplier_name"
    )
    lr_multiplier_name: str = _option("", "part of the names of those parameters, e.g. logit_scale")
    max_logit_scale: float = _option(math.log(200), "logit_scale is kept in [0, this]")
    on_broken_video: Literal["raise", "replace", "skip"] = _option(
        "raise", "what to do in training with a video that does not decode"
    )
    checkpoint_activations: bool = _option(
        False, "recompute activations in the backward pass: less memory, slower"
    )

    learning_rate: float = _option(1e-6, "highest learning rate")
    weight_decay: float = _option(0.2, "weight decay, of LayerNorm gains too, as in the original")
    adam_beta2: float = _option(0.98, "beta2 of AdamW")
    adam_epsilon: float = _option(1e-6, "epsilon of AdamW")
    lr_scheduler_type: str = _option(
        "cosine", "cosine, linear, inverse_sqrt, constant or another of the Trainer's"
    )
    warmup_steps: float = _option(0.01, "updates of linear warm-up; below 1 a share of all")
    per_device_train_batch_size: int = _option(16, "pairs a process; the global batch gives the negatives")
    gradient_accumulation_steps: int = _option(1, "batches averaged for one update; adds no negatives")
    per_device_eval_batch_size: int = _option(16, "videos a process in evaluation")
    eval_strategy: str = _option("steps", "when to evaluate the split of select_on")
    eval_steps: float | None = _option(100, "updates between evaluations")
    eval_on_start: bool = _option(True, "evaluate before the first update")
    save_steps: float = _option(100, "updates between checkpoints")
    load_best_model_at_end: bool = _option(True, "keep the best checkpoint, not the last one")
    metric_for_best_model: str | None = _option("text_to_video_R1", "what is best, on the split of select_on")
    resume_from_checkpoint: str | None = _option(
        None, "true: the last complete checkpoint in output_dir; or the folder of a checkpoint"
    )
    dataloader_drop_last: bool = _option(True, "leave out an incomplete last batch of an epoch")
    remove_unused_columns: bool = _option(False, "must stay off: records are decoded in the collator")
    ddp_find_unused_parameters: bool | None = _option(False, "off: every parameter that is trained is used")

    def __post_init__(self):
        if not self.use_cpu and not torch.accelerator.is_available():
            self.use_cpu = True  # only so do several processes find each other, and bf16 is allowed
        if self.checkpoint_activations:
            setattr(self, CHECKPOINTING, True)
        if getattr(self, CHECKPOINTING) and getattr(self, f"{CHECKPOINTING}_kwargs") is None:
            setattr(self, f"{CHECKPOINTING}_kwargs", {"use_reentrant": False})
        super().__post_init__()
        if self.remove_unused_columns:
            raise ValueError(
                "remove_unused_columns must be false: the collator needs the columns of the records."
            )
