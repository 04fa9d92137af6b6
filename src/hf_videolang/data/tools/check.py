"""Finds what is missing, broken or duplicated in a dataset, before a GPU is rented."""

import hashlib
import math
import os
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from hf_videolang.data.captions import caption_segments
from hf_videolang.data.load_dataset import find_dataset
from hf_videolang.data.protocol import Protocol
from hf_videolang.data.questions import ANSWER_SPAN
from hf_videolang.data.records import TASK_COLUMNS, Record, name_some
from hf_videolang.data.stores.feature_store import FeatureStore, MissingFeaturesError
from hf_videolang.data.tools.worker_processes import WorkerProcesses
from hf_videolang.data.video_files import EXPECTED_VIDEO
from hf_videolang.data.video_folder import MissingMetadataError
from hf_videolang.video import Cut, VideoDecodingError, check_video, decode_video
from hf_videolang.video.frame_folder import is_picture_of_a_frame, list_pictures
from hf_videolang.video.subtitles import SubtitleError, read_subtitles

PROBLEMS = {
    "no_metadata": "a folder of videos that no file describes",
    "missing_video": "the file that an annotation names is absent",
    "undecodable_video": "the file does not decode",
    "wrong_frame_count": "a folder has more or fewer pictures than its annotation says",
    "duplicate_id": "one id occurs more than once",
    "duplicate_file": "files of identical bytes",
    "duplicate_caption": "one caption occurs more than once for a video",
    "empty_caption": "a caption is blank",
    "no_caption": "a video has no caption at all",
    "no_question": "neither a question nor options are given",
    "no_answer": "nothing is known of the answer",
    "wrong_choices": "a question has fewer than two options, or one of them twice",
    "wrong_answer": "the answer is none of the options, or its number is beyond them",
    "unknown_answer": "no answer of a question is in the vocabulary (--answers)",
    "wrong_score": "the score of an answer is not from 0 to 1",
    "duplicate_question": "one question occurs more than once for a video",
    "missing_subtitles": "the subtitle file that an annotation names is absent or cannot be read",
    "missing_features": "the feature store (--features) has nothing of a video",
    "short_features": "the features of a video end before one of its moments does",
    "outside_video": "a moment is outside the video, or outside the part of it that is read",
    "unnamed_video": "no annotation names the video file",
    "wrong_count": "the split has another size than the published one",
}
TOLERANCE = 1.0  # seconds: annotations are rounded, and what is left of a row at the end has none
SHOWN = 10  # problems of a kind that the text report lists

Found = list[tuple[str | None, Record]]  # each record with its split; a bare folder has no splits


@dataclass(frozen=True)
class Problem:
    """One finding: `kind` is a key of `PROBLEMS`; the other fields are `None` where they do not apply."""

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
    answers: Collection[str] | None = None,
    features: FeatureStore | None = None,
    decode_all: bool = False,
    num_workers: int | None = None,
) -> DataReport:
    """Checks the annotations and videos of a dataset, or of one of its splits; in a bare folder, all videos.

    Args:
        name, data_dir, split: as for `load_dataset`; `split=None` checks every split.
        answers: the vocabulary that the answers of questions must come from.
        features: stored features that the videos must have.
        decode_all: decode every frame, instead of the first, the middle and the last of each clip.
        num_workers: processes that decode; default: one a CPU. With 0 this process decodes, and a decoder that crashes
            ends the check.

    Raises:
        ValueError, FileNotFoundError: the annotation itself cannot be read.

    Example:
        >>> print(check_data("my_folder"))
        my_folder (videofolder), train: 90 videos, 270 captions, each a query of its own (my_folder/metadata.jsonl)
        90 video files, no problems
    """
    num_workers = os.cpu_count() or 1 if num_workers is None else num_workers
    protocols: list[Protocol] = []
    found: Found = []
    try:
        dataset = find_dataset(name, data_dir)
    except MissingMetadataError as error:
        if split or not error.records:
            raise
        found = [(None, record) for record in error.records]
        problems = [Problem("no_metadata", str(error))]
    else:
        for part in split.split("+") if split else dataset.splits:
            records, protocol = dataset.read(part)
            protocols.append(protocol)
            found += [(part, record) for record in records]
        unnamed = [] if split else dataset.unnamed
        problems = [Problem("unnamed_video", "a video without captions", path=str(path)) for path in unnamed]
        problems += [
            Problem("wrong_count", f"{count} {what}, published are {protocol.published[what]}", protocol.split)
            for protocol in protocols
            for what, count in protocol.counts.items()
            if count != protocol.published.get(what, count)
        ]
        if {"captions", "segments"} & TASK_COLUMNS[dataset.task].keys():
            problems += _caption_problems(found)
        if "question" in TASK_COLUMNS[dataset.task]:
            problems += _question_problems(found, answers)
        problems += _subtitle_problems(found)
        problems += [] if features is None else _feature_problems(found, features)
    paths = sorted({record.path for _, record in found if record.path and record.has_video})
    problems += [*_duplicate_ids(found), *_video_problems(found), *_duplicate_files(found, paths)]
    problems += _decoding_problems(found, paths, decode_all, num_workers)
    return DataReport(protocols, len(paths), problems)


def _duplicate_ids(found: Found) -> Iterator[Problem]:
    places = defaultdict(list)
    for split, record in found:
        places[record.id].append(split or "")
    for one, splits in places.items():
        if len(splits) > 1:
            yield Problem("duplicate_id", f"{len(splits)} times, in {', '.join(sorted(set(splits)))}", None, one)


def _video_problems(found: Found) -> Iterator[Problem]:
    """Absent videos, and folders of frames with more or fewer pictures than the annotation says."""
    for split, record in {(split, one.video_id, one.path): (split, one) for split, one in found}.values():
        if record.path is None or not record.has_video:
            detail = f"no file {record.path}" if record.path else f"expected {EXPECTED_VIDEO}"
            yield Problem("missing_video", detail, split, record.video_id, str(record.path) if record.path else None)
        elif record.num_frames is not None and record.path.is_dir():
            with suppress(VideoDecodingError):  # reported where the folder is decoded
                count = len(list_pictures(str(record.path)))
                if count != record.num_frames:
                    detail = f"{count} pictures, the annotation says {record.num_frames}"
                    yield Problem("wrong_frame_count", detail, split, record.video_id, str(record.path))


def _caption_problems(found: Found) -> Iterator[Problem]:
    for split, record in found:
        of_segments = [text for segment in caption_segments(record) for text in segment["captions"]]
        texts = [caption.strip() for caption in [*record.captions, *of_segments]]
        if not any(texts):
            yield Problem("no_caption", f"captions: {texts}", split, record.video_id)
        elif blank := texts.count(""):
            yield Problem("empty_caption", f"{blank} of {len(texts)} captions", split, record.video_id)
        for text, count in Counter(texts).items():
            if text and count > 1:
                yield Problem("duplicate_caption", f"{count} times {text!r}", split, record.video_id)


def _subtitle_problems(found: Found) -> Iterator[Problem]:
    users = {record.columns.get("subtitles"): (split, record) for split, record in reversed(found)}
    for path, (split, record) in users.items():
        try:
            read_subtitles(path)
        except SubtitleError as error:
            yield Problem("missing_subtitles", str(error), split, record.video_id, path)


def _feature_problems(found: Found, features: FeatureStore) -> Iterator[Problem]:
    ends: dict[str, list[float]] = defaultdict(list)
    for _, record in found:
        ends[record.video_id] += [end for _, end in _spans(record)]
    for split, record in {record.video_id: (split, record) for split, record in reversed(found)}.values():
        try:
            rows = features.num_rows(record.video_id)
        except (MissingFeaturesError, VideoDecodingError) as error:
            yield Problem("missing_features", str(error), split, record.video_id)
            continue
        seconds = rows / features.rows_per_second if features.rows_per_second else float("inf")
        if late := [end for end in ends[record.video_id] if end > seconds + TOLERANCE]:
            detail = f"{rows} rows, {seconds:g} s, and {len(late)} moments end later, the last one at {max(late):g} s"
            yield Problem("short_features", detail, split, record.video_id)


def _question_problems(found: Found, vocabulary: Collection[str] | None) -> Iterator[Problem]:
    asked: Counter[tuple] = Counter()
    for split, record in found:
        row = record.columns
        question, options, index = row["question"].strip(), row["choices"], row["answer_index"]
        scores = {entry["answer"]: entry["score"] for entry in row["answers"] or ()}
        key = (split, record.video_id, question, tuple(options or ()))
        asked[key] += 1
        faults = {
            "no_question": not question and not options,
            "duplicate_question": asked[key] == 2,
            "wrong_choices": options is not None and (len(options) < 2 or len(set(options)) < len(options)),
            "no_answer": row["answer"] is None and not scores,
            "wrong_answer": options and row["answer"] is not None and (index is None or not 0 <= index < len(options)),
            "unknown_answer": vocabulary is not None and {row["answer"], *scores}.isdisjoint(vocabulary),
            "wrong_score": not all(0 <= score <= 1 for score in scores.values()),
        }
        detail = ", ".join(f"{name}: {value!r}" for name, value in row.items() if value is not None)
        for kind, is_there in faults.items():
            if is_there:
                yield Problem(kind, detail, split, record.id, str(record.path))


def _duplicate_files(found: Found, paths: Sequence[Path]) -> Iterator[Problem]:
    """Groups of videos with the same SHA-256. Only videos of equal size are read."""
    splits = defaultdict(set)
    for split, record in found:
        splits[record.path].add(split or "")
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
    for first, *others in by_hash.values():
        if others:
            where = "+".join(sorted(set.union(*(splits[path] for path in (first, *others)))))
            yield Problem("duplicate_file", f"same bytes as {name_some(others)}", where or None, None, str(first))


def _files_of(path: Path) -> list[Path]:
    """The file itself, or the pictures of a folder in their order; other files in it do not count."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if is_picture_of_a_frame(file.name))


def _decoding_problems(found: Found, paths: Sequence[Path], decode_all: bool, num_workers: int) -> Iterator[Problem]:
    users: dict[Path | None, dict[tuple, tuple[str | None, Record]]] = defaultdict(dict)
    annotated = defaultdict(list)
    for split, record in found:
        users[record.path].setdefault((record.start, record.end), (split, record))
        annotated[record.path].append((split, record))
    tasks, check = [(path, list(users[path])) for path in paths], partial(decoding_error, decode_all=decode_all)
    checked = tqdm(_in_processes(check, tasks, num_workers), "decoding", len(paths), unit="video", disable=None)
    for (path, segments), (number, error, seconds) in checked:
        if error is not None:
            split, record = users[path][segments[number]]
            yield Problem("undecodable_video", error, split, record.video_id, str(path))
            continue
        for split, record in annotated[path]:
            first = record.start or 0.0
            last = min(end for end in (seconds, record.end, math.inf) if end is not None)
            spans = [one for one in _spans(record) if one[0] < first - TOLERANCE or one[1] > last + TOLERANCE]
            if spans:
                shown = name_some([f"{start:g} to {end:g} s" for start, end in spans])
                detail = f"{shown}, but the video has {first:g} to {last:g} s"
                yield Problem("outside_video", detail, split, record.id, str(path))


def _spans(record: Record) -> list[tuple[float, float]]:
    """The seconds that the annotation names: of moments, of captions, or those that show an answer."""
    row = record.columns
    parts = [*(row.get("moments") or ()), *caption_segments(record)]
    spans = [(part["start"], part["end"]) for part in parts if part["start"] is not None]
    start, end = (row.get(name) for name in ANSWER_SPAN)
    return spans if start is None or end is None else [*spans, (start, end)]


def decoding_error(task: tuple[Path, list[tuple]], decode_all: bool) -> tuple[int, str | None, float | None]:
    """The number of the segment of a file that does not decode, the reason, and the seconds that the file lasts.

    The reason is `None` if the first, middle and last frame of each segment decode, and with `decode_all` every frame
    of the file. The seconds are `None` if it does not decode, and of a folder of pictures.
    """
    path, segments = task
    number = 0
    try:
        for number, (start, end) in enumerate(segments):  # noqa: B007
            info = decode_video(path, _first_middle_last, start=start, end=end).info
        if decode_all:
            info = check_video(path)
        if info.is_truncated:
            reason = f"it declares {info.declared_duration:.1f} s, but its pictures end after {info.duration:.1f} s"
            return 0, reason, None
    except Exception as error:  # the check goes on, whatever error a strange file causes
        reason = str(error) if isinstance(error, VideoDecodingError) else f"{type(error).__name__}: {error}"
        return number, reason, None
    return 0, None, info.duration


def _first_middle_last(cut: Cut) -> list[int]:
    return sorted({0, cut.num_frames // 2, cut.num_frames - 1})


def _in_processes(check: Callable, tasks: list[tuple], num_workers: int) -> Iterator[tuple]:
    """(task, result) of each task. Where a process dies, the tasks that may have killed it are tried one by one."""
    if num_workers == 0:
        yield from ((task, check(task)) for task in tasks)
        return
    size = 8 * num_workers
    groups = deque(tasks[first : first + size] for first in range(0, len(tasks), size))
    pool = WorkerProcesses(num_workers)
    try:
        while groups:
            group, num_done = groups.popleft(), 0
            try:
                for task, result in zip(group, pool.map(check, group)):
                    yield task, result
                    num_done += 1
            except BrokenProcessPool:
                pool = WorkerProcesses(num_workers)
                if len(group) == 1:
                    yield group[0], (0, "the decoder crashed its process", None)
                else:
                    groups.extendleft([task] for task in group[num_done:])
    finally:
        pool.stop()
