"""How to train a two-tower model with a contrastive loss: what fine-tuning and pre-training share."""

import logging
import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from transformers import TrainingArguments

logger = logging.getLogger(__name__)

CHECKPOINTING = (
    "activation_checkpointing"
    if "activation_checkpointing" in TrainingArguments.__dataclass_fields__
    else "gradient_checkpointing"  # its name before transformers 5.23
)


def option(default, help: str):
    """A field of a dataclass that is a key of a recipe, with the line that `--help` shows."""
    return field(default=default, metadata={"help": help})


@dataclass
class ContrastiveTrainingArguments(TrainingArguments):
    """
    `TrainingArguments` with the optimisation of CLIP-ViP (clip_vip §4) as defaults and what contrastive training adds.

    Batches of one epoch are complete (`dataloader_drop_last`), since every process must bring equally many pairs;
    evaluation always sees every item. Gradient accumulation averages gradients and does not enlarge the set of
    negatives: that is `per_device_train_batch_size` times the number of processes, which the gradient cache lets grow
    without memory.

    Args:
        gradient_cache_chunk_size (`int`, *optional*): rows of a batch encoded at once, see
            `hf_videolang.losses.gradient_cache`: memory for activations is that of so many rows, however large the
            batch, for one more forward pass. Not set: the whole batch at once.
        lr_multiplier (`float`, defaults to 1.0), lr_multiplier_name (`str`, defaults to `""`): factor on the learning
            rate of the parameters whose name contains the text.
        max_logit_scale (`float`, defaults to ln 200): after every update `logit_scale` is put back into [0, this].
        on_broken_video (`str`, defaults to `"raise"`): what to do in training with a video that does not decode:
            `"raise"`, `"replace"` it by another, or `"skip"` it (one process only). Each case is a warning, and the
            number since the last log line is logged as `broken_videos`; each checkpoint is preceded by a log line.
            Evaluation always raises.
        checkpoint_activations (`bool`, defaults to `False`): recompute activations in the backward pass; the Trainer's
            switch for it changed its name between the versions that this package runs on.
        optim: left at its default, the AdamW of the original; any other of the Trainer's takes its place, with the
            same choice of what is decayed, and without `lr_multiplier`.

    Raises:
        ValueError: a batch or chunk of no row, a rate or bound that is negative, or an option that would do nothing or harm.
    """

    _argument_group_name = "training"
    _help_only: ClassVar[tuple[str, ...]] = (
        "output_dir",
        "gradient_cache_chunk_size",
        "lr_multiplier",
        "lr_multiplier_name",
        "max_logit_scale",
        "on_broken_video",
        "learning_rate",
        "weight_decay",
        "num_train_epochs",
        "max_steps",
        "warmup_steps",
        "lr_scheduler_type",
        "max_grad_norm",
        "per_device_train_batch_size",
        "per_device_eval_batch_size",
        "gradient_accumulation_steps",
        "checkpoint_activations",
        "bf16",
        "fp16",
        "torch_compile",
        "use_cpu",
        "seed",
        "eval_steps",
        "save_steps",
        "save_total_limit",
        "logging_steps",
        "dataloader_num_workers",
        "report_to",
        "resume_from_checkpoint",
        "push_to_hub",
        "hub_model_id",
    )

    gradient_cache_chunk_size: int | None = option(
        None, "rows of a batch encoded at once: a large batch in little memory, for one more forward pass"
    )
    lr_multiplier: float = option(1.0, "factor on the learning rate of the parameters named by lr_multiplier_name")
    lr_multiplier_name: str = option("", "part of the names of those parameters, e.g. logit_scale")
    max_logit_scale: float = option(math.log(200), "logit_scale is kept in [0, this]")
    on_broken_video: Literal["raise", "replace", "skip"] = option(
        "raise", "what to do in training with a video that does not decode"
    )
    checkpoint_activations: bool = option(False, "recompute activations in the backward pass: less memory, slower")

    adam_beta2: float = option(0.98, "beta2 of AdamW")
    adam_epsilon: float = option(1e-6, "epsilon of AdamW")
    lr_scheduler_type: str = option("cosine", "cosine, linear, inverse_sqrt, constant or another of the Trainer's")
    warmup_steps: float = option(0.01, "updates of linear warm-up; below 1 a share of all")
    gradient_accumulation_steps: int = option(1, "batches averaged for one update; adds no negatives")
    per_device_train_batch_size: int = option(16, "pairs a process; the global batch gives the negatives")
    per_device_eval_batch_size: int = option(16, "videos a process in evaluation")
    resume_from_checkpoint: str | None = option(
        None, "true: the last complete checkpoint in output_dir; or the folder of a checkpoint"
    )
    dataloader_drop_last: bool = option(True, "leave out an incomplete last batch of an epoch")
    remove_unused_columns: bool = option(False, "must stay off: records are decoded in the collator")
    ddp_find_unused_parameters: bool | None = option(False, "off: every parameter that is trained is used")

    def __post_init__(self):
        if not self.use_cpu and not torch.accelerator.is_available():
            self.use_cpu = True  # only so do several processes find each other, and bf16 is allowed
        if self.checkpoint_activations:
            setattr(self, CHECKPOINTING, True)
        if getattr(self, CHECKPOINTING) and getattr(self, f"{CHECKPOINTING}_kwargs") is None:
            setattr(self, f"{CHECKPOINTING}_kwargs", {"use_reentrant": False})
        ranks = any(rank in (self.metric_for_best_model or "") for rank in ("MedianR", "MeanR"))
        if self.greater_is_better is None and ranks:
            self.greater_is_better = False
        super().__post_init__()
        if (there := super().n_gpu) > 1:
            logger.warning(
                "This process trains on one of the %d GPUs that it sees; `accelerate launch` with multi_gpu.yaml starts a "
                "process for each.",
                there,
            )
        if self.remove_unused_columns:
            raise ValueError("remove_unused_columns must be false: the collator needs the columns of the records.")
        for key in (
            "per_device_train_batch_size",
            "per_device_eval_batch_size",
            "gradient_accumulation_steps",
        ):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} is {getattr(self, key)}; expected at least 1.")
        for key in ("weight_decay", "lr_multiplier", "max_logit_scale"):
            if getattr(self, key) < 0:
                raise ValueError(f"{key} is {getattr(self, key)}; expected at least 0.")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; expected more than 0.")
        own_optimizer = self.optim == type(self).__dataclass_fields__["optim"].default
        if self.lr_multiplier != 1 and not (self.lr_multiplier_name and own_optimizer):
            raise ValueError(
                f"lr_multiplier is {self.lr_multiplier}, and nothing would be multiplied: expected lr_multiplier_name, "
                "part of the names of parameters (such as logit_scale), and no optim."
            )
        if self.auto_find_batch_size:
            raise ValueError(
                "auto_find_batch_size must be false: a smaller batch has fewer negatives, and the run would end before "
                "its epochs. gradient_cache_chunk_size fits any batch into memory."
            )
        if self.label_smoothing_factor:
            raise ValueError("label_smoothing_factor must be 0: the losses have no labels, it would do nothing.")
        if self.gradient_cache_chunk_size is not None and self.gradient_cache_chunk_size < 1:
            raise ValueError(
                f"gradient_cache_chunk_size is {self.gradient_cache_chunk_size}; expected at least 1 row, or leave it "
                "out to encode whole batches."
            )

    @property
    def n_gpu(self) -> int:
        """At most one a process. More would be `nn.DataParallel`, whose batch is larger than a recipe says."""
        return min(super().n_gpu, 1)
