"""From the name of a dataset, or a folder, to its records and the facts about its protocol."""

from pathlib import Path
from typing import TYPE_CHECKING

from hf_videolang.data.benchmarks.activitynet import ACTIVITYNET
from hf_videolang.data.benchmarks.didemo import DIDEMO
from hf_videolang.data.benchmarks.lsmdc import LSMDC
from hf_videolang.data.benchmarks.msrvtt import MSRVTT
from hf_videolang.data.benchmarks.vatex import VATEX, VATEX_EN_C, VATEX_EN_R, VATEX_FULL
from hf_videolang.data.benchmarks.youcook2 import YOUCOOK2
from hf_videolang.data.protocol import Protocol
from hf_videolang.data.video_dataset import VideoDataset
from hf_videolang.data.video_folder import read_video_folder

if TYPE_CHECKING:
    from datasets import Dataset

BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (*MSRVTT, DIDEMO, LSMDC, ACTIVITYNET, VATEX, VATEX_FULL, VATEX_EN_R, VATEX_EN_C, YOUCOOK2)
}


def load_dataset(
    name: str, data_dir: str | Path | None = None, split: str | None = None
) -> tuple["Dataset", Protocol]:
    """Loads the records of one split, and the facts that a number measured on it must state.

    Args:
        name: a benchmark (a key of `BENCHMARKS`, e.g. "msrvtt-1ka"), the path of a video folder, or "videofolder".
        data_dir: folder with the videos and annotation files, in any sub-folders. Omit it when `name` is a path.
        split: "train", "validation", "test", or several joined by "+". Train and validation never share a video, so
            a published training list is "train+validation". Default: "test", or all splits where there is no test.

    Returns:
        The dataset, with the columns of `records_to_dataset`, and its `Protocol`.

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
    if data_dir is not None and name in BENCHMARKS:
        return BENCHMARKS[name].at(data_dir)
    if data_dir is not None and name == "videofolder":
        return read_video_folder(data_dir)
    if data_dir is None and name not in BENCHMARKS and Path(name).is_dir():
        return read_video_folder(name)
    raise ValueError(
        f"No dataset {name!r} with data_dir {data_dir}: expected a benchmark ({', '.join(BENCHMARKS)}) or "
        "videofolder, with data_dir, or the path of a video folder, without data_dir."
    )
