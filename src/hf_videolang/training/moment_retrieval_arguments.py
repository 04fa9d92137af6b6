"""The keys of a recipe for moments: model and data (`MomentRetrievalArguments`), and how to train."""

from dataclasses import MISSING, dataclass

from .arguments import SubtitledVideoArguments, VideoTrainingArguments, option


@dataclass(kw_only=True)
class MomentRetrievalArguments(SubtitledVideoArguments):
    """Model and data of a run. The help texts explain the fields."""

    features: str | None = option(
        MISSING, "folder of stored features of the videos; those that it lacks are extracted"
    )
    losses: dict | None = option(
        None,
        "values of the model's config that decide its losses, saved with the model, e.g. "
        """'{"video_ranking_weight": 1.0, "span_loss_weight": 0.01}'""",
    )
    min_moment_frames: int | None = option(None, "fewest rows between first and last row of a moment, saved")
    max_moment_frames: int | None = option(None, "a moment's last row lies less than this behind its first, saved")


@dataclass
class MomentRetrievalTrainingArguments(VideoTrainingArguments):
    """
    [`VideoTrainingArguments`] for moments. An item is a query with its video. Incomplete batches are left out, because
    every process must bring equally many.
    """

    hard_negatives_from_step: int | None = option(
        None, "update from which on the highest mismatches weigh hard_negative_weight, the others 0.1; default: never"
    )
    hard_pool_size: int = option(20, "how many of the highest mismatches are hard")
    span_loss_from_step: int = option(0, "update from which on the span loss counts; -1: never")
    metric_for_best_model: str | None = option("VCMR_IoU0.7_AveR", "the score that chooses the best checkpoint")
    dataloader_drop_last: bool = True
