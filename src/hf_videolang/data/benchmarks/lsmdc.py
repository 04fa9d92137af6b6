"""LSMDC (Rohrbach et al. 2015), the retrieval task of the 2016 challenge: clips of films, one sentence each."""

import csv
from pathlib import Path

from hf_videolang.data.records import video_name

from .annotated_benchmark import AnnotatedBenchmark, SplitSource
from .annotation_files import Annotation, in_layout

EXPECTED = (
    "lines of six columns, tab separated, without a header: clip id, start and end aligned, start and end extracted, "
    "sentence"
)


def read_lsmdc(path: Path) -> list[Annotation]:
    """The lists of the challenge. Their seconds are those of the film, not of the clip, which is a file of its own.

    Raises:
        ValueError: a line has not six columns; names it.
    """
    with in_layout(path, "LSMDC", EXPECTED), open(path, encoding="utf-8-sig", newline="") as lines:
        annotations = []
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        for row in filter(None, reader):
            if len(row) < 6:
                raise ValueError(f"line {reader.line_num} has {len(row)} columns")
            annotations.append(Annotation(row[0], [row[5].strip()]))
        return annotations


def clip_with_folders(text: str) -> str:
    """As `video_name`, with the folders: the authors' clip_id is the path below the folder of the videos."""
    return "".join(text.rpartition("/")[:2]) + video_name(text)


# Sizes from memory of the literature, but for the 1,000 of the test (clip_vip §5.1).
LSMDC = AnnotatedBenchmark(
    name="lsmdc",
    sources={
        "train": SplitSource(
            {"lsmdc16_annos_training.csv": read_lsmdc}, ("*lsmdc*train*", "train"), videos=101079, captions=101079
        ),
        "validation": SplitSource(
            {"lsmdc16_annos_val.csv": read_lsmdc}, ("*lsmdc*val*", "val"), videos=7408, captions=7408
        ),
        "test": SplitSource(
            {"lsmdc16_challenge_1000_public*.csv": read_lsmdc}, ("*lsmdc*test*", "test"), videos=1000, captions=1000
        ),
    },
    name_of=clip_with_folders,
)
