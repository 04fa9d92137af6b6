"""VATEX (Wang et al. 2019): clips of ten seconds with ten English sentences each, every sentence a query."""

import json
import re
from pathlib import Path

from .annotated_benchmark import AnnotatedBenchmark, SplitSource
from .annotation_files import Annotation, in_layout


def read_vatex(path: Path) -> list[Annotation]:
    """The official files; of the two languages the English one.

    Raises:
        ValueError: the file is in another layout, or has no English sentences.
    """
    expected = '[{"videoID": "abcdefghijk_000010_000020", "enCap": ["…", …], …}, …]'
    with in_layout(path, "VATEX", expected):
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
        return [Annotation(row["videoID"], [text.strip() for text in row["enCap"]]) for row in rows]


def uncut_vatex(video_id: str) -> tuple[str, float | None, float | None]:
    """YouTube id, start and end in seconds: "abcdefghijk_000010_000020". Another id stays as it is."""
    match = re.fullmatch(r"(.+)_(\d+)_(\d+)", video_id)
    return (match[1], float(match[2]), float(match[3])) if match else (video_id, None, None)


# Sizes from memory of the literature.
_TRAIN = SplitSource(
    {"vatex_training*.json": read_vatex},
    ("*vatex*train*",),
    ("*train_list.txt", "*vatex*train*.txt"),
    videos=25991,
    captions=259910,
)
_VALIDATION = {"vatex_validation*.json": read_vatex}

# What most papers report: Chen et al. 2020 (HGR) cut the official validation into halves.
VATEX = AnnotatedBenchmark(
    name="vatex",
    sources={
        "train": _TRAIN,
        "validation": SplitSource(
            _VALIDATION, ("*vatex*val*",), ("*val_list.txt", "*vatex*val*.txt"), True, 1500, 15000
        ),
        "test": SplitSource(_VALIDATION, ("*vatex*test*",), ("*test_list.txt", "*vatex*test*.txt"), True, 1500, 15000),
    },
    note="validation and test are HGR's halves of the official validation",
    uncut=uncut_vatex,
)
# The official splits, with the public test.
VATEX_FULL = AnnotatedBenchmark(
    name="vatex-full",
    sources={
        "train": _TRAIN,
        "validation": SplitSource(_VALIDATION, (), videos=3000, captions=30000),
        "test": SplitSource({"vatex_public_test*.json": read_vatex}, (), videos=6000, captions=60000),
    },
    uncut=uncut_vatex,
)
