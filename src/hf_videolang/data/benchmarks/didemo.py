"""DiDeMo (Hendricks et al. 2017): paragraph to video, all sentences of a video joined, as CLIP-ViP reports it."""

from pathlib import Path

from hf_videolang.data.annotation_text import in_layout, parse_json
from hf_videolang.data.benchmarks.benchmark import Benchmark, SplitFiles
from hf_videolang.data.records import Record

EXPECTED = '[{"video": "1234_ab.mov", "description": "a dog runs left", "times": [[1, 1], …], …}, …]'


def read_didemo(path: Path) -> list[Record]:
    """Reads the authors' `train_data.json`, `val_data.json` or `test_data.json`: one record a sentence."""
    with in_layout(path, "DiDeMo", EXPECTED):
        rows = parse_json(path.read_text(encoding="utf-8-sig"))
        return [Record(row["video"], captions=[row["description"].strip()]) for row in rows]


def didemo_name(text: str) -> str:
    """The part before the first dot: "1234_ab.mov", "1234_ab." and "1234_ab.mov.mp4" are names of one video."""
    return text.rpartition("/")[2].partition(".")[0]


# Sizes are those of the id lists of Collaborative Experts. The test annotation has 1,037 names: 33 videos occur under
# two, with different extensions, and are one here.
DIDEMO = Benchmark(
    name="didemo",
    task="retrieval",
    source="https://github.com/LisaAnne/LocalizingMoments (annotation, and a script that fetches the Flickr videos)",
    licence="BSD-2-Clause (annotation); the videos have the Creative Commons licences of their uploaders",
    citation="Hendricks et al. 2017, Localizing Moments in Video with Natural Language, ICCV",
    files={
        "train": SplitFiles(
            {"train_data.json": read_didemo},
            published={"videos": 8392, "captions": 8392},
            clip_vip=("*didemo*train*", "train"),
            lists=("train_list.txt",),
        ),
        "validation": SplitFiles(
            {"val_data.json": read_didemo},
            published={"videos": 1065, "captions": 1065},
            clip_vip=("*didemo*val*", "val"),
            lists=("val_list.txt",),
        ),
        "test": SplitFiles(
            {"test_data.json": read_didemo},
            published={"videos": 1004, "captions": 1004},
            clip_vip=("*didemo*test*", "test"),
            lists=("test_list.txt",),
        ),
    },
    note="all sentences of a video as one paragraph",
    paragraph=True,
    name_of=didemo_name,
)
