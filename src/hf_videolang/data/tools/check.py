"""`hf-videolang data check`: what is missing, broken or doubled in a data set, before a GPU is rented.

A folder of videos without metadata is one problem, no_metadata; its videos are checked all the same.
"""

import argparse
import hashlib
import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from hf_videolang.data.load_dataset import BENCHMARKS, available_splits, read_clips, unnamed_videos
from hf_videolang.data.records import EXPECTED_VIDEO, Clip, Protocol, name_some
from hf_videolang.data.tools.worker_processes import WorkerProcesses
from hf_videolang.data.video_folder import MissingMetadataError
from hf_videolang.video import VideoDecodingError, decode_video, probe_video
from hf_videolang.video.frame_folder import is_picture_of_a_frame, list_pictures

PROBLEMS = {
    "no_metadata": "a folder of videos that no file describes",
    "missing_video": "the file that an annotation names is not there",
    "undecodable_video": "the file does not decode",
    "wrong_frame_count": "a folder has not as many pictures as its annotation says",
    "duplicate_id": "one id comes more than once",
    "duplicate_file": "files of identical bytes",
    "duplicate_caption": "one caption comes more than once for a video",
    "empty_caption": "a caption is blank",
    "no_caption": "a video has no caption at all",
    "unnamed_video": "no annotation names the video file",
    "wrong_count": "the split has another size than the published one",
}
SHOWN = 10  # problems of a kind that the text report lists
FRAMES_AT_ONCE = 64

Segment = tuple[float | None, float | None]


@dataclass(frozen=True)
class Problem:
    """One finding: `kind` is a key of `PROBLEMS`; the rest is None where it does not apply."""

    kind: str
    detail: str
    split: str | None = None
    video_id: str | None = None
    path: str | None = None

    def __str__(self) -> str:
        return ": ".join(part for part in (self.split, self.video_id or self.path, self.detail) if part)


@dataclass
class DataReport:
    """What was read (one protocol a split), how many files were decoded, and every problem."""

    splits: list[Protocol]
    num_files: int
    problems: list[Problem]

    def __str__(self) -> str:
        lines = [str(protocol) for protocol in self.splits]
        counts = ((self.num_files, "video file"), (len(self.problems), "problem"))
        lines.append(", ".join(f"{count or 'no'} {what}{'s' * (count != 1)}" for count, what in counts))
        for kind, meaning in PROBLEMS.items():
            found = [problem for problem in self.problems if problem.kind == kind]
            if found:
                lines.append(f"\n{kind}: {len(found)} ({meaning})")
                lines += [f"  {problem}" for problem in found[:SHOWN]]
            if len(found) > SHOWN:
                lines.append(f"  … and {len(found) - SHOWN} more (--json lists all)")
        return "\n".join(lines)


def check_data(
    name: str,
    data_dir: str | Path | None = None,
    split: str | None = None,
    *,
    decode_all: bool = False,
    num_workers: int | None = None,
) -> DataReport:
    """Check annotations and videos of a data set, or of one of its splits; of a bare folder, all videos in it.

    Args:
        name, data_dir, split: as for `load_dataset`; `split=None` checks every split.
        decode_all: decode every frame instead of the first, the middle and the last of each clip.
        num_workers: processes that decode, by default one a CPU; 0 decodes in this process, where a decoder that
            crashes ends the check.

    Raises:
        ValueError, FileNotFoundError: the annotation itself cannot be read.
    """
    if num_workers is not None and num_workers < 0:
        raise ValueError(f"num_workers is {num_workers}; expected 0 (none) or more processes.")
    protocols: list[Protocol] = []
    try:
        parts = split.split("+") if split else available_splits(name, data_dir)
        read = {part: read_clips(name, data_dir, part) for part in parts}
    except MissingMetadataError as error:
        if split or not error.videos:
            raise
        clips = {"": [Clip(path.name, path, []) for path in error.videos]}
        problems = [Problem("no_metadata", str(error))]
        lost = [path for path in error.videos if not path.exists()]
        problems += [Problem("missing_video", "a link to nowhere", path=str(path)) for path in lost]
    else:
        clips = {part: found for part, (found, _) in read.items()}
        protocols = [protocol for _, protocol in read.values()]
        problems = [*_wrong_counts(protocols), *_annotation_problems(clips)]
        unnamed = [] if split else unnamed_videos(name, data_dir)
        problems += [Problem("unnamed_video", "a video without captions", path=str(path)) for path in unnamed]
    paths = sorted({clip.path for found in clips.values() for clip in found if clip.path and clip.path.exists()})
    problems += _wrong_frame_counts(clips)
    problems += _duplicate_files(clips, paths)
    problems += _decoding_problems(
        clips, paths, decode_all, os.cpu_count() or 1 if num_workers is None else num_workers
    )
    return DataReport(protocols, len(paths), problems)


def _wrong_counts(protocols: Sequence[Protocol]) -> Iterator[Problem]:
    for protocol in protocols:
        for what in ("videos", "captions"):
            count, published = getattr(protocol, f"num_{what}"), getattr(protocol, f"published_{what}")
            if published not in (None, count):
                yield Problem("wrong_count", f"{count} {what}, published are {published}", protocol.split)


def _annotation_problems(clips: dict[str, list[Clip]]) -> Iterator[Problem]:
    places = defaultdict(list)
    for split, found in clips.items():
        for clip in found:
            places[clip.video_id].append(split)
            where = {"split": split, "video_id": clip.video_id}
            if clip.path is None or not clip.path.exists():
                detail = f"no file {clip.path}" if clip.path else f"expected {EXPECTED_VIDEO}"
                yield Problem("missing_video", detail, **where)
            texts = [caption.strip() for caption in clip.captions]
            if not any(texts):
                yield Problem("no_caption", f"captions: {clip.captions}", **where)
            elif not all(texts):
                yield Problem("empty_caption", f"{texts.count('')} of {len(texts)} captions", **where)
            for text, count in Counter(texts).items():
                if text and count > 1:
                    yield Problem("duplicate_caption", f"{count} times {text!r}", **where)
    for video_id, splits in places.items():
        if len(splits) > 1:
            yield Problem("duplicate_id", f"{len(splits)} times, in {', '.join(sorted(set(splits)))}", None, video_id)


def _wrong_frame_counts(clips: dict[str, list[Clip]]) -> Iterator[Problem]:
    for split, found in clips.items():
        for clip in found:
            if clip.num_frames is None or clip.path is None or not clip.path.is_dir():
                continue
            try:
                count = len(list_pictures(str(clip.path)))
            except VideoDecodingError:
                continue  # found again, and told, where it is decoded
            if count != clip.num_frames:
                detail = f"{count} pictures, the annotation says {clip.num_frames}"
                yield Problem("wrong_frame_count", detail, split, clip.video_id, str(clip.path))


def _duplicate_files(clips: dict[str, list[Clip]], paths: Sequence[Path]) -> Iterator[Problem]:
    """Groups of videos with the same SHA-256; only those of one size are read."""
    splits = defaultdict(set)
    for split, found in clips.items():
        for clip in found:
            splits[clip.path].add(split)
    by_size, by_hash = defaultdict(list), defaultdict(list)
    for path in paths:
        files = _files_of(path)
        by_size[len(files), files[0].stat().st_size if files else 0].append(path)
    for path in [path for same in by_size.values() if len(same) > 1 for path in same]:
        digest = hashlib.sha256()
        for name in _files_of(path):
            with open(name, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        by_hash[digest.digest()].append(path)
    for same in by_hash.values():
        if len(same) > 1:
            where = "+".join(sorted(set.union(*(splits[path] for path in same))))
            yield Problem(
                "duplicate_file",
                "same bytes as " + name_some([str(p) for p in same[1:]]),
                where or None,
                None,
                str(same[0]),
            )


def _files_of(path: Path) -> list[Path]:
    """The file itself, or the pictures of a folder, in their order and without what else lies there."""
    if not path.is_dir():
        return [path]
    with os.scandir(path) as entries:
        return sorted(Path(entry.path) for entry in entries if is_picture_of_a_frame(entry.name))


def _decoding_problems(
    clips: dict[str, list[Clip]], paths: Sequence[Path], decode_all: bool, num_workers: int
) -> Iterator[Problem]:
    users: dict[Path | None, dict[Segment, tuple[str, Clip]]] = defaultdict(dict)
    for split, found in clips.items():
        for clip in found:
            users[clip.path].setdefault((clip.start, clip.end), (split, clip))
    check = partial(decoding_error, decode_all=decode_all)
    tasks = [(path, list(users[path])) for path in paths]
    with tqdm(total=len(paths), unit="video", desc="decoding", disable=None) as progress:
        for (path, segments), error in _in_processes(check, tasks, num_workers):
            progress.update()
            if error is not None:
                split, clip = users[path][segments[error[0]]]
                yield Problem("undecodable_video", error[1], split or None, clip.video_id, str(path))


def decoding_error(task: tuple[Path, list[Segment]], decode_all: bool) -> tuple[int, str] | None:
    """Why a file does not decode, and the number of the segment in which that was found.

    None if the first, middle and last frame of each segment decode, and with `decode_all` every frame of the file.
    """
    path, segments = task
    number = 0
    try:
        for number, (start, end) in enumerate(segments):  # noqa: B007
            decode_video(path, lambda total: sorted({0, total // 2, total - 1}), start=start, end=end)
        if decode_all:
            num_frames = probe_video(path).num_frames
            for first in range(0, num_frames, FRAMES_AT_ONCE):
                decode_video(path, range(first, min(first + FRAMES_AT_ONCE, num_frames)))
    except VideoDecodingError as error:
        return number, str(error)
    except Exception as error:  # a check reports whatever a strange file brings about
        return number, f"{type(error).__name__}: {error}"
    return None


def _in_processes(check: Callable, tasks: list[tuple], num_workers: int) -> Iterator[tuple]:
    """(task, error) of each task. Where a process dies, the tasks it may have died of are tried one by one."""
    if num_workers == 0:
        yield from ((task, check(task)) for task in tasks)
        return
    pool = WorkerProcesses(num_workers)
    try:
        for first in range(0, len(tasks), 8 * num_workers):
            futures = {pool.submit(check, task): task for task in tasks[first : first + 8 * num_workers]}
            unfinished = []
            for future, task in futures.items():
                try:
                    yield task, future.result()
                except BrokenProcessPool:
                    unfinished.append(task)
            if unfinished:
                yield from _one_by_one(check, unfinished)
                pool = WorkerProcesses(num_workers)
    finally:
        pool.stop()


def _one_by_one(check: Callable, tasks: list[tuple]) -> Iterator[tuple]:
    """In a process of their own, so that it is known which task it died of."""
    pool = WorkerProcesses(1)
    try:
        for task in tasks:
            try:
                yield task, pool.submit(check, task).result()
            except BrokenProcessPool:
                yield task, (0, "the decoder crashed its process")
                pool = WorkerProcesses(1)
    finally:
        pool.stop()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `hf-videolang data check`."""
    names = ", ".join(BENCHMARKS)
    parser.add_argument("data", help=f"path of a video folder, with or without metadata, or a benchmark: {names}")
    parser.add_argument("--data-dir", help="folder with the videos and annotation files of the benchmark")
    parser.add_argument("--split", help='check only this split, or several: "train+validation"')
    parser.add_argument("--decode-all", action="store_true", help="decode every frame, not three of each clip")
    parser.add_argument("--num-workers", type=int, help="processes that decode (default: one a CPU)")
    parser.add_argument(
        "--ignore",
        nargs="+",
        default=[],
        choices=list(PROBLEMS),
        metavar="KIND",
        help=f"kinds of problem not to report: {', '.join(PROBLEMS)}",
    )
    parser.add_argument("--json", action="store_true", help="print the whole report as JSON")


def main(args: argparse.Namespace) -> int:
    """Print the report; 0: clean, 1: problems, 2: wrong usage or an annotation that cannot be read."""
    try:
        report = check_data(
            args.data, args.data_dir, args.split, decode_all=args.decode_all, num_workers=args.num_workers
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report.problems = [problem for problem in report.problems if problem.kind not in args.ignore]
    print(json.dumps(asdict(report), indent=1, ensure_ascii=False) if args.json else report)
    return 1 if report.problems else 0
