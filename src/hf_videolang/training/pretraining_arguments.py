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

    Args:
        loss (`str`, defaults to `"vsc_fc"`): a variant of [`~hf_videolang.losses.omnisource_loss`], or
            `"contrastive"`: video against its text alone. The model encodes only what the loss compares.
        video_text (`str`, defaults to `"subtitle"`), on_missing_text (`str`, defaults to `"raise"`): see
            [`~hf_videolang.data.pretraining.omnisource.PretrainingCollator`]. The log counts missing texts as
            `missing_texts`.
        on_broken_video (`str`, defaults to `"raise"`): `"raise"` or `"replace"`, because batches keep their size.
        max_steps (`int`, defaults to -1): updates, which the learning rate spans; if not positive,
            `ceil(num_train_epochs * clips / (global batch * gradient_accumulation_steps))` (clip_vip §4).
        stop_at_step (`int`, *optional*): save a checkpoint after this update and end. The schedule still spans
            `max_steps` (`break_step` of the original), so the run can be resumed with a later one or none.
    """

    loss: str = option("vsc_fc", "vs_fc, vs_vc, vs_vc_fc, vsc, vsc_fc, joint or contrastive (no captions)")
    video_text: Literal["subtitle", "caption", "caption_and_subtitle", "either"] = option(
        "subtitle", "the text of a video"
    )
    on_missing_text: Literal["raise", "replace", "none"] = option(
        "raise",
        "what to do with a clip without subtitle or caption; none writes the word None as its caption, as the authors "
        "did",
    )
    on_broken_video: Literal["raise", "replace"] = option(
        "raise", "what to do with a training video that does not decode"
    )
    stop_at_step: int | None = option(None, "save and end after this update; the schedule still spans all")
