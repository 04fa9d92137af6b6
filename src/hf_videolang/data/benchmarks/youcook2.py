"""YouCook2 (Zhou et al. 2018): steps of recipes, one sentence each, tested on the clips of the official validation."""

import csv
from functools import partial
from pathlib import Path

from hf_videolang.data.annotation_text import in_layout, parse_json
from hf_videolang.data.benchmarks.benchmark import Benchmark, SplitFiles
from hf_videolang.data.benchmarks.dense_captions import read_dense_captions
from hf_videolang.data.records import Record

OFFICIAL = "*annotations_trainval*.json"  # youcookii_annotations_trainval.json
EXPECTED = (
    '{"database": {"abcdefghijk": {"subset": "training", "annotations": [{"segment": [90, 102], "sentence": "…"}, …], '
    "…}, …}}"
)


def read_youcook2(path: Path, subset: str) -> list[Record]:
    """Reads one subset, "training" or "validation", of the official file: one record a step."""
    with in_layout(path, "YouCook2", EXPECTED):
        return [
            Record(video, start=float(start), end=float(end), captions=[step["sentence"].strip()])
            for video, facts in parse_json(path.read_text(encoding="utf-8-sig"))["database"].items()
            if facts["subset"] == subset
            for step in facts["annotations"]
            for start, end in [step["segment"]]
        ]


def read_retrieval_list(path: Path) -> list[Record]:
    """Reads `validation_youcook.csv` of Miech et al., which papers test by."""
    layout = in_layout(path, "YouCook2's retrieval list", "the columns video_id, start, end and text")
    with layout, open(path, encoding="utf-8-sig", newline="") as lines:
        return [
            Record(row["video_id"], start=float(row["start"]), end=float(row["end"]), captions=[row["text"].strip()])
            for row in csv.DictReader(lines)
        ]


# The official test has no sentences, so the validation that chooses a checkpoint must come from the training videos.
# 10,337 is from memory. The retrieval list has 3,350 rows; one segment of it has two sentences.
YOUCOOK2 = Benchmark(
    name="youcook2",
    task="retrieval",
    source="http://youcook2.eecs.umich.edu (annotation; the videos are on YouTube) and "
    "https://github.com/antoine77340/MIL-NCE_HowTo100M (csv/validation_youcook.csv)",
    licence="the makers of VALUE state CC BY-NC-SA 4.0 for the annotation; the videos belong to their uploaders",
    citation="Zhou et al. 2018, Towards Automatic Learning of Procedures from Web Instructional Videos, AAAI",
    files={
        "train": SplitFiles(
            {OFFICIAL: partial(read_youcook2, subset="training"), "*yc2_train_anet*.json": read_dense_captions},
            published={"videos": 10337, "captions": 10337},
            clip_vip=("*youcook*train*",),
            lists=("train_list.txt",),
        ),
        "test": SplitFiles(
            {
                "validation_youcook*.csv": read_retrieval_list,
                "*yc2_val_anet*.json": read_dense_captions,
                OFFICIAL: partial(read_youcook2, subset="validation"),
            },
            published={"videos": 3349, "captions": 3350},
            clip_vip=("*youcook*val*",),
            lists=("val_list.txt",),
        ),
    },
    note="segments of videos; test is the official validation",
)
