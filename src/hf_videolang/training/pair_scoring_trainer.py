"""Fine-tuning for text-video retrieval of a model that reads text and video together."""

from typing import Any

from transformers import PreTrainedModel

from hf_videolang.data.batches.retrieval_pairs import CaptionRows, RetrievalPairCollator
from hf_videolang.evaluation.pair_scoring import PairScoringEvaluator
from hf_videolang.training.retrieval_arguments import RetrievalTrainingArguments
from hf_videolang.training.trainer import VideoTrainer, set_num_updates


class PairScoringTrainer(VideoTrainer):
    """
    A [`VideoTrainer`] of a pair scorer on videos, their captions, and captions of other videos.

    An epoch passes over all captions, so a video with twenty captions is decoded twenty times (clipbert A3). The model
    has its own loss. Evaluation scores every text against every video, which takes long: see [`PairScoringEvaluator`].

    Args:
        model (`PreTrainedModel`): see `hf_videolang.evaluation.pair_scoring`.
        train_dataset, eval_dataset (`datasets.Dataset`, *optional*): records, see `load_dataset`.
        training_processor (*optional*): for the training clips, if they differ in number from those of the evaluation.
        args, processor, kwargs: as in [`VideoTrainer`]. `processor` is the one of the evaluation.

    Example:
        >>> args = RetrievalTrainingArguments("runs/pairs", learning_rate=5e-5, num_negatives=1)
        >>> PairScoringTrainer(model, args, processor, records).train()
    """

    args: RetrievalTrainingArguments

    def __init__(
        self,
        model: PreTrainedModel,
        args: RetrievalTrainingArguments,
        processor: Any,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        training_processor: Any = None,
        **kwargs,
    ):
        rows = collator = None
        if train_dataset is not None:
            rows = CaptionRows(train_dataset)
            collator = RetrievalPairCollator(
                training_processor or processor,
                train_dataset,
                args.num_negatives,
                on_broken_video=args.on_broken_video,
                seed=args.seed,
            )
            set_num_updates(args, len(rows), "captions")
        evaluator = PairScoringEvaluator(processor, **args.evaluator_options)
        super().__init__(model, args, processor, rows, eval_dataset, collator, evaluator, **kwargs)
