"""One call from the name of a data set, or a folder, to its records and the facts about its protocol."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hf_videolang.data.benchmarks.activitynet import ACTIVITYNET
from hf_videolang.data.benchmarks.annotated_benchmark import AnnotatedBenchmark
from hf_videolang.data.benchmarks.didemo import DIDEMO
from hf_videolang.data.benchmarks.lsmdc import LSMDC
from hf_videolang.data.benchmarks.msrvtt import MSRVTT, PROTOCOLS
from hf_videolang.data.benchmarks.vatex import VATEX, VATEX_FULL
from hf_videolang.data.benchmarks.youcook2 import YOUCOOK2
from hf_videolang.data.records import Clip, Protocol, clips_to_dataset, name_some
from hf_videolang.data.video_folder import read_video_folder

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

# Every benchmark by name: its `splits`, and how to `read` one of them.
BENCHMARKS: dict[str, MSRVTT | AnnotatedBenchmark] = {name: MSRVTT(name) for name in PROTOCOLS}
BENCHMARKS |= {benchmark.name: benchmark for benchmark in (DIDEMO, LSMDC, ACTIVITYNET, VATEX, VATEX_FULL, YOUCOOK2)}


def load_dataset(
    name: str, data_dir: str | Path | None = None, split: str | None = None
) -> tuple["Dataset", Protocol]:
    """Records of one split, and the facts that a number measured on it must carry.

    Args:
        name: a benchmark ("msrvtt-1ka", "msrvtt-9k", "msrvtt-7k", "msrvtt-7k-1ka", "msrvtt-full", "didemo", "lsmdc",
            "activitynet", "vatex", "vatex-full", "youcook2"), "videofolder", or itself the path of a video folder.
        data_dir: where videos and annotation files lie, in any sub-folders; not needed when `name` is a path.
        split: "train", "validation", "test", or several joined by "+". train and validation never share a video, so
            a published training list is "train+validation". Default: "test"; for a video folder without one, all.

    Returns:
        The dataset (`video` undecoded, `video_id`, `captions`, perhaps `start` and `end`) and its `Protocol`.

    Raises:
        ValueError: unknown name or split, wrong annotation files, clips without captions, ids that come twice.
        FileNotFoundError: folder, annotation or videos that are not there.
    """
    clips, protocol = read_clips(name, data_dir, split)
    if unnamed := unnamed_videos(name, data_dir):
        logger.warning(
            "%d videos are left out, since no row of the metadata names them: %s.",
            len(unnamed),
            name_some([str(path) for path in unnamed]),
        )
    dataset = clips_to_dataset(clips)
    # without the blank captions, which are no queries
    return dataset, replace(protocol, num_captions=sum(map(len, dataset["captions"])))


def read_clips(name: str, data_dir: str | Path | None = None, split: str | None = None) -> tuple[list[Clip], Protocol]:
    """As `load_dataset`, but unchecked: absent videos, blank captions and ids that come twice stay in."""
    folder = video_folder(name, data_dir)
    if folder is None:
        existing, default = list(BENCHMARKS[name].splits), "test"
    else:
        splits, metadata, _ = read_video_folder(folder)
        existing, default = list(splits), "test" if "test" in splits else "+".join(splits)
    parts = (split or default).split("+")
    unknown = [part for part in parts if part not in existing]
    if unknown:
        raise ValueError(
            f"{name} has no split {', '.join(unknown)}; it has {', '.join(existing)}, or several joined by '+'."
        )
    if folder is None:
        assert data_dir is not None  # or video_folder would have raised
        return _join([BENCHMARKS[name].read(data_dir, part) for part in parts])
    source = name_some([f"{folder.name}/{file.relative_to(folder)}" for file in metadata])
    name = f"{folder.name} (videofolder)"
    return _join([_folder_split(splits[part], name, part, source) for part in parts])


def available_splits(name: str, data_dir: str | Path | None = None) -> list[str]:
    """Splits that `load_dataset` knows, a held-out validation split included."""
    folder = video_folder(name, data_dir)
    return list(BENCHMARKS[name].splits) if folder is None else list(read_video_folder(folder).splits)


def unnamed_videos(name: str, data_dir: str | Path | None = None) -> list[Path]:
    """Videos in a folder that no row of its metadata names; none for a benchmark, whose splits leave videos out."""
    folder = video_folder(name, data_dir)
    return [] if folder is None else read_video_folder(folder).unnamed


def video_folder(name: str, data_dir: str | Path | None = None) -> Path | None:
    """The folder that `name`, or "videofolder" with `data_dir`, stands for; None for a benchmark.

    Raises:
        ValueError: neither a benchmark nor a folder.
    """
    if name in BENCHMARKS:
        if data_dir is None:
            raise ValueError(f"{name} needs data_dir: the folder with its videos and annotation files.")
        return None
    if data_dir is None and Path(name).is_dir():
        return Path(name).absolute()
    if data_dir is not None and name == "videofolder":
        return Path(data_dir).absolute()
    folder = "It is a folder; leave out data_dir." if Path(name).is_dir() else "There is no folder of that name."
    raise ValueError(
        f"Unknown data set {name!r}: expected {', '.join(BENCHMARKS)}, the path of a video folder, or videofolder "
        f"with data_dir. {folder}"
    )


def _folder_split(clips: list[Clip], name: str, split: str, source: str) -> tuple[list[Clip], Protocol]:
    captions = sum(len(clip.captions) for clip in clips)
    return clips, Protocol(name, split, len(clips), captions, None, None, source)


def _join(parts: list[tuple[list[Clip], Protocol]]) -> tuple[list[Clip], Protocol]:
    """Several splits as one, "train+validation": the clips one after the other, the counts added."""
    facts = [protocol for _, protocol in parts]
    published = all(fact.published_videos is not None for fact in facts)
    return [clip for clips, _ in parts for clip in clips], Protocol(
        name=facts[0].name,
        split="+".join(fact.split for fact in facts),
        num_videos=sum(fact.num_videos for fact in facts),
        num_captions=sum(fact.num_captions for fact in facts),
        published_videos=sum(fact.published_videos or 0 for fact in facts) if published else None,
        published_captions=sum(fact.published_captions or 0 for fact in facts) if published else None,
        source=", ".join(dict.fromkeys(fact.source for fact in facts)),
        note=facts[0].note,
    )
