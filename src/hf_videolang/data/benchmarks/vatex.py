"""VATEX (Wang et al. 2019): clips of ten seconds with ten English sentences each, every sentence a query."""

import json
import re
from dataclasses import replace
from pathlib import Path

from hf_videolang.data.annotation_text import in_layout
from hf_videolang.data.benchmarks.benchmark import Benchmark, SplitFiles
from hf_videolang.data.records import Record

EXPECTED = '[{"videoID": "abcdefghijk_000010_000020", "enCap": ["…", …], …}, …]'


def read_vatex(path: Path) -> list[Record]:
    """Reads the English sentences of an official file."""
    with in_layout(path, "VATEX", EXPECTED):
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
        return [Record(row["videoID"], captions=[text.strip() for text in row["enCap"]]) for row in rows]


def uncut_vatex(video_id: str) -> tuple[str, float | None, float | None]:
    """YouTube id, start and end in seconds of "abcdefghijk_000010_000020". Any other id is returned as it is."""
    match = re.fullmatch(r"(.+)_(\d+)_(\d+)", video_id)
    return (match[1], float(match[2]), float(match[3])) if match else (video_id, None, None)


# Sizes from memory of the literature.
TRAIN = SplitFiles(
    {"vatex_training*.json": read_vatex},
    published={"videos": 25991, "captions": 259910},
    clip_vip=("*vatex*train*",),
    lists=("*train_list.txt", "*vatex*train*.txt"),
)
VALIDATION = {"vatex_validation*.json": read_vatex}
HALF = {"videos": 1500, "captions": 15000}

# What most papers report: Chen et al. 2020 (HGR) cut the official validation into halves.
VATEX = Benchmark(
    name="vatex",
    task="retrieval",
    source="https://eric-xw.github.io/vatex-website (annotation; the videos are on YouTube) and "
    "https://github.com/cshizhe/hgr_v2t (HGR's lists)",
    licence="CC BY 4.0 (annotation); the videos belong to their uploaders",
    citation="Wang et al. 2019, VATEX: A Large-Scale, High-Quality Multilingual Dataset for Video-and-Language "
    "Research, ICCV",
    files={
        "train": TRAIN,
        "validation": SplitFiles(
            VALIDATION, HALF, ("*vatex*val*",), lists=("*val_list.txt", "*vatex*val*.txt"), needs_list=True
        ),
        "test": SplitFiles(
            VALIDATION, HALF, ("*vatex*test*",), lists=("*test_list.txt", "*vatex*test*.txt"), needs_list=True
        ),
    },
    note="validation and test are HGR's halves of the official validation",
    uncut=uncut_vatex,
)
# The official splits, with the public test.
VATEX_FULL = replace(
    VATEX,
    name="vatex-full",
    files={
        "train": TRAIN,
        "validation": SplitFiles(VALIDATION, {"videos": 3000, "captions": 30000}),
        "test": SplitFiles({"vatex_public_test*.json": read_vatex}, {"videos": 6000, "captions": 60000}),
    },
    note="",
)
