"""What fine-tuning and pre-training of two-tower models share: `transformers.Trainer` for contrastive losses."""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, Trainer, TrainerCallback
from transformers.trainer_utils import EvalLoopOutput, SchedulerType

from hf_videolang.evaluation.retrieval import encode_pairs, evaluation_loader, score_similarity
from hf_videolang.evaluation.scores import Scores, flat_scores
from hf_videolang.hub.evaluation_results import write_evaluation
from hf_videolang.hub.model_card import write_training_card
from hf_videolang.losses import backward_in_chunks, gather_features
from hf_videolang.training.contrastive_arguments import ContrastiveTrainingArguments
from hf_videolang.training.optimization import NO_DECAY, DecayLastAdamW, learning_rate_scheduler, parameter_groups

# The Trainer's names of the schedules that the original has, too.
SCHEDULES = {
    "cosine": "cosine",
    "linear": "linear",
    "inverse_sqrt": "inverse_square_root",
    "constant": "constant",
}


class ContrastiveTrainer(Trainer):
    """
    A Trainer for two-tower models (`text_embeds`, `video_embeds`, `logit_scale`) and a loss over all pairs of a batch.

    A subclass says what is encoded (`encode`) and what the loss is (`loss_on_features`). The loss sees the features of
    all processes, with the exact gradient: N processes are one process with the N-fold batch. Optimiser, parameter
    groups and schedule are the original's (clip_vip §4); `logit_scale` is put back into [0, `max_logit_scale`] after each
    update (the original: after the next forward pass, clip_vip §3).

    Evaluation scores every text against every video and logs both directions raw and after DSL, as
    `eval_text_to_video_R1`, `eval_text_to_video_R1_DSL` and so on.

    Args:
        model (`PreTrainedModel`): moved to the device.
        args (`ContrastiveTrainingArguments`): how to train.
        processor: of the model; it makes the batches and is saved with each checkpoint.
        train_dataset, eval_dataset (`datasets.Dataset`): records.
        data_collator: makes training batches: tensors with one row a training sample, and `num_broken_videos`. Its
            `set_epoch` is called at the start of each epoch.
        kwargs: further arguments of `Trainer`.

    Raises:
        ValueError: "skip" with several processes, an unknown metric for the best checkpoint, a best checkpoint of evaluations that are not all saved, or options
            of the optimisation that would do nothing.
    """

    args: ContrastiveTrainingArguments
    model: Any  # never None here
    processing_class: Any
    data_collator: Any
    train_dataset: Any
    eval_dataset: Any
    loss_is_scaled_for_ga = False  # a mean over the batch

    def __init__(
        self,
        model: PreTrainedModel,
        args: ContrastiveTrainingArguments,
        processor: Any,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        data_collator: Any = None,
        **kwargs,
    ):
        if args.on_broken_video == "skip" and args.world_size > 1:
            raise ValueError(
                f"on_broken_video is 'skip' with {args.world_size} processes, whose batches would differ in size; "
                "use 'replace'."
            )
        by_steps = args.eval_strategy == args.save_strategy == "steps"
        if args.load_best_model_at_end and by_steps and args.eval_steps != args.save_steps:
            raise ValueError(
                f"load_best_model_at_end with eval_steps {args.eval_steps:g} and save_steps {args.save_steps:g}: the best "
                "evaluation may be one whose checkpoint is not saved. Make them equal, or set save_strategy to best."
            )
        if not any(args.lr_multiplier_name in name for name, _ in model.named_parameters()):
            raise ValueError(
                f"lr_multiplier_name is {args.lr_multiplier_name!r}; expected part of the name of a parameter, such as "
                "logit_scale."
            )
        if args.lr_scheduler_kwargs and args.lr_scheduler_type in SCHEDULES:
            raise ValueError(
                f"lr_scheduler_kwargs is {args.lr_scheduler_kwargs}, which the original's schedule "
                f"{SchedulerType(args.lr_scheduler_type).value} does not take; leave it out, or take another "
                "lr_scheduler_type of the Trainer's, e.g. cosine_with_restarts."
            )
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processor,
            **kwargs,
        )
        if self.eval_dataset is not None and (args.load_best_model_at_end or args.save_strategy == "best"):
            self._check_metric_for_best_model()
        self.add_callback(_EveryEpochAndUpdate(self))
        self.num_broken_videos = torch.zeros(1, dtype=torch.long, device=self.args.device)
        self.evaluations: list[dict[str, Any]] = []
        if self.is_fsdp_enabled:
            # FSDP2 refuses a parameter without dimensions. Left whole on every process it needs no reduction either:
            # each computes the loss of all pairs, hence its full gradient.
            whole = nn.Module()
            whole.logit_scale = self.model.logit_scale
            plugin = self.accelerator.state.fsdp_plugin
            plugin.ignored_modules = [whole.to(self.args.device)]
            if plugin.mixed_precision_policy is not None:
                # Gradients of chunks and of processes are added up in this type. Accelerate takes the half precision of
                # the forward pass, in which a long sum no longer sees its next term.
                plugin.mixed_precision_policy = replace(plugin.mixed_precision_policy, reduce_dtype=torch.float32)

    def _check_metric_for_best_model(self) -> None:
        """The Trainer would miss it in the first evaluation, which may be hours away."""
        metric = self.args.metric_for_best_model or ""
        known = list(flat_scores(score_similarity(torch.eye(2), torch.arange(2))))
        if isinstance(self.eval_dataset, dict):
            known = [f"{name}_{metric}" for name in self.eval_dataset for metric in known]
        if metric.removeprefix("eval_") not in known:
            raise ValueError(f"metric_for_best_model is {metric!r}; expected one of {', '.join(known)}.")

    # ---- training ----

    def encode(self, model: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Unit features `[batch, dim]` of this process's rows, one tensor for each kind of thing the loss compares."""
        raise NotImplementedError

    def loss_on_features(self, *features: Tensor) -> Tensor:
        """The loss of `encode`'s features, already of all processes; a mean over the batch, without dimensions."""
        raise NotImplementedError

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        if self.state.global_step >= self.state.max_steps:
            return [], None  # resumed after the last update; the Trainer would do one more
        return super().get_batch_samples(epoch_iterator, num_batches, device)

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
            optimizer.train()  # schedule-free ones need it; the Trainer's own step does the same
        share = 1 / self.current_gradient_accumulation_steps
        loss = backward_in_chunks(
            lambda chunk: self.encode(model, self._prepare_inputs(chunk)),
            self._loss_over_processes,
            self._without_count(inputs),
            chunk_size,
            loss_parameters=[self.model.logit_scale],
            backward=lambda value: self.accelerator.backward(value * share),
            no_sync=partial(self.accelerator.no_sync, model),
        )
        return loss * share

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        features = self.encode(model, self._without_count(inputs))
        loss = self._loss_over_processes(*features)
        return (loss, features) if return_outputs else loss

    def _without_count(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        inputs = dict(inputs)
        self.num_broken_videos += inputs.pop("num_broken_videos").sum().to(self.num_broken_videos.device)
        return inputs

    def _loss_over_processes(self, *features: Tensor) -> Tensor:
        return self.loss_on_features(*map(gather_features, features))

    def create_optimizer(self, model=None):
        default = type(self.args).__dataclass_fields__["optim"].default
        if self.optimizer is None and self.args.optim == default:
            args, named = self.args, (model or self.model).named_parameters()
            groups = parameter_groups(
                named, args.learning_rate, args.weight_decay, args.lr_multiplier, args.lr_multiplier_name
            )
            betas = (args.adam_beta1, args.adam_beta2)
            self.optimizer = DecayLastAdamW(groups, lr=args.learning_rate, betas=betas, eps=args.adam_epsilon)
        return super().create_optimizer(model)

    def get_decay_parameter_names(self, model) -> list[str]:
        return [name for name, _ in model.named_parameters() if not any(part in name for part in NO_DECAY)]

    def create_scheduler(self, num_training_steps, optimizer=None):
        schedule = SCHEDULES.get(SchedulerType(self.args.lr_scheduler_type).value)
        if self.lr_scheduler is None and schedule is not None:
            optimizer = optimizer or self.optimizer
            self.lr_scheduler = learning_rate_scheduler(
                optimizer, num_training_steps, self.args.warmup_steps, schedule
            )
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)

    def log(self, logs, start_time=None):
        if "loss" in logs or "train_loss" in logs:
            logs["logit_scale"] = self.model.logit_scale.item()
            if self.args.on_broken_video != "raise":
                logs["broken_videos"] = int(self.accelerator.reduce(self.num_broken_videos))
                self.num_broken_videos.zero_()
        super().log(logs, start_time)

    def _save_rng_state(self, output_dir):
        super()._save_rng_state(output_dir)
        # The Trainer goes on to write trainer_state.json, the sign of a complete checkpoint, and to delete old ones.
        self.accelerator.wait_for_everyone()

    # ---- evaluation ----

    def get_eval_dataloader(self, eval_dataset=None) -> DataLoader:
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        return evaluation_loader(
            self.eval_dataset[dataset] if isinstance(dataset, str) else dataset,
            self.processing_class,
            self.accelerator,
            batch_size=self.args.eval_batch_size,
            num_workers=self.args.dataloader_num_workers,
        )

    def get_test_dataloader(self, test_dataset) -> DataLoader:
        return self.get_eval_dataloader(test_dataset)

    def evaluation_loop(
        self, dataloader, description, prediction_loss_only=None, ignore_keys=None, metric_key_prefix="eval"
    ) -> EvalLoopOutput:
        """
        Encode both sides of the loader's records once and score all pairs.

        Returns:
            `predictions`: similarity `[texts, videos]`, `label_ids`: the video of each text, `metrics`.
        """
        model = self.model
        if not self.accelerator._models:  # evaluation without training
            model = self.accelerator.prepare_model(model, evaluation_mode=not self.is_fsdp_enabled)
        model.eval()
        for optimizer in self.accelerator._optimizers:
            optimizer.eval()  # schedule-free ones put other weights into the model
        self.callback_handler.eval_dataloader = dataloader
        dataset = dataloader.dataset
        embeddings = encode_pairs(model, self._with_progress(dataloader), dataset, self.accelerator)
        similarity, labels = embeddings.similarity, embeddings.labels
        self.last_scores: Scores = score_similarity(similarity, labels)
        metrics = flat_scores(self.last_scores, f"{metric_key_prefix}_")
        return EvalLoopOutput(similarity.numpy(), labels.numpy(), metrics, len(dataset))

    def _with_progress(self, dataloader: DataLoader) -> Iterator[Any]:
        for batch in dataloader:
            yield batch
            self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)

    # ---- the card ----

    def create_model_card(self, **kwargs) -> None:
        """The family's card with the history of this run and what `self.evaluations` (see `write_evaluation`) holds."""
        if self.is_world_process_zero():
            write_training_card(self, **kwargs)
            for evaluation in self.evaluations:
                write_evaluation(str(self.args.output_dir), **evaluation)


class _EveryEpochAndUpdate(TrainerCallback):
    """What the Trainer gives no other place for."""

    def __init__(self, trainer: ContrastiveTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        # Of a run that has been moved, or goes on from another working directory, the Trainer forgets the best checkpoint.
        best = Path(args.output_dir) / f"checkpoint-{state.best_global_step}"
        if best.is_dir() and not os.path.isdir(state.best_model_checkpoint or ""):
            state.best_model_checkpoint = str(best)

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.trainer.data_collator.set_epoch(int(state.epoch or 0))

    @torch.no_grad()
    def on_optimizer_step(self, args, state, control, **kwargs):
        self.trainer.model.logit_scale.clamp_(0, args.max_logit_scale)

    def on_step_end(self, args, state, control, **kwargs):
        # A checkpoint holds what was logged, not the sums since: a resumed run would log another loss, fewer broken videos.
        control.should_log |= control.should_save

    on_epoch_end = on_step_end
