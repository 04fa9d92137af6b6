"""Moments of a video: one form for the rows of a user's folder and of every benchmark."""

import json
import math
from pathlib import Path
from typing import Any

from hf_videolang.data.records import is_blank


def moment_columns(row: dict[str, Any], folder: Path) -> dict[str, Any]:
    """
    Reads the moments of a video, and where its subtitles lie.

    Args:
        row: `moments`, a list of `{"text", "start", "end"}` in seconds; in a text file as JSON. Optional `subtitles`,
            a path.
        folder: that the path is relative to.

    Returns:
        The columns of a record (`TASK_COLUMNS["moment_retrieval"]`).

    Raises:
        ValueError: a moment has no text, or no two ascending numbers.

    Example:
        >>> row = {"moments": [{"text": "she laughs", "start": 3, "end": 5}], "subtitles": "talk.srt"}
        >>> moment_columns(row, Path("videos"))["subtitles"]
        'videos/talk.srt'
    """
    moments: Any = row["moments"]
    if isinstance(moments, str):
        moments = json.loads(moments)
    for moment in moments if isinstance(moments, list) else [moments]:
        if not _is_moment(moment):
            raise ValueError(
                f'a moment is {moment!r}; expected {{"text": "she laughs", "start": 3.0, "end": 5.5}}, in seconds, '
                "the end after the start."
            )
    return {
        "moments": [{name: moment[name] for name in ("text", "start", "end")} for moment in moments],
        "subtitles": subtitle_path(row, folder),
    }


def subtitle_path(row: dict[str, Any], folder: Path) -> str | None:
    """The path in the column `subtitles`, relative to a folder."""
    return str(folder / row["subtitles"]) if row.get("subtitles") else None


def _is_moment(moment: Any) -> bool:
    if not isinstance(moment, dict) or not isinstance(moment.get("text"), str) or is_blank(moment["text"]):
        return False
    start, end = moment.get("start"), moment.get("end")
    return isinstance(start, int | float) and isinstance(end, int | float) and 0 <= start < end < math.inf
