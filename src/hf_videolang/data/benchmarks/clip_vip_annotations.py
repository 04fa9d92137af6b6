"""Annotation files of the CLIP-ViP authors (SPEC §5.1): clip_id and text, `.jsonl` or `.json`."""

import json
from pathlib import Path, PurePosixPath

from hf_videolang.data.records import VIDEO_EXTENSIONS


def read_clip_vip_annotations(path: Path) -> dict[str, list[str]]:
    """Captions by video id.

    The id is the last path component of `clip_id`, without a video's extension. `text` is one sentence or a list; a
    list stays a list (the original draws one of them at random, even at test time; here all of them are queries).

    Raises:
        ValueError: a line is not JSON, or lacks `clip_id` or `text`.
    """
    text = path.read_text(encoding="utf-8")
    captions: dict[str, list[str]] = {}
    try:
        if path.suffix == ".json":
            lines = json.loads(text)
        else:
            lines = [json.loads(line) for line in text.splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid {path.suffix[1:].upper()}: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not isinstance(line, dict) or "clip_id" not in line or "text" not in line:
            raise ValueError(
                f"{path}, record {number}: {str(line)[:100]}; expected an object with the keys clip_id and text."
            )
        name = PurePosixPath(line["clip_id"])
        video_id = name.stem if name.suffix.lower() in VIDEO_EXTENSIONS else name.name
        texts = [line["text"]] if isinstance(line["text"], str) else list(line["text"])
        captions.setdefault(video_id, []).extend(texts)
    return captions
