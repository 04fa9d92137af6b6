"""ActivityNet Captions (Krishna et al. 2017): paragraph to video, tested on val1."""

from hf_videolang.data.benchmarks.benchmark import Benchmark, SplitFiles
from hf_videolang.data.benchmarks.dense_captions import read_dense_captions

# val_2 describes the videos of val_1 a second time, and the official test has no captions: the validation that chooses
# a checkpoint must come from the training videos. Sizes are those of the id lists of Collaborative Experts.
ACTIVITYNET = Benchmark(
    name="activitynet",
    task="retrieval",
    source="https://cs.stanford.edu/people/ranjaykrishna/densevid (captions), http://activity-net.org (videos)",
    licence="research use; no licence is stated, and the videos belong to their uploaders",
    citation="Krishna et al. 2017, Dense-Captioning Events in Videos, ICCV",
    files={
        "train": SplitFiles(
            {"train.json": read_dense_captions},
            published={"videos": 10009, "captions": 10009},
            clip_vip=("*activitynet*train*", "*actnet*train*", "*anet*train*", "train"),
            lists=("train_list.txt",),
        ),
        "test": SplitFiles(
            {"val_1.json": read_dense_captions},
            published={"videos": 4917, "captions": 4917},
            clip_vip=("*activitynet*val*1*", "*actnet*val*1*", "*anet*val*1*", "val_1", "val1"),
            lists=("val_1_list.txt",),
        ),
    },
    note="all sentences of a video as one paragraph; test is val1",
    paragraph=True,
)
