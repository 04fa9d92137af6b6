"""DiDeMo (Hendricks et al. 2017): paragraph to video, all sentences of a Flickr video joined, as CLIP-ViP reports it."""

import json
from pathlib import Path

from .annotated_benchmark import AnnotatedBenchmark, SplitSource
from .annotation_files import Annotation, in_layout


def read_didemo(path: Path) -> list[Annotation]:
    """The authors' `train_data.json`, `val_data.json`, `test_data.json`: one annotation a sentence.

    Raises:
        ValueError: the file is in another layout.
    """
    expected = '[{"video": "1234_ab.mov", "description": "a dog runs left", "times": [[1, 1], …], …}, …]'
    with in_layout(path, "DiDeMo", expected):
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
        return [Annotation(row["video"], [row["description"].strip()]) for row in rows]


def didemo_name(text: str) -> str:
    """A video has many names: "1234_ab.mov", "1234_ab.", "1234_ab.mov.mp4"; what stands before the first dot is its own."""
    return text.rpartition("/")[2].partition(".")[0]


# Sizes are those of the id lists of Collaborative Experts. The annotation of the test has 1,037 names: 33 videos come
# under two, with different extensions, and are one here.
DIDEMO = AnnotatedBenchmark(
    name="didemo",
    sources={
        "train": SplitSource(
            {"train_data.json": read_didemo},
            ("*didemo*train*", "train"),
            ("train_list.txt",),
            videos=8392,
            captions=8392,
        ),
        "validation": SplitSource(
            {"val_data.json": read_didemo}, ("*didemo*val*", "val"), ("val_list.txt",), videos=1065, captions=1065
        ),
        "test": SplitSource(
            {"test_data.json": read_didemo}, ("*didemo*test*", "test"), ("test_list.txt",), videos=1004, captions=1004
        ),
    },
    note="all sentences of a video as one paragraph",
    paragraph=True,
    name_of=didemo_name,
)
