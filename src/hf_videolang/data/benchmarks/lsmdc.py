"""LSMDC (Rohrbach et al. 2015), the retrieval task of the 2016 challenge: clips of films, one sentence each."""

import csv
from pathlib import Path

from hf_videolang.data.annotation_text import in_layout
from hf_videolang.data.benchmarks.benchmark import Benchmark, SplitFiles
from hf_videolang.data.records import Record
from hf_videolang.data.video_files import video_name

EXPECTED = (
    "lines of six columns, tab separated, without a header: clip id, start and end aligned, start and end extracted, "
    "sentence"
)


def read_lsmdc(path: Path) -> list[Record]:
    """Reads a list of the challenge. Its seconds count from the start of the film; each clip is a file of its own."""
    with in_layout(path, "LSMDC", EXPECTED), open(path, encoding="utf-8-sig", newline="") as lines:
        records = []
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        for row in filter(None, reader):
            if len(row) < 6:
                raise ValueError(f"line {reader.line_num} has {len(row)} columns")
            records.append(Record(row[0], captions=[row[5].strip()]))
        return records


def clip_with_folders(text: str) -> str:
    """As `video_name`, with the folders: the authors' clip_id is the path below the folder of the videos."""
    return "".join(text.rpartition("/")[:2]) + video_name(text)


# Sizes from memory of the literature, except the 1,000 of the test (clip_vip §5.1).
LSMDC = Benchmark(
    name="lsmdc",
    task="retrieval",
    source="https://sites.google.com/site/describingmovies (against a signed agreement)",
    licence="research use only, by the agreement",
    citation="Rohrbach et al. 2015, A Dataset for Movie Description, CVPR",
    files={
        "train": SplitFiles(
            {"lsmdc16_annos_training.csv": read_lsmdc},
            published={"videos": 101079, "captions": 101079},
            clip_vip=("*lsmdc*train*", "train"),
        ),
        "validation": SplitFiles(
            {"lsmdc16_annos_val.csv": read_lsmdc},
            published={"videos": 7408, "captions": 7408},
            clip_vip=("*lsmdc*val*", "val"),
        ),
        "test": SplitFiles(
            {"lsmdc16_challenge_1000_public*.csv": read_lsmdc},
            published={"videos": 1000, "captions": 1000},
            clip_vip=("*lsmdc*test*", "test"),
        ),
    },
    name_of=clip_with_folders,
)
