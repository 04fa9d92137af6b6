"""Videos with captions, right and wrong, become batches for a model that reads text and video together."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import torch
from torch.utils.data import Dataset as MapDataset

from hf_videolang.data.batches.clip_reader import Policy
from hf_videolang.data.batches.retrieval import RetrievalCollator

if TYPE_CHECKING:
    from datasets import Dataset


class CaptionRows(MapDataset):
    """
    Records of videos as one row a caption, in the order of the records. An epoch passes over all of them.

    Row i is a record with one of its `captions`, and `caption_number`, its place in the record.
    """

    def __init__(self, records: "Dataset"):
        self.records = records
        self.first = np.cumsum([0, *map(len, records["captions"][:])])

    def __len__(self) -> int:
        return int(self.first[-1])

    def __getitem__(self, number: int) -> dict[str, Any]:
        row = int(np.searchsorted(self.first, number, side="right")) - 1
        record, place = self.records[row], number - int(self.first[row])
        return {**record, "captions": [record["captions"][place]], "caption_number": place}


class RetrievalPairCollator(RetrievalCollator):
    """
    Training batches for a pair scorer, from rows of [`CaptionRows`]: a video, its caption, and captions of others.

    Clips and negatives are drawn anew in each epoch. They depend on the seed, the epoch and the caption alone. As in
    the original, a negative is any caption of another video with equal probability (clipbert §7).

    Args:
        processor: turns frames and texts into tensors; clips and their sampling are its own.
        records: with all captions. Negatives and replacements of broken videos come from it.
        num_negatives (defaults to 1): captions of other videos beside each caption.
        on_broken_video, seed: as of [`RetrievalCollator`].

    A batch has `pixel_values_videos` `[videos, …]` and `num_broken_videos` `[1]`. Its texts are, video by video, the
    caption and then the negatives: `input_ids` and `attention_mask` `[texts, length]`, `video_index` `[texts]` (which
    video of the batch), `labels` `[texts]` (1 = it describes the video).

    Raises:
        VideoDecodingError, ValueError: as of [`RetrievalCollator`]; or there is only one video.

    Example:
        >>> collator = RetrievalPairCollator(processor, records, num_negatives=3)
        >>> loader = DataLoader(CaptionRows(records), batch_size=16, shuffle=True, collate_fn=collator)
    """

    def __init__(
        self,
        processor: Any,
        records: "Dataset",
        num_negatives: int = 1,
        on_broken_video: Policy = "raise",
        seed: int = 42,
    ):
        super().__init__(processor, records, True, on_broken_video, seed)
        if len(records) < 2:
            raise ValueError(f"{len(records)} video to train on; the negatives are captions of other videos.")
        self.num_negatives = num_negatives

    def __call__(self, records: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = super().__call__(records)
        videos = len(batch["pixel_values_videos"])
        labels = torch.tensor([1] + [0] * self.num_negatives)
        batch["labels"] = labels.repeat(videos)
        batch["video_index"] = torch.arange(videos).repeat_interleave(len(labels))
        return batch

    def _generator(self, record: dict[str, Any]) -> np.random.Generator:
        name = f"{record['video_id']}#{record['caption_number']}"
        return np.random.default_rng([self.seed, int(self._epoch), crc32(name.encode())])

    def _draw(self, record: dict[str, Any], generator: np.random.Generator) -> dict[int, str]:
        """The caption of the record, and others under negative numbers."""
        drawn = super()._draw(record, generator)
        row = self._rows[record["video_id"]]
        first, stop = self._first_caption[row : row + 2]
        for number in range(self.num_negatives):
            other = int(generator.integers(self._first_caption[-1] - (stop - first)))
            other += (stop - first) * (other >= first)
            its_row = int(np.searchsorted(self._first_caption, other, side="right")) - 1
            drawn[-1 - number] = self.dataset[its_row]["captions"][other - self._first_caption[its_row]]
        return drawn
