"""
Caption the middle frame of every video with an image-captioning model of the Hub, as for CLIP-ViP's pre-training.

  hf-videolang caption --shards /data/hdvila_shards --output-dir captions
  hf-videolang caption --data-dir my_videos --output-dir captions --model Qwen/Qwen2.5-VL-3B-Instruct --dtype bfloat16

On several processes: accelerate launch -m hf_videolang.cli caption ...
The store takes whole parts of consecutive rows. Killed at any moment, the same command writes the parts that are not
there yet, on however many processes, and (with the same batch size to the bit) the same captions: nothing is drawn.
A video that does not decode gets a row with the reason instead of a caption and is counted; --retry-failed tries such
rows again, of the same videos. The exit code is 1 only if no part that was written has a caption.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from hf_videolang.console import print_error
from hf_videolang.data.records import clip_of, name_some
from hf_videolang.data.shards.open_shards import Shard, VideoFolderShard, count_clips, find_shards
from hf_videolang.data.stores.caption_store import CaptionStore
from hf_videolang.data.video_files import video_size
from hf_videolang.data.video_folder import MissingMetadataError, read_video_folder
from hf_videolang.hub.model_version import model_version
from hf_videolang.inference.image_captioner import CaptionerInputs, ImageCaptioner
from hf_videolang.video import VideoDecodingError
from hf_videolang.video.video_inputs import read_frames

MODEL = "Salesforce/blip-image-captioning-base"  # the paper's OFA is not part of transformers
LONGEST_WAIT = timedelta(days=30)  # of the first process that is done for the last


def add_arguments(parser: ArgumentParser) -> None:
    what = parser.add_argument_group("what to caption")
    source = what.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--shards", help="folder or glob of .tar or .parquet shards, one such file, or a data set on the Hub"
    )
    source.add_argument("--data-dir", help="folder of videos, with or without metadata; all its splits")
    what.add_argument("--split", default="train", help="of the shards (default: %(default)s)")
    how = parser.add_argument_group("captions")
    how.add_argument(
        "--model",
        default=MODEL,
        help="folder or Hub id of any image-captioning model (default: %(default)s; the paper took OFA-Caption, which "
        "transformers does not have)",
    )
    how.add_argument(
        "--prompt",
        help="what to ask a model that takes a text with the picture (default: the usual of its kind)",
    )
    how.add_argument(
        "--max-words",
        type=int,
        default=16,
        help="words of a caption, the rest is cut off (default: %(default)s, the paper's; 0: no limit)",
    )
    how.add_argument("--max-new-tokens", type=int, default=32, help="default: %(default)s")
    how.add_argument("--num-beams", type=int, help="default: the model's own; nothing is ever drawn")
    how.add_argument(
        "--trust-remote-code", action="store_true", help="run Python code that the model's repository brings"
    )
    run = parser.add_argument_group("running")
    run.add_argument("--batch-size", type=int, default=16, help="pictures a process at once (default: %(default)s)")
    run.add_argument("--num-workers", type=int, default=2, help="decoding processes (default: %(default)s)")
    run.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="of weights and sums (default: %(default)s)",
    )
    run.add_argument("--cpu", action="store_true", help="do not use a GPU")
    out = parser.add_argument_group("results")
    out.add_argument(
        "--output-dir",
        type=Path,
        required=True,
        help="caption store, new or to be continued; a folder that all nodes see",
    )
    out.add_argument(
        "--rows-per-part",
        type=int,
        default=1024,
        help="videos of a part; a kill costs at most this many a process (default: %(default)s)",
    )
    out.add_argument(
        "--retry-failed",
        action="store_true",
        help="caption also the videos that the store has without a caption; those that it has stay as they are",
    )


def main(args: Namespace) -> int:
    try:
        least = {"batch_size": 1, "rows_per_part": 1, "max_new_tokens": 1, "num_beams": 1}
        for name, lowest in {**least, "max_words": 0, "num_workers": 0}.items():
            if (value := getattr(args, name)) is not None and value < lowest:
                raise ValueError(f"--{name.replace('_', '-')} is {value}; expected at least {lowest}.")
        state = PartialState(cpu=args.cpu or not torch.accelerator.is_available(), timeout=LONGEST_WAIT)
        shards = _find_shards(args)
        count_clips(shards)  # which makes the indices of tars, shared out among the processes
        inputs = CaptionerInputs(args.model, args.prompt, args.trust_remote_code)
        captioner = ImageCaptioner(
            args.model,
            inputs,
            state.device,
            getattr(torch, args.dtype),
            args.max_new_tokens,
            args.num_beams,
            args.max_words or None,
            args.trust_remote_code,
        )
        parts, num_in_source = _plan(args, captioner, shards, state)
        store = CaptionStore(args.output_dir)
    except (ValueError, OSError) as error:
        print_error(str(error))
        return 2
    begin, num_videos = monotonic(), sum(len(part.rows) for part in parts)
    mine = parts[state.process_index :: state.num_processes]
    with tqdm(total=num_videos, unit="clip", desc="captions", disable=not state.is_main_process) as bar:
        for count in caption_parts(store, shards, mine, captioner, args.batch_size, args.num_workers):
            bar.update(min(count * state.num_processes, num_videos - bar.n))  # the others are about as far
    state.wait_for_everyone()
    state.destroy_process_group()
    if not state.is_main_process:
        return 0
    seconds = monotonic() - begin
    return _report(store, [part.name for part in parts], num_in_source, num_videos, seconds)


@dataclass(frozen=True)
class Part:
    """Rows to caption of the shard with this number, and the part of the store that they are, or that they mend."""

    name: str
    shard: int
    rows: Sequence[int]
    is_there: bool = False


def caption_parts(
    store: CaptionStore,
    shards: Sequence[Shard],
    parts: Sequence[Part],
    captioner: ImageCaptioner,
    batch_size: int = 16,
    num_workers: int = 0,
) -> Iterator[int]:
    """
    Write these parts, one after the other; yields the number of videos of each batch once they are captioned.

    Batches end with their part, so that a part is the same whoever writes it.
    """
    loader = DataLoader(
        MiddleFrames(shards, captioner.inputs),
        batch_size=None,  # each item is a batch
        sampler=_batches(parts, batch_size),  # type: ignore[arg-type]
        num_workers=num_workers,
        collate_fn=_unchanged,
        pin_memory=captioner.model.device.type == "cuda",
    )
    rows: list[tuple] = []
    for part, (video_ids, problems, sizes, inputs) in loader:
        captions = iter(captioner(inputs) if inputs else [])
        for video_id, problem, size in zip(video_ids, problems, sizes):
            caption = next(captions) if problem is None else None
            problem = "the model wrote nothing" if caption == "" else problem
            rows.append((video_id, caption or None, problem, size))
        if len(rows) == len(part.rows):
            known = store.rows(part.name) if part.is_there else {}
            known |= zip(part.rows, rows)
            store.write_captions(part.name, *zip(*known.values()))
            rows = []
        yield len(video_ids)


class MiddleFrames(Dataset):
    """
    `dataset[part, rows]` → the part; and of these rows of its shard the ids, the reason or `None` each, the sizes, and
    the inputs for the middle frames of those without a reason (`None` where no video decodes).

    The middle frame is the one of index int(number of frames / 2) of the video, or of the segment (clip_vip §5.1).
    """

    def __init__(self, shards: Sequence[Shard], inputs: CaptionerInputs):
        self.shards, self.inputs = shards, inputs

    def __getitem__(
        self, position: tuple[Part, Sequence[int]]
    ) -> tuple[Part, tuple[list, list, list, dict[str, Any] | None]]:
        part, rows = position
        shard = self.shards[part.shard]
        video_ids, problems, sizes, pictures = [], [], [], []
        for row in rows:
            video_id, problem, size = None, None, None
            try:
                record = shard[row]
                video_id, size = record["video_id"], video_size(record["video"])
                frames, _ = read_frames(clip_of(record, video_id), lambda facts: [facts.total_num_frames // 2])
                pictures.append(Image.fromarray(frames[0].permute(1, 2, 0).numpy()))
            except (VideoDecodingError, ValueError) as error:  # ValueError: a damaged record
                problem = str(error)
            video_ids.append(video_id)
            problems.append(problem)
            sizes.append(size)
        return part, (video_ids, problems, sizes, self.inputs(pictures) if pictures else None)


def _batches(parts: Sequence[Part], batch_size: int) -> Iterator[tuple[Part, Sequence[int]]]:
    for part in parts:
        for first in range(0, len(part.rows), batch_size):
            yield part, part.rows[first : first + batch_size]


def _unchanged(item: Any) -> Any:
    return item


def _find_shards(args: Namespace) -> Sequence[Shard]:
    if args.shards is not None:
        return find_shards(args.shards, args.split)
    try:
        found = read_video_folder(args.data_dir).records
    except MissingMetadataError as error:
        if not error.records:
            raise
        found = {"train": error.records}
    return [VideoFolderShard(Path(args.data_dir).absolute(), split, records) for split, records in found.items()]


def _plan(
    args: Namespace, captioner: ImageCaptioner, shards: Sequence[Shard], state: PartialState
) -> tuple[list[Part], int]:
    """The parts that are not in the store yet, or to be mended, and the number of videos in all shards.

    As the first process sees it, before anyone writes.
    """
    plan: list[Any] = [None]
    if state.is_main_process:
        try:
            store = CaptionStore(args.output_dir, _provenance(args, captioner))
            plan = [_missing_parts(store, shards, args.rows_per_part, args.retry_failed)]
        except (ValueError, OSError) as error:
            plan = [str(error)]
    broadcast_object_list(plan)
    if isinstance(plan[0], str):
        raise ValueError(plan[0])
    return plan[0]


def _missing_parts(
    store: CaptionStore, shards: Sequence[Shard], rows_per_part: int, retry_failed: bool
) -> tuple[list[Part], int]:
    there, missing, num_videos = set(store.names()), [], 0
    for number, shard in enumerate(shards):
        size = len(shard)
        num_videos += size
        parts = [
            Part(store.part_name(shard.name, first), number, range(first, min(first + rows_per_part, size)))
            for first in range(0, size, rows_per_part)
        ]
        missing += [part for part in parts if part.name not in there]
        parts = [part for part in parts if part.name in there]
        # A shard that has grown, shrunk or been replaced since shows in the last part that is there.
        for part in parts[-1:]:
            known = store.rows(part.name)
            if list(known) != list(part.rows):
                raise ValueError(
                    f"{store.folder} holds captions of another {shard.name}: {part.name} has {len(known)} videos, where "
                    f"{shard.path} now has {len(part.rows)}. Take another folder, or remove {shard.name}-*.parquet "
                    "from this one."
                )
            for row in [row for row, (_, caption, *_) in known.items() if caption is not None][:1]:
                record = shard[row]
                store.caption(shard.name, row, record["video_id"], video_size(record["video"]))
        for part in parts if retry_failed else []:
            if store.count([part.name])[1]:
                failed = [row for row, (_, caption, *_) in store.rows(part.name).items() if caption is None]
                missing.append(Part(part.name, number, failed, is_there=True))
    if not num_videos:
        raise ValueError(f"There are no videos in {name_some([shard.path for shard in shards])}.")
    return missing, num_videos


def _provenance(args: Namespace, captioner: ImageCaptioner) -> dict[str, Any]:
    """What decides the captions, and how they are cut into parts."""
    return {
        **model_version(args.model, captioner.model.config),
        "prompt": captioner.inputs.prompt,
        "generation": captioner.generation,
        "max_words": captioner.max_words,
        "dtype": args.dtype,
        "frame": "index int(frames / 2) of the video or segment",
        "rows_per_part": args.rows_per_part,
    }


def _report(store: CaptionStore, written: list[str], in_source: int, num_videos: int, seconds: float) -> int:
    """Says what was done and where it is, with some of the captions; the exit code."""
    in_store, broken = store.count()
    speed = f" at {num_videos / seconds:.1f} clips/s" if num_videos else ""
    print(
        f"{num_videos} of {in_source} videos captioned now{speed}, the others before. {store.folder}: {in_store} videos, "
        f"{broken} of them without a caption, by {store.provenance['model']} ({store.provenance['version']})."
    )
    names = written or store.names()
    sample = store.read(names[0]).to_pylist()
    for row in sample[:5]:
        print(f"  {row['video_id']}: {row['caption'] or '— ' + row['problem']}")
    if not num_videos:
        return 0
    return int(all(store.read(name)["caption"].null_count == len(store.read(name)) for name in written))
