"""MSR-VTT (Xu et al. 2016): 10,000 clips with 20 sentences each, in the splits that papers use.

A protocol's `train` and `validation` never share a video: the official validation videos that a published training
list contains are its `validation`, and the published list is `train+validation`. (The CLIP-ViP authors selected their
model on the test set.)
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

from hf_videolang.data.benchmarks.annotated_benchmark import SPLITS
from hf_videolang.data.benchmarks.annotation_files import AnnotationFiles, in_layout
from hf_videolang.data.benchmarks.clip_vip_annotations import read_clip_vip_annotations
from hf_videolang.data.records import Clip, Protocol, find_videos, list_files, name_some, video_name
from hf_videolang.data.validation_split import hold_out_validation

OFFICIAL_VALIDATION = {f"video{number}" for number in range(6513, 7010)}

# File names, lower case, by which each list is known; the first that is there is read.
LISTS = {
    "1ka_test": ("*jsfusion_test*.csv", "msrvtt_test.csv", "*test*1k*a*.json*", "msrvtt_test.jsonl"),
    "9k_train": (
        "*train*9k*.csv",
        "train_list_jsfusion.txt",
        "*train*9k*.json*",
        "msrvtt_train.jsonl",
    ),
    "miech_train": ("train_list_miech.txt",),
    "miech_test": ("test_list_miech.txt",),
    "full_train": ("train_list_full.txt",),
    "full_validation": ("val_list_full.txt",),
    "full_test": ("test_list_full.txt",),
}
# One of the first two has all sentences; the official download has the two others together.
SENTENCES = ("msrvtt_data.json", "msr_vtt.json")
SENTENCES_IN_TWO = ("train_val_videodatainfo.json", "test_videodatainfo.json")
EXPECTED = '{"videos": [{"video_id", "split", …}, …], "sentences": [{"video_id", "caption"}, …]}'


@dataclass(frozen=True)
class _Protocol:
    """Names in `LISTS`, and the published sizes of train (with validation), validation and test."""

    train: str
    test: str
    published: tuple[int, int, int]


_9K = _Protocol("9k_train", "1ka_test", (9000, 497, 1000))
PROTOCOLS = {
    "msrvtt-1ka": _9K,
    "msrvtt-9k": _9K,
    "msrvtt-7k": _Protocol("miech_train", "miech_test", (6656, 360, 1000)),
    "msrvtt-7k-1ka": _Protocol("full_train+full_validation", "1ka_test", (7010, 497, 1000)),
    "msrvtt-full": _Protocol("full_train+full_validation", "full_test", (7010, 497, 2990)),
}


@dataclass(frozen=True)
class MSRVTT:
    """A protocol of MSR-VTT by its name, read as an `AnnotatedBenchmark` is."""

    name: str
    splits: tuple[str, ...] = SPLITS

    def read(self, data_dir: str | Path, split: str) -> tuple[list[Clip], Protocol]:
        return read_msrvtt(self.name, data_dir, split)


def read_msrvtt(name: str, data_dir: str | Path, split: str) -> tuple[list[Clip], Protocol]:
    """Clips of one split; `path` is None where the video is not below `data_dir`.

    Args:
        name: key of `PROTOCOLS`. "msrvtt-9k" and "msrvtt-1ka" are one protocol: 9,000 videos to train, the 1,000
            pairs of JSFusion to test. "msrvtt-7k" is the list of Miech et al. with its own test videos ("1k-B"); 453
            of the 1K-A test videos are in its training list, so never test it on 1K-A. "msrvtt-7k-1ka" trains on the
            7,010 official training and validation videos and tests on 1K-A. "msrvtt-full" has the official splits.
        data_dir: folder with videos and annotation files, in any sub-folders.
        split: "train", "validation" or "test".

    Raises:
        FileNotFoundError: the annotation that the split needs is not there; names what would do.
        ValueError: an annotation file is not in the expected layout, or a listed video has no captions in it.
    """
    protocol, files = PROTOCOLS[name], list_files(data_dir)
    annotations = _Annotations(files)
    ids = annotations.read_list(protocol.test if split == "test" else protocol.train)
    captions = {video_id: annotations.captions(video_id) for video_id in ids}
    unknown = [video_id for video_id, texts in captions.items() if texts is None]
    if unknown:
        sources = name_some([path.name for path in annotations.sources])
        raise FileNotFoundError(
            f"{name}, {split}: {len(unknown)} of {len(ids)} videos have no captions in {sources}: {name_some(unknown)}. "
            f"Put {SENTENCES[0]} with all sentences below {data_dir}."
        )
    paths = find_videos(ids, files)
    clips = [Clip(video_id, path, captions[video_id] or []) for video_id, path in zip(ids, paths)]
    if split != "test":
        clips = _train_or_validation(clips, split)
    train, validation, test = protocol.published
    published = {"train": train - validation, "validation": validation, "test": test}[split]
    one_caption = split == "test" and protocol.test == "1ka_test"
    return clips, Protocol(
        name=name,
        split=split,
        num_videos=len(clips),
        num_captions=sum(len(clip.captions) for clip in clips),
        published_videos=published,
        published_captions=published * (1 if one_caption else 20),
        source=", ".join(sorted({path.name for path in annotations.sources})),
    )


def _train_or_validation(clips: list[Clip], split: str) -> list[Clip]:
    official = [clip for clip in clips if clip.video_id in OFFICIAL_VALIDATION]
    if official:
        train = [clip for clip in clips if clip.video_id not in OFFICIAL_VALIDATION]
    else:  # a cut-down copy without any of them
        train, official = hold_out_validation(clips)
    return train if split == "train" else official


class _Annotations(AnnotationFiles):
    """The lists and sentences of MSR-VTT below one folder."""

    def __init__(self, files: list[Path]):
        super().__init__("MSR-VTT", files)
        self._listed: dict[str, list[str]] = {}
        self._sentences: dict[str, list[str]] | None = None
        self._official_splits: dict[str, str] = {}

    def captions(self, video_id: str) -> list[str] | None:
        """The list's own sentences if it has some (1K-A), else all of the MSR-VTT json; None if there are none."""
        if video_id in self._listed:
            return self._listed[video_id]
        return self._read_sentences().get(video_id)

    def read_list(self, name: str) -> list[str]:
        """Video ids of one list, or of several joined by "+"."""
        if "+" in name:
            return [video_id for part in name.split("+") for video_id in self.read_list(part)]
        file = self.find(LISTS[name])
        if file is not None:
            return self._read_list_file(file)
        if name == "9k_train":  # by definition all videos outside the 1K-A test
            test = set(_Annotations(self.files).read_list("1ka_test"))
            return [video_id for video_id in self._read_sentences() if video_id not in test]
        if name.startswith("full_"):
            official = "validate" if name == "full_validation" else name.removeprefix("full_")
            sentences = self._read_sentences()
            if any(self._official_splits.values()):
                return [video_id for video_id in sentences if self._official_splits.get(video_id) == official]
        raise self.missing(LISTS[name], f"the list {name!r}")

    def _read_list_file(self, file: Path) -> list[str]:
        if file.suffix == ".txt":
            return file.read_text(encoding="utf-8-sig").split()
        if file.suffix in (".json", ".jsonl"):
            for annotation in read_clip_vip_annotations(file):
                self._listed.setdefault(video_name(annotation.video), []).extend(annotation.captions)
            return list(self._listed)
        with open(file, encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            columns, rows = reader.fieldnames or [], list(reader)
            if "video_id" not in columns:
                raise ValueError(
                    f"{file} has the columns {list(columns)}; expected video_id (and sentence in a test list)."
                )
        if "sentence" in columns:
            for number, row in enumerate(rows, start=1):
                if None in row or row["sentence"] is None:  # a bare comma would cut the sentence
                    raise ValueError(
                        f"{file}, row {number} has more or fewer cells than the header: {list(row.values())}; expected "
                        'one for each of its columns, a sentence with a comma in quotes: "one, two".'
                    )
                self._listed.setdefault(row["video_id"], []).append(row["sentence"])
        return list(dict.fromkeys(row["video_id"] for row in rows))  # one row a sentence, in some lists

    def _read_sentences(self) -> dict[str, list[str]]:
        """Sentences by video id from the MSR-VTT json: one file, or train_val_ and test_videodatainfo.json."""
        if self._sentences is None:
            one = self.find(SENTENCES)
            files = [one] if one else [file for name in SENTENCES_IN_TWO if (file := self.find((name,)))]
            if not files:
                raise self.missing(SENTENCES + SENTENCES_IN_TWO, "the sentences of all videos")
            self._sentences = {}
            for file in files:
                with in_layout(file, "MSR-VTT", EXPECTED):
                    self._read_sentence_file(file, self._sentences)
        return self._sentences

    def _read_sentence_file(self, file: Path, sentences: dict[str, list[str]]) -> None:
        content = json.loads(file.read_text(encoding="utf-8"))
        for sentence in content["sentences"] if "sentences" in content else content["annotations"]:
            key = "video_id" if "video_id" in sentence else "image_id"  # the latter in MSR_VTT.json
            video_id = sentence[key]
            sentences.setdefault(video_id, []).append(sentence["caption"])
        for video in content.get("videos", []):
            self._official_splits[video["video_id"]] = video.get("split", "")
