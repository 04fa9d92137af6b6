"""The common way of a benchmark: find the annotation of a split, cut it to a list, find the videos, state the sizes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hf_videolang.data.benchmarks.annotation_files import Annotation, AnnotationFiles
from hf_videolang.data.benchmarks.clip_vip_annotations import read_clip_vip_annotations
from hf_videolang.data.records import (
    Clip,
    Protocol,
    find_videos,
    list_files,
    name_some,
    segment_id,
    video_name,
)
from hf_videolang.data.validation_split import hold_out_validation

SPLITS = ("train", "validation", "test")
HELD_OUT_SHARE = 0.05  # of a published training list that comes without validation

Reader = Callable[[Path], list[Annotation]]


@dataclass(frozen=True)
class SplitSource:
    """The files of one split, and its size in the literature.

    Attributes:
        files: how to read a public file, by its name (lower case, `*` for anything); the first that is there counts.
        clip_vip: names without extension of files in the layout of the CLIP-ViP authors, which are looked for next.
        ids: names of a text file with one video a line; where there is one, the split is cut to these videos.
        needs_ids: the public files hold more than this split: without the list, only a .jsonl of `clip_vip` will do.
        videos, captions: published sizes; None where there are none.
    """

    files: Mapping[str, Reader]
    clip_vip: Sequence[str]
    ids: Sequence[str] = ()
    needs_ids: bool = False
    videos: int | None = None
    captions: int | None = None


@dataclass(frozen=True)
class AnnotatedBenchmark:
    """A benchmark by the files of its splits.

    Attributes:
        name: for `load_dataset`.
        sources: by split. Without "validation", a twentieth of the training videos is held out as one, so that a
            checkpoint can be chosen without a look at the split that papers report.
        note: what a number must say of the protocol beside its sizes.
        paragraph: all sentences of a video are one text, joined by single spaces; segments are left out.
        name_of: the name of a video from what annotations, lists and files call it.
        uncut: the longer video, start and end in seconds of a clip that is not there as a file of its own.
    """

    name: str
    sources: Mapping[str, SplitSource]
    note: str = ""
    paragraph: bool = False
    name_of: Callable[[str], str] = video_name
    uncut: Callable[[str], tuple[str, float | None, float | None]] | None = None
    splits: tuple[str, ...] = SPLITS

    def read(self, data_dir: str | Path, split: str) -> tuple[list[Clip], Protocol]:
        """Clips of one split; `path` is None where the video is not below `data_dir`.

        Raises:
            FileNotFoundError: the annotation, or a list that the split needs, is not there; names what would do.
            ValueError: an annotation file is not in the expected layout.
        """
        files = list_files(data_dir)
        annotations = AnnotationFiles(self.name, files)
        source_split = split if split in self.sources else "train"
        source = self.sources[source_split]
        clips = self._clips(source, source_split, annotations, files)
        if split != "test" and "validation" not in self.sources:
            train, validation = hold_out_validation(clips, HELD_OUT_SHARE)
            clips = train if split == "train" else validation
            source = _published(source, validation, split)
        return clips, Protocol(
            name=self.name,
            split=split,
            num_videos=len(clips),
            num_captions=sum(len(clip.captions) for clip in clips),
            published_videos=source.videos,
            published_captions=source.captions,
            source=", ".join(sorted({path.name for path in annotations.sources})),
            note=self.note,
        )

    def _clips(
        self, source: SplitSource, split: str, annotations: AnnotationFiles, files: Sequence[Path]
    ) -> list[Clip]:
        rows, listed = self._annotations(source, split, annotations)
        found: dict[tuple, Clip] = {}
        for row in rows:
            video = self.name_of(row.video)
            if listed is not None and video not in listed:
                continue
            start, end = (None, None) if self.paragraph else (row.start, row.end)
            clip = Clip(segment_id(video, start, end), None, [], start, end, num_frames=row.num_frames)
            found.setdefault((video, start, end), clip).captions += row.captions
        for (video, *_), path, clip in zip(found, self._paths(found, files), found.values()):
            clip.path = path
            if self.paragraph:
                clip.captions = [" ".join(text.strip() for text in clip.captions if text.strip())]
            if path is not None and self.uncut is not None and self.name_of(path.name) != video:
                _, clip.start, clip.end = self.uncut(video)
        return list(found.values())

    def _annotations(
        self, source: SplitSource, split: str, annotations: AnnotationFiles
    ) -> tuple[list[Annotation], set[str] | None]:
        """The rows of the split's file, and the names on its list if there is one."""
        readers = dict(source.files)
        for name in source.clip_vip:
            for extension in (".jsonl", ".json"):  # unless it is the name of a public file
                readers.setdefault(name + extension, read_clip_vip_annotations)
        ids = annotations.find(source.ids)
        what, expected = f"the captions of {split}", tuple(readers)
        if ids is None and source.needs_ids:  # a .json of such a name is a public file
            readers = {name: reader for name, reader in readers.items() if name.endswith(".jsonl")}
            what = f"the videos of {split}, one a line, to cut {', '.join(source.files)}, nor one with its captions"
            expected = (*source.ids, *readers)
        for name in readers:
            if (file := annotations.find((name,))) is not None:
                break
        else:
            raise annotations.missing(expected, what)
        rows = readers[name](file)
        if ids is None:
            return rows, None
        lines = ids.read_text(encoding="utf-8-sig").split()
        listed = {self.name_of(line) for line in lines}
        if listed.isdisjoint(self.name_of(row.video) for row in rows):
            raise ValueError(
                f"{self.name}: none of the {len(lines)} videos that {ids} lists ({name_some(lines)}) is in {file}. The "
                f"list cuts {split} to its videos: take it away, or put that of {self.name} in its place."
            )
        return rows, listed

    def _paths(self, found: Mapping[tuple, Clip], files: Sequence[Path]) -> list[Path | None]:
        videos = [video for video, *_ in found]
        paths = find_videos(videos, files, self.name_of)
        if self.uncut is not None and None in paths:
            longer = find_videos([self.uncut(video)[0] for video in videos], files, self.name_of)
            paths = [path or other for path, other in zip(paths, longer)]
        return paths


def _published(source: SplitSource, validation: Sequence[Clip], split: str) -> SplitSource:
    """Sizes of a held-out validation split and of what is left: together those of the published list."""
    videos, captions = len(validation), sum(len(clip.captions) for clip in validation)
    if split == "train":
        videos, captions = (source.videos or 0) - videos, (source.captions or 0) - captions
    return replace(source, videos=videos, captions=captions)
