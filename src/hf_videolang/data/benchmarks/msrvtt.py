"""MSR-VTT (Xu et al. 2016): 10,000 clips with 20 sentences each, in the splits that papers use.

"msrvtt-1ka" and "msrvtt-9k" are one protocol: 9,000 videos to train, the 1,000 pairs of JSFusion to test. "msrvtt-7k"
is the list of Miech et al. with test videos of its own ("1k-B"); 453 of the 1K-A test videos are in its training list,
so never test it on 1K-A. "msrvtt-7k-1ka" trains on the 7,010 official training and validation videos and tests on
1K-A. "msrvtt-full" has the official splits.

`train` and `validation` never share a video: the official validation videos in a published training list are the
`validation` of the protocol, and the published list is `train+validation`. (The CLIP-ViP authors chose their model on
the test set.)
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from hf_videolang.data.annotation_text import in_layout, parse_json
from hf_videolang.data.benchmarks.annotation_files import AnnotationFiles
from hf_videolang.data.benchmarks.benchmark import Benchmark, Split
from hf_videolang.data.benchmarks.clip_vip_annotations import read_clip_vip_annotations
from hf_videolang.data.records import Record, name_some
from hf_videolang.data.validation_split import split_off_validation

OFFICIAL_VALIDATION = {f"video{number}" for number in range(6513, 7010)}

# The names, in lower case, of the file of each list. The first that is there is read.
LISTS = {
    "1ka_test": ("*jsfusion_test*.csv", "msrvtt_test.csv", "*test*1k*a*.json*", "msrvtt_test.jsonl"),
    "9k_train": ("*train*9k*.csv", "train_list_jsfusion.txt", "*train*9k*.json*", "msrvtt_train.jsonl"),
    "miech_train": ("train_list_miech.txt",),
    "miech_test": ("test_list_miech.txt",),
    "full_train": ("train_list_full.txt",),
    "full_validation": ("val_list_full.txt",),
    "full_test": ("test_list_full.txt",),
}
OFFICIAL_SPLITS = {"full_train": "train", "full_validation": "validate", "full_test": "test"}
# Each of the first two has all sentences; the official download has them in the two others.
SENTENCES = ("msrvtt_data.json", "msr_vtt.json")
SENTENCES_IN_TWO = ("train_val_videodatainfo.json", "test_videodatainfo.json")
EXPECTED = '{"videos": [{"video_id", "split", …}, …], "sentences": [{"video_id", "caption"}, …]}'


@dataclass(frozen=True)
class MSRVTTSplit:
    """The videos of one or more lists, with the sentences of the list if it has some, else of MSRVTT_data.json.

    Attributes:
        lists: keys of `LISTS`.
        published: sizes in the literature.
    """

    lists: Sequence[str]
    published: Mapping[str, int]

    def read(self, split: str, files: AnnotationFiles) -> list[Record]:
        sentences = cache(lambda: _read_sentences(files))  # the lists may do without
        listed: dict[str, list[str] | None] = {}
        for name in self.lists:
            listed |= _read_list(name, files, sentences)
        captions = {
            video: sentences().by_video.get(video) if texts is None else texts for video, texts in listed.items()
        }
        if unknown := [video for video, texts in captions.items() if texts is None]:
            raise FileNotFoundError(
                f"{files.benchmark}, {split}: {len(unknown)} of {len(captions)} videos have no captions in "
                f"{name_some([path.name for path in files.used])}: {name_some(unknown)}. "
                f"Put {SENTENCES[0]} with all sentences below the data folder."
            )
        records = [Record(video, captions=texts or []) for video, texts in captions.items()]
        if split == "test":
            return records
        validation = [record for record in records if record.video_id in OFFICIAL_VALIDATION]
        train = [record for record in records if record.video_id not in OFFICIAL_VALIDATION]
        if not validation:  # a cut-down copy without any of them
            train, validation = split_off_validation(records)
        return train if split == "train" else validation


class Sentences(NamedTuple):
    """The sentences of all videos, and the official split of each where the file says it."""

    by_video: dict[str, list[str]]
    splits: dict[str, str]


def _read_sentences(files: AnnotationFiles) -> Sentences:
    one = files.find(SENTENCES)
    paths = [one] if one else [path for name in SENTENCES_IN_TWO if (path := files.find([name]))]
    if not paths:
        raise files.missing(SENTENCES + SENTENCES_IN_TWO, "the sentences of all videos")
    found = Sentences({}, {})
    for path in paths:
        with in_layout(path, "MSR-VTT", EXPECTED):
            content = parse_json(path.read_text(encoding="utf-8"))
            # MSR_VTT.json has other names for the two keys
            for sentence in content["sentences"] if "sentences" in content else content["annotations"]:
                video = sentence["video_id"] if "video_id" in sentence else sentence["image_id"]
                found.by_video.setdefault(video, []).append(sentence["caption"])
            videos = content.get("videos", [])
            found.splits.update({video["video_id"]: video["split"] for video in videos if video.get("split")})
    return found


def _read_list(name: str, files: AnnotationFiles, sentences: Callable[[], Sentences]) -> dict[str, list[str] | None]:
    """The videos of a list in its order, each with the sentences that the list has for it."""
    path = files.find(LISTS[name])
    if path is not None and path.suffix == ".txt":
        return dict.fromkeys(path.read_text(encoding="utf-8-sig").split())
    if path is not None:
        return _read_csv(path) if path.suffix == ".csv" else _read_authors_list(path, files)
    if name == "9k_train":  # by definition all videos outside the 1K-A test
        test = _read_list("1ka_test", replace(files, used=[]), sentences)
        return dict.fromkeys(video for video in sentences().by_video if video not in test)
    if name in OFFICIAL_SPLITS and (splits := sentences().splits):
        return dict.fromkeys(v for v in sentences().by_video if splits.get(v) == OFFICIAL_SPLITS[name])
    raise files.missing(LISTS[name], f"the list {name!r}")


def _read_authors_list(path: Path, files: AnnotationFiles) -> dict[str, list[str] | None]:
    captions: dict[str, list[str] | None] = {}
    for record in read_clip_vip_annotations(path):
        video = files.name_of(record.video_id)
        captions[video] = [*(captions.get(video) or []), *record.captions]
    return captions


def _read_csv(path: Path) -> dict[str, list[str] | None]:
    """One row a video, or one a sentence."""
    expected = 'the columns video_id and, in a test list, sentence; a sentence with a comma in quotes: "one, two"'
    with in_layout(path, "an MSR-VTT list", expected), open(path, encoding="utf-8-sig", newline="") as lines:
        captions: dict[str, list[str] | None] = {}
        for row in csv.DictReader(lines):
            if "sentence" not in row:
                captions[row["video_id"]] = None
            elif None in row or row["sentence"] is None:  # a comma without quotes has cut a sentence
                raise ValueError(f"{list(row.values())} are more or fewer cells than the header has")
            else:
                captions[row["video_id"]] = [*(captions.get(row["video_id"]) or []), row["sentence"]]
        return captions


def _msrvtt(name: str, train_lists: Sequence[str], num_train: int, num_validation: int, test: Split) -> Benchmark:
    return Benchmark(
        name=name,
        task="retrieval",
        source="https://www.robots.ox.ac.uk/~maxbain/frozen-in-time/data/MSRVTT.zip (videos and annotation) and "
        "https://github.com/ArrowLuo/CLIP4Clip (lists, under its releases)",
        licence="research use; no licence is stated, and the videos belong to their uploaders",
        citation="Xu et al. 2016, MSR-VTT: A Large Video Description Dataset for Bridging Video and Language, CVPR",
        files={
            "train": MSRVTTSplit(train_lists, _twenty_each(num_train)),
            "validation": MSRVTTSplit(train_lists, _twenty_each(num_validation)),
            "test": test,
        },
    )


def _twenty_each(num_videos: int) -> dict[str, int]:
    return {"videos": num_videos, "captions": 20 * num_videos}


ONE_KA = MSRVTTSplit(("1ka_test",), {"videos": 1000, "captions": 1000})
OFFICIAL_LISTS = ("full_train", "full_validation")
MSRVTT = (
    _msrvtt("msrvtt-1ka", ("9k_train",), 8503, 497, ONE_KA),
    _msrvtt("msrvtt-9k", ("9k_train",), 8503, 497, ONE_KA),
    _msrvtt("msrvtt-7k", ("miech_train",), 6296, 360, MSRVTTSplit(("miech_test",), _twenty_each(1000))),
    _msrvtt("msrvtt-7k-1ka", OFFICIAL_LISTS, 6513, 497, ONE_KA),
    _msrvtt("msrvtt-full", OFFICIAL_LISTS, 6513, 497, MSRVTTSplit(("full_test",), _twenty_each(2990))),
)
