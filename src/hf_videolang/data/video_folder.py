"""A user's own videos: the `videofolder` layout of `datasets` with a metadata file.

`metadata.jsonl`, `.csv` or `.parquet`, in the folder itself or one in each sub-folder. Its columns are `file_name`
(relative to the metadata file; a video, a picture, or a folder with the frames of a video as pictures) and one of
`caption`, `captions`, `text`, `question`, `statement` and `moments`; optional `video_id`, `split`, `start` and `end`
(seconds). A question has `answer`, `choices` and `answer`, or `answers` (see `questions`), and perhaps `question_id`;
a statement has `answer`, true or false. Moments are `[{"text", "start", "end"}]`; `captions` of this form are those of
segments. Beside all these, `subtitles` names a file. Other columns are kept.
With a column `subtitle`, which pre-training reads, captions may be absent.
"""

import csv
import json
import logging
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_videolang.data.annotation_text import in_layout, read_json_lines
from hf_videolang.data.captions import add_captions, caption_columns, timed_captions
from hf_videolang.data.moments import moment_columns, subtitle_path
from hf_videolang.data.protocol import Protocol
from hf_videolang.data.questions import name_questions, question_columns
from hf_videolang.data.records import Record, count_records, name_some, segment_id
from hf_videolang.data.validation_split import VALIDATION_SHARE, split_off_validation
from hf_videolang.data.video_dataset import VideoDataset
from hf_videolang.data.video_files import check_place, is_video, list_files
from hf_videolang.video.frame_folder import is_picture_of_a_frame

logger = logging.getLogger(__name__)

COUNTED = {
    "retrieval": "captions",
    "question_answering": "questions",
    "moment_retrieval": "queries",
    "captioning": "clips",
}  # besides the videos
METADATA_NAMES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
CAPTION_COLUMNS = ("captions", "caption", "text")
KNOWN_COLUMNS = ("file_name", *CAPTION_COLUMNS, "video_id", "split", "start", "end")
SPLIT_NAMES = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SPLIT_NAMES |= dict.fromkeys(("validation", "valid", "val", "dev"), "validation")
EXAMPLE = '{"file_name": "kitchen.mp4", "captions": ["a chef slices onions"]}'


class MissingMetadataError(FileNotFoundError):
    """A folder has no metadata file. `records` are its videos, without captions."""

    def __init__(self, message: str, records: list[Record]):
        super().__init__(message)
        self.records = records


@dataclass(frozen=True, kw_only=True)
class VideoFolder(VideoDataset):
    """A video folder whose metadata has been read; see `read_video_folder`.

    Attributes:
        task: "retrieval"; "question_answering" where the metadata has questions or statements; "moment_retrieval"
            where it has moments; "captioning" where its captions are of segments; "pretraining" where it has subtitles
            but no captions.
        source: the metadata files.
        records: by split.
    """

    records: dict[str, list[Record]]

    @property
    def splits(self) -> Sequence[str]:
        return tuple(self.records)

    def _read_split(self, split: str) -> tuple[list[Record], Protocol]:
        records, sizes = self.records[split], count_records(self.records[split])
        counts = {"videos": sizes["videos"]}
        if self.task in COUNTED:
            counts[COUNTED[self.task]] = sizes[COUNTED[self.task]]
        return records, Protocol(self.name, self.task, split, counts, {}, self.source)


def read_video_folder(folder: str | Path) -> VideoFolder:
    """Reads the metadata of a folder. Nothing is compared with the videos yet.

    The split of a row is its column `split`, or else the topmost sub-folder called train, validation (val, valid, dev)
    or test. Without any split, all rows are `train`. Without a validation split, a tenth of the training videos become
    one (`split_off_validation`). Rows for one file (and segment) become one record with all their captions. Each
    question is a record of its own.

    Raises:
        FileNotFoundError: the folder is absent, or has no metadata file (`MissingMetadataError`).
        ValueError: a metadata file cannot be read, has wrong columns or a wrong value, or only some rows have a split.
    """
    folder = Path(folder).absolute()
    files = list_files(folder)
    metadata = [file for file in files if file.name in METADATA_NAMES]
    videos = [file for file in files if is_video(file)]
    if not metadata:
        found = [Record(_video_id(video, _below(video, folder)), video) for video in videos]
        _keep_suffixes(found)
        raise MissingMetadataError(
            f"No {' or '.join(METADATA_NAMES)} in {folder} or below ({len(videos) or 'no'} videos there). "
            f"Write metadata.jsonl with one line a video, such as {EXAMPLE}",
            found,
        )
    file_counts = Counter(file.parent for file in metadata)
    if crowded := [place for place, count in file_counts.items() if count > 1]:
        raise ValueError(f"{crowded[0]} has more than one metadata file; keep one of them.")

    merged: dict[str, dict[tuple, Record]] = defaultdict(dict)
    is_of_segments = False
    for file in metadata:
        for number, row in enumerate(_read_rows(file), start=1):
            try:
                record, split = _read_row(row, file, folder)
            except (TypeError, ValueError, OverflowError, RecursionError) as error:
                raise ValueError(f"{file}, row {number}, {str(row)[:200]}: {error}") from error
            is_of_segments |= timed_captions(row) is not None
            only = (file, number) if "question" in record.columns else None  # questions are not merged
            same = merged[split].setdefault((record.path, record.video_id, record.start, record.end, only), record)
            if same is not record:
                same.captions += record.captions
                if "moments" in record.columns:
                    same.columns["moments"] += record.columns["moments"]
                if timed_captions(row) is not None:
                    add_captions(same.columns["segments"], record.columns["segments"])
    if "" in merged and len(merged) > 1:
        without = name_some([record.video_id for record in merged[""].values()])
        raise ValueError(f"{folder}: some rows have a split and others have none ({without}). Give every row one.")
    records = {split or "train": list(found.values()) for split, found in merged.items()}

    everything = [record for found in records.values() for record in found]
    named = {os.path.normpath(record.path) for record in everything if record.path}
    named |= {os.path.dirname(path) for path in named if is_picture_of_a_frame(os.path.basename(path))}
    _keep_suffixes(everything)
    is_asking = any("question" in record.columns for record in everything)
    for found in records.values():
        _name_segments(found)
        if is_asking:
            name_questions(found)
    if "train" in records and "validation" not in records:
        records["train"], validation = split_off_validation(records["train"])
        if validation:
            records["validation"] = validation
            share, count = round(100 * VALIDATION_SHARE), len({record.video_id for record in validation})
            logger.info("%s has no validation split: %d %% of train (%d videos) become one.", folder, share, count)
    is_subtitled = any("subtitle" in record.columns for record in everything)
    is_captioned = any(record.captions for record in everything)
    task = "pretraining" if is_subtitled and not is_captioned else "retrieval"
    task = "question_answering" if is_asking else task
    task = "moment_retrieval" if any("moments" in record.columns for record in everything) else task
    task = "captioning" if is_of_segments else task
    unnamed = [video for video in videos if os.path.normpath(video) not in named]
    source = name_some([f"{folder.name}/{file.relative_to(folder)}" for file in metadata])
    name = f"{folder.name} (videofolder)"
    return VideoFolder(name=name, task=task, source=source, unnamed=unnamed, records=records)


def _read_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of one metadata file, whose columns have been checked."""
    with in_layout(file, "a metadata file", f"UTF-8 text, or Parquet, with one row a video, such as {EXAMPLE}"):
        rows: list[dict[str, Any]]
        if file.suffix == ".jsonl":
            rows = read_json_lines(file)
        elif file.suffix == ".csv":
            with open(file, encoding="utf-8-sig", newline="") as lines:
                rows = list(csv.DictReader(lines))
        else:
            from pyarrow.parquet import read_table

            rows = read_table(file).to_pylist()
    columns = sorted({column for row in rows for column in row if column})
    num_texts = len({*CAPTION_COLUMNS, "question", "statement", "moments"} & set(columns))
    if "file_name" not in columns or num_texts > 1 or (not num_texts and "subtitle" not in columns):
        commas = " Commas separate the columns of a .csv." if file.suffix == ".csv" else ""
        raise ValueError(
            f"{file} has the columns {columns}; expected file_name and exactly one of {', '.join(CAPTION_COLUMNS)}, "
            f"question, statement, moments (optional: video_id, split, start, end).{commas}"
        )
    return rows


def _read_row(row: dict[Any, Any], file: Path, folder: Path) -> tuple[Record, str]:
    """The record of one row, and its split ("" if nothing says so)."""
    if any(row.get(None, [])):  # the cells of a csv row beyond the columns
        raise ValueError('it has more cells than the header. Quote a sentence with a comma: "one, two".')
    name = row.get("file_name")
    if not isinstance(name, str) or not name:
        raise ValueError(f"file_name is {name!r}; expected the name of a video file or of a folder of pictures.")
    path = file.parent / name
    check_place(str(path), str(folder))
    place = _below(path, folder)
    split = str(row.get("split") or next((part for part in place.parts[:-1] if part.lower() in SPLIT_NAMES), ""))
    record = Record(
        str(row.get("video_id") or _video_id(path, place)),
        path,
        _seconds(row, "start"),
        _seconds(row, "end"),
        _captions(row, file),
        {key: value for key, value in row.items() if key and key not in KNOWN_COLUMNS},
    )
    if "question" in row or "statement" in row:
        record.question_id = None if row.get("question_id") is None else str(row["question_id"])
        record.columns |= {**question_columns(row), "subtitles": subtitle_path(row, file.parent)}
    if "moments" in row:
        record.columns |= moment_columns(row, file.parent)
    if timed_captions(row) is not None:
        record.columns |= caption_columns(row, file.parent)
    has_subtitles = {"question", "moments"} & record.columns.keys() or timed_captions(row) is not None
    if has_subtitles and (subtitles := record.columns["subtitles"]):
        check_place(re.sub(r"(?<=\.jsonl)#.*", "", subtitles, flags=re.DOTALL), str(folder))
    return record, SPLIT_NAMES.get(split.lower(), split)


def _below(path: Path, folder: Path) -> Path:
    return path.relative_to(folder) if path.is_relative_to(folder) else path


def _video_id(path: Path, place: Path) -> str:
    """The place below the folder, without the extension of a file."""
    return (place if os.path.isdir(path) else place.with_suffix("")).as_posix()


def _captions(row: dict[str, Any], file: Path) -> list[str]:
    if timed_captions(row) is not None:
        return []
    captions: Any = next((row[column] for column in CAPTION_COLUMNS if row.get(column) is not None), [])
    # A cell of a csv holds a list only as JSON, in the column captions. "[music] starts" is a sentence.
    is_cell = file.suffix == ".csv" and "captions" in row and isinstance(captions, str)
    if is_cell and re.match(r"""\s*\[\s*["'\]]""", captions):
        captions = json.loads(captions)
    captions = [captions] if isinstance(captions, str) else captions
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        raise ValueError(f"the caption is {captions!r}; expected a sentence or a list of sentences.")
    return list(captions)


def _seconds(row: dict[str, Any], key: str) -> float | None:
    value = row.get(key)
    seconds = math.nan if value is None or value == "" else float(value)
    if math.isinf(seconds):
        raise ValueError(f"{key} is {value}; expected seconds.")
    return None if math.isnan(seconds) else seconds  # data frames write an empty cell as NaN


def _keep_suffixes(records: Sequence[Record]) -> None:
    """Files that differ in their extension alone keep it in their ids: "v.mov" and "v.mp4"."""
    extensions = defaultdict(set)
    for record in records:
        stem, extension = os.path.splitext(str(record.path))
        extensions[record.video_id, stem].add(extension)
    for record in records:
        stem, extension = os.path.splitext(str(record.path))
        if len(extensions.get((record.video_id, stem), ())) > 1:
            record.video_id += extension


def _name_segments(records: Sequence[Record]) -> None:
    """Segments of one video get ids of their own: "<video id>#t=1.5,4"."""
    cuts = {(record.path, record.video_id, record.start, record.end) for record in records}
    counts = Counter((path, video_id) for path, video_id, _, _ in cuts)
    for record in records:
        if counts[record.path, record.video_id] > 1:
            record.video_id = segment_id(record.video_id, record.start, record.end)
