"""Videos with subtitles and the captions of their segments become batches, from stored features."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

import torch

from hf_videolang.data.batches.moment_retrieval import SubtitledVideoCollator
from hf_videolang.data.stores.feature_store import FeatureStore

if TYPE_CHECKING:
    from datasets import Dataset

LongCaptions = Literal["cut", "drop"]


class CaptioningCollator(SubtitledVideoCollator):
    """
    Batches of videos with all captions of their segments, for training.

    A batch also has `segments`, `video_index` and `labels`, as the processor makes them of the captions in their
    order. A video is encoded once, however many captions it has.

    Example:
        >>> rows, notes = training_rows(records, processor, features)
        >>> loader = DataLoader(rows, batch_size=4, collate_fn=CaptioningCollator(processor, features))
    """

    def __call__(self, records: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        segments = [
            [span_of(segment) for segment in record["segments"] for _ in segment["captions"]] for record in records
        ]
        captions = [text for record in records for segment in record["segments"] for text in segment["captions"]]
        return dict(self._inputs(records, segments=segments, captions=captions))


class SegmentCollator(SubtitledVideoCollator):
    """
    Batches of videos with their segments, for writing captions. Segments behind the rows that are read are left out.

    A batch also has `segment_number` `[segments]`, their places in the order of all segments of the dataset, and
    `video_number` `[videos]`.
    """

    def __init__(self, processor: Any, features: FeatureStore, records: "Dataset"):
        super().__init__(processor, features)
        counts = [len(segments) for segments in records["segments"][:]]
        self.firsts = dict(zip(records["video_id"][:], accumulate([0, *counts])))
        self.places = {video_id: place for place, video_id in enumerate(records["video_id"][:])}

    def __call__(self, records: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        spans, numbers = [], []
        for record in records:
            seen = [
                (place, span_of(segment))
                for place, segment in enumerate(record["segments"])
                if is_read(segment, record["video_id"], self.processor, self.features)
            ]
            spans.append([span for _, span in seen])
            numbers += [self.firsts[record["video_id"]] + place for place, _ in seen]
        inputs = self._inputs(records, segments=spans)
        places = [self.places[record["video_id"]] for record in records]
        numbered = {"segment_number": torch.tensor(numbers, dtype=torch.long), "video_number": torch.tensor(places)}
        return {**inputs, **numbered}


def span_of(segment: Mapping[str, Any]) -> tuple[float, float]:
    """Its seconds; of a whole video, to infinity."""
    return (0.0, math.inf) if segment["start"] is None else (segment["start"], segment["end"])


def is_read(segment: Mapping[str, Any], video_id: str, processor: Any, features: FeatureStore) -> bool:
    """Whether a segment starts within the rows of features that the model reads."""
    if segment["start"] is None:
        return True
    rows = min(features.num_rows(video_id), processor.max_frames)
    return segment["start"] < rows * processor.seconds_per_feature


def training_rows(
    records: "Dataset",
    processor: Any,
    features: FeatureStore,
    long_captions: LongCaptions = "cut",
    one_caption_a_row: bool = False,
) -> tuple["Dataset", list[str]]:
    """
    What can be learnt: rows with `video_id`, `subtitles` and `segments`.

    Left out are captions without a known character, those of segments that start behind the rows of features that are
    read, and perhaps those longer than the processor's `max_length`.

    Args:
        records: with segments, see `load_dataset`.
        processor, features: of the model.
        long_captions: `"cut"` keeps the first tokens of a caption that is too long, `"drop"` leaves it out.
        one_caption_a_row: a row a caption, instead of a row a video with all of its captions.

    Returns:
        The rows, and notes for the user: how many captions were left out or cut.
    """
    from datasets import Dataset

    rows: list[dict[str, Any]] = []
    counts, total = Counter[str](), 0
    for video_id, subtitles, segments in zip(*(records[name][:] for name in ("video_id", "subtitles", "segments"))):
        kept = []
        for segment in segments:
            faults = [_fault(text, processor) for text in segment["captions"]]
            if not is_read(segment, video_id, processor, features):
                faults = [BEHIND] * len(faults)
            total += len(faults)
            counts.update(filter(None, faults))
            good = (None, LONG) if long_captions == "cut" else (None,)
            if captions := [text for text, fault in zip(segment["captions"], faults) if fault in good]:
                kept.append({**segment, "captions": captions})
        if one_caption_a_row:
            kept_rows = [[{**one, "captions": [text]}] for one in kept for text in one["captions"]]
        else:
            kept_rows = [kept] if kept else []
        rows += [{"video_id": video_id, "subtitles": subtitles, "segments": some} for some in kept_rows]
    notes = [
        f"{count} of {total} training captions {fault} and are "
        f"{'cut' if fault == LONG and long_captions == 'cut' else 'left out'}."
        for fault, count in counts.items()
    ]
    return Dataset.from_list(rows), notes


UNKNOWN = "have no known character"
BEHIND = "are about segments behind the rows of features that are read"
LONG = "are too long"


def _fault(text: str, processor: Any) -> str | None:
    ids = processor.caption_ids(text)
    if all(one == processor.caption_tokenizer.unk_token_id for one in ids):
        return UNKNOWN
    return LONG if len(ids) > processor.max_length else None
