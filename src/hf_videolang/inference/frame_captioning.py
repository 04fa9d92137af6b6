"""Caption the middle frame of every video in shards, on any number of processes, into a `CaptionStore`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from hf_videolang.data.records import clip_of, name_some
from hf_videolang.data.shards.open_shards import Shard
from hf_videolang.data.stores.caption_store import CaptionStore
from hf_videolang.data.video_files import video_size
from hf_videolang.hub.model_version import model_version
from hf_videolang.inference.image_captioner import CaptionerInputs, ImageCaptioner
from hf_videolang.video import VideoDecodingError
from hf_videolang.video.video_inputs import read_frames

Row = tuple[str | None, str | None, str | None, int | None]  # video id, caption, problem, bytes


@dataclass(frozen=True)
class Part:
    """Rows to caption of the shard with this number, and the part of the store that they fill, or repair."""

    name: str
    shard: int
    rows: Sequence[int]
    exists: bool = False


@dataclass(frozen=True)
class CaptionReport:
    """What [`caption_shards`] did."""

    store: CaptionStore
    written: list[str]
    num_captioned: int
    num_videos: int
    seconds: float

    @property
    def failed(self) -> bool:
        """Whether none of the videos of this run got a caption."""
        videos, uncaptioned = self.store.count(self.written)
        return 0 < videos == uncaptioned

    def __str__(self) -> str:
        in_store, uncaptioned = self.store.count()
        speed = f" at {self.num_captioned / self.seconds:.1f} clips/s" if self.num_captioned else ""
        made_by = f"{self.store.provenance['model']} ({self.store.provenance['version']})"
        examples = self.store.read((self.written or self.store.names())[0]).slice(0, 5).to_pylist()
        return "\n".join(
            [
                f"{self.num_captioned} of {self.num_videos} videos captioned now{speed}. {self.store.folder}: "
                f"{in_store} videos, {uncaptioned} of them without a caption, by {made_by}.",
                *(f"  {row['video_id']}: {row['caption'] or '— ' + row['problem']}" for row in examples),
            ]
        )


def caption_shards(
    shards: Sequence[Shard],
    output_dir: str | Path,
    captioner: ImageCaptioner,
    *,
    rows_per_part: int = 1024,
    batch_size: int = 16,
    num_workers: int = 0,
    retry_failed: bool = False,
) -> CaptionReport:
    """
    Write the parts of a caption store that are missing or damaged.

    A killed run continues with the next call, on any number of processes. With the same batch size the captions are
    the same to the bit. A video that does not decode gets a row with the reason instead of a caption.

    Args:
        shards: where the videos are.
        output_dir: the caption store, new or to be continued. All nodes must see the folder.
        captioner: the model on this process's device.
        rows_per_part (defaults to 1024): videos of a part. A kill costs at most this many in each process.
        batch_size (defaults to 16): pictures at once in each process.
        num_workers (defaults to 0): decoding processes of each process.
        retry_failed (defaults to `False`): also caption the videos that the store has without a caption.

    Raises:
        ValueError: there are no videos, or the store was made from other videos or with another model.
    """
    state = PartialState()
    plan: list[Any] = [None]
    if state.is_main_process:  # before another process writes
        store = CaptionStore(output_dir, _provenance(captioner, rows_per_part))
        plan = [_plan(store, shards, rows_per_part, retry_failed)]
    parts: list[Part] = broadcast_object_list(plan)[0]
    store = CaptionStore(output_dir)

    begin, num_videos = monotonic(), sum(len(part.rows) for part in parts)
    own_parts = parts[state.process_index :: state.num_processes]
    with tqdm(total=num_videos, unit="clip", desc="captions", disable=not state.is_main_process) as bar:
        for count in _caption_parts(store, shards, own_parts, captioner, batch_size, num_workers):
            bar.update(min(count * state.num_processes, num_videos - bar.n))  # the others are about as far
    state.wait_for_everyone()
    return CaptionReport(store, [part.name for part in parts], num_videos, sum(map(len, shards)), monotonic() - begin)


def _provenance(captioner: ImageCaptioner, rows_per_part: int) -> dict[str, Any]:
    return {
        **model_version(captioner.model.name_or_path, captioner.model.config),
        "prompt": captioner.inputs.prompt,
        "generation": captioner.generation,
        "max_words": captioner.max_words,
        "dtype": str(captioner.model.dtype).removeprefix("torch."),
        "frame": "index int(frames / 2) of the video or segment",
        "rows_per_part": rows_per_part,
    }


def _plan(store: CaptionStore, shards: Sequence[Shard], rows_per_part: int, retry_failed: bool) -> list[Part]:
    """The parts to write."""
    plan: list[Part] = []
    for number, shard in enumerate(shards):
        parts = [
            Part(store.part_name(shard.name, first), number, range(first, min(first + rows_per_part, len(shard))))
            for first in range(0, len(shard), rows_per_part)
        ]
        is_whole = {part.name: store.is_whole(part.name) for part in parts}
        plan += [part for part in parts if not is_whole[part.name]]
        existing = [part for part in parts if is_whole[part.name]]
        if existing:
            _check_shard(store, shard, existing[-1])
        for part in existing if retry_failed else []:
            failed = [row for row, (_, caption, *_) in store.rows(part.name).items() if caption is None]
            if failed:
                plan.append(Part(part.name, number, failed, exists=True))
    if not sum(map(len, shards)):
        raise ValueError(f"There are no videos in {name_some([shard.path for shard in shards])}.")
    return plan


def _check_shard(store: CaptionStore, shard: Shard, last: Part) -> None:
    """Raise if the shard has grown, shrunk or been replaced, which shows in its last part."""
    known = store.rows(last.name)
    if list(known) != list(last.rows):
        raise ValueError(
            f"{store.folder} holds captions of another {shard.name}: {last.name} has {len(known)} videos, but "
            f"{shard.path} now has {len(last.rows)}. Choose another folder, or remove {shard.name}-*.parquet."
        )
    for row in [row for row, (_, caption, *_) in known.items() if caption is not None][:1]:
        record = shard[row]
        store.caption(shard.name, row, record["video_id"], video_size(record["video"]))


def _caption_parts(
    store: CaptionStore,
    shards: Sequence[Shard],
    parts: Sequence[Part],
    captioner: ImageCaptioner,
    batch_size: int,
    num_workers: int,
) -> Iterator[int]:
    """Write these parts one after the other, and yield the number of videos of each captioned batch."""
    # A batch ends with its part, so that a part has the same content whichever process writes it.
    batches = [
        (part, part.rows[first : first + batch_size])
        for part in parts
        for first in range(0, len(part.rows), batch_size)
    ]
    loader = DataLoader(
        _MiddleFrames(shards, captioner.inputs),
        batch_size=None,  # each item is a batch
        sampler=batches,  # type: ignore[arg-type]
        num_workers=num_workers,
        pin_memory=captioner.model.device.type == "cuda",
    )
    done: list[Row] = []
    for (part, _), (rows, inputs) in zip(batches, loader):
        captions = iter(captioner(inputs) if inputs else [])
        for video_id, _, problem, size in rows:
            caption = next(captions) if problem is None else None
            problem = "the model wrote nothing" if caption == "" else problem
            done.append((video_id, caption or None, problem, size))
        if len(done) == len(part.rows):
            known: dict[int, tuple] = store.rows(part.name) if part.exists else {}
            known |= zip(part.rows, done)
            store.write_captions(part.name, *zip(*known.values()))
            done = []
        yield len(rows)


class _MiddleFrames(Dataset):
    """
    `dataset[part, rows]` -> one row of the store per video, still without captions, and the model's inputs for the
    middle frames of the videos that decode (`None` if none does).

    The middle frame has the index int(number of frames / 2) in the video or segment (clip_vip §5.1).
    """

    def __init__(self, shards: Sequence[Shard], inputs: CaptionerInputs):
        self.shards, self.inputs = shards, inputs

    def __getitem__(self, position: tuple[Part, Sequence[int]]) -> tuple[list[Row], dict[str, Any] | None]:
        part, numbers = position
        rows: list[Row] = []
        pictures = []
        for number in numbers:
            video_id, problem, size = None, None, None
            try:
                record = self.shards[part.shard][number]
                video_id, size = record["video_id"], video_size(record["video"])
                frames, _ = read_frames(clip_of(record, video_id), lambda facts: [facts.total_num_frames // 2])
                pictures.append(Image.fromarray(frames[0].permute(1, 2, 0).numpy()))
            except (VideoDecodingError, ValueError) as error:  # ValueError: a damaged record
                problem = str(error)
            rows.append((video_id, None, problem, size))
        return rows, self.inputs(pictures) if pictures else None
