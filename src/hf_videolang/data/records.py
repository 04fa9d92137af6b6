"""The one record that every reader yields, and how videos are found: files, or folders with their frames as pictures.

A row of the `datasets.Dataset`: `video` (`Video(decode=False)`: `{"path", "bytes"}`, never decoded here), `video_id`,
`captions` (list of str) and, where a data set has segments, `start` and `end` in seconds.
"""

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_videolang.video import VideoDecodingError
from hf_videolang.video.frame_folder import is_picture_of_a_frame

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

# The first are the usual ones; the rest is what people uploaded to Flickr, whence DiDeMo comes.
VIDEO_EXTENSIONS = (
    ".mp4",
    ".mkv",
    ".webm",
    ".mov",
    ".avi",
    ".gif",
    ".m4v",
    ".mpg",
    ".mpeg",
    ".wmv",
    ".3gp",
    ".3gpp",
    ".3g2",
    ".mts",
    ".m2ts",
    ".asf",
    ".divx",
    ".qt",
)
EXPECTED_VIDEO = (
    f"a file of that id ({', '.join(VIDEO_EXTENSIONS[:6])} …) or a folder of that name with pictures "
    "<name>_000.jpg, <name>_001.jpg, …"
)


@dataclass
class Clip:
    """What an annotation says about one video or one segment of it, before anything is checked.

    Attributes:
        video_id: name of the clip, unique in its split.
        path: its file, or the folder with its frames; None when there is nothing of that name.
        captions: its sentences, in the order of the annotation.
        start, end: segment in seconds; None for the beginning and the end of the file.
        fields: what else the annotation says; retrieval reads none of it, pre-training "subtitle".
        num_frames: pictures that a frame folder must have; None where the annotation says nothing.
    """

    video_id: str
    path: Path | None
    captions: list[str]
    start: float | None = None
    end: float | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    num_frames: int | None = None


@dataclass(frozen=True)
class Protocol:
    """The facts that every printed number must carry.

    Attributes:
        name: name of the protocol, e.g. "msrvtt-1ka", or "my_folder (videofolder)".
        split: "train", "validation", "test" or several joined by "+".
        num_videos, num_captions: what was read.
        published_videos, published_captions: sizes in the literature; None where there are none.
        source: the files that the split was read from.
        note: what else a number must say, e.g. that the sentences of a video were joined to a paragraph.
    """

    name: str
    split: str
    num_videos: int
    num_captions: int
    published_videos: int | None
    published_captions: int | None
    source: str
    note: str = ""

    @property
    def size(self) -> str:
        """`"4500 of 4917 videos, one caption a video"`."""
        if self.num_captions == self.num_videos:
            captions = "one caption a video"
        else:
            captions = f"{self.num_captions} captions, each a query of its own"
        published = "" if self.published_videos in (None, self.num_videos) else f" of {self.published_videos}"
        return f"{self.num_videos}{published} videos, {captions}"

    @property
    def facts(self) -> dict[str, str]:
        """What stands with a number where name and split stand already: the size and perhaps the note."""
        return {"size": self.size, **({"note": self.note} if self.note else {})}

    def __str__(self) -> str:
        note = self.note and f"; {self.note}"
        return f"{self.name}, {self.split}: {self.size} ({self.source}){note}"


def list_files(folder: str | Path) -> list[Path]:
    """Every file below `folder`, sorted, links followed, hidden files and folders left out.

    A folder that holds the frames of a video as pictures, and no video file, comes in their place: data sets of frames
    have millions of them.

    Raises:
        FileNotFoundError: `folder` is not a folder.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"No folder {str(folder)!r}: expected the folder that holds videos and annotations.")
    files = []
    for root, folders, names in os.walk(Path(folder).absolute(), followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        names = [name for name in names if not name.startswith(".")]
        if any(map(is_picture_of_a_frame, names)) and not any(map(_has_video_extension, names)):
            files.append(Path(root))
            names = [name for name in names if not is_picture_of_a_frame(name)]
        files += [Path(root, name) for name in names]
    return sorted(files)


def is_video(path: Path) -> bool:
    """Whether an entry of `list_files` is a video: a file with one of `VIDEO_EXTENSIONS`, or a folder of frames."""
    return _has_video_extension(path.name) or path.is_dir()


def _has_video_extension(name: str) -> bool:
    extension = os.path.splitext(name)[1].lower()
    return extension in VIDEO_EXTENSIONS or extension == "."  # with which some names of DiDeMo end


def video_name(text: str) -> str:
    """The last component of a path or id, without a video's extension."""
    name = text.rpartition("/")[2]
    stem, extension = os.path.splitext(name)
    return stem if extension.lower() in VIDEO_EXTENSIONS else name


def segment_id(video_id: str, start: float | None, end: float | None) -> str:
    """The id of a part of a video, "<video id>#t=1.5,4"; without seconds that of the video."""
    if start is None and end is None:
        return video_id
    # Twelve digits: six, the default, take away the milliseconds of all that is later than 1,000 s.
    return f"{video_id}#t={start or 0:.12g}" + ("" if end is None else f",{end:.12g}")


def find_videos(
    video_ids: Sequence[str], files: Iterable[Path], name_of: Callable[[str], str] = video_name
) -> list[Path | None]:
    """The file, or the folder of frames, of each id: `name_of` its name is the id; None where there is none.

    An id with folders, "film/scene", is found only where the path of the file ends with them.

    Raises:
        ValueError: two files claim one of the ids.
    """
    found: dict[str, list[Path]] = {video_id: [] for video_id in video_ids}
    wanted = defaultdict(list)
    for video_id in found:
        wanted[video_id.rpartition("/")[2]].append(video_id)
    for file in files:
        name = name_of(file.name)
        for video_id in wanted.get(name, ()):
            if (file.parent / name).as_posix().endswith(f"/{video_id}") and is_video(file):
                found[video_id].append(file)
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


def clip_of(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """
    The `{"path", "bytes", "start", "end"}` of a record of a shard, which nobody has checked; `name` is for the error.

    Raises:
        VideoDecodingError: there is no video, or `start` and `end` are not seconds one behind the other.
    """
    video = {**record["video"], "start": record.get("start"), "end": record.get("end")}
    start, end = video["start"], video["end"]
    if not video.get("path") and video.get("bytes") is None:
        raise VideoDecodingError(name, "its row holds no video")
    if not all(isinstance(time, int | float | None) for time in (start, end)) or (
        end is not None and end <= (start or 0)
    ):
        raise VideoDecodingError(
            name, f"its row has start={start!r} and end={end!r}; expected seconds, the end behind the start"
        )
    return video


def video_size(video: Mapping[str, Any]) -> int | None:
    """Bytes of the `{"path", "bytes"}` of a record, none of them read; `None` for what is no local file."""
    if video.get("bytes") is not None:
        return len(video["bytes"])
    path = video.get("path")
    return os.path.getsize(path) if path and os.path.isfile(path) else None


def is_blank(caption: str) -> bool:
    return not caption.strip()


def clips_to_dataset(clips: Sequence[Clip]) -> "Dataset":
    """Checked records as a `datasets.Dataset`; blank captions are left out and counted in a warning.

    Raises:
        FileNotFoundError: some videos are not there.
        ValueError: an id comes twice, a clip has no caption that is not blank or does not end after its start, or there
            are no clips.
    """
    try:
        from datasets import Dataset, Features, List, Value, Video
    except ImportError as error:
        raise ImportError("Reading data sets needs the package datasets: pip install datasets") from error
    remedy = "`hf-videolang data check` lists every such clip."
    if not clips:
        raise ValueError("There are no clips in this split: expected at least one video with a caption.")
    missing = [clip.video_id for clip in clips if clip.path is None or not clip.path.exists()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(clips)} annotated videos have no file: {name_some(missing)}. "
            f"Expected {EXPECTED_VIDEO}, or what the metadata names. {remedy}"
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
    backward = [clip.video_id for clip in clips if clip.end is not None and clip.end <= (clip.start or 0)]
    if backward:
        raise ValueError(
            f"{len(backward)} of {len(clips)} clips do not end after their start: {name_some(backward)}. {remedy}"
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
