"""Annotation files of the CLIP-ViP authors (clip_vip §5.1): clip_id and text, `.jsonl` or `.json`."""

import json
from pathlib import Path

from hf_videolang.data.benchmarks.annotation_files import Annotation


def read_clip_vip_annotations(path: Path) -> list[Annotation]:
    """One annotation a line.

    `text` is one sentence or a list; a list stays a list (the original draws one of them at random, even at test time;
    here all of them are queries). `num_frame` is the number of pictures of a frame folder.

    Raises:
        ValueError: a line is not JSON, or its `clip_id` or `text` is missing or no text; names file and line.
    """
    annotations, records, place = [], [], "line"
    try:
        content = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            place, loaded = "record", json.loads(content)
            records = list(enumerate(loaded if isinstance(loaded, list) else [loaded], start=1))
        else:
            for number, line in enumerate(content.split("\n"), start=1):
                if line.strip():
                    records.append((number, json.loads(line)))
    except ValueError as error:  # json.JSONDecodeError, UnicodeDecodeError
        where = f", line {number}," if isinstance(error, json.JSONDecodeError) and place == "line" else ""
        raise ValueError(f"{path}{where} is not valid {path.suffix[1:].upper()}: {error}") from error
    for number, record in records:
        known = record if isinstance(record, dict) else {}
        clip_id, text, num_frames = known.get("clip_id"), known.get("text"), known.get("num_frame")
        texts = [text] if isinstance(text, str) else text
        if not (
            isinstance(clip_id, str)
            and isinstance(texts, list)
            and all(isinstance(t, str) for t in texts)
            and isinstance(num_frames, int | None)
        ):
            raise ValueError(
                f"{path}, {place} {number}: {str(record)[:100]}; expected an object with the keys clip_id and text, "
                "the latter a sentence or a list of sentences (and perhaps num_frame, a whole number), as in all files "
                "of this name; a public annotation is recognised by its public name."
            )
        annotations.append(Annotation(clip_id, texts, num_frames=num_frames))
    return annotations
