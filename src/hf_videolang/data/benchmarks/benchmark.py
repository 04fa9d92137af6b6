"""How a benchmark is read: find the annotation of a split, cut it to a list, find the videos, compare the sizes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol as Interface

from hf_videolang.data.benchmarks.annotation_files import ANNOTATION_EXTENSIONS, AnnotationFiles
from hf_videolang.data.benchmarks.clip_vip_annotations import read_clip_vip_annotations
from hf_videolang.data.protocol import Protocol
from hf_videolang.data.records import Record, name_some, segment_id, whole_video_id
from hf_videolang.data.validation_split import split_off_validation
from hf_videolang.data.video_dataset import VideoDataset
from hf_videolang.data.video_files import find_videos, list_files, video_name

VALIDATION_SHARE = 0.05  # of a published training list without validation videos


class Split(Interface):
    """One split of a benchmark: how its annotation is read, and its sizes in the literature, if known."""

    @property
    def published(self) -> Mapping[str, int]: ...

    def read(self, split: str, files: AnnotationFiles) -> list[Record]:
        """Records as the annotation has them: one a sentence or one a video, without paths."""


@dataclass(frozen=True)
class SplitFiles:
    """A split with an annotation file of its own.

    Attributes:
        readers: reader by file name (lower case, `*` for any text). The first name that is there is read.
        published: sizes in the literature; empty if unknown.
        clip_vip: names, without extension, of files in the layout of the CLIP-ViP authors, which are looked for next.
        lists: names of a text file with one video a line. If there is one, the split is cut to its videos.
        needs_list: the files of `readers` hold more than this split, so without a list only a .jsonl of `clip_vip`
            will do.
    """

    readers: Mapping[str, Callable[[Path], list[Record]]]
    published: Mapping[str, int]
    clip_vip: Sequence[str] = ()
    lists: Sequence[str] = ()
    needs_list: bool = False

    def read(self, split: str, files: AnnotationFiles) -> list[Record]:
        authors = [name + extension for name in self.clip_vip for extension in (".jsonl", ".json")]
        readers = dict(self.readers) | {
            name: read_clip_vip_annotations for name in authors if name not in self.readers
        }
        names, what = list(readers), f"the captions of {split}"
        expected = names
        list_file = files.find(self.lists)
        if list_file is None and self.needs_list:  # a .json of such a name is a public file
            names = [name for name in names if name.endswith(".jsonl")]
            what = f"the videos of {split}, one a line, to cut {', '.join(self.readers)}, nor one with its captions"
            expected = [*self.lists, *names]
        for name in names:
            if file := files.find([name]):
                break
        else:
            raise files.missing(expected, what)
        records = readers[name](file)
        if list_file is None:
            return records
        lines = list_file.read_text(encoding="utf-8-sig").split()
        listed = {files.name_of(line) for line in lines}
        cut = [record for record in records if files.name_of(record.video_id) in listed]
        if not cut:
            raise ValueError(
                f"{files.benchmark}: none of the {len(lines)} videos that {list_file} lists ({name_some(lines)}) is "
                f"in {file}. The list cuts {split} to its videos; remove it, or replace it by that of the benchmark."
            )
        return cut


@dataclass(frozen=True, kw_only=True)
class Benchmark(VideoDataset):
    """A published dataset and its protocol.

    Attributes:
        files: the split files. Without "validation", a twentieth of the training videos becomes one, so that a
            checkpoint can be chosen without the split that papers report.
        note: what a number must say about the protocol besides its sizes.
        paragraph: all sentences of a video become one text, joined by single spaces, and the whole video is read.
        name_of: gives the name of a video from what annotations, lists and files call it.
        subtitles: names of a file with the subtitles of all videos (see `read_subtitle_lines`).
        uncut: gives the longer video, and the start and end in seconds, of a clip that has no file of its own.
        folder: where its files are; see `at`.
    """

    files: Mapping[str, Split]
    note: str = ""
    paragraph: bool = False
    subtitles: Sequence[str] = ()
    name_of: Callable[[str], str] = video_name
    uncut: Callable[[str], tuple[str, float | None, float | None]] | None = None
    folder: Path | None = None

    def at(self, folder: str | Path) -> "Benchmark":
        """The benchmark with its files in `folder`, in any sub-folders, ready to `read`."""
        return replace(self, folder=Path(folder))

    @cached_property
    def _paths(self) -> list[Path]:
        assert self.folder is not None, "call at(folder) first"
        return list_files(self.folder)

    def _read_split(self, split: str) -> tuple[list[Record], Protocol]:
        annotations = [path for path in self._paths if path.suffix.lower() in ANNOTATION_EXTENSIONS]
        files = AnnotationFiles(self.name, self.source, annotations, self.name_of)
        annotated = split if split in self.files else "train"
        published = dict(self.files[annotated].published)
        records = self._merge(self.files[annotated].read(annotated, files))
        if "validation" not in self.files and split != "test":
            train, validation = split_off_validation(records, VALIDATION_SHARE)
            held_out = _sizes(validation)
            if split == "train":
                records = train
                published = {what: count - held_out[what] for what, count in published.items()}
            else:
                records, published = validation, held_out
        note = self.note
        if self.subtitles and (file := files.find(self.subtitles)):
            for record in records:
                record.columns["subtitles"] = f"{file}#{whole_video_id(record.video_id)}"
        elif self.subtitles:
            note = "; ".join(filter(None, [note, f"without subtitles ({' or '.join(self.subtitles)} is absent)"]))
        source = ", ".join(sorted({path.name for path in files.used}))
        return records, Protocol(self.name, self.task, split, _sizes(records), published, source, note)

    def _merge(self, rows: Sequence[Record]) -> list[Record]:
        """One record a video, or a segment of one, with all its captions and its path."""
        merged: dict[tuple, Record] = {}
        for row in rows:
            video = self.name_of(row.video_id)
            start, end = (None, None) if self.paragraph else (row.start, row.end)
            record = Record(segment_id(video, start, end), start=start, end=end, num_frames=row.num_frames)
            merged.setdefault((video, start, end), record).captions += row.captions
        for (video, *_), path, record in zip(merged, self._find([video for video, *_ in merged]), merged.values()):
            record.path = path
            if self.paragraph:
                record.captions = [" ".join(text.strip() for text in record.captions if text.strip())]
            if self.uncut is not None and path is not None and self.name_of(path.name) != video:
                _, record.start, record.end = self.uncut(video)
        return list(merged.values())

    def _find(self, videos: Sequence[str]) -> list[Path | None]:
        paths = find_videos(videos, self._paths, self.name_of)
        if self.uncut is not None and None in paths:
            longer = find_videos([self.uncut(video)[0] for video in videos], self._paths, self.name_of)
            paths = [path or other for path, other in zip(paths, longer)]
        return paths


def _sizes(records: Sequence[Record]) -> dict[str, int]:
    return {"videos": len(records), "captions": sum(len(record.captions) for record in records)}
