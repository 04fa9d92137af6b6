"""Records become batches, inside the DataLoader's workers: decode, sample frames, tokenise."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from zlib import crc32

import numpy as np
import torch
from torch.utils.data import get_worker_info

from hf_videolang.data.records import is_blank
from hf_videolang.video import VideoDecodingError

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

LEAD = 2  # clips that are decoded while the caller is busy: more take memory and no less time
MAX_REPLACEMENTS = 10  # as many tries as the original makes for one sample

Item = TypeVar("Item")
Result = TypeVar("Result")


class RetrievalCollator:
    """Batches of videos and captions for a two-tower model.

    In training, every video comes with one of its captions and with the original's jitter of the sampled frames
    (clip_vip §5.2). Both are drawn from `seed`, the epoch and the video's id alone: neither the number of workers or
    processes nor a resumed run changes them. In evaluation, every video comes with all its captions, and nothing is
    drawn (the original draws a caption at test time, too, clip_vip §10.14; we do not).

    Args:
        processor: turns frames and texts into tensors; frame count, sampling, resize and text length are its own.
        dataset: the records (see `load_dataset`) that the batches come from. Replacements are drawn from
            it, and in evaluation the indices in the batch count its rows.
        training: see above.
        on_broken_video: what to do with a video that does not decode. "raise" the `VideoDecodingError`; "skip" it, so
            that the batch is smaller (not for the contrastive loss over several processes, which needs equal
            batches); "replace" it by another video of `dataset` that is not in this process's batch. Skips and
            replacements are logged as warnings and counted in the batch.
        seed: see above.

    A batch has what the processor returns for the videos (`pixel_values_videos`, and `video_attention_mask` where
    lengths differ) and the captions (`input_ids`, `attention_mask`), and

        num_broken_videos `[1]`: videos skipped or replaced.

    in evaluation also, since a batch may have more captions than videos,

        video_index `[videos]`: row of each video in `dataset`;
        caption_index `[captions]`: number of each caption among all captions of `dataset`, row by row;
        caption_video_index `[captions]`: row of the video that the caption belongs to.

    Pop all four before the model sees the batch. The Trainer needs `remove_unused_columns=False`. Where "skip" leaves
    nothing of a batch in evaluation, the indices are empty, and a black picture and an empty text stand in for the
    model, which every process must call equally often.

    Raises:
        VideoDecodingError: a broken video under "raise"; under "replace", one whose replacements are broken, too.
        ValueError: a record whose captions are all blank, an unknown policy, or a training batch of which "skip" leaves
            nothing.
    """

    def __init__(
        self,
        processor: Any,
        dataset: "Dataset",
        training: bool,
        on_broken_video: Literal["raise", "skip", "replace"] = "raise",
        seed: int = 42,
    ):
        if on_broken_video not in ("raise", "skip", "replace"):
            raise ValueError(f"on_broken_video is {on_broken_video!r}; expected 'raise', 'skip' or 'replace'.")
        self.processor = processor
        self.dataset = dataset
        self.training = training
        self.on_broken_video = on_broken_video
        self.seed = seed
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # one number for all workers
        self._rows = {video_id: row for row, video_id in enumerate(dataset["video_id"])}
        self._video_ids = list(self._rows)
        self._first_caption = np.cumsum([0, *map(len, dataset["captions"])])

    def set_epoch(self, epoch: int) -> None:
        """Draw other captions and frames from now on; reaches workers that are already running."""
        self._epoch.fill_(epoch)

    def __call__(self, records: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        in_batch = {record["video_id"] for record in records}
        kept: list[tuple[dict[str, Any], np.random.Generator]] = []
        num_broken = 0

        def clips() -> Iterator[torch.Tensor]:
            nonlocal num_broken
            for record, generator, frames, is_broken in ahead(partial(self._clip, in_batch=in_batch), records):
                num_broken += is_broken
                if frames is not None:
                    kept.append((record, generator))
                    yield frames
            if not kept and self.training:
                raise ValueError(
                    f"All {len(records)} videos of a batch are broken; `hf-videolang data check` names them."
                )
            if not kept:
                yield torch.zeros(1, 3, 8, 8, dtype=torch.uint8)

        pixels = stack_clips(self.processor, clips(), limit=len(records))
        captions = [self._captions(record, generator) for record, generator in kept]
        texts = [text for chosen in captions for text in chosen.values()]
        batch = {**self.processor(text=texts or [""], return_tensors="pt"), **pixels}
        if not self.training:
            rows = [self._rows[record["video_id"]] for record, _ in kept]
            batch["video_index"] = torch.tensor(rows, dtype=torch.int64)
            videos = [row for row, texts in zip(rows, captions) for _ in texts]
            batch["caption_video_index"] = torch.tensor(videos, dtype=torch.int64)
            numbers = [self._first_caption[row] + i for row, texts in zip(rows, captions) for i in texts]
            batch["caption_index"] = torch.tensor(numbers, dtype=torch.int64)
        batch["num_broken_videos"] = torch.tensor([num_broken])
        return batch

    def _generator(self, record: dict[str, Any], epoch: int | None = None) -> np.random.Generator:
        epoch = int(self._epoch) if epoch is None else epoch
        return np.random.default_rng([self.seed, epoch, crc32(record["video_id"].encode())])

    def _clip(
        self, record: dict[str, Any], in_batch: set[str]
    ) -> tuple[dict[str, Any], np.random.Generator, torch.Tensor | None, bool]:
        """A record or its replacement, its generator and frames (`None`: skipped), and whether it was broken."""
        generator = self._generator(record)
        try:
            return record, generator, self._decode(record, generator), False
        except VideoDecodingError as error:
            if self.on_broken_video == "raise":
                raise
            done = "Skipped" if self.on_broken_video == "skip" else "Replaced"
            logger.warning("%s a broken video: %s", done, error)
            if self.on_broken_video == "skip":
                return record, generator, None, True
            record, frames = self._replacement(in_batch, generator, error)
            in_batch.add(record["video_id"])
            return record, generator, frames, True

    def _decode(self, record: dict[str, Any], generator: np.random.Generator) -> torch.Tensor:
        """uint8 `[frames, 3, height, width]`, sampled by the processor's own rule."""
        seed = int(generator.integers(2**31)) if self.training else None
        video = {**record["video"], "start": record.get("start"), "end": record.get("end")}
        try:
            return self.processor.video_processor.read_clip(video, seed)
        except VideoDecodingError as error:
            if video.get("bytes") is None:
                raise
            name = video.get("path") or record["video_id"]  # bytes of a shard have none of their own
            raise VideoDecodingError(name, error.reason, error.timestamp) from error

    def _replacement(
        self, in_batch: set[str], generator: np.random.Generator, error: VideoDecodingError
    ) -> tuple[dict[str, Any], torch.Tensor]:
        # An order of all videos, whoever is in the batch: another number of processes meets another part of it.
        order = (self._video_ids[number] for number in generator.permutation(len(self._video_ids)))
        for video_id in islice((one for one in order if one not in in_batch), MAX_REPLACEMENTS):
            record = self.dataset[self._rows[video_id]]
            try:
                return record, self._decode(record, generator)
            except VideoDecodingError as another:
                logger.warning("The replacement is broken, too: %s", another)
        raise error

    def _captions(self, record: dict[str, Any], generator: np.random.Generator) -> dict[int, str]:
        """Captions by their position in the record: one in training, all in evaluation, none of them blank."""
        captions = {i: caption for i, caption in enumerate(record["captions"]) if not is_blank(caption)}
        if not captions:
            raise ValueError(f"{record['video_id']} has no caption, or only blank ones: {record['captions']}.")
        if self.training:
            position = int(generator.choice(list(captions)))
            return {position: captions[position]}
        return captions


def ahead(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Results in order, the next `LEAD` made in a thread meanwhile: decoding is another process's work."""
    thread, coming = ThreadPoolExecutor(1), deque[Future[Result]]()
    try:
        for item in items:
            coming.append(thread.submit(work, item))
            if len(coming) > LEAD:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        thread.shutdown(cancel_futures=True)


def stack_clips(processor: Any, clips: Iterable[torch.Tensor], limit: int) -> dict[str, torch.Tensor]:
    """
    What the processor makes of sampled clips, each as it comes, as the batch that it makes of all at once.

    Args:
        processor: its video processor turns frames into the model's input.
        clips: uint8 `[frames, 3, height, width]`, at least one.
        limit: there are no more clips than that.

    Returns:
        `pixel_values_videos` `[clips, frames, 3, size, size]` and, if the clips differ in their number of frames,
        `video_attention_mask` `[clips, frames]`.

    Raises:
        ValueError: the clips differ in height or width after the resize.
    """
    options = {"do_sample_frames": False, "input_data_format": "channels_first", "return_tensors": "pt"}
    batch, lengths = torch.empty(0), []
    for row, frames in enumerate(clips):
        clip = processor.video_processor(videos=[frames], **options)["pixel_values_videos"][0]
        if row == 0:
            batch = _empty_batch(clip, limit)
        if clip.shape[1:] != batch.shape[2:]:
            raise ValueError(
                f"clips of heights and widths {tuple(batch.shape[-2:])} and {tuple(clip.shape[-2:])} do not fit one "
                "batch; give the video processor a `size` with height and width."
            )
        if len(clip) > batch.shape[1]:
            more = batch.new_zeros((limit, len(clip) - batch.shape[1], *clip.shape[1:]))
            batch = torch.cat([batch, more], dim=1)
        batch[row, : len(clip)] = clip
        batch[row, len(clip) :] = 0
        lengths.append(len(clip))
    result = {"pixel_values_videos": batch[: len(lengths)]}
    if len(set(lengths)) > 1:
        places = torch.arange(batch.shape[1])
        result["video_attention_mask"] = (places < torch.tensor(lengths)[:, None]).long()
    return result


def _empty_batch(clip: torch.Tensor, limit: int) -> torch.Tensor:
    """`[limit, *clip.shape]`; of a worker in shared memory at once, or sending it to the trainer would stop all else."""
    if get_worker_info() is None:
        return clip.new_empty((limit, *clip.shape))
    storage = torch.UntypedStorage._new_shared(limit * clip.nbytes)  # as in torch's own default_collate
    return clip.new_empty(0).set_(storage).view(limit, *clip.shape)
