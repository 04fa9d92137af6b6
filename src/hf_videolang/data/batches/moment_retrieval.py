"""Videos with subtitles, queries and the moments that these mean become batches, from stored features."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from hf_videolang.data.stores.feature_store import FeatureStore

if TYPE_CHECKING:
    from datasets import Dataset


def query_rows(records: "Dataset") -> "Dataset":
    """One row a query: `video_id`, `subtitles`, `text`, and `start` and `end` of the moment in seconds, or NaN."""
    from datasets import Dataset

    rows: dict[str, list[Any]] = {name: [] for name in ("video_id", "subtitles", "text", "start", "end")}
    for video_id, subtitles, moments in zip(*(records[name][:] for name in ("video_id", "subtitles", "moments"))):
        for moment in moments:
            for name, value in {"video_id": video_id, "subtitles": subtitles, **moment}.items():
                rows[name].append(math.nan if value is None and name in ("start", "end") else value)
    return Dataset.from_dict(rows)


class SubtitledVideoCollator:
    """
    Batches of videos for the encoder.

    Args:
        processor: matches subtitles with rows of features. Of a longer video it keeps the start.
        features: of the videos.

    A batch has what the processor returns for the videos.
    """

    def __init__(self, processor: Any, features: FeatureStore):
        self.processor, self.features = processor, features

    def __call__(self, records: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return dict(self._inputs(records))

    def _inputs(self, records: Sequence[dict[str, Any]], **texts: Any) -> dict[str, torch.Tensor]:
        return self.processor(
            video_features=[self.features.features(record["video_id"]) for record in records],
            subtitles=[record["subtitles"] for record in records],
            truncation=True,
            **texts,
        )


class MomentRetrievalCollator(SubtitledVideoCollator):
    """
    Batches of queries, each with its own video, for training.

    A batch also has `input_ids` and `attention_mask` of the queries, and `start_positions` and `end_positions`
    `[queries]`, the first and last row of features of each moment.

    Example:
        >>> rows = query_rows(records)
        >>> loader = DataLoader(rows, batch_size=32, collate_fn=MomentRetrievalCollator(processor, features))
    """

    def __call__(self, records: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        inputs = self._inputs(records, text=[record["text"] for record in records])
        lengths = inputs["video_attention_mask"].sum(dim=1).tolist()
        spans = [
            self.processor.span_frames(record["start"], record["end"], length)
            for record, length in zip(records, lengths)
        ]
        starts, ends = torch.tensor(spans).unbind(dim=1)
        return {**inputs, "start_positions": starts, "end_positions": ends}
