"""The keys of a recipe for captions: model and data (`CaptioningArguments`), and how to train."""

from dataclasses import MISSING, dataclass
from typing import Literal

from .arguments import SubtitledVideoArguments, VideoTrainingArguments, option


@dataclass(kw_only=True)
class CaptioningArguments(SubtitledVideoArguments):
    """Model and data of a run. The help texts explain the fields."""

    features: str | None = option(
        MISSING, "folder of stored features of the videos; those that it lacks are extracted"
    )
    label_smoothing: float | None = option(
        None, "probability that the loss gives to all other words, saved with the model; default: the model's own"
    )
    long_captions: Literal["cut", "drop"] = option(
        "cut", "what becomes of a training caption with more than max_length tokens"
    )
    item: Literal["video", "caption"] = option(
        "video", "what the batch size counts: videos, each with all of its captions, or captions with their video"
    )


@dataclass
class CaptioningTrainingArguments(VideoTrainingArguments):
    """[`VideoTrainingArguments`] for captions. `CaptioningArguments.item` says what an item is."""

    metric_for_best_model: str | None = option("captions_CIDEr", "the score that chooses the best checkpoint")
