"""Videos and captions become batches for a two-tower model, in the DataLoader's workers: decode, sample, tokenise."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import torch

from hf_videolang.data.batches.clip_reader import (
    Policy,
    errors_naming_clip,
    process_clips,
    read_ahead,
    read_first_whole,
)
from hf_videolang.data.records import is_blank
from hf_videolang.video import VideoDecodingError

if TYPE_CHECKING:
    from datasets import Dataset


Drawn = tuple[dict[str, Any], dict[int, str], torch.Tensor]  # a record, its captions by position, its frames


class RetrievalCollator:
    """Batches of videos and captions for a two-tower model.

    In training, each video comes with one of its captions, and its frames are drawn with the original's jitter
    (clip_vip §5.2). Both draws depend on the seed, the epoch and the video's id alone; the number of workers or
    processes and a resumed run do not change them. In evaluation, each video comes with all its captions, and nothing
    is drawn. (The original draws a caption at test time, too, clip_vip §10.14.)

    Args:
        processor: turns frames and texts into tensors. Frame count, sampling, resize and text length are its own.
        dataset: the records (see `load_dataset`) that the batches come from. Replacements are drawn from it.
        training: draw captions and frames, or take all captions and evenly spaced frames.
        on_broken_video: what to do with a video that does not decode. "raise" the error. "skip" it, so the batch
            becomes smaller; the contrastive loss over several processes needs equal batches and excludes this.
            "replace" it by a video of `dataset` that is not in this process's batch.
        seed: of all draws.

    A batch has what the processor returns for the videos (`pixel_values_videos`, and `video_attention_mask` if lengths
    differ) and for the captions (`input_ids`, `attention_mask`), and

        num_broken_videos `[1]`: videos skipped or replaced.

    In evaluation, where a video may have several captions, it also has

        video_index `[videos]`: row of each video in `dataset`;
        caption_index `[captions]`: number of each caption among all captions of `dataset`, row by row;
        caption_video_index `[captions]`: row of the video that the caption belongs to.

    Remove all four before the model sees the batch. The Trainer needs `remove_unused_columns=False`. If "skip" leaves
    nothing of a batch in evaluation, the indices are empty, and a black picture and an empty text stand in, since
    every process must call the model equally often.

    Raises:
        VideoDecodingError: a video is broken under "raise", or so are its replacements under "replace".
        ValueError: the dataset has no captions, all captions of a record are blank, or "skip"
            leaves nothing of a training batch.

    Example:
        >>> collator = RetrievalCollator(processor, dataset, training=True, on_broken_video="replace")
        >>> loader = DataLoader(dataset, batch_size=16, shuffle=True, collate_fn=collator, num_workers=8)
    """

    def __init__(
        self, processor: Any, dataset: "Dataset", training: bool, on_broken_video: Policy = "raise", seed: int = 42
    ):
        if "captions" not in dataset.column_names:
            raise ValueError(f"The dataset has the columns {dataset.column_names}; retrieval needs captions.")
        self.processor = processor
        self.dataset = dataset
        self.training = training
        self.on_broken_video: Policy = on_broken_video
        self.seed = seed
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # one number for all workers
        self._rows = {video_id: row for row, video_id in enumerate(dataset["video_id"])}
        self._video_ids = list(self._rows)
        self._first_caption = np.cumsum([0, *map(len, dataset["captions"])])

    def set_epoch(self, epoch: int) -> None:
        """Draws other captions and frames from now on, also in workers that are already running."""
        self._epoch.fill_(epoch)

    def __call__(self, records: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        in_batch = {record["video_id"] for record in records}
        kept: list[tuple[dict[str, Any], dict[int, str]]] = []
        num_broken = 0

        def clips() -> Iterator[torch.Tensor]:
            nonlocal num_broken
            for drawn, error in read_ahead(partial(self._clip, in_batch=in_batch), records):
                num_broken += error is not None
                if drawn is not None:
                    record, captions, frames = drawn
                    kept.append((record, captions))
                    yield frames
            if not kept and self.training:
                raise ValueError(
                    f"All {len(records)} videos of a batch are broken; `hf-videolang data check` names them."
                )
            if not kept:
                yield torch.zeros(1, 3, 8, 8, dtype=torch.uint8)

        pixels = process_clips(self.processor, clips(), limit=len(records))
        texts = [text for _, captions in kept for text in captions.values()]
        batch = {**self.processor(text=texts or [""], return_tensors="pt"), **pixels}
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

    def _generator(self, record: dict[str, Any]) -> np.random.Generator:
        return np.random.default_rng([self.seed, int(self._epoch), crc32(record["video_id"].encode())])

    def _clip(self, record: dict[str, Any], in_batch: set[str]) -> tuple[Drawn | None, Exception | None]:
        """What is drawn from a record or its replacement (`None`: skipped), and the error if the record is broken."""
        generator = self._generator(record)

        def draw(candidate: dict[str, Any]) -> Drawn:
            frames = self._decode(candidate, generator)
            return candidate, self._captions(candidate, generator), frames

        candidates = chain([record], self._replacements(in_batch, generator))
        drawn, error = read_first_whole(draw, candidates, {VideoDecodingError: self.on_broken_video})
        if drawn is not None:
            in_batch.add(drawn[0]["video_id"])
        return drawn, error

    def _replacements(self, in_batch: set[str], generator: np.random.Generator) -> Iterator[dict[str, Any]]:
        # The order is one of all videos: whatever else is in the batch changes it only where the two meet.
        for number in generator.permutation(len(self._video_ids)):
            if self._video_ids[number] not in in_batch:
                yield self.dataset[self._rows[self._video_ids[number]]]

    def _decode(self, record: dict[str, Any], generator: np.random.Generator) -> torch.Tensor:
        """uint8 `[frames, 3, height, width]`, sampled by the processor's own rule."""
        seed = int(generator.integers(2**31)) if self.training else None
        video = {**record["video"], "start": record.get("start"), "end": record.get("end")}
        with errors_naming_clip(video.get("path") or record["video_id"]):
            return self.processor.video_processor.read_clip(video, seed)

    def _captions(self, record: dict[str, Any], generator: np.random.Generator) -> dict[int, str]:
        """Captions by their position in the record, without blank ones: one in training, all in evaluation."""
        captions = {i: caption for i, caption in enumerate(record["captions"]) if not is_blank(caption)}
        if not captions:
            raise ValueError(f"{record['video_id']} has no caption, or only blank ones: {record['captions']}.")
        if not self.training:
            return captions
        position = int(generator.choice(list(captions)))
        return {position: captions[position]}
