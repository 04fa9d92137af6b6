"""From the name of a dataset, or a folder, to its records and the facts about its protocol."""

from pathlib import Path
from typing import TYPE_CHECKING

from hf_videolang.data.benchmarks.activitynet import ACTIVITYNET
from hf_videolang.data.benchmarks.didemo import DIDEMO
from hf_videolang.data.benchmarks.lsmdc import LSMDC
from hf_videolang.data.benchmarks.msrvtt import MSRVTT
from hf_videolang.data.benchmarks.vatex import VATEX, VATEX_FULL
from hf_videolang.data.benchmarks.youcook2 import YOUCOOK2
from hf_videolang.data.protocol import Protocol
from hf_videolang.data.video_dataset import VideoDataset
from hf_videolang.data.video_folder import read_video_folder

if TYPE_CHECKING:
    from datasets import Dataset

BENCHMARKS = {
    benchmark.name: benchmark for benchmark in (*MSRVTT, DIDEMO, LSMDC, ACTIVITYNET, VATEX, VATEX_FULL, YOUCOOK2)
}


def load_dataset(
    name: str, data_dir: str | Path | None = None, split: str | None = None
) -> tuple["Dataset", Protocol]:
    """Loads the records of one split, and the facts that a number measured on it must state.

    Args:
        name: a benchmark ("msrvtt-1ka", "msrvtt-9k", "msrvtt-7k", "msrvtt-7k-1ka", "msrvtt-full", "didemo", "lsmdc",
            "activitynet", "vatex", "vatex-full", "youcook2"), the path of a video folder, or "videofolder".
        data_dir: folder with the videos and annotation files, in any sub-folders. Omit it when `name` is a path.
        split: "train", "validation", "test", or several joined by "+". Train and validation never share a video, so
            a published training list is "train+validation". Default: "test", or all splits where there is no test.

    Returns:
        The dataset and its `Protocol`. The columns are `video` (`{"path", "bytes"}`, not decoded), `video_id`, the
        columns of the task (retrieval: `captions`) and, for parts of videos, `start` and `end` in seconds.

    Raises:
        ValueError: the name or split is unknown, an annotation file has a wrong layout, a video lacks a caption, or an
            id occurs twice.
        FileNotFoundError: the folder, an annotation or a video is absent.

    Example:
        >>> dataset, protocol = load_dataset("msrvtt-1ka", "/data/msrvtt")
        >>> dataset[0]["captions"]
        ['a person is connecting something to system']
    """
    return find_dataset(name, data_dir).load(split)


def find_dataset(name: str, data_dir: str | Path | None = None) -> VideoDataset:
    """Finds a dataset, to learn its task and splits or to read several splits. The metadata of a folder is read once.

    Args:
        name, data_dir: as for `load_dataset`.

    Raises:
        ValueError: `name` is neither a benchmark nor a folder, or the metadata of the folder cannot be read.
        FileNotFoundError: the folder or its metadata is absent.

    Example:
        >>> find_dataset("my_folder").splits
        ('train', 'validation')
    """
    if name in BENCHMARKS:
        if data_dir is None:
            raise ValueError(f"{name} needs data_dir: the folder with its videos and annotation files.")
        return BENCHMARKS[name].at(data_dir)
    is_folder = Path(name).is_dir()
    if data_dir is None and is_folder:
        return read_video_folder(name)
    if data_dir is not None and name == "videofolder":
        return read_video_folder(data_dir)
    hint = "It is a folder; omit data_dir." if is_folder else "There is no folder of that name."
    raise ValueError(
        f"Unknown dataset {name!r}: expected {', '.join(BENCHMARKS)}, the path of a video folder, or videofolder with "
        f"data_dir. {hint}"
    )
