"""Training with a loss over all pairs of a batch, on any number of processes and with little memory."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import TrainerCallback

from hf_videolang.losses import backward_in_chunks, gather_features
from hf_videolang.training.arguments import ContrastiveTrainingArguments
from hf_videolang.training.trainer import VideoTrainer


class ContrastiveTrainer(VideoTrainer):
    """
    A [`VideoTrainer`] for losses that compare the features of all samples of a batch.

    A subclass says what is encoded (`encode`) and what the loss is (`loss_on_features`). The loss sees the features of
    all processes, with the exact gradient: N processes equal one process with the N-fold batch. With
    `negatives="process"` it sees those of its own process, and gradients are averaged. If the model has a
    `logit_scale`, the log shows it, and it is clamped to [0, `max_logit_scale`] after each update (the original clamps
    it after the next forward pass, clip_vip §3).

    Arguments are those of [`VideoTrainer`]. The collator's batches hold tensors with one row a training sample, and
    counts.
    """

    args: ContrastiveTrainingArguments
    compares_samples = True
    loss_is_scaled_for_ga = False  # the loss is a mean over the batch

    def __init__(self, *arguments, **kwargs):
        super().__init__(*arguments, **kwargs)
        if self.logit_scale is not None and self.args.max_logit_scale is not None:
            self.add_callback(_ClampLogitScale())

    @property
    def logit_scale(self) -> Tensor | None:
        """The log of the factor on cosines, if the model learns one."""
        return getattr(self.model, "logit_scale", None)

    def _configure_fsdp(self, plugin: Any) -> None:
        super()._configure_fsdp(plugin)
        # FSDP2 refuses parameters without dimensions. They stay whole on every process and need no reduction: each
        # process computes the loss of all pairs, and so their full gradient.
        whole = nn.ParameterList(parameter for parameter in self.model.parameters() if parameter.ndim == 0)
        plugin.ignored_modules = [whole.to(self.args.device)]

    def encode(self, model: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Features `[batch, dim]` of this process's rows, one tensor for each kind of thing the loss compares."""
        raise NotImplementedError

    def loss_on_features(self, *features: Tensor) -> Tensor:
        """The loss of `encode`'s features, perhaps of all processes; a mean over the batch, without dimensions."""
        raise NotImplementedError

    def get_train_dataloader(self) -> DataLoader:
        loader = super().get_train_dataloader()
        if self.args.gradient_cache_chunk_size is not None:
            loader.device = None  # rows go to the device chunk by chunk
        return loader

    def training_step(self, model, inputs, num_items_in_batch=None):
        chunk_size = self.args.gradient_cache_chunk_size
        if chunk_size is None or max(map(len, inputs.values())) <= chunk_size:
            return super().training_step(model, inputs, num_items_in_batch)
        model.train()
        for optimizer in self.accelerator._optimizers:
            optimizer.train()  # the Trainer's own step does the same for schedule-free optimisers
        share = 1 / self.current_gradient_accumulation_steps
        loss = backward_in_chunks(
            lambda chunk: self.encode(model, self._prepare_inputs(chunk)),
            self._loss_over_processes,
            self._without_counts(inputs),
            chunk_size,
            loss_parameters=[] if self.logit_scale is None else [self.logit_scale],
            backward=lambda value: self.accelerator.backward(value * share),
            no_sync=partial(self.accelerator.no_sync, model),
        )
        return loss * share

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        features = self.encode(model, inputs)
        loss = self._loss_over_processes(*features)
        return (loss, features) if return_outputs else loss

    def _loss_over_processes(self, *features: Tensor) -> Tensor:
        gathered = map(gather_features, features) if self.args.negatives == "all" else features
        return self.loss_on_features(*gathered)

    def log(self, logs, start_time=None):
        if self.logit_scale is not None and ("loss" in logs or "train_loss" in logs):
            logs["logit_scale"] = self.logit_scale.item()
        super().log(logs, start_time)


class _ClampLogitScale(TrainerCallback):
    @torch.no_grad()
    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        model.logit_scale.clamp_(0, args.max_logit_scale)
