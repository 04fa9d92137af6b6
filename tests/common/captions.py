"""A folder of subtitled videos with captions of their scenes, its features, and a tiny model that reads both."""

import json
import sys
from pathlib import Path

from hf_videolang.models.hero.modeling_hero_captioning import HeroForVideoCaptioning
from tests.common.moments import write_moments
from tests.common.tiny.hero import tiny_model


def write_captions(folder: Path, num_videos: int = 12) -> Path:
    """The scenes of `write_moments`, each with two captions of four words, which name what is seen."""
    write_moments(folder, num_videos)
    metadata = folder / "data" / "metadata.jsonl"
    lines = []
    for row in map(json.loads, metadata.read_text().splitlines()):
        row["captions"] = [
            {**moment, "text": text}
            for moment in row.pop("moments")
            for text in (f"w1 {moment['text']} w2 {moment['text']}", f"w3 {moment['text']} w2 {moment['text']}")
        ]
        lines.append(json.dumps(row))
    metadata.write_text("\n".join(lines) + "\n")
    model = tiny_model(HeroForVideoCaptioning)
    model.config.architectures = [type(model).__name__]
    model.save_pretrained(folder / "model")
    return folder


def write_java(folder: Path, code: str) -> str:
    """A program `java` of a few lines of Python. Returns the PATH on which it is the only one."""
    program = folder / "java"
    program.write_text(f"#!{sys.executable}\n{code}\n")
    program.chmod(0o755)
    return str(folder)
