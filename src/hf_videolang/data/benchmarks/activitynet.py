"""ActivityNet Captions (Krishna et al. 2017): paragraph to video, tested on val1."""

from .annotated_benchmark import AnnotatedBenchmark, SplitSource
from .dense_captions import read_dense_captions

# val_2 is a second annotation of videos of val_1, and the official test has no captions: the validation that chooses a
# checkpoint must come from the training videos. Sizes are those of the id lists of Collaborative Experts.
ACTIVITYNET = AnnotatedBenchmark(
    name="activitynet",
    sources={
        "train": SplitSource(
            {"train.json": read_dense_captions},
            ("*activitynet*train*", "*actnet*train*", "*anet*train*", "train"),
            ("train_list.txt",),
            videos=10009,
            captions=10009,
        ),
        "test": SplitSource(
            {"val_1.json": read_dense_captions},
            ("*activitynet*val*1*", "*actnet*val*1*", "*anet*val*1*", "val_1", "val1"),
            ("val_1_list.txt",),
            videos=4917,
            captions=4917,
        ),
    },
    note="all sentences of a video as one paragraph; test is val1",
    paragraph=True,
)
