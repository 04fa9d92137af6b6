"""Extract the features of many videos, on any number of processes, into a `FeatureStore`."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from tqdm import tqdm

from hf_videolang.data.records import clip_of, whole_video_id
from hf_videolang.data.shards.open_shards import Shard, VideoFolderShard
from hf_videolang.data.stores.feature_store import FeatureStore, VideoFeatures
from hf_videolang.data.video_files import video_size
from hf_videolang.inference.feature_extractor import ChunkReader, FeatureExtractor
from hf_videolang.video import VideoDecodingError


@dataclass(frozen=True)
class Video:
    """A video to extract: a row of a shard, its name in the store's column `source`, and its bytes if it is a file."""

    source: str
    shard: Shard
    row: int
    num_bytes: int | None = None


@dataclass(frozen=True)
class Part:
    """A part of the store, and the videos of it that are extracted now. Other videos of the part stay as they are."""

    name: str
    videos: Sequence[Video]


@dataclass(frozen=True)
class ExtractionReport:
    """
    What [`extract_features`] did. By the source of a video, `broken` says why the store has no features of it, and
    `notes` what the user should know about its features.
    """

    store: FeatureStore
    num_extracted: int
    num_videos: int
    num_rows: int
    broken: dict[str, str]
    notes: dict[str, str]
    seconds: float

    def __str__(self) -> str:
        made = f"{self.num_extracted} of {self.num_videos} videos read now in {self.seconds:.0f} s"
        size = sum(file.stat().st_size for file in self.store.folder.glob("[!.]*.parquet")) / 1e6
        store = f"{self.store.folder}: {self.num_rows} rows of {self.store.dim} numbers, {size:.1f} MB, by"
        notes = [f"note: {source}: {note}" for source, note in self.notes.items()]
        reasons = [f"broken: {source}: {problem}" for source, problem in self.broken.items()]
        return "\n".join([f"{made}. {store} {self.store.description}.", *notes, *reasons])


def list_videos(shards: Sequence[Shard], whole_files: bool) -> list[Video]:
    """
    The videos of shards, each once.

    Args:
        shards: see `find_shards`.
        whole_files: segments of a video count as the video itself.

    Raises:
        ValueError: two files have one id.
    """
    videos: dict[str, Video] = {}
    paths: dict[str, Path | None] = {}
    for shard in shards:
        if not isinstance(shard, VideoFolderShard):
            rows = range(len(shard))
            videos |= {(name := f"{shard.name}/{row:08d}"): Video(name, shard, row) for row in rows}
            continue
        for row, record in enumerate(shard.records):
            name = whole_video_id(record.video_id) if whole_files else record.video_id
            if paths.setdefault(name, record.path) != record.path:
                raise ValueError(
                    f"{paths[name]} and {record.path} are both called {name}; give each file a video_id of its own."
                )
            videos.setdefault(name, Video(name, shard, row, video_size({"path": record.path})))
    return list(videos.values())


def extract_features(
    shards: Sequence[Shard],
    output_dir: str | Path,
    extractors: Sequence[FeatureExtractor],
    *,
    videos_per_part: int = 16,
    num_workers: int = 0,
    retry_failed: bool = False,
) -> ExtractionReport:
    """
    Extract the features that a store lacks: of new videos, of files whose size has changed, and of damaged parts.

    A killed run continues with the next call, on any number of processes, and with the same batch size and videos the
    store is the same to the bit. A video that does not decode gets a row with the reason instead of features.

    Args:
        shards: where the videos are.
        output_dir: the feature store, new or to be continued. All nodes must see the folder.
        extractors: the model on this process's device; or several, whose rows are joined, cut to the shortest.
        videos_per_part (defaults to 16): videos of a file of the store. A kill costs at most as many in each process.
        num_workers (defaults to 0): decoding processes of each process. Each decodes a video of its own.
        retry_failed (defaults to `False`): also try the videos again that did not decode.

    Raises:
        ValueError: there are no videos, two files have one id, or the store was made with another model.
    """
    state = PartialState()
    plan: list[Any] = [None]
    if state.is_main_process:  # before another process writes
        videos = list_videos(shards, extractors[0].makes_rows)
        if not videos:
            raise ValueError("There are no videos to extract.")
        store = FeatureStore(output_dir, {"extractors": [extractor.facts for extractor in extractors]})
        plan = [(_plan(store, videos, videos_per_part, retry_failed), [video.source for video in videos])]
    parts: list[Part]
    parts, sources = broadcast_object_list(plan)[0]
    store = FeatureStore(output_dir)

    begin, total = monotonic(), sum(len(part.videos) for part in parts)
    rate, num_rows = store.rows_per_second, 0
    with tqdm(total=total, unit="video", desc="features", miniters=0, disable=not state.is_main_process) as bar:
        for videos_done, rows in _extract_parts(
            store, parts[state.process_index :: state.num_processes], extractors, num_workers
        ):
            num_rows += rows * state.num_processes  # the others are about as far
            if rate is not None:
                speed = num_rows / rate / (monotonic() - begin)
                bar.set_postfix_str(f"{speed:.1f} seconds of video/s", refresh=False)
            bar.update(min(videos_done * state.num_processes, total - bar.n))
    state.wait_for_everyone()
    facts = {row["source"]: row for part in store.names() for row in store.facts(part)}
    return ExtractionReport(
        store,
        total,
        len(sources),
        sum(row["num_rows"] for row in facts.values()),
        {source: facts[source]["problem"] for source in sources if facts[source]["problem"]},
        {source: facts[source]["note"] for source in sources if facts[source]["note"]},
        monotonic() - begin,
    )


def _plan(store: FeatureStore, videos: Sequence[Video], videos_per_part: int, retry_failed: bool) -> list[Part]:
    """The parts to write. Parts that are damaged are removed."""
    known: dict[str, tuple[str, dict[str, Any]]] = {}
    for name in store.names():
        if store.is_whole(name):
            known |= {row["source"]: (name, row) for row in store.facts(name)}
        else:
            (store.folder / f"{name}.parquet").unlink()
    new: list[Video] = []
    again: dict[str, list[Video]] = defaultdict(list)
    for video in videos:
        if video.source not in known:
            new.append(video)
            continue
        name, row = known[video.source]
        if (row["problem"] and retry_failed) or video.num_bytes not in (None, row["num_bytes"]):
            again[name].append(video)
    parts = [Part(name, videos) for name, videos in again.items()]
    for first in range(0, len(new), videos_per_part):
        chosen = new[first : first + videos_per_part]
        # A name that follows from the videos, so that a continued run writes the same files as an unbroken one.
        name = sha256("\n".join(video.source for video in chosen).encode()).hexdigest()[:16]
        parts.append(Part(name, chosen))
    return parts


def _extract_parts(
    store: FeatureStore, parts: Sequence[Part], extractors: Sequence[FeatureExtractor], num_workers: int
) -> Iterator[tuple[int, int]]:
    """Write these parts as they are finished, and yield the number of finished videos and rows now and then."""
    videos = [(part, video) for part in parts for video in part.videos]
    existing = set(store.names())
    chunks = _Chunks([video for _, video in videos], [extractor.reader for extractor in extractors])
    rows: dict[int, list[list[torch.Tensor]]] = defaultdict(lambda: [[] for _ in extractors])
    finished: dict[str, dict[str, VideoFeatures]] = defaultdict(dict)
    empty = torch.empty(0, store.dim, dtype=torch.float16)
    for number, which, first_row, content in DataLoader(chunks, batch_size=None, num_workers=num_workers):
        if isinstance(content, dict):
            features = extractors[which](content).half()
            rows[number][which] = [*(rows[number][which] if first_row else []), features]
            yield 0, len(features) * (which == 0)
            continue
        part, video = videos[number]
        video_id, problem, note, num_bytes = content
        made = rows.pop(number, None)
        features = empty if problem is not None or made is None else _join(made)
        del made  # to write a long video takes memory enough
        finished[part.name][video.source] = VideoFeatures(
            video_id, features.numpy(), problem, num_bytes, video.source, note
        )
        if len(finished[part.name]) == len(part.videos):
            done = finished.pop(part.name)
            known = {row.source: row for row in store.read_features(part.name)} if part.name in existing else {}
            known |= {video.source: done[video.source] for video in part.videos}
            store.write_features(part.name, list(known.values()))
        yield 1, 0


def _join(made: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
    """The rows of several extractors side by side, cut to the shortest."""
    parts = [torch.cat([*chunks]) for chunks in made]
    shortest = min(map(len, parts))
    return torch.cat([part[:shortest] for part in parts], dim=1)


class _Chunks(IterableDataset):
    """
    The chunks of videos, `(number of the video, which extractor, first row, inputs)`. After the last chunk of a video
    comes `(number, None, None, (video id, problem, note, bytes))`. Each worker reads videos of its own, so some are
    read side by side.
    """

    def __init__(self, videos: Sequence[Video], readers: Sequence[ChunkReader]):
        self.videos, self.readers = videos, readers

    def __iter__(self) -> Iterator[tuple[int, int | None, int | None, Any]]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for number in range(first, len(self.videos), step):
            video_id, problem, size, notes = self.videos[number].source, None, None, []
            try:
                record = self.videos[number].shard[self.videos[number].row]
                video_id, size = record["video_id"], video_size(record["video"])
                clip = clip_of(record, video_id)
                if self.readers[0].makes_rows:
                    video_id, clip["start"], clip["end"] = whole_video_id(video_id), None, None
                for which, reader in enumerate(self.readers):
                    for first_row, inputs in reader(clip):
                        yield number, which, first_row, inputs
                    notes += [reader.note] if reader.note else []
            except VideoDecodingError as error:
                problem = str(error).removeprefix(f"cannot decode {error.path}: ")  # a folder may be moved
            except ValueError as error:  # a damaged record
                problem = str(error)
            yield number, None, None, (video_id, problem, "; ".join(notes) or None, size)
