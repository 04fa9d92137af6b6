"""Pack records as WebDataset tar shards. The same records always give the same bytes."""

import json
import os
import tarfile
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from hf_videolang.atomic_files import atomic_file
from hf_videolang.data.records import name_some
from hf_videolang.data.shards.tar_shard import TarShard
from hf_videolang.data.stores.provenance import read_provenance
from hf_videolang.data.video_files import VIDEO_EXTENSIONS, video_size
from hf_videolang.video import VideoDecodingError, probe_video
from hf_videolang.video.sources import FilePart
from hf_videolang.video.video_inputs import video_source

Records = Any  # a `datasets.Dataset`, a shard or a list of records


@dataclass
class ShardReport:
    """
    All shards of the records, how many this call wrote, the records in them, how many of these are links to the video
    of another record, and the ids of broken videos.
    """

    shards: list[TarShard]
    num_written: int
    num_records: int
    num_links: int
    left_out: list[str]

    def __str__(self) -> str:
        size = sum(os.path.getsize(shard.path) for shard in self.shards)
        lines = [
            f"{self.num_records} records in {len(self.shards)} shards, {size / 1e6:.1f} MB "
            f"({self.num_written} written now, {len(self.shards) - self.num_written} before)"
        ]
        if self.num_links:
            lines.append(
                f"{self.num_links} records are links to the video of another record. This package and `tar -x` "
                "resolve them; `datasets` and WebDataset cannot read such shards."
            )
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

    The shards are called `<name>-00000-of-00012.tar` and so on, each with an index. A sample consists of
    `<number>.<extension of the video>` and `<number>.json`, which has `video_id` and all other fields that are not
    `None`. The number is the record's row, because keys of WebDataset must not contain dots. A run that was killed or
    met a broken video continues after its last complete shard if it is called again, also with other records in the
    shards that are not there yet.

    Records of one video, such as its segments, follow each other in one shard, if they fit. The shard has the video
    once: the other records hold a hard link to it. `tar` and `find_shards` resolve such links. Readers that stream a
    tar, such as `datasets`, fail or leave them out.

    Args:
        records: a `datasets.Dataset`, a shard or a list of records: `video` `{"path", "bytes"}`, `video_id`, and
            fields that JSON can hold. Folders of frames cannot be packed.
        folder: created if absent.
        records_per_shard (defaults to 1000): a shard has fewer where those of the next video would not all fit, and
            the last one may have fewer.
        name (defaults to `"train"`): the beginning of the file names. Use the split, so that readers recognise it.
        on_broken_video (defaults to `"raise"`): stop at a video whose first frame does not decode, or `"skip"` it.

    Raises:
        ValueError: a file is absent or not a video, JSON cannot hold a field, or `folder` has shards of other
            records. This error comes before anything is written.
        VideoDecodingError: a video is broken, under "raise". Complete shards stay.

    Example:
        >>> dataset, _ = load_dataset("my_videos")
        >>> print(write_shards(dataset, "shards"))
        240 records in 1 shards, 12.4 MB (1 written now, 0 before)
    """
    folder = Path(folder)
    videos, digests = zip(*(_identify(records[row]) for row in range(len(records)))) if len(records) else ((), ())
    broken = _broken_videos(records, videos) if on_broken_video == "skip" else set()
    parts = _divide(videos, records_per_shard, broken)
    shards = [TarShard(str(folder / f"{name}-{i:05d}-of-{len(parts):05d}.tar")) for i in range(len(parts))]
    hashes = {Path(shard.path).name: _fingerprint(rows, videos, digests) for shard, rows in zip(shards, parts)}
    _agree_with_earlier_run(folder, name, hashes)
    for leftover in folder.glob(f".{name}-*.part.tar"):  # from a killed run
        leftover.unlink()

    num_written, num_links, kept = 0, 0, set()
    with tqdm(total=len(records), unit="video", desc=name, disable=None) as progress:
        for rows, shard in zip(parts, shards):
            if not Path(shard.path).is_file():
                _write_shard(shard.path, rows, records, videos, on_broken_video)
                num_written += 1
            packed = set(map(int, shard.keys()))  # writes the index if a killed run did not
            num_links += len(packed) - len({videos[row] for row in packed})
            kept |= packed
            progress.update(len(rows))
    left_out = [records[row]["video_id"] for row in range(len(records)) if row not in kept]
    return ShardReport(shards, num_written, len(kept), num_links, left_out)


def _agree_with_earlier_run(folder: Path, name: str, hashes: dict[str, str]) -> None:
    """Raises if `folder` holds shards of other records; then notes of which records this run makes its shards."""
    note = folder / f".{name}.shards.json"  # hidden, or `datasets` would read it
    earlier = read_provenance(note) if note.is_file() else {}
    existing = sorted(path.name for path in folder.glob(f"{name}-*.tar"))
    if foreign := [shard for shard in existing if shard not in hashes or hashes[shard] != earlier.get(shard)]:
        raise ValueError(
            f"{folder} holds {name_some(foreign)}, made of other records or with another records_per_shard. Remove "
            "these shards, or choose another folder."
        )
    if earlier != hashes:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(note) as temporary:
            temporary.write_text(json.dumps(hashes, indent=2) + "\n", encoding="utf-8")


def _identify(record: Mapping[str, Any]) -> tuple[Hashable, bytes]:
    """What tells the record's video from others, and a hash of its size and all fields."""
    path, content = record["video"].get("path"), record["video"].get("bytes")
    if _extension(record) not in VIDEO_EXTENSIONS or (content is None and not os.path.isfile(path)):
        raise ValueError(
            f"{record['video_id']}: {path} cannot be packed; expected an existing file with one of the extensions "
            f"{', '.join(VIDEO_EXTENSIONS)}. Encode folders of frames as videos first."
        )
    video = sha256(content).digest() if isinstance(content, bytes) else content or path
    return video, sha256(f"{video_size(record['video'])} ".encode() + _fields(record)).digest()


def _broken_videos(records: Records, videos: Sequence[Hashable]) -> set[Hashable]:
    """Those of several records, which would leave a shard empty. Single ones are found when they are packed."""
    counts, broken = Counter(videos), set()
    first = {videos[row]: row for row in reversed(range(len(videos)))}
    for video in (video for video, count in counts.items() if count > 1):
        try:
            probe_video(video_source(records[first[video]]["video"])[0])
        except VideoDecodingError:
            broken.add(video)
    return broken


def _divide(videos: Sequence[Hashable], records_per_shard: int, broken: set[Hashable]) -> list[list[int]]:
    """The rows of each shard. Those of one video stay together where they fit; those of broken ones are left out."""
    together: dict[Hashable, list[int]] = {}
    for row, video in enumerate(videos):
        if video not in broken:
            together.setdefault(video, []).append(row)
    parts: list[list[int]] = []
    for rows in together.values():
        for piece in (rows[at : at + records_per_shard] for at in range(0, len(rows), records_per_shard)):
            if not parts or len(parts[-1]) + len(piece) > records_per_shard:
                parts.append([])
            parts[-1] += piece
    return parts


def _fingerprint(rows: Sequence[int], videos: Sequence[Hashable], digests: Sequence[bytes]) -> str:
    """A hash of all that decides the bytes of a shard except the videos' content."""
    first = {videos[row]: row for row in reversed(rows)}
    return sha256(b"".join(b"%d %d %s" % (row, first[videos[row]], digests[row]) for row in rows)).hexdigest()


def _write_shard(
    path: str,
    rows: Sequence[int],
    records: Records,
    videos: Sequence[Hashable],
    on_broken_video: Literal["raise", "skip"],
) -> None:
    members: dict[Hashable, str] = {}  # name of each video in this shard
    with atomic_file(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        skipped = (VideoDecodingError,) if on_broken_video == "skip" else ()
        for row in rows:
            with suppress(*skipped):
                _add(tar, row, records[row], members.get(videos[row]))
                members.setdefault(videos[row], f"{row:09d}{_extension(records[row])}")
        if not members:
            raise ValueError(f"All {len(rows)} videos in rows {rows[0]} to {rows[-1]} are broken.")


def _extension(record: Mapping[str, Any]) -> str:
    return Path(record["video"].get("path") or "").suffix.lower()


def _add(tar: tarfile.TarFile, row: int, record: Mapping[str, Any], linked: str | None) -> None:
    """`linked`: the member that holds this video already."""
    video = tarfile.TarInfo(f"{row:09d}{_extension(record)}")  # its time and owner are zero
    if linked is None:
        source, _, _ = video_source(record["video"])
        probe_video(source)
        video.size = video_size(record["video"]) or 0
        with _open(source) as file:
            tar.addfile(video, file)
    else:
        video.type, video.linkname = tarfile.LNKTYPE, linked
        tar.addfile(video)
    text = _fields(record)
    fields = tarfile.TarInfo(f"{row:09d}.json")
    fields.size = len(text)
    tar.addfile(fields, BytesIO(text))


def _open(source: str | bytes | FilePart) -> Any:
    if isinstance(source, bytes):
        return BytesIO(source)
    return source.open() if isinstance(source, FilePart) else open(source, "rb")


def _fields(record: Mapping[str, Any]) -> bytes:
    fields = {key: value for key, value in record.items() if key != "video" and value is not None}
    try:
        return json.dumps(fields, ensure_ascii=False, sort_keys=True).encode()
    except (TypeError, ValueError) as error:  # ValueError: half of a surrogate pair
        raise ValueError(f"{record['video_id']}: {error}; expected fields that JSON can hold.") from error
