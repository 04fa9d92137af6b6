"""The one record of every dataset: a video, perhaps the part of it to read, and what a task needs to know of it."""

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_videolang.data.video_files import EXPECTED_VIDEO
from hf_videolang.video import VideoDecodingError
from hf_videolang.video.sources import FilePart

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

_TEXT = {"_type": "Value", "dtype": "string"}
_NUMBER = {"_type": "Value", "dtype": "float64"}
# The columns that a task reads besides the video's own, in the form of `datasets.Features.from_dict`.
TASK_COLUMNS: dict[str, dict[str, dict[str, Any]]] = {
    "retrieval": {"captions": {"_type": "List", "feature": _TEXT}},
    "moment_retrieval": {
        "moments": {"_type": "List", "feature": {"text": _TEXT, "start": _NUMBER, "end": _NUMBER}},
        "subtitles": _TEXT,
    },
    "captioning": {
        "segments": {
            "_type": "List",
            "feature": {"start": _NUMBER, "end": _NUMBER, "captions": {"_type": "List", "feature": _TEXT}},
        },
        "subtitles": _TEXT,
    },
    "pretraining": {"subtitle": _TEXT},
    "question_answering": {
        "question_id": _TEXT,
        "question": _TEXT,
        "answer": _TEXT,
        "choices": {"_type": "List", "feature": _TEXT},
        "answer_index": {"_type": "Value", "dtype": "int64"},
        "answers": {"_type": "List", "feature": {"answer": _TEXT, "score": _NUMBER}},
        "answer_type": _TEXT,
        "answer_start": _NUMBER,
        "answer_end": _NUMBER,
        "subtitles": _TEXT,
    },
}
REMEDY = "`hf-videolang data check` lists every such video."


@dataclass
class Record:
    """What an annotation says about one video or one part of it, or asks about it. Nothing is checked yet.

    Attributes:
        video_id: the name of the video, or of the part (see `segment_id`); unique in its split, except for questions.
        path: its file, or the folder with its frames; `None` where no such file was found.
        start, end: the cut to read, in seconds; `None` for the beginning and the end of the file.
        captions: its sentences, in the order of the annotation.
        columns: everything else that the annotation says, such as a "subtitle".
        num_frames: the number of pictures that its folder of frames must have; `None` where nothing says so.
        question_id: of a question, unique in its split. What is asked stands in `columns`.
    """

    video_id: str
    path: Path | None = None
    start: float | None = None
    end: float | None = None
    captions: list[str] = field(default_factory=list)
    columns: dict[str, Any] = field(default_factory=dict)
    num_frames: int | None = None
    question_id: str | None = None

    @property
    def id(self) -> str:
        """What is unique in a split."""
        return self.question_id or self.video_id

    @property
    def has_video(self) -> bool:
        return self.path is not None and os.path.exists(self.path)

    def row(self) -> dict[str, Any]:
        """The record as a row of a dataset: `video`, `video_id`, `captions`, its columns, and the cut if any."""
        path = None if self.path is None else str(self.path)
        row = {**self.columns, "video": {"path": path, "bytes": None}, "video_id": self.video_id}
        row |= {"question_id": self.question_id} if self.question_id else {}
        is_cut = self.start is not None or self.end is not None
        return {**row, "captions": self.captions, **({"start": self.start, "end": self.end} if is_cut else {})}


def segment_id(video_id: str, start: float | None, end: float | None) -> str:
    """The id of a part of a video, "<video id>#t=1.5,4"; without seconds that of the video."""
    if start is None and end is None:
        return video_id
    # Twelve digits: the six of plain :g would drop the milliseconds of seconds above 1,000.
    return f"{video_id}#t={start or 0:.12g}" + ("" if end is None else f",{end:.12g}")


def whole_video_id(video_id: str) -> str:
    """The id of the video that a part belongs to, which `segment_id` named."""
    return video_id.partition("#t=")[0]


def records_to_dataset(records: Sequence[Record], task: str = "retrieval", need_videos: bool = True) -> "Dataset":
    """Checks records and makes a `datasets.Dataset` of them.

    Args:
        records: of one split.
        task: a key of `TASK_COLUMNS`. Where its columns include captions, every video must have one; blank captions
            are left out with a warning. Plain captions count as such of the whole video where the task's are of
            segments, and as queries where it needs moments.
        need_videos (defaults to `True`): with `False`, files may be absent, and `video` is `None`.

    Returns:
        A dataset with the columns `video` (`{"path", "bytes"}`, not decoded), `video_id`, the columns of the task and,
        if any record is cut, `start` and `end` in seconds.

    Raises:
        FileNotFoundError, ValueError: as `check_records`; or a caption, a question or a moment is absent where the
            task needs one.
    """
    from datasets import Dataset, Features

    check_records(records, need_videos)
    columns = TASK_COLUMNS[task]
    if "captions" in columns:
        count = sum(len(record.captions) for record in records)
        records = [replace(r, captions=[text for text in r.captions if not is_blank(text)]) for r in records]
        _raise_for([r for r in records if not r.captions], "have no caption, or only blank ones")
        _warn_of_blank(count - sum(len(record.captions) for record in records))
    if "segments" in columns:
        segments = [_captioned_segments(record) for record in records]
        records = [replace(r, columns={**r.columns, "segments": some}) for r, (some, _) in zip(records, segments)]
        _raise_for([r for r in records if not r.columns["segments"]], "have no caption, or only blank ones")
        _warn_of_blank(sum(blank for _, blank in segments))
    if "question" in columns:
        _raise_for([r for r in records if "question" not in r.columns], "have no question")
    if "moments" in columns:
        records = [_with_moments(record) for record in records]
        _raise_for([r for r in records if not r.columns.get("moments")], "have no moment")
    rows = [record.row() | ({} if need_videos else {"video": None}) for record in records]
    features = {"video": {"_type": "Video", "decode": False}, "video_id": _TEXT, **columns}
    if any("start" in row for row in rows):
        features |= {"start": _NUMBER, "end": _NUMBER}
    table = {name: [row.get(name) for row in rows] for name in features}
    return Dataset.from_dict(table, Features.from_dict(features))


def _captioned_segments(record: Record) -> tuple[list[dict[str, Any]], int]:
    """
    The segments with their captions, and how many captions are blank and left out. Plain captions are about the whole
    video: no start, no end.
    """
    whole = [{"start": None, "end": None, "captions": record.captions}] if record.captions else []
    segments = [*(record.columns.get("segments") or ()), *whole]
    kept = [{**one, "captions": [text for text in one["captions"] if not is_blank(text)]} for one in segments]
    blank = sum(len(one["captions"]) for one in segments) - sum(len(one["captions"]) for one in kept)
    return [one for one in kept if one["captions"]], blank


def _warn_of_blank(count: int) -> None:
    if count:
        logger.warning("Left out %d blank captions. %s", count, REMEDY)


def _with_moments(record: Record) -> Record:
    """Plain captions are queries about the whole video: no start, no end."""
    queries = [{"text": text, "start": None, "end": None} for text in record.captions]
    return replace(record, columns={**record.columns, "moments": [*(record.columns.get("moments") or ()), *queries]})


def count_records(records: Sequence[Record]) -> dict[str, int]:
    """The sizes that a `Protocol` states, each for the tasks that it concerns."""
    return {
        "videos": len({record.video_id for record in records}),
        "captions": sum(len(record.captions) for record in records),
        "clips": sum(len(record.columns.get("segments") or [None]) for record in records),
        "questions": len(records),
        "queries": sum(len(record.columns.get("moments") or ()) for record in records),
    }


def check_records(records: Sequence[Record], need_videos: bool = True) -> None:
    """Checks that the videos of a split are there, and that ids and cuts are valid.

    Raises:
        FileNotFoundError: some videos are absent.
        ValueError: an id occurs twice, or a cut does not end after its start.
    """
    missing = list(dict.fromkeys(record.video_id for record in records if not record.has_video))
    if missing and need_videos:
        num_videos = len({record.video_id for record in records})
        raise FileNotFoundError(
            f"{len(missing)} of {num_videos} annotated videos have no file: {name_some(missing)}. "
            f"Expected {EXPECTED_VIDEO}, or the file that the metadata names. {REMEDY} With skip "
            "as on_broken_video they are left out."
        )
    counts = Counter(record.id for record in records)
    _raise_for([r for r in records if counts[r.id] > 1], "have an id that occurs more than once")
    _raise_for([r for r in records if r.end is not None and r.end <= (r.start or 0)], "do not end after their start")


def _raise_for(records: Sequence[Record], fault: str) -> None:
    if records:
        names = list(dict.fromkeys(record.id for record in records))
        what = "questions" if records[0].question_id else "videos"
        raise ValueError(f"{len(records)} {what} {fault}: {name_some(names)}. Correct the annotation. {REMEDY}")


def annotations_hash(dataset: "Dataset") -> str:
    """A hash of all that records say (ids, captions, cuts, answers …), but not of where their videos lie."""
    annotations = json.dumps(dataset.remove_columns("video").to_dict())
    return hashlib.sha256(annotations.encode()).hexdigest()[:16]


def clip_of(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Checks the row of a shard, and returns its video and cut: `{"path", "bytes", "start", "end"}`.

    Raises:
        VideoDecodingError: of this name, if the row has no video, if that is neither path nor bytes, or if `start` and
            `end` are not ascending seconds.
    """
    video = {**row["video"], "start": row.get("start"), "end": row.get("end")}
    start, end = video["start"], video["end"]
    if not video.get("path") and video.get("bytes") is None:
        raise VideoDecodingError(name, "its row holds no video")
    if not (isinstance(video.get("path"), str | None) and isinstance(video.get("bytes"), bytes | FilePart | None)):
        raise VideoDecodingError(name, f"its row holds no path or bytes but {str(row['video'])[:80]}")
    are_seconds = all(time is None or (isinstance(time, int | float) and isfinite(time)) for time in (start, end))
    if not are_seconds or (end is not None and end <= (start or 0)):
        raise VideoDecodingError(
            name, f"its row has start={start!r} and end={end!r}; expected seconds, the end after the start"
        )
    return video


def is_blank(text: str) -> bool:
    return not text.strip()


def name_some(names: Sequence[Any], limit: int = 5) -> str:
    """The first few names, and how many more there are."""
    rest = f" … and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(str(name) for name in names[:limit]) + rest
