"""What the scripts that fine-tune on a dataset share: the model with its settings, and the splits."""

from copy import copy
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedModel, TrainingArguments

from hf_videolang.data.batches.clip_reader import check_features, check_pixels, may_read_frames
from hf_videolang.data.stores.feature_store import FeatureStore
from hf_videolang.data.video_dataset import VideoDataset
from hf_videolang.hub.loading import load_model_and_processor, set_video_settings
from hf_videolang.inference.first_use import complete_features
from hf_videolang.training.arguments import FinetuningArguments
from hf_videolang.training.recipes import RecipeError
from hf_videolang.training.run import Data


def load_model(arguments: FinetuningArguments, head: str | None = None) -> tuple[PreTrainedModel, Any, Any]:
    """
    The model of a recipe with its settings, its processor, and the processor of the training clips.

    Of a folder with several heads it is the one with `head`. The two processors differ in the number of clips. The
    first is saved with the model.

    Raises:
        ValueError, OSError: as of [`load_model_and_processor`]; or the model has no `score_aggregation`, no such one,
            or no positions for frames of `size` pixels, or reads features alone and gets none.
    """
    model, processor = load_model_and_processor(
        arguments.model,
        arguments.num_frames,
        arguments.max_length,
        head,
        num_clips=arguments.num_clips if arguments.eval_num_clips is None else arguments.eval_num_clips,
        fps=arguments.fps,
        sampling=arguments.sampling,
        size=arguments.size,
    )
    if arguments.score_aggregation is not None:
        if not hasattr(model.config, "score_aggregation"):
            raise ValueError("score_aggregation is given, but the model does not read several clips; leave it out.")
        try:
            model.config.score_aggregation = arguments.score_aggregation
            model.config.validate()
        except StrictDataclassError as error:
            raise ValueError(str(error.__cause__)) from error
    if arguments.size is not None or (arguments.features is None and may_read_frames(processor)):
        check_pixels(model, processor)
    training_processor = processor
    if arguments.num_clips is not None:
        training_processor = copy(processor)
        training_processor.video_processor = copy(processor.video_processor)
        set_video_settings(training_processor, num_clips=arguments.num_clips)
    return model, processor, training_processor


def open_features(
    arguments: FinetuningArguments,
    training_args: TrainingArguments,
    dataset: VideoDataset,
    model: PreTrainedModel,
    processor: Any,
) -> FeatureStore:
    """
    The store that `arguments.features` names, with what it lacks of the splits of the run extracted.

    It fits the model, or `check_features` raises. A model that does not know its features has those of this store from
    now on, saved with it.
    """
    assert arguments.features is not None  # the caller has looked
    splits = {arguments.train_split, *tested_splits(arguments, dataset)}
    features = complete_features(
        arguments.features,
        [record for split in sorted(splits) for record in dataset.read(split)[0]],
        processor,
        arguments.extractors,
        cpu=training_args.use_cpu,
        num_workers=training_args.dataloader_num_workers,
    )
    check_features(features, model, processor)
    if getattr(processor, "features", "known") is None:
        processor.features = model.config.features = features.name
    return features


def load_splits(
    arguments: FinetuningArguments, dataset: VideoDataset, need_videos: bool = True, skip_absent: bool = False
) -> tuple[Data, list[str], list[str]]:
    """
    The splits to train on and to evaluate, the names of the latter, and notes for the user.

    `skip_absent` leaves videos without a file out of the training split. Evaluation raises for them. Without
    `need_videos`, files may be absent.
    """
    tested, notes = tested_splits(arguments, dataset), []
    if arguments.test and "test" not in dataset.splits:
        notes = ["note: the dataset has no test split, so the chosen checkpoint is not tested."]
    splits = sorted({arguments.train_split, *tested})
    skipped_in = arguments.train_split if skip_absent else None
    return {split: dataset.load(split, need_videos, split == skipped_in) for split in splits}, tested, notes


def tested_splits(arguments: FinetuningArguments, dataset: VideoDataset) -> list[str]:
    """The splits that are evaluated: during training, and afterwards."""
    names = [arguments.select_on, "test"] if arguments.test and "test" in dataset.splits else [arguments.select_on]
    return [name for name in dict.fromkeys(names) if name != "none"]


def choose_selection(arguments: FinetuningArguments, training_args: TrainingArguments) -> None:
    """Make the options that choose a checkpoint agree with `select_on`."""
    if arguments.select_on in arguments.train_split.split("+"):
        raise RecipeError(
            f"train_split is {arguments.train_split} and select_on is {arguments.select_on}: videos that a model was "
            "trained on cannot choose its checkpoint. Set select_on to none, or to test as the authors did."
        )
    if arguments.select_on == "none":
        training_args.eval_strategy = type(training_args.eval_strategy)("no")
        training_args.eval_on_start = training_args.load_best_model_at_end = False
        training_args.metric_for_best_model = None
