"""Fine-tuning for text-video retrieval: videos against captions."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_videolang.data.batches.retrieval import RetrievalCollator
from hf_videolang.data.stores.feature_store import FeatureStore
from hf_videolang.evaluation.retrieval import RetrievalEvaluator
from hf_videolang.losses import contrastive_loss, dual_softmax_loss, hard_negative_loss, ranking_loss
from hf_videolang.training.contrastive_trainer import ContrastiveTrainer
from hf_videolang.training.retrieval_arguments import RetrievalTrainingArguments
from hf_videolang.training.trainer import set_num_updates

LOSSES: dict[str, Callable[..., Tensor]] = {
    "contrastive": contrastive_loss,
    "dual_softmax": dual_softmax_loss,
    "hard_negative": hard_negative_loss,
    "ranking": ranking_loss,
}


def choose_loss(name: str, options: Any = None) -> tuple[Callable[..., Tensor], bool]:
    """
    A loss by name with its options bound, and whether it takes `logit_scale` as a third argument.

    Raises:
        ValueError: the name is unknown, or the options do not fit.
    """
    options = options or {}
    if name not in LOSSES:
        raise ValueError(f"loss is {name!r}; expected one of {', '.join(LOSSES)}.")
    signature = inspect.signature(LOSSES[name])
    scaled = "logit_scale" in signature.parameters
    try:
        signature.bind(*[None] * (2 + scaled), **options)
    except TypeError as error:
        raise ValueError(
            f"loss_options {options} do not fit the loss {name!r} ({error}); it is {name}{signature}."
        ) from error
    return partial(LOSSES[name], **options), scaled


class RetrievalTrainer(ContrastiveTrainer):
    """
    A [`ContrastiveTrainer`] on records of videos and captions, with the loss of `args.loss`.

    The number of updates is the original's (clip_vip §4). Captions and frames follow from seed, epoch and video
    alone, so a resumed run repeats an unbroken one. Evaluation scores every text against every video, in both
    directions, raw and after DSL; the log shows `eval_text_to_video_R1`, `eval_text_to_video_R1_DSL` and so on.

    Args:
        model (`PreTrainedModel`): gives `text_embeds` and `video_embeds`; has a `logit_scale` if the loss uses one.
        train_dataset, eval_dataset (`datasets.Dataset`, *optional*): records, see `load_dataset`.
        features (`FeatureStore`, *optional*): stored features, read in place of the videos.
        args, processor, kwargs: as in [`VideoTrainer`].

    Raises:
        ValueError: unknown loss, options that do not fit it, or fewer videos than one global batch; and the errors of
            [`VideoTrainer`].

    Example:
        >>> records, _ = load_dataset("videofolder", "my_folder", "train")
        >>> args = RetrievalTrainingArguments("runs/first", learning_rate=1e-6, per_device_train_batch_size=16)
        >>> RetrievalTrainer(model, args, processor, records).train()
    """

    args: RetrievalTrainingArguments

    def __init__(
        self,
        model: PreTrainedModel,
        args: RetrievalTrainingArguments,
        processor: Any,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        features: FeatureStore | None = None,
        **kwargs,
    ):
        self.loss_function, self.loss_is_scaled = choose_loss(args.loss, args.loss_options)
        if not self.loss_is_scaled and hasattr(model, "logit_scale"):
            model.logit_scale.requires_grad_(False)  # DDP would wait for its gradient
        collator = None
        if train_dataset is not None:
            collator = RetrievalCollator(
                processor, train_dataset, True, args.on_broken_video, seed=args.seed, features=features
            )
            set_num_updates(args, len(train_dataset), "videos")
        evaluator = RetrievalEvaluator(processor, **args.evaluator_options, features=features)
        super().__init__(model, args, processor, train_dataset, eval_dataset, collator, evaluator, **kwargs)

    def encode(self, model: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        outputs = model(**inputs)
        return outputs.video_embeds, outputs.text_embeds

    def loss_on_features(self, *features: Tensor) -> Tensor:
        # A model without a scale compares dot products as they are.
        scale = 0.0 if self.logit_scale is None else self.logit_scale
        return self.loss_function(*features, *([scale] if self.loss_is_scaled else []))
