"""Annotation files of the CLIP-ViP authors (clip_vip §5.1): clip_id and text, `.jsonl` or `.json`."""

from pathlib import Path
from typing import Any

from hf_videolang.data.annotation_text import in_layout, parse_json, read_json_lines
from hf_videolang.data.records import Record

EXPECTED = (
    '{"clip_id": "abc", "text": "one sentence", or a list of sentences} and perhaps "num_frame", a whole number, '
    "as in all files of this name; a public annotation is recognised by its public name"
)


def read_clip_vip_annotations(path: Path) -> list[Record]:
    """Reads one record a line, or a list of them.

    `text` is one sentence or a list. A list stays a list: the original draws one of its sentences at random, even at
    test time; here each is a query. `num_frame` is the number of pictures of a frame folder.
    """
    with in_layout(path, "the CLIP-ViP authors", EXPECTED):
        if path.suffix.lower() == ".jsonl":
            return [_read_row(row) for row in read_json_lines(path)]
        loaded = parse_json(path.read_text(encoding="utf-8-sig"))
        return [_read_row(row) for row in (loaded if isinstance(loaded, list) else [loaded])]


def _read_row(row: dict[str, Any]) -> Record:
    clip_id, texts, num_frames = row.get("clip_id"), row.get("text"), row.get("num_frame")
    texts = texts if isinstance(texts, list) else [texts]
    if not (all(isinstance(text, str) for text in (clip_id, *texts)) and isinstance(num_frames, int | None)):
        raise ValueError(f"it holds {str(row)[:100]}")
    return Record(str(clip_id), captions=texts, num_frames=num_frames)
