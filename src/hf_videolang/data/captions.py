"""Captions of a video's segments: one form for the rows of a user's folder and of every benchmark."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_videolang.data.moments import subtitle_path
from hf_videolang.data.records import Record

CAPTION = '{"text": "she laughs", "start": 3.0, "end": 5.5}'


def timed_captions(row: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The captions of a row that are mappings; `None` if they are plain sentences. A text file holds them as JSON."""
    captions: Any = row.get("captions")
    if isinstance(captions, str) and captions.lstrip().startswith("[{"):
        captions = json.loads(captions)
    is_timed = isinstance(captions, Sequence) and len(captions) > 0 and isinstance(captions[0], dict)
    return list(captions) if is_timed else None


def caption_columns(row: dict[str, Any], folder: Path) -> dict[str, Any]:
    """
    Reads the captions of a video's segments, and where its subtitles lie.

    Args:
        row: `captions`, a list of `{"text", "start", "end"}` in seconds; without seconds a caption is about the whole
            video. Optional `subtitles`, a path.
        folder: that the path is relative to.

    Returns:
        The columns of a record (`TASK_COLUMNS["captioning"]`). Captions of equal seconds belong to one segment.

    Raises:
        ValueError: a caption has no text, or no two ascending numbers.

    Example:
        >>> caption_columns({"captions": [{"text": "she laughs", "start": 3, "end": 5}]}, Path("videos"))["segments"]
        [{'start': 3.0, 'end': 5.0, 'captions': ['she laughs']}]
    """
    segments: list[dict[str, Any]] = []
    for caption in timed_captions(row) or []:
        if not _is_caption(caption):
            raise ValueError(f"a caption is {caption!r}; expected {CAPTION}, in seconds, the end after the start.")
        span = [None if caption.get(name) is None else float(caption[name]) for name in ("start", "end")]
        add_captions(segments, [{"start": span[0], "end": span[1], "captions": [caption["text"]]}])
    return {"segments": segments, "subtitles": subtitle_path(row, folder)}


def add_captions(segments: list[dict[str, Any]], more: Sequence[dict[str, Any]]) -> None:
    """Adds segments of the same video. Those of equal seconds become one, with the captions of both."""
    for segment in more:
        same = [one for one in segments if (one["start"], one["end"]) == (segment["start"], segment["end"])]
        if same:
            same[0]["captions"] += segment["captions"]
        else:
            segments.append(segment)


def caption_segments(record: Record) -> list[dict[str, Any]]:
    """The segments that `caption_columns` read. A folder of another task may have a column of this name."""
    segments = record.columns.get("segments")
    return [one for one in segments if "captions" in one] if isinstance(segments, list) else []


def _is_caption(caption: Any) -> bool:
    if not isinstance(caption, dict) or not isinstance(caption.get("text"), str):
        return False
    start, end = caption.get("start"), caption.get("end")
    if start is None and end is None:
        return True
    return isinstance(start, int | float) and isinstance(end, int | float) and 0 <= start < end < math.inf
