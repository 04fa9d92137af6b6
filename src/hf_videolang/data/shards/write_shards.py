"""`hf-videolang data shard`: pack a data set as WebDataset tar shards, which hold what would be too many files.

Each split becomes OUT/<split>-00000-of-00012.tar and so on, each with its index; the same data always the same bytes.
After a kill the same command goes on behind the last complete shard; when all are complete it does nothing.
"""

import argparse
import json
import os
import sys
import tarfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, Protocol

from tqdm import tqdm

from hf_videolang.atomic_files import atomic_file
from hf_videolang.data.load_dataset import BENCHMARKS, find_dataset
from hf_videolang.data.records import name_some
from hf_videolang.data.shards.open_shards import VideoFolderShard
from hf_videolang.data.shards.tar_shard import TarShard
from hf_videolang.data.video_files import VIDEO_EXTENSIONS
from hf_videolang.video import VideoDecodingError, probe_video


class Records(Protocol):
    """What a `datasets.Dataset`, a shard and a list have in common."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Any: ...


@dataclass
class ShardReport:
    """What `write_shards` found and did: all shards, those written now, records in all, and the broken left out."""

    shards: list[TarShard]
    num_written: int
    num_records: int
    left_out: list[str]

    def __str__(self) -> str:
        size = sum(os.path.getsize(shard.path) for shard in self.shards)
        lines = [
            f"{self.num_records} records in {len(self.shards)} shards, {size / 1e6:.1f} MB "
            f"({self.num_written} written now, {len(self.shards) - self.num_written} were there)"
        ]
        if self.left_out:
            lines.append(f"{len(self.left_out)} broken videos left out: {name_some(self.left_out, 20)}")
        return "\n".join(lines)


def write_shards(
    records: Records,
    folder: str | Path,
    records_per_shard: int = 1000,
    name: str = "train",
    on_broken_video: Literal["raise", "skip"] = "raise",
) -> ShardReport:
    """
    Pack records as tar shards that `find_shards`, `datasets.load_dataset("webdataset")` and others read.

    A sample is `<number>.<extension of the video>` and `<number>.json` with `video_id` and all other fields that are
    not `None`. The number is the record's row among `records`, since keys of WebDataset must not have dots. Each
    segment of a video is a record and gets the whole video. Shards of the same records already in `folder` are kept.

    Args:
        records: by position, as a `datasets.Dataset` or a shard: `video` `{"path", "bytes"}`, `video_id`, and fields
            that JSON can hold. No folders of frames.
        folder: made if absent.
        records_per_shard: rows of `records` a shard; the last may have fewer.
        name: how the files begin; that of the split, so that readers find it.
        on_broken_video: a video whose first frame does not decode ends the packing ("raise"), or is left out ("skip").

    Raises:
        FileNotFoundError: videos are not there; told before anything is written, as are the next.
        ValueError: no records, ids that come twice, a file that is no video by its name, a folder of frames, a field
            that JSON cannot hold, or shards of other records in `folder`.
        VideoDecodingError: a broken video under "raise". Complete shards stay, and the same call goes on behind them.
    """
    if records_per_shard < 1:
        raise ValueError(f"records_per_shard is {records_per_shard}; expected at least 1.")
    if on_broken_video not in ("raise", "skip"):
        raise ValueError(f"on_broken_video is {on_broken_video!r}; expected 'raise' or 'skip'.")
    folder = Path(folder)
    facts = {"records": _fingerprint(records), "records_per_shard": records_per_shard}
    _claim(folder, name, facts)
    starts = range(0, len(records), records_per_shard)
    shards = [TarShard(str(folder / f"{name}-{i:05d}-of-{len(starts):05d}.tar")) for i in range(len(starts))]
    for leftover in folder.glob(f".{name}-*.part.tar"):  # of a run that was killed
        leftover.unlink()

    num_written, kept = 0, set()
    with tqdm(total=len(records), unit="video", desc=name, disable=None) as progress:
        for start, shard in zip(starts, shards):
            rows = range(start, min(start + records_per_shard, len(records)))
            if not Path(shard.path).is_file():
                _write_shard(shard.path, rows, records, on_broken_video)
                num_written += 1
            kept |= set(map(int, shard.keys()))  # makes its index, which a kill may have left out
            progress.update(len(rows))
    left_out = [records[row]["video_id"] for row in range(len(records)) if row not in kept]
    return ShardReport(shards, num_written, len(kept), left_out)


def _fingerprint(records: Records) -> str:
    """What decides the bytes of the shards, short of reading the videos; errors as `write_shards`."""
    if not len(records):
        raise ValueError("There are no records to pack: expected at least one video.")
    digest, missing, ids = sha256(), [], Counter[str]()
    for row in range(len(records)):
        record = records[row]
        path, content = record["video"].get("path"), record["video"].get("bytes")
        ids[record["video_id"]] += 1
        if content is None and not (path and os.path.exists(path)):
            missing.append(record["video_id"])
            continue
        if _extension(record) not in VIDEO_EXTENSIONS or (content is None and not os.path.isfile(path)):
            raise ValueError(
                f"{record['video_id']}: {path} cannot be packed; expected a file with one of "
                f"{', '.join(VIDEO_EXTENSIONS)}; make videos of folders of frames beforehand."
            )
        size = os.path.getsize(path) if content is None else len(content)
        digest.update(b"%d %s\n" % (size, _fields(record)))
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(records)} videos are not there: {name_some(missing)}. "
            "`hf-videolang data check` lists every such clip."
        )
    if twice := [video_id for video_id, count in ids.items() if count > 1]:
        raise ValueError(f"{len(twice)} video ids come more than once: {name_some(twice)}.")
    return digest.hexdigest()


def _claim(folder: Path, name: str, facts: dict[str, Any]) -> None:
    """Note what the shards called `name` are made of, or see that it is the same."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f".{name}.shards.json"  # hidden, or `datasets` would take it for data
    if not file.is_file():
        if others := sorted(path.name for path in folder.glob(f"{name}-*.tar")):
            raise ValueError(
                f"{folder} has shards of that name from elsewhere: {name_some(others)}. Take another folder."
            )
        with atomic_file(file) as temporary:
            temporary.write_text(json.dumps(facts) + "\n", encoding="utf-8")
    if json.loads(file.read_text(encoding="utf-8")) != facts:
        raise ValueError(
            f"{folder} has {name} shards of other records, or of another number of records a shard. Take another "
            f"folder, or remove {name}-*.tar and {file.name} from this one."
        )


def _write_shard(path: str, rows: range, records: Records, on_broken_video: Literal["raise", "skip"]) -> None:
    with atomic_file(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for row in rows:
            try:
                _add(tar, row, records[row])
            except VideoDecodingError:
                if on_broken_video == "raise":
                    raise
        if not tar.getmembers():
            raise ValueError(f"All {len(rows)} videos of rows {rows[0]} to {rows[-1]} are broken.")


def _extension(record: Mapping[str, Any]) -> str:
    return Path(record["video"].get("path") or "").suffix.lower()


def _add(tar: tarfile.TarFile, row: int, record: Mapping[str, Any]) -> None:
    path, content = record["video"].get("path"), record["video"].get("bytes")
    probe_video(path if content is None else content)
    video = tarfile.TarInfo(f"{row:09d}{_extension(record)}")  # its times and owners are zero
    with open(path, "rb") if content is None else BytesIO(content) as file:
        video.size = os.path.getsize(path) if content is None else len(content)
        tar.addfile(video, file)
    text = _fields(record)
    fields = tarfile.TarInfo(f"{row:09d}.json")
    fields.size = len(text)
    tar.addfile(fields, BytesIO(text))


def _fields(record: Mapping[str, Any]) -> bytes:
    fields = {key: value for key, value in record.items() if key != "video" and value is not None}
    try:
        return json.dumps(fields, ensure_ascii=False, sort_keys=True).encode()
    except (TypeError, ValueError) as error:  # the latter: half a surrogate pair
        raise ValueError(f"{record['video_id']}: {error}; expected fields that JSON can hold.") from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `hf-videolang data shard`."""
    parser.add_argument("--data-dir", required=True, help="a video folder with metadata, or the folder of a benchmark")
    parser.add_argument(
        "--dataset",
        default="videofolder",
        help=f"videofolder (default) or a benchmark: {', '.join(BENCHMARKS)}",
    )
    parser.add_argument("--split", help='only this split, or several as one: "train+validation" (default: each)')
    parser.add_argument("--output-dir", required=True, help="folder for the shards; made if absent")
    parser.add_argument("--records-per-shard", type=int, default=1000, help="(default: 1000)")
    parser.add_argument(
        "--on-broken-video",
        choices=("raise", "skip"),
        default="raise",
        help="stop at a video that does not decode (default), or leave it out and name it at the end",
    )


def main(args: argparse.Namespace) -> int:
    """Pack every split; 0: done, 1: a broken video, 2: wrong usage, or data that cannot be read or written."""
    try:
        dataset = find_dataset(args.dataset, args.data_dir)
        for split in [args.split] if args.split else dataset.splits:
            packed, protocol = dataset.read(split)
            print(protocol)
            report = write_shards(
                VideoFolderShard(args.data_dir, split, packed),
                args.output_dir,
                args.records_per_shard,
                split.replace("+", "_"),
                args.on_broken_video,
            )
            print(report)
    except VideoDecodingError as error:
        print(
            f"error: {error}; --on-broken-video skip leaves such videos out, `hf-videolang data check` lists them all.",
            file=sys.stderr,
        )
        return 1
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
