"""A user's own videos: the `videofolder` layout with a metadata file.

`metadata.jsonl`, `.csv` or `.parquet`, in the folder itself or one in each sub-folder, with `file_name` (relative to
the metadata file; a video, or a folder with its frames as pictures) and `caption`, `captions` or `text`; optional
`video_id`, `split`, `start` and `end` (seconds). Further columns are kept as they are; with a `subtitle`, which
pre-training reads, captions may be absent.
"""

import csv
import io
import json
import logging
import math
import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from hf_videolang.data.records import Clip, is_video, list_files, name_some, segment_id
from hf_videolang.data.validation_split import HELD_OUT_SHARE, hold_out_validation

logger = logging.getLogger(__name__)

METADATA_NAMES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
CAPTION_COLUMNS = ("captions", "caption", "text")
KNOWN_COLUMNS = ("file_name", *CAPTION_COLUMNS, "video_id", "split", "start", "end")
SPLIT_NAMES = {
    "training": "train",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "testing": "test",
    **{name: name for name in ("train", "validation", "test")},
}
EXAMPLE = '{"file_name": "kitchen.mp4", "captions": ["a chef slices onions"]}'


class MissingMetadataError(FileNotFoundError):
    """No metadata file in a folder; `videos` are those that lie there all the same."""

    def __init__(self, message: str, videos: list[Path]):
        super().__init__(message)
        self.videos = videos


class VideoFolder(NamedTuple):
    """Clips by split, the metadata files that they came from, and the videos that no row names."""

    splits: dict[str, list[Clip]]
    metadata: list[Path]
    unnamed: list[Path]


def read_video_folder(folder: str | Path) -> VideoFolder:
    """Read the metadata of a folder; nothing is checked against the videos yet.

    Splits are the column `split`, else the uppermost sub-folder called train, validation (val, valid, dev) or test,
    else everything is `train`. Without a validation split, a tenth of the training videos is held out as one
    (`hold_out_validation`). Rows for one file (and segment) are one clip with all their captions.

    Raises:
        FileNotFoundError: no folder, or (`MissingMetadataError`) no metadata file in it.
        ValueError: a metadata file that cannot be read, wrong columns, a wrong value in a row, or rows with and
            without a split.
    """
    folder = Path(folder).absolute()
    files = list_files(folder)
    metadata = [file for file in files if file.name in METADATA_NAMES]
    videos = [file for file in files if is_video(file)]
    if not metadata:
        raise MissingMetadataError(
            f"No {' or '.join(METADATA_NAMES)} in {folder} or below ({len(videos) or 'no'} videos there). "
            f"Write metadata.jsonl with one line a video, such as {EXAMPLE}",
            videos,
        )
    places = Counter(file.parent for file in metadata)
    if max(places.values()) > 1:
        raise ValueError(f"{max(places, key=places.__getitem__)} has more than one metadata file; keep one of them.")

    splits: dict[str, dict[tuple, Clip]] = defaultdict(dict)
    for file in metadata:
        for number, row in enumerate(_read_rows(file), start=1):
            try:
                clip, split = _read_row(row, file, folder)
            except ValueError as error:
                raise ValueError(f"{file}, row {number}: {error}") from error
            known = splits[split].setdefault((clip.path, clip.video_id, clip.start, clip.end), clip)
            if known is not clip:
                known.captions += clip.captions
    if "" in splits and len(splits) > 1:
        without = name_some([clip.video_id for clip in splits[""].values()])
        raise ValueError(f"{folder}: some rows have a split and others have none ({without}). Give every row one.")

    _keep_suffixes([clip for found in splits.values() for clip in found.values()])
    clips = {split or "train": _name_segments(list(found.values())) for split, found in splits.items()}
    if "train" in clips and "validation" not in clips:
        clips["train"], held_out = hold_out_validation(clips["train"])
        if held_out:
            clips["validation"] = held_out
            share, count = round(100 * HELD_OUT_SHARE), len(held_out)
            logger.info("%s has no validation split: %d %% of train (%d clips) are held out.", folder, share, count)
    named = {os.path.normpath(path) for found in splits.values() for path, *_ in found}
    return VideoFolder(clips, metadata, [video for video in videos if os.path.normpath(video) not in named])


def _read_rows(file: Path) -> list[dict[str, Any]]:
    """Rows of one metadata file whose columns are as expected."""
    if file.suffix in (".jsonl", ".csv"):
        try:
            text = file.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{file} is no UTF-8: {error}. Save it as UTF-8.") from error
    if file.suffix == ".jsonl":
        rows = []
        for number, line in enumerate(text.split("\n"), start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"it is a {type(row).__name__}")
            except ValueError as error:
                raise ValueError(
                    f"{file}, line {number} is no JSON object: {error}. Write lines like {EXAMPLE}"
                ) from error
            rows.append(row)
    elif file.suffix == ".csv":
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    else:
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import read_table

        try:
            rows = read_table(file).to_pylist()
        except ArrowInvalid as error:
            raise ValueError(f"{file} is no Parquet file: {error}") from error
    if not rows:
        raise ValueError(f"{file} has no rows. Write one a video, such as {EXAMPLE}")
    columns = sorted({column for row in rows for column in row if column is not None})
    num_captions = len(set(CAPTION_COLUMNS) & set(columns))
    if "file_name" not in columns or num_captions > 1 or (not num_captions and "subtitle" not in columns):
        commas = " Commas separate the columns of a .csv." if file.suffix == ".csv" else ""
        raise ValueError(
            f"{file} has the columns {columns}; expected file_name and exactly one of {', '.join(CAPTION_COLUMNS)} "
            f"(optional: video_id, split, start, end).{commas}"
        )
    for number, row in enumerate(rows, start=1):
        if any(row.get(None, [])):  # of a csv: a bare comma would cut a sentence
            raise ValueError(
                f"{file}, row {number} has more cells than the header: {list(row.values())}. Put a sentence with a comma "
                'into quotes: "one, two".'
            )
    return rows


def _read_row(row: dict[str, Any], file: Path, folder: Path) -> tuple[Clip, str]:
    """The clip of one row, and its split ("" where nothing says)."""
    if not isinstance(row.get("file_name"), str) or not row["file_name"]:
        raise ValueError(
            f"file_name is {row.get('file_name')!r}; expected the name of a video file or of a folder of pictures."
        )
    path = file.parent / row["file_name"]
    name = path.relative_to(folder) if path.is_relative_to(folder) else path
    captions: Any = next((row[column] for column in CAPTION_COLUMNS if row.get(column) is not None), [])
    if isinstance(captions, str):
        in_cell = file.suffix == ".csv" and row.get("captions") is not None  # the other formats have lists
        captions = _list_in_cell(captions) if in_cell and captions.lstrip().startswith("[") else [captions]
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        raise ValueError(f"the caption is {captions!r}; expected a sentence or a list of sentences.")
    if row.get("split"):
        split = str(row["split"])
    else:
        split = next((part for part in name.parts[:-1] if part.lower() in SPLIT_NAMES), "")
    start, end = _seconds(row, "start"), _seconds(row, "end")
    plain = name if path.is_dir() else name.with_suffix("")
    video_id = str(row.get("video_id") or plain.as_posix())
    fields = {key: value for key, value in row.items() if key and key not in KNOWN_COLUMNS}
    return Clip(video_id, path, list(captions), start, end, fields), SPLIT_NAMES.get(split.lower(), split)


def _list_in_cell(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(
            f"captions is {text!r}, which begins as a JSON list and is none ({error}); mend the list, or put a sentence "
            "that begins with a bracket into a column caption."
        ) from None


def _seconds(row: dict[str, Any], key: str) -> float | None:
    value = row.get(key)
    if value is None or value == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{key} is {value!r}; expected seconds.") from None
    return None if math.isnan(seconds) else seconds  # data frames write an empty cell so, in a csv as a word


def _keep_suffixes(clips: list[Clip]) -> None:
    """Files that differ in their suffix alone have it in their ids: "v.mov" and "v.mp4"."""
    parts = [os.path.splitext(str(clip.path)) for clip in clips]
    suffixes = defaultdict(set)
    for clip, (stem, suffix) in zip(clips, parts):
        suffixes[clip.video_id, stem].add(suffix)
    for clip, (stem, suffix) in zip(clips, parts):
        if len(suffixes[clip.video_id, stem]) > 1:
            clip.video_id += suffix


def _name_segments(clips: list[Clip]) -> list[Clip]:
    """Segments of one video get ids of their own: "<video id>#t=1.5,4"."""
    times = Counter((clip.path, clip.video_id) for clip in clips)
    for clip in clips:
        if times[clip.path, clip.video_id] > 1:
            clip.video_id = segment_id(clip.video_id, clip.start, clip.end)
    return clips
