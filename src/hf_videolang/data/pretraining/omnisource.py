"""Make the batch of a pre-training step inside the DataLoader's workers: read, decode, sample frames, tokenise."""

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, Literal
from zlib import crc32

import numpy as np
import torch

from hf_videolang.data.batches.clip_reader import (
    MAX_REPLACEMENTS,
    Policy,
    errors_naming_clip,
    process_clips,
    read_ahead,
    read_first_whole,
)
from hf_videolang.data.pretraining.order import Place, PretrainingOrder
from hf_videolang.data.pretraining.sources import PretrainingSource
from hf_videolang.video import VideoDecodingError

VideoText = Literal["subtitle", "caption", "caption_and_subtitle", "either"]
MissingText = Literal["raise", "replace", "none"]


class MissingTextError(ValueError):
    """A clip lacks the subtitle or the caption that training needs. The message names the clip and the remedy."""

    def __init__(self, message: str):
        # A DataLoader rebuilds its worker's error from the printed traceback.
        super().__init__(message.rpartition("MissingTextError: ")[2].strip())


class PretrainingCollator:
    """
    Makes batches of videos with subtitles, and of the videos' middle frames with captions.

    It is called with the number of a step and reads the clips that `order` names for this step. So the dataset of a
    run is the range of its steps, and a resumed run starts at a later one. What is drawn for a clip depends on the
    seed, the clip and the pass over its source alone: not on workers, processes or a resumed run.

    Args:
        processor: turns frames and texts into tensors. It decides the number and choice of frames, the resize and the
            length of texts.
        sources: the sources that `order` orders.
        order: of the batches of all processes.
        slots (defaults to all): the slots of the batch that this process makes.
        features (defaults to all four): what the loss compares, of "video", "subtitle", "frame" and "caption". Frames
            and captions that it does not compare are not prepared. "subtitle" stands for the video's text.
        video_text (defaults to `"subtitle"`): the video's text: its "subtitle", its "caption", "caption_and_subtitle"
            ("<caption>. with subtitle: <subtitle>"), or "either", drawn at random (`vid_txt` of the original).
        on_broken_video (defaults to `"raise"`): for a video that does not decode, "raise" the `VideoDecodingError`, or
            "replace" the clip by another clip of the source. No process has that clip in the batch or uses it as
            another replacement ([`PretrainingOrder.reserve`]).
        on_missing_text (defaults to `"raise"`): for a clip that lacks a text, "raise" a [`MissingTextError`], or
            "replace" the clip in the same way. "none" does as the original: a missing caption becomes the word "None",
            which is then a negative of all other clips, and a clip without subtitle is replaced.
        seed (defaults to 42): see above.

    Replacements are logged as warnings and counted. The batch has what the processor returns for videos and texts
    (`pixel_values_videos`, `video_attention_mask` if lengths differ, `input_ids`, `attention_mask`) and

        pixel_values_frames `[batch, 1, 3, height, width]`: the middle frame (total // 2) as a video of one frame;
        caption_input_ids, caption_attention_mask `[batch, length]`;
        num_broken_videos, num_missing_texts `[1]`: clips that were replaced, or whose caption became "None".

    Raises:
        VideoDecodingError, MissingTextError: under "raise", or if all replacements of a clip (up to 10) are bad.
        ValueError: a source lacks a needed column.
    """

    def __init__(
        self,
        processor: Any,
        sources: Sequence[PretrainingSource],
        order: PretrainingOrder,
        slots: Sequence[int] | None = None,
        *,
        features: Collection[str] = ("video", "subtitle", "frame", "caption"),
        video_text: VideoText = "subtitle",
        on_broken_video: Literal["raise", "replace"] = "raise",
        on_missing_text: MissingText = "raise",
        seed: int = 42,
    ):
        self.processor = processor
        self.sources = {source.name: source for source in sources}
        self.order = order
        self.slots = range(order.batch_size) if slots is None else slots
        self.with_frame = "frame" in features
        self.with_caption = "caption" in features
        self.video_text = video_text
        self.on_broken_video = on_broken_video
        self.on_missing_text = on_missing_text
        self.seed = seed
        self.needed = [
            *(["subtitle"] if video_text != "caption" else []),
            *(["caption"] if video_text != "subtitle" or self.with_caption else []),
        ]
        for source in sources:
            source.check_columns(self.needed)
        self._first_step = torch.zeros(1, dtype=torch.int64).share_memory_()  # shared with the workers

    def set_epoch(self, epoch: int) -> None:
        """Count steps from the start of this epoch from now on, also in workers that are already running."""
        self._first_step.fill_(epoch * self.order.steps_per_epoch)

    def __call__(self, steps: Sequence[int]) -> dict[str, torch.Tensor]:
        """`steps` holds one number, counted from the start of the epoch."""
        step = int(self._first_step) + steps[0]
        counts = {"num_broken_videos": 0, "num_missing_texts": 0}
        texts: list[str] = []
        captions: list[str] = []

        def clips() -> Iterator[torch.Tensor]:
            places = zip(self.slots, self.order.batch(step, self.slots))
            for frames, text, caption in read_ahead(lambda place: self._whole_clip(step, *place, counts), places):
                texts.append(text)
                captions.append(caption)
                yield frames

        batch = process_clips(self.processor, clips(), limit=len(self.slots))
        if self.with_frame:
            batch = {name: tensor[:, 1:] for name, tensor in batch.items()} | {
                "pixel_values_frames": batch["pixel_values_videos"][:, :1]
            }
        # One call for both kinds of text, so that they get the same length.
        batch |= self.processor(text=texts + captions if self.with_caption else texts, return_tensors="pt")
        if self.with_caption:
            for name in ("input_ids", "attention_mask"):
                batch[name], batch[f"caption_{name}"] = batch[name].chunk(2)
        return batch | {name: torch.tensor([count]) for name, count in counts.items()}

    def _whole_clip(self, step: int, slot: int, place: Place, counts: dict[str, int]) -> tuple[torch.Tensor, str, str]:
        """What `_clip` returns, for a clip or for its first replacement that is whole."""
        reserve = self.order.reserve(step, slot, self._generator(place), MAX_REPLACEMENTS)
        on_missing_text: Policy = "raise" if self.on_missing_text == "raise" else "replace"
        clip, error = read_first_whole(
            lambda candidate: self._clip(candidate, self._generator(candidate), counts),
            chain([place], reserve),
            {VideoDecodingError: self.on_broken_video, MissingTextError: on_missing_text},
        )
        assert clip is not None  # no clip is skipped
        if error is not None:
            counts["num_broken_videos" if isinstance(error, VideoDecodingError) else "num_missing_texts"] += 1
        return clip

    def _clip(
        self, place: Place, generator: np.random.Generator, counts: dict[str, int]
    ) -> tuple[torch.Tensor, str, str]:
        """Decoded frames (the middle frame first), the text of the video, and the caption."""
        clip = self.sources[place.source].clip(place.shard, place.row)
        is_none = not clip["caption"] and "caption" in self.needed and self.on_missing_text == "none"
        if is_none:
            clip["caption"] = "None"
        for name in self.needed:
            if not clip[name]:
                raise MissingTextError(
                    f"{clip['video_id']} in {clip['shard']} has no {name}; on_missing_text: replace trains on "
                    "another clip instead."
                )
        text = self._text(clip, generator)
        with errors_naming_clip(f"{clip['video_id']} in {clip['shard']}"):
            frames = self._frames(clip["video"], generator)
        counts["num_missing_texts"] += is_none  # only now, since a replaced clip is counted elsewhere
        return frames, text, clip["caption"]

    def _text(self, clip: dict[str, Any], generator: np.random.Generator) -> str:
        if self.video_text == "caption_and_subtitle":
            return f"{clip['caption']}. with subtitle: {clip['subtitle']}"
        if self.video_text == "either":
            return clip["subtitle" if generator.random() < 0.5 else "caption"]
        return clip[self.video_text]

    def _frames(self, video: dict[str, Any], generator: np.random.Generator) -> torch.Tensor:
        """uint8 `[frames, 3, height, width]`: the middle frame if needed, then those of the processor's own rule."""
        seed = int(generator.integers(2**31)) if self.processor.video_processor.num_frames > 1 else None
        sample = partial(self._indices, fps=self.processor.video_processor.fps, seed=seed)
        return self.processor.video_processor.fetch_videos(video, sample)[0]

    def _indices(self, metadata: Any, **options: Any) -> list[int]:
        indices = self.processor.video_processor.sample_frames(metadata, **options)
        return [metadata.total_num_frames // 2, *indices] if self.with_frame else list(indices)

    def _generator(self, place: Place) -> np.random.Generator:
        source, *numbers = place
        return np.random.default_rng([self.seed, crc32(source.encode()), *numbers])
