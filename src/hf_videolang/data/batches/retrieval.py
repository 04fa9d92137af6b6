"""Videos and captions become batches for a two-tower model, in the DataLoader's workers: decode, sample, tokenise."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hf_videolang.data.batches.clip_collator import ClipCollator
from hf_videolang.data.records import is_blank

if TYPE_CHECKING:
    from datasets import Dataset


class RetrievalCollator(ClipCollator):
    """Batches of videos and captions for a two-tower model.

    In training, each video comes with one of its captions, and its frames are drawn with the original's jitter
    (clip_vip §5.2). Both draws depend on the seed, the epoch and the video's id alone; the number of workers or
    processes and a resumed run do not change them. In evaluation, each video comes with all its captions, and nothing
    is drawn. (The original draws a caption at test time, too, clip_vip §10.14.)

    Args:
        as of [`ClipCollator`]. "skip" makes a batch smaller; the contrastive loss over several processes needs equal
        batches and excludes it.

    A batch has what the processor returns for the videos (`pixel_values_videos` or `video_features`, and
    `video_attention_mask` if lengths differ) and for the captions (`input_ids`, `attention_mask`), and

        num_broken_videos `[1]`: videos skipped or replaced.

    In evaluation, where a video may have several captions, it also has

        video_index `[videos]`: row of each video in `dataset`;
        caption_index `[captions]`: number of each caption among all captions of `dataset`, row by row;
        caption_video_index `[captions]`: row of the video that the caption belongs to.

    Remove all four before the model sees the batch. The Trainer needs `remove_unused_columns=False`. If "skip" leaves
    nothing of a batch in evaluation, the indices are empty, and a black picture or the features of another video, and
    an empty text stand in, since every process must call the model equally often.

    Raises:
        VideoDecodingError: a video is broken under "raise", or so are its replacements under "replace".
        ValueError: the dataset has no captions, all captions of a record are blank, "skip" leaves nothing of a
            training batch, or a video has no stored features.

    Example:
        >>> collator = RetrievalCollator(processor, dataset, training=True, on_broken_video="replace")
        >>> loader = DataLoader(dataset, batch_size=16, shuffle=True, collate_fn=collator, num_workers=8)
    """

    def __init__(self, processor: Any, dataset: "Dataset", *arguments: Any, **options: Any):
        if "captions" not in dataset.column_names:
            raise ValueError(f"The dataset has the columns {dataset.column_names}; retrieval needs captions.")
        super().__init__(processor, dataset, *arguments, **options)
        self._first_caption = np.cumsum([0, *map(len, dataset["captions"][:])])

    def __call__(self, records: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        videos, kept, num_broken = self._read(records)
        texts = [text for _, captions in kept for text in captions.values()]
        batch = {**self.processor(text=texts or [""], return_tensors="pt"), **videos}
        if not self.training:
            rows = [(self._rows[record["video_id"]], captions) for record, captions in kept]
            indices = {
                "video_index": [row for row, _ in rows],
                "caption_video_index": [row for row, captions in rows for _ in captions],
                "caption_index": [self._first_caption[row] + i for row, captions in rows for i in captions],
            }
            batch |= {name: torch.tensor(values, dtype=torch.int64) for name, values in indices.items()}
        batch["num_broken_videos"] = torch.tensor([num_broken])
        return batch

    def _draw(self, record: dict[str, Any], generator: np.random.Generator) -> dict[int, str]:
        """Captions by their position in the record, without blank ones: one in training, all in evaluation."""
        captions = {i: caption for i, caption in enumerate(record["captions"]) if not is_blank(caption)}
        if not captions:
            raise ValueError(f"{record['video_id']} has no caption, or only blank ones: {record['captions']}.")
        if not self.training:
            return captions
        position = int(generator.choice(list(captions)))
        return {position: captions[position]}
