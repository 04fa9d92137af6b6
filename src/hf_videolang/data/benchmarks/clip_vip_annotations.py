"""Annotation files of the CLIP-ViP authors (SPEC §5.1): clip_id and text, `.jsonl` or `.json`."""

import json
from pathlib import Path, PurePosixPath

from hf_videolang.data.records import VIDEO_EXTENSIONS


def read_clip_vip_annotations(path: Path) -> dict[str, list[str]]:
    """Captions by video id.

    The id is the last path component of `clip_id`, without a video's extension. `text` is one sentence or a list; a
    list stays a list (the original draws one of them at random, even at test time; here all of them are queries).

    Raises:
        ValueError: a line is not JSON, or its `clip_id` or `text` is missing or no text; names file and line.
    """
    content = path.read_text(encoding="utf-8-sig")
    captions: dict[str, list[str]] = {}
    try:
        if path.suffix == ".json":
            place, loaded = "record", json.loads(content)
            records = list(enumerate(loaded if isinstance(loaded, list) else [loaded], start=1))
        else:
            place, lines = "line", enumerate(content.split("\n"), start=1)
            records = [(number, json.loads(line)) for number, line in lines if line.strip()]
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid {path.suffix[1:].upper()}: {error}") from error
    for number, record in records:
        known = record if isinstance(record, dict) else {}
        clip_id, text = known.get("clip_id"), known.get("text")
        texts = [text] if isinstance(text, str) else text
        if not (
            isinstance(clip_id, str) and isinstance(texts, list) and all(isinstance(t, str) for t in texts)
        ):
            raise ValueError(
                f"{path}, {place} {number}: {str(record)[:100]}; expected an object with the keys clip_id and text, "
                "the latter a sentence or a list of sentences."
            )
        name = PurePosixPath(clip_id)
        video_id = name.stem if name.suffix.lower() in VIDEO_EXTENSIONS else name.name
        captions.setdefault(video_id, []).extend(texts)
    return captions
