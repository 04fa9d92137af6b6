"""The one record that every reader yields, and how video files are found.

A row of the `datasets.Dataset`: `video` (`Video(decode=False)`: `{"path", "bytes"}`, never decoded here), `video_id`,
`captions` (list of str) and, where a data set has segments, `start` and `end` in seconds.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

VIDEO_EXTENSIONS = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".gif")


@dataclass
class Clip:
    """What an annotation says about one video or one segment of it, before anything is checked.

    Attributes:
        video_id: name of the clip, unique in its split.
        path: its file; None when no file of that name was found.
        captions: its sentences, in the order of the annotation.
        start, end: segment in seconds; None for the beginning and the end of the file.
    """

    video_id: str
    path: Path | None
    captions: list[str]
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class RetrievalProtocol:
    """The facts that every printed number must carry.

    Attributes:
        name: name of the protocol, e.g. "msrvtt-1ka", or "my_folder (videofolder)".
        split: "train", "validation", "test" or several joined by "+".
        num_videos, num_captions: what was read.
        published_videos, published_captions: sizes in the literature; None where there are none.
        source: the files that the split was read from.
    """

    name: str
    split: str
    num_videos: int
    num_captions: int
    published_videos: int | None
    published_captions: int | None
    source: str

    def __str__(self) -> str:
        if self.num_captions == self.num_videos:
            captions = "one caption a video"
        else:
            captions = f"{self.num_captions} captions, each a query of its own"
        published = "" if self.published_videos in (None, self.num_videos) else f" of {self.published_videos}"
        return f"{self.name}, {self.split}: {self.num_videos}{published} videos, {captions} ({self.source})"


def list_files(folder: str | Path) -> list[Path]:
    """Every file below `folder`, sorted, links followed, hidden files and folders left out.

    Raises:
        FileNotFoundError: `folder` is not a folder.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(
            f"No folder {str(folder)!r}: expected the folder that holds videos and annotations."
        )
    files = []
    for root, folders, names in os.walk(Path(folder).absolute(), followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(root, name) for name in names if not name.startswith(".")]
    return sorted(files)


def find_videos(video_ids: Sequence[str], files: Iterable[Path]) -> list[Path | None]:
    """The file of each id: the id with one of `VIDEO_EXTENSIONS`; None where there is none.

    Raises:
        ValueError: two files claim one of the ids.
    """
    found: dict[str, list[Path]] = {video_id: [] for video_id in video_ids}
    for file in files:
        if file.suffix.lower() in VIDEO_EXTENSIONS and file.stem in found:
            found[file.stem].append(file)
    for video_id, paths in found.items():
        if len(paths) > 1:
            raise ValueError(
                f"{len(paths)} files for {video_id}: {name_some([str(path) for path in paths])}. "
                "Keep one of them below the data folder."
            )
    return [found[video_id][0] if found[video_id] else None for video_id in video_ids]


def name_some(names: Sequence[str], limit: int = 5) -> str:
    """The first few names, and how many more there are."""
    rest = f" … and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(str(name) for name in names[:limit]) + rest


def is_blank(caption: str) -> bool:
    return not caption.strip()


def clips_to_dataset(clips: Sequence[Clip]) -> "Dataset":
    """Checked records as a `datasets.Dataset`; blank captions are left out and counted in a warning.

    Raises:
        FileNotFoundError: some videos are not there.
        ValueError: an id comes twice, a clip has no caption that is not blank, or there are no clips.
    """
    try:
        from datasets import Dataset, Features, List, Value, Video
    except ImportError as error:
        raise ImportError("Reading data sets needs the package datasets: pip install datasets") from error
    remedy = "`hf-videolang data check` lists every such clip."
    if not clips:
        raise ValueError("There are no clips in this split: expected at least one video with a caption.")
    missing = [clip.video_id for clip in clips if clip.path is None or not clip.path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(clips)} annotated videos have no file: {name_some(missing)}. "
            f"Expected <video id> with one of {', '.join(VIDEO_EXTENSIONS)}, or the file that the metadata names. {remedy}"
        )
    twice = [name for name, count in Counter(clip.video_id for clip in clips).items() if count > 1]
    if twice:
        raise ValueError(f"{len(twice)} video ids come more than once: {name_some(twice)}. {remedy}")
    captions = [[caption for caption in clip.captions if not is_blank(caption)] for clip in clips]
    silent = [clip.video_id for clip, texts in zip(clips, captions) if not texts]
    if silent:
        raise ValueError(
            f"{len(silent)} of {len(clips)} clips have no caption, or only blank ones: {name_some(silent)}. "
            f"Write captions for them or take them out of the annotation. {remedy}"
        )
    blank = sum(len(clip.captions) for clip in clips) - sum(map(len, captions))
    if blank:
        logger.warning("Left out %d blank captions. %s", blank, remedy)

    columns = {
        "video": [{"path": str(clip.path), "bytes": None} for clip in clips],
        "video_id": [clip.video_id for clip in clips],
        "captions": captions,
    }
    features = {"video": Video(decode=False), "video_id": Value("string"), "captions": List(Value("string"))}
    if any(clip.start is not None or clip.end is not None for clip in clips):
        columns |= {"start": [clip.start for clip in clips], "end": [clip.end for clip in clips]}
        features |= {"start": Value("float64"), "end": Value("float64")}
    return Dataset.from_dict(columns, features=Features(features))
