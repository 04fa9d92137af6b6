"""The keys of a pre-training recipe: model and data (`PretrainingArguments`), and how to train."""

from dataclasses import MISSING, dataclass
from typing import Literal

from .arguments import ContrastiveTrainingArguments, ModelArguments, option


@dataclass(kw_only=True)
class PretrainingArguments(ModelArguments):
    """Model and data of a run. The help texts explain the fields."""

    sources: dict | str = option(
        MISSING,
        "where the clips are: a folder of .tar or .parquet shards, a glob, or a Hub dataset; or, for several sources "
        'and for captions from a store, \'{"name": {"data": folder, "captions": caption store, "ratio": 1, '
        '"split": "train", "subtitle_column": …, "caption_column": …}, …}\'',
    )
    evaluation: dict | str | None = option(
        None,
        'retrieval sets to evaluate: \'{"msrvtt-1ka": folder}\' for benchmarks, or \'{"name": {"dataset": '
        'benchmark or videofolder, "data_dir": folder, "split": "test"}}\'. They choose a checkpoint only with '
        "load_best_model_at_end and metric_for_best_model: NAME_text_to_video_R1",
    )


@dataclass
class PretrainingTrainingArguments(ContrastiveTrainingArguments):
    """
    [`ContrastiveTrainingArguments`] for pre-training on sources of clips with several texts and frames.

    An epoch has as many batches as one pass over each source takes, together. A source whose share of the steps
    differs from its share of the clips is seen more or less often than once.
    """

    loss: str = option(
        "vsc_fc", "of losses.omnisource: vs_fc, vs_vc, vs_vc_fc, vsc, vsc_fc, joint or contrastive (no captions)"
    )
    video_text: Literal["subtitle", "caption", "caption_and_subtitle", "either"] = option(
        "subtitle", "the text of a video"
    )
    on_missing_text: Literal["raise", "replace", "none"] = option(
        "raise",
        "what to do with a clip without subtitle or caption; none writes the word None as its caption, as the authors "
        "did. The log counts missing_texts",
    )
    on_broken_video: Literal["raise", "replace"] = option(
        "raise", "a training video that does not decode stops the run, or is replaced: batches keep their size"
    )
    stop_at_step: int | None = option(None, "save and end after this update; the schedule still spans max_steps")
