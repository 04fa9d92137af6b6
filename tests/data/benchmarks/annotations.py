"""What the tests of the benchmark readers share: writing annotation files, and the samples of the published ones."""

import json
from pathlib import Path

import pytest

from hf_videolang.data import find_dataset
from tests.parity.cases import SHARED

PUBLISHED = SHARED / "data" / "annotations_original"
needs_published = pytest.mark.skipif(
    not PUBLISHED.is_dir(), reason="samples of the published annotations are in ../shared/data"
)


def write(path: Path, content) -> None:
    """A string as it is, a list as lines where the name says so, anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, str):
        content = "\n".join(map(json.dumps, content)) if path.suffix == ".jsonl" else json.dumps(content)
    path.write_text(content)


def touch(folder: Path, *names: str) -> None:
    """Empty files: reading annotations decodes nothing."""
    for name in names:
        write(folder / name, "")


def read_records(name: str, folder: Path, split: str = "test"):
    """Unchecked records of a split, and its protocol."""
    return find_dataset(name, folder).read(split)


def read(name: str, folder: Path, split: str) -> dict[str, list[str]]:
    """Captions by id; ids are all different."""
    records, protocol = read_records(name, folder, split)
    captions = {record.video_id: record.captions for record in records}
    assert len(captions) == len(records) == protocol.counts["videos"]
    return captions
