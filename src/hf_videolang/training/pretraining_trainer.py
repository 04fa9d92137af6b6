"""Pre-training on clips: videos, their subtitles, their middle frames and the captions of those frames."""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, TrainerCallback

from hf_videolang.data.pretraining.omnisource import PretrainingCollator
from hf_videolang.data.pretraining.order import PretrainingOrder
from hf_videolang.data.pretraining.sources import PretrainingSource
from hf_videolang.evaluation.retrieval import RetrievalEvaluator
from hf_videolang.losses import OMNISOURCE_LOSSES, contrastive_loss
from hf_videolang.training.contrastive_trainer import ContrastiveTrainer
from hf_videolang.training.pretraining_arguments import PretrainingTrainingArguments

LOSSES: dict[str, Callable[..., Tensor]] = {**OMNISOURCE_LOSSES, "contrastive": contrastive_loss}


class PretrainingTrainer(ContrastiveTrainer):
    """
    A [`ContrastiveTrainer`] on sources of clips. The loss of `args.loss` says which of video, subtitle, middle frame
    and caption it compares.

    The order of the clips follows from seed and step ([`PretrainingOrder`]). So a resumed run repeats an unbroken one
    without reading the clips before it, and N processes train on the clips of one process with the N-fold batch.

    Args:
        model (`PreTrainedModel`): gives `text_embeds` and `video_embeds`, and has a `logit_scale`.
        sources: where the clips come from, see `open_sources`.
        eval_dataset (*optional*): name -> records of a retrieval set.
        args, processor, kwargs: as in [`VideoTrainer`].

    Raises:
        ValueError: unknown loss, a source with fewer clips than a global batch or without a needed column, and the
            errors of [`VideoTrainer`].

    Example:
        >>> args = PretrainingTrainingArguments("runs/first", learning_rate=5e-6, on_broken_video="replace")
        >>> PretrainingTrainer(model, args, processor, open_sources("my_shards")).train()
    """

    args: PretrainingTrainingArguments

    def __init__(
        self,
        model: PreTrainedModel,
        args: PretrainingTrainingArguments,
        processor: Any,
        sources: Sequence[PretrainingSource],
        eval_dataset: Any = None,
        **kwargs,
    ):
        if args.loss not in LOSSES:
            raise ValueError(f"loss is {args.loss!r}; expected one of {', '.join(LOSSES)}.")
        self.loss_function = LOSSES[args.loss]
        # The arguments of the loss name what is encoded: (video, subtitle, frame, caption) or fewer.
        self.features = [
            name
            for name, parameter in inspect.signature(self.loss_function).parameters.items()
            if name != "logit_scale" and parameter.default is parameter.empty  # options have defaults
        ]
        order = PretrainingOrder(
            {source.name: source.lengths for source in sources},
            {source.name: source.ratio for source in sources},
            args.train_batch_size * args.world_size,
            args.seed,
        )
        first = args.process_index * args.train_batch_size
        collator = PretrainingCollator(
            processor,
            sources,
            order,
            range(first, first + args.train_batch_size),
            features=self.features,
            video_text=args.video_text,
            on_broken_video=args.on_broken_video,
            on_missing_text=args.on_missing_text,
            seed=args.seed,
        )
        if args.max_steps <= 0:
            batch = order.batch_size * args.gradient_accumulation_steps
            args.max_steps = math.ceil(args.num_train_epochs * sum(order.num_clips.values()) / batch)
        steps = range(order.steps_per_epoch)
        evaluator = RetrievalEvaluator(processor, **args.evaluator_options)
        self.sources = sources
        super().__init__(model, args, processor, steps, eval_dataset, collator, evaluator, **kwargs)
        self.add_callback(_StopAtStep())

    def run_facts(self) -> dict[str, Any]:
        sources = {f"source {source.name}": source.fingerprint() for source in self.sources}
        return {**super().run_facts(), **sources}

    def get_train_dataloader(self) -> DataLoader:
        """The steps of an epoch. Each process makes its own slots of a batch, so Accelerate distributes nothing."""
        args = self.args
        return DataLoader(
            self.train_dataset,
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
        )

    def encode(self, model: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        inputs = dict(inputs)
        frames = {"pixel_values_videos": inputs.pop("pixel_values_frames", None)}
        features = {}
        if "caption" in self.features:  # both kinds of text in one pass
            for name in ("input_ids", "attention_mask"):
                inputs[name] = torch.cat([inputs[name], inputs.pop(f"caption_{name}")])
        outputs = model(**inputs)
        # Copied, because the frames' pass through a CUDA graph (torch.compile's reduce-overhead) may overwrite them.
        features["video"], text = outputs.video_embeds.clone(), outputs.text_embeds.clone()
        features["subtitle"] = features["text"] = text
        if "caption" in self.features:
            features["subtitle"], features["caption"] = text.chunk(2)
        if "frame" in self.features:
            features["frame"] = model(**frames).video_embeds
        return tuple(features[name] for name in self.features)

    def loss_on_features(self, *features: Tensor) -> Tensor:
        return self.loss_function(*features, self.logit_scale)


class _StopAtStep(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if args.stop_at_step is not None and state.global_step >= args.stop_at_step:
            control.should_log = control.should_save = control.should_training_stop = True
