"""What the collators of records share: draws that depend on seed, epoch and id alone, and what is done with a broken
video."""

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
    reads_subtitles,
)
from hf_videolang.data.stores.feature_store import FeatureStore
from hf_videolang.video import VideoDecodingError

if TYPE_CHECKING:
    from datasets import Dataset


class ClipCollator:
    """
    Reads the clips of a batch. A subclass says what else is drawn from a record, and makes the batch.

    Args:
        processor: turns frames and texts into tensors. Frames, clips, sampling and resize are its own.
        dataset: the records that the batches come from. Replacements are drawn from it.
        training: draw frames, or take those of the test.
        on_broken_video: what to do with a video that does not decode: "raise" the error, "skip" it, or "replace" it by
            another record of `dataset` that is not in this process's batch.
        seed: of all draws.
        features: stored features, read in place of the videos. A cut is read from the rows of its whole file.

    Raises:
        MissingFeaturesError: some records have no stored features.
    """

    id_column = "video_id"  # what is unique in the dataset

    def __init__(
        self,
        processor: Any,
        dataset: "Dataset",
        training: bool,
        on_broken_video: Policy = "raise",
        seed: int = 42,
        features: FeatureStore | None = None,
    ):
        self.processor = processor
        self.dataset = dataset
        self.training = training
        self.on_broken_video: Policy = on_broken_video
        self.seed = seed
        self.features = features
        if features is None and not hasattr(processor, "video_processor"):
            raise ValueError(
                "the model reads features, not frames; name a folder for them as features. What it lacks is extracted."
            )
        if features is not None:
            features.check_complete(dataset["video_id"][:])
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # one number for all workers
        self._rows = {one: row for row, one in enumerate(dataset[self.id_column][:])}
        self._ids = list(self._rows)

    def set_epoch(self, epoch: int) -> None:
        """Draws anew from now on, also in workers that are already running."""
        self._epoch.fill_(epoch)

    def _draw(self, record: dict[str, Any], generator: np.random.Generator) -> Any:
        """What a record gives to the batch besides its video; called after that."""

    def _read(self, records: Sequence[dict[str, Any]]) -> tuple[dict[str, torch.Tensor], list[tuple[dict, Any]], int]:
        """
        Decodes and processes the videos of a batch.

        Returns:
            What the processor makes of the videos or features; the records that were kept, or that took their place,
            with what `_draw` drew; and the number of broken videos. If "skip" leaves nothing in evaluation, there is
            a black video, or the features of another one.

        Raises:
            VideoDecodingError: a video is broken under "raise", or so are its replacements under "replace".
            ValueError: "skip" leaves nothing of a training batch.
        """
        in_batch = {record[self.id_column] for record in records}
        kept: list[tuple[dict[str, Any], Any]] = []
        num_broken = 0

        def clips() -> Iterator[torch.Tensor]:
            nonlocal num_broken
            for drawn, error in read_ahead(partial(self._clip, in_batch=in_batch), records):
                num_broken += error is not None
                if drawn is not None:
                    record, extra, frames = drawn
                    kept.append((record, extra))
                    yield frames
            if not kept and self.training:
                raise ValueError(
                    f"All {len(records)} videos of a batch are broken; `hf-videolang data check` names them."
                )
            if not kept and self.features is not None:
                yield self.features.first_rows()
            elif not kept:
                yield torch.zeros(getattr(self.processor.video_processor, "num_clips", 1), 3, 8, 8, dtype=torch.uint8)

        if self.features is not None:
            rows, options = list(clips()), {}
            if reads_subtitles(self.processor):
                subtitles = [record.get("subtitles") for record, _ in kept] or [None]
                options = {"subtitles": subtitles, "truncation": True}
            return dict(self.processor(video_features=rows, **options)), kept, num_broken
        return process_clips(self.processor, clips(), limit=len(records)), kept, num_broken

    def _generator(self, record: dict[str, Any]) -> np.random.Generator:
        return np.random.default_rng([self.seed, int(self._epoch), crc32(record[self.id_column].encode())])

    def _clip(self, record: dict[str, Any], in_batch: set[str]) -> tuple[tuple | None, Exception | None]:
        """A record or its replacement, what is drawn from it and its video (`None`: skipped); and the error if the
        record is broken."""
        generator = self._generator(record)

        def draw(candidate: dict[str, Any]) -> tuple[dict[str, Any], Any, torch.Tensor]:
            frames = self._decode(candidate, generator)
            return candidate, self._draw(candidate, generator), frames

        candidates = chain([record], self._replacements(in_batch, generator))
        drawn, error = read_first_whole(draw, candidates, {VideoDecodingError: self.on_broken_video})
        if drawn is not None:
            in_batch.add(drawn[0][self.id_column])
        return drawn, error

    def _replacements(self, in_batch: set[str], generator: np.random.Generator) -> Iterator[dict[str, Any]]:
        # The order is one of all records: whatever else is in the batch changes it only where the two meet.
        for number in generator.permutation(len(self._ids)):
            if self._ids[number] not in in_batch:
                yield self.dataset[self._rows[self._ids[number]]]

    def _decode(self, record: dict[str, Any], generator: np.random.Generator) -> torch.Tensor:
        """uint8 `[frames, 3, height, width]`, sampled by the processor's own rule; or `[rows, width]` of features."""
        seed = int(generator.integers(2**31)) if self.training else None
        cut = {"start": record.get("start"), "end": record.get("end")}
        if self.features is not None:
            return self.features.rows(record["video_id"], **cut)
        video = {**record["video"], **cut}
        with errors_naming_clip(video.get("path") or record[self.id_column]):
            return self.processor.video_processor.read_clip(video, seed)
