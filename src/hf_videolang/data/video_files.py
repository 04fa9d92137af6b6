"""Finding videos in a folder: files with a video's extension, and folders that hold the frames as pictures."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from hf_videolang.video.frame_folder import is_picture_of_a_frame
from hf_videolang.video.sources import VIDEO_EXTENSIONS

EXPECTED_VIDEO = (
    f"a file of that id ({', '.join(VIDEO_EXTENSIONS[:6])} …) or a folder of that name with pictures "
    "<name>_000.jpg, <name>_001.jpg, …"
)


def list_files(folder: str | Path) -> list[Path]:
    """Lists every file below `folder`, sorted. Leaves out hidden files and folders.

    Follows links, but lists no folder twice, so that links may form a loop.

    A folder that holds the frames of a video as pictures is listed in place of its pictures, of which a dataset may
    have millions.

    Raises:
        FileNotFoundError: `folder` is not a folder.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"No folder {str(folder)!r}: expected the folder that holds videos and annotations.")
    files: list[str] = []
    seen = set()
    for root, folders, names in os.walk(Path(folder).absolute(), followlinks=True):
        place = os.stat(root)
        if (place.st_dev, place.st_ino) in seen:  # a link to a folder that was listed, perhaps one around it
            folders.clear()
            continue
        seen.add((place.st_dev, place.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        folders.sort(key=lambda name: os.path.islink(os.path.join(root, name)))  # links come after what they lead to
        names = [name for name in names if not name.startswith(".")]
        if any(map(is_picture_of_a_frame, names)) and not any(map(_has_video_extension, names)):
            files.append(root)
            names = [name for name in names if not is_picture_of_a_frame(name)]
        files += [os.path.join(root, name) for name in names]
    return [Path(file) for file in sorted(files, key=lambda file: file.split(os.sep))]


def check_place(path: str, folder: str) -> None:
    """
    Data from others must not choose which files of the user are read, or what is fetched.

    Raises:
        ValueError: the path is a URL or lies outside the folder, perhaps through a link, and the environment variable
            `HF_VIDEOLANG_TRUST_DATA` is not 1.
    """
    if os.environ.get("HF_VIDEOLANG_TRUST_DATA") == "1":
        return
    if "://" in path or not f"{real_path(path)}/".startswith(f"{_real_folder(folder)}/".replace("//", "/")):
        raise ValueError(
            f"{path} leads outside of {folder}, whose data name it. If you trust these data, set "
            "HF_VIDEOLANG_TRUST_DATA=1, or move or copy the file into the folder."
        )


def real_path(path: str | Path) -> str:
    """`os.path.realpath`, which resolves each folder once: of a million files it would take minutes."""
    folder, name = os.path.split(path)
    real = os.path.join(_real_folder(folder), name)
    return os.path.realpath(real) if name in ("", ".", "..") or os.path.islink(real) else real


@lru_cache(maxsize=1024)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def is_video(path: Path) -> bool:
    """Whether an entry of `list_files` is a video: a file with one of `VIDEO_EXTENSIONS`, or a folder of frames."""
    return _has_video_extension(path.name) or path.is_dir()


def _has_video_extension(name: str) -> bool:
    extension = os.path.splitext(name)[1].lower()
    return extension in VIDEO_EXTENSIONS or extension == "."  # some names of DiDeMo end with a dot


def video_name(text: str) -> str:
    """The last component of a path or id, without a video's extension."""
    name = text.rpartition("/")[2]
    stem, extension = os.path.splitext(name)
    return stem if extension.lower() in VIDEO_EXTENSIONS else name


def find_videos(
    video_ids: Sequence[str], files: Iterable[Path], name_of: Callable[[str], str] = video_name
) -> list[Path | None]:
    """Finds the file, or the folder of frames, of each id.

    Args:
        video_ids: an id with folders, "film/scene", is found only where the path of the file ends with them.
        files: the entries of `list_files`.
        name_of: gives the id for the name of a file.

    Returns:
        A path for each id, `None` where no video has that id.

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
                f"{len(paths)} files for {video_id}: {', '.join(map(str, paths))}. "
                "Keep one of them below the data folder."
            )
    return [found[video_id][0] if found[video_id] else None for video_id in video_ids]


def video_size(video: Mapping[str, Any]) -> int | None:
    """The bytes of a record's `{"path", "bytes"}`, without reading them; `None` if it is not a local file."""
    if video.get("bytes") is not None:
        return len(video["bytes"])
    path = video.get("path")
    return os.path.getsize(path) if path and os.path.isfile(path) else None
