"""Annotation files of the CLIP-ViP authors (clip_vip §5.1): clip_id and text, `.jsonl` or `.json`."""

import json
from pathlib import Path

from hf_videolang.data.records import Record


def read_clip_vip_annotations(path: Path) -> list[Record]:
    """Reads one record a line.

    `text` is one sentence or a list. A list stays a list: the original draws one of its sentences at random, even at
    test time; here each is a query. `num_frame` is the number of pictures of a frame folder.

    Raises:
        ValueError: a line is not JSON, or its `clip_id` or `text` is absent or not text; names file and line.
    """
    rows, place = [], "line"
    try:
        content = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            place, loaded = "record", json.loads(content)
            rows = list(enumerate(loaded if isinstance(loaded, list) else [loaded], start=1))
        else:
            for number, line in enumerate(content.split("\n"), start=1):
                if line.strip():
                    rows.append((number, json.loads(line)))
    except ValueError as error:  # json.JSONDecodeError, UnicodeDecodeError
        where = f", line {number}," if isinstance(error, json.JSONDecodeError) and place == "line" else ""
        raise ValueError(f"{path}{where} is not valid {path.suffix[1:].upper()}: {error}") from error
    return [_read_row(row, f"{path}, {place} {number}") for number, row in rows]


def _read_row(row: object, where: str) -> Record:
    known = row if isinstance(row, dict) else {}
    clip_id, text, num_frames = known.get("clip_id"), known.get("text"), known.get("num_frame")
    texts = [text] if isinstance(text, str) else text
    is_text = isinstance(texts, list) and all(isinstance(sentence, str) for sentence in texts)
    if not (isinstance(clip_id, str) and is_text and isinstance(num_frames, int | None)):
        raise ValueError(
            f"{where}: {str(row)[:100]}; expected an object with the keys clip_id and text, the latter a sentence or "
            "a list of sentences (and perhaps num_frame, a whole number), as in all files of this name; a public "
            "annotation is recognised by its public name."
        )
    return Record(clip_id, captions=list(texts or []), num_frames=num_frames)
