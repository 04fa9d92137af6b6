"""VATEX (Wang et al. 2019): clips of ten seconds with ten English sentences each, every sentence a query."""

import re
from dataclasses import replace
from pathlib import Path

from hf_videolang.data.annotation_text import in_layout, parse_json, read_json_lines
from hf_videolang.data.benchmarks.benchmark import Benchmark, SplitFiles
from hf_videolang.data.records import Record

EXPECTED = '[{"videoID": "abcdefghijk_000010_000020", "enCap": ["…", …], …}, …]'

EXPECTED_OF_VALUE = '{"vid_name": "abcdefghijk_000010_000020", "desc": "…"} or {…, "descs": [{"desc": "…"}, …]} a line'


def read_vatex(path: Path) -> list[Record]:
    """Reads the English sentences of an official file."""
    with in_layout(path, "VATEX", EXPECTED):
        rows = parse_json(path.read_text(encoding="utf-8-sig"))
        return [Record(row["videoID"], captions=[text.strip() for text in row["enCap"]]) for row in rows]


def read_value_captions(path: Path) -> list[Record]:
    """Reads a file of the VALUE benchmark, with one sentence a line or all sentences of a clip (hero §7.1)."""
    with in_layout(path, "VALUE", EXPECTED_OF_VALUE):
        records = []
        for row in read_json_lines(path):
            texts = [one["desc"] for one in row["descs"]] if "descs" in row else [row["desc"]]
            records.append(Record(row["vid_name"], captions=[text.strip() for text in texts]))
        return records


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
# The two tasks of the VALUE benchmark, whose splits are the official ones (hero §7.1, A8 to A10). Captioning trains on
# the sentences of retrieval, and on those of validation, too; the references of a test come from the captions' files.
VATEX_EN_R = replace(
    VATEX,
    name="vatex-en-r",
    task="moment_retrieval",
    main_score="VR_AveR",
    source="https://github.com/VALUE-Leaderboard/DataRelease (annotation, subtitles and features)",
    citation="Li et al. 2021, VALUE: A Multi-Task Benchmark for Video-and-Language Understanding Evaluation, NeurIPS",
    files={
        split: SplitFiles({f"vatex_en_r_{name}_release.jsonl": read_value_captions}, published)
        for split, name, published in (
            ("train", "train", {"videos": 25991, "captions": 259910}),
            ("validation", "val", {"videos": 3000, "captions": 30000}),
            ("test", "test_public", {"videos": 6000, "captions": 60000}),
        )
    },
    note="",
    subtitles=("vatex_subtitles.jsonl",),
)
VATEX_EN_C = replace(
    VATEX_EN_R,
    name="vatex-en-c",
    task="captioning",
    main_score="captions_CIDEr",
    files={
        "train": VATEX_EN_R.files["train"],
        "validation": VATEX_EN_R.files["validation"],
        "test": SplitFiles(
            {"vatex_en_c_test_public_release.jsonl": read_value_captions}, {"videos": 6000, "captions": 60000}
        ),
    },
)
