"""Texts of the VALUE benchmark leave their database as JSON lines, as their annotation files have them (hero §7.1)."""

import json
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hf_videolang.atomic_files import atomic_file
from hf_videolang.data.annotation_text import in_layout
from hf_videolang.data.tools.value_containers import read_records


def import_value_text(text_db: str | Path, output: str | Path) -> int:
    """
    Write a line for each record of a text database: subtitles of a video, a query, a question, or a captioned clip.

    The ids of tokens and the matching with frames are left out: the processor makes them anew.

    Args:
        text_db: the LMDB folder, such as `tv_subtitles.db`. Its `query2video.json` names videos that records do not.
        output: the file, written whole or not at all.

    Returns:
        The number of lines.

    Raises:
        FileNotFoundError, ImportError, ValueError: as of `ValueDatabase`.

    Example:
        >>> import_value_text("txt_db/tv_subtitles.db", "tv_subtitles.jsonl")
        >>> read_subtitle_lines("tv_subtitles.jsonl")["friends_s01e01_seg02_clip_00"][0]["text"]
        'Monica: There is nothing to tell!'
    """
    videos, count, file = {}, 0, Path(text_db) / "query2video.json"
    if file.is_file():
        with in_layout(file, "VALUE's queries", '{"query": "video"}'):
            videos = {**json.loads(file.read_bytes())}
    with atomic_file(output) as temporary, open(temporary, "w", encoding="utf-8") as lines:
        for key, record in tqdm(read_records(text_db), "texts", unit="record", disable=None):
            named = {"vid_name": videos[key]} if key in videos else {}
            with in_layout(Path(text_db) / key, "VALUE's texts", "subtitles, a query, a question or captions"):
                lines.write(json.dumps(_line(key, named | record), ensure_ascii=False) + "\n")
            count += 1
    return count


def _line(key: str, record: dict[str, Any]) -> dict[str, Any]:
    if "sub" in record:
        return {"vid_name": record["vid_name"], "sub": record["sub"]}
    if "captions" in record:
        descriptions = [{"desc": one["text"], "desc_id": one["id"]} for one in record["captions"]]
        return {"vid_name": record["vid_name"], "clip_id": key, "ts": record["ts"], "descs": descriptions}
    return {name: value for name, value in record.items() if name != "input_ids"}
