"""YouCook2 (Zhou et al. 2018): steps of recipes, one sentence each, tested on the clips of the official validation."""

import csv
import json
from functools import partial
from pathlib import Path

from .annotated_benchmark import AnnotatedBenchmark, SplitSource
from .annotation_files import Annotation, in_layout
from .dense_captions import read_dense_captions


def read_youcook2(path: Path, subset: str) -> list[Annotation]:
    """The official file, of which `subset` is "training" or "validation": one annotation a step.

    Raises:
        ValueError: the file is in another layout.
    """
    expected = (
        '{"database": {"abcdefghijk": {"subset": "training", "annotations": [{"segment": [90, 102], "sentence": "…"}, '
        "…], …}, …}}"
    )
    with in_layout(path, "YouCook2", expected):
        videos = json.loads(path.read_text(encoding="utf-8-sig"))["database"]
        return [
            Annotation(video, [step["sentence"].strip()], float(start), float(end))
            for video, record in videos.items()
            if record["subset"] == subset
            for step in record["annotations"]
            for start, end in [step["segment"]]
        ]


def read_retrieval_list(path: Path) -> list[Annotation]:
    """`validation_youcook.csv` of Miech et al., by which papers test.

    Raises:
        ValueError: the file is in another layout.
    """
    expected = "the columns video_id, start, end and text"
    with (
        in_layout(path, "YouCook2's retrieval list", expected),
        open(path, encoding="utf-8-sig", newline="") as rows,
    ):
        return [
            Annotation(row["video_id"], [row["text"].strip()], float(row["start"]), float(row["end"]))
            for row in csv.DictReader(rows)
        ]


_OFFICIAL = "*annotations_trainval*.json"  # youcookii_annotations_trainval.json

# The official test has no sentences, so the validation that chooses a checkpoint must come from the training videos.
# 10,337 is from memory. The retrieval list has 3,350 rows; one segment of it has two sentences.
YOUCOOK2 = AnnotatedBenchmark(
    name="youcook2",
    sources={
        "train": SplitSource(
            {_OFFICIAL: partial(read_youcook2, subset="training"), "*yc2_train_anet*.json": read_dense_captions},
            ("*youcook*train*",),
            ("train_list.txt",),
            videos=10337,
            captions=10337,
        ),
        "test": SplitSource(
            {
                "validation_youcook*.csv": read_retrieval_list,
                "*yc2_val_anet*.json": read_dense_captions,
                _OFFICIAL: partial(read_youcook2, subset="validation"),
            },
            ("*youcook*val*",),
            ("val_list.txt",),
            videos=3349,
            captions=3350,
        ),
    },
    note="segments of videos; test is the official validation",
)
