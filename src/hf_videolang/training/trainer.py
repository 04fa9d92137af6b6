"""`transformers.Trainer` for video-language models of any task."""

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, Trainer, TrainerCallback
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.trainer_utils import SchedulerType, speed_metrics
from transformers.utils import hf_api

from hf_videolang.data.records import annotations_hash
from hf_videolang.evaluation.scores import Scores, flat_scores, mean_rank_beside
from hf_videolang.hub.evaluation_results import write_evaluation
from hf_videolang.hub.model_card import write_training_card
from hf_videolang.hub.push import private_files_stay
from hf_videolang.training.arguments import DECAY_LAST_ADAMW, VideoTrainingArguments
from hf_videolang.training.checkpoints import RunFacts
from hf_videolang.training.optimization import (
    SCHEDULES,
    DecayLastAdamW,
    is_decayed,
    learning_rate_scheduler,
    parameter_groups,
    polynomial_scheduler,
)

# Arguments that make a run what it is. Others may change when it resumes, such as on_broken_video or save_steps.
MAKING_A_RUN = (
    *("seed", "data_seed", "gradient_accumulation_steps", "dataloader_drop_last", "max_grad_norm"),
    *("optim", "optim_args", "learning_rate", "lr_multipliers", "weight_decay"),
    *("adam_beta1", "adam_beta2", "adam_epsilon"),
    *("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "metric_for_best_model"),
    *("loss", "loss_options", "negatives", "num_negatives", "max_logit_scale", "video_text"),  # of some tasks
)


def set_num_updates(args: VideoTrainingArguments, num_items: int, items: str) -> None:
    """
    Where `max_steps` is not positive, make it the original's number of updates (clip_vip §4, clipbert §9). Raises
    `ValueError` if incomplete batches are left out, and there is no other.
    """
    batch = args.train_batch_size * args.world_size
    if args.dataloader_drop_last and num_items < batch:
        raise ValueError(
            f"{num_items} {items} to train on, fewer than one global batch of {batch} ({args.train_batch_size} x "
            f"{args.world_size} processes); lower per_device_train_batch_size."
        )
    if args.max_steps <= 0:
        args.max_steps = math.ceil(args.num_train_epochs * num_items / (batch * args.gradient_accumulation_steps))


class VideoTrainer(Trainer):
    """
    A Trainer for any model that returns `loss`: original optimisation, counts of broken videos, exact resumption.

    The schedules cosine, linear and inverse_sqrt are the original's (clip_vip §4); polynomial with
    `lr_scheduler_kwargs={"decay_steps": 1000000}` is fairseq's (videoclip §5.5). Weight decay leaves out what the
    original leaves out: biases, `LayerNorm.weight`, and parameters without dimensions.

    A batch may hold counts, entries named `num_<things>` such as `num_broken_videos`. The model does not get them; the
    log shows their sums over all processes since its last line as `<things>`, if there are any.

    Args:
        model (`PreTrainedModel`): returns `loss`, or a subclass computes it. It is moved to the device.
        args (`VideoTrainingArguments`): how to train.
        processor: the model's processor; it is saved with each checkpoint.
        train_dataset, eval_dataset (`datasets.Dataset`, *optional*): records; `eval_dataset` may be a dictionary.
        data_collator (*optional*): makes batches of records. If it has `set_epoch`, it is called before each epoch.
        evaluator (*optional*): `evaluator(model, records, accelerator, progress)` gives `Scores`, and
            `evaluator.metric_names()` lists the names under which the log shows them. Default: the Trainer's own
            evaluation, which computes the loss.
        kwargs: further arguments of `Trainer`.

    Raises:
        ValueError: several processes with "skip", or with incomplete batches of a loss that compares samples; an
            unknown metric for the best checkpoint, evaluations without a checkpoint to choose, or a multiplier for no
            parameter.

    Example:
        >>> trainer = VideoTrainer(model, args, processor, train_dataset=records, data_collator=collator)
        >>> trainer.train()
    """

    args: VideoTrainingArguments
    model: Any
    processing_class: Any
    data_collator: Any
    train_dataset: Any
    eval_dataset: Any
    compares_samples = False  # of all processes, in the loss

    def __init__(
        self,
        model: PreTrainedModel,
        args: VideoTrainingArguments,
        processor: Any,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        data_collator: Any = None,
        evaluator: Any = None,
        **kwargs,
    ):
        if args.on_broken_video == "skip" and args.world_size > 1:
            raise ValueError(
                f"on_broken_video is 'skip' with {args.world_size} processes, whose batches would differ in size; "
                "use 'replace'."
            )
        if self.compares_samples and args.world_size > 1 and not args.dataloader_drop_last:
            raise ValueError(
                f"dataloader_drop_last is false with {args.world_size} processes: the last batch would be filled up "
                "with repeated samples, each a wrong negative of itself. Leave dataloader_drop_last true."
            )
        by_steps = args.eval_strategy == args.save_strategy == "steps"
        if args.load_best_model_at_end and by_steps and args.eval_steps != args.save_steps:
            raise ValueError(
                f"load_best_model_at_end with eval_steps {args.eval_steps:g} and save_steps {args.save_steps:g}: the "
                "best evaluation may have no checkpoint. Make them equal, or set save_strategy to best."
            )
        parameter_groups(model.named_parameters(), 1, 0, args.lr_multipliers)  # raises if a part of a name is unknown
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processor,
            **kwargs,
        )
        self.evaluator = evaluator
        self.evaluations: list[dict[str, Any]] = []
        self.counts: dict[str, Tensor] = {}
        chooses = args.load_best_model_at_end or args.save_strategy == "best"
        if evaluator is not None and eval_dataset is not None and chooses:
            # The Trainer would miss the metric only in the first evaluation, which may be hours away.
            metric, known = args.metric_for_best_model or "", evaluator.metric_names()
            if isinstance(eval_dataset, dict):
                known = [f"{name}_{metric}" for name in eval_dataset for metric in known]
            if metric.removeprefix("eval_") not in known:
                raise ValueError(f"metric_for_best_model is {metric!r}; expected one of {', '.join(known)}.")
        self.facts = RunFacts(self.run_facts())
        self.add_callback(self.facts)
        self.add_callback(_ExactResumption(self))
        if self.is_fsdp_enabled:
            self._configure_fsdp(self.accelerator.state.fsdp_plugin)

    def _configure_fsdp(self, plugin: Any) -> None:
        if plugin.transformer_cls_names_to_wrap is None:
            # The model's blocks. Accelerate would take `_no_split_modules`. They may hold the input embedding, which
            # it shards by itself as well, and name modules that this model lacks.
            blocks = (module for module in self.model.modules() if isinstance(module, GradientCheckpointingLayer))
            plugin.transformer_cls_names_to_wrap = sorted({type(block).__name__ for block in blocks})
        if plugin.mixed_precision_policy is not None:
            # Accelerate would add up gradients in half precision, where a long sum loses small terms.
            plugin.mixed_precision_policy = replace(plugin.mixed_precision_policy, reduce_dtype=torch.float32)

    def run_facts(self) -> dict[str, Any]:
        """What a resumed run must have in common with its checkpoint, as JSON values."""
        args, collator = self.args, self.data_collator
        processor, features, records = (getattr(collator, name, None) for name in ("processor", "features", "dataset"))
        trained = [f"{name} {tuple(p.shape)}" for name, p in self.model.named_parameters() if p.requires_grad]
        return {
            **{name: getattr(args, name) for name in MAKING_A_RUN if hasattr(args, name)},
            "global batch": args.train_batch_size * args.world_size,
            "length": f"{args.max_steps} updates" if args.max_steps > 0 else f"{args.num_train_epochs:g} epochs",
            "mixed precision": self.accelerator.mixed_precision,
            "trained parameters": f"{len(trained)} (crc32 {crc32(' '.join(trained).encode()):08x})",
            "input": processor and processor.input_protocol(),
            "features": features and features.provenance,
            "records": None if records is None else annotations_hash(records),
        }

    # ---- optimisation ----

    def create_optimizer(self, model=None):
        args, decay_last = self.args, self.args.optim == DECAY_LAST_ADAMW
        if self.optimizer is None and (decay_last or args.lr_multipliers):
            model = model or self.model
            groups = parameter_groups(
                model.named_parameters(), args.learning_rate, args.weight_decay, args.lr_multipliers
            )
            if decay_last:
                betas = (args.adam_beta1, args.adam_beta2)
                kind, options = DecayLastAdamW, {"lr": args.learning_rate, "betas": betas, "eps": args.adam_epsilon}
            else:
                kind, options = self.get_optimizer_cls_and_kwargs(args, model)
            self.optimizer_cls_and_kwargs = kind, {**options, "params": groups}
        return super().create_optimizer(model)

    def get_decay_parameter_names(self, model) -> list[str]:
        return [name for name, parameter in model.named_parameters() if is_decayed(name, parameter)]

    def create_scheduler(self, num_training_steps, optimizer=None):
        args, name = self.args, SchedulerType(self.args.lr_scheduler_type).value
        options: Any = args.lr_scheduler_kwargs or {}
        chosen: Any = optimizer or self.optimizer
        if self.lr_scheduler is None:
            if name in SCHEDULES and not options:
                self.lr_scheduler = learning_rate_scheduler(chosen, num_training_steps, args.warmup_steps, name)
            elif name == "polynomial" and "decay_steps" in options:
                warmup = args.get_warmup_steps(num_training_steps)
                self.lr_scheduler = polynomial_scheduler(chosen, warmup, **options)
            self._created_lr_scheduler = self.lr_scheduler is not None
        return super().create_scheduler(num_training_steps, optimizer)

    # ---- training ----

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        if self.state.global_step >= self.state.max_steps:
            return [], None  # resumed after the last update; the Trainer would do one more
        return super().get_batch_samples(epoch_iterator, num_batches, device)

    def training_step(self, model, inputs, num_items_in_batch=None):
        if self.args.sum_accumulated_gradients:
            self.current_gradient_accumulation_steps = 1  # what the Trainer divides each loss by
            num_items_in_batch = self._get_num_items_in_batch([inputs], self.args.device)  # or of all batches
        return super().training_step(model, inputs, num_items_in_batch)

    def _prepare_inputs(self, inputs):
        return super()._prepare_inputs(self._without_counts(inputs))

    def _without_counts(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The inputs of the model; what the batch counts is added up."""
        for name in [name for name in inputs if name.startswith("num_")]:
            count = inputs[name].sum().to(self.args.device)
            self.counts[name] = self.counts.get(name, 0) + count
        return {name: value for name, value in inputs.items() if not name.startswith("num_")}

    def log(self, logs, start_time=None):
        if "loss" in logs or "train_loss" in logs:
            for name, count in self.counts.items():
                if total := int(self.accelerator.reduce(count)):
                    logs[name.removeprefix("num_")] = total
            self.counts.clear()
        super().log(logs, start_time)

    def _save_rng_state(self, output_dir):
        super()._save_rng_state(output_dir)
        # Next, the Trainer writes trainer_state.json, the sign of a complete checkpoint, and deletes old checkpoints.
        self.accelerator.wait_for_everyone()

    # ---- evaluation ----

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval") -> dict[str, float]:
        """
        Score records with the evaluator; log and return the scores as `<prefix>_<metric>`.

        `self.last_scores` holds them as `Scores`. Arguments as in the Trainer, whose own evaluation runs without an
        evaluator.
        """
        if self.evaluator is None:
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        records = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(records, dict):
            metrics: dict[str, float] = {}
            for name, part in records.items():
                metrics |= self.evaluate(part, ignore_keys, f"{metric_key_prefix}_{name}")
            return metrics
        start = time.time()
        self.last_scores: Scores = self.evaluator(
            self._model_to_evaluate(), records, self.accelerator, self._with_progress
        )
        metrics = flat_scores(self.last_scores, f"{metric_key_prefix}_")
        metrics |= speed_metrics(metric_key_prefix, start, num_samples=len(records))
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _determine_best_metric(self, metrics, trial) -> bool:
        """The Trainer keeps the first of equal scores. Here the lower mean rank wins, then the later step."""
        best_step = self.state.best_global_step
        if super()._determine_best_metric(metrics, trial):
            return True
        name = f"eval_{(self.args.metric_for_best_model or '').removeprefix('eval_')}"
        if not best_step or metrics.get(name) != self.state.best_metric:
            return False
        mean_rank = mean_rank_beside(name)
        best_ranks = [
            line[mean_rank] for line in self.state.log_history if line["step"] == best_step and mean_rank in line
        ]
        if best_ranks and metrics[mean_rank] > best_ranks[-1]:
            return False
        self.state.best_global_step = self.state.global_step
        return True

    def _model_to_evaluate(self) -> nn.Module:
        model = self.model
        if not self.accelerator._models:  # evaluation without training
            model = self.accelerator.prepare_model(model, evaluation_mode=not self.is_fsdp_enabled)
        model.eval()
        for optimizer in self.accelerator._optimizers:
            optimizer.eval()  # schedule-free optimisers change the weights for evaluation
        return model

    def _with_progress(self, batches):
        self.callback_handler.eval_dataloader = batches
        for batch in batches:
            yield batch
            self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)

    # ---- the card and the Hub ----

    def push_to_hub(self, *arguments, **kwargs):
        """As the Trainer does. What `push_folder` leaves out stays here, too."""
        with private_files_stay(hf_api()):
            return super().push_to_hub(*arguments, **kwargs)

    def _push_from_checkpoint(self, checkpoint_folder):
        with private_files_stay(hf_api()):
            super()._push_from_checkpoint(checkpoint_folder)

    def create_model_card(self, **kwargs) -> None:
        """Write the family's card with the history of this run and the results in `self.evaluations`."""
        if self.is_world_process_zero():
            write_training_card(self, **kwargs)
            for evaluation in self.evaluations:
                write_evaluation(str(self.args.output_dir), self.hub_model_id or self.args.hub_model_id, **evaluation)


class _ExactResumption(TrainerCallback):
    """A resumed run draws the same samples, logs the same numbers and knows the best checkpoint."""

    def __init__(self, trainer: VideoTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        # The Trainer forgets the best checkpoint of a run that was moved or that resumes from another working folder.
        best = Path(args.output_dir) / f"checkpoint-{state.best_global_step}"
        if best.is_dir() and not Path(state.best_model_checkpoint or "-").is_dir():
            state.best_model_checkpoint = str(best)

    def on_epoch_begin(self, args, state, control, **kwargs):
        if hasattr(self.trainer.data_collator, "set_epoch"):
            self.trainer.data_collator.set_epoch(int(state.epoch or 0))

    def on_step_end(self, args, state, control, **kwargs):
        # A checkpoint holds log lines, not the sums since the last one, so a line comes before every checkpoint.
        control.should_log |= control.should_save

    on_epoch_end = on_step_end
