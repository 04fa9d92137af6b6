"""Shards: large collections of clips in files of some thousand records each, read at any position without decoding.

A shard has `name` (unique in its source, usable as a file name), `len(shard)`, and `shard[row]`: a dictionary with
`video` `{"path", "bytes"}`, `video_id` and whatever else is known of the clip.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from random import Random
from typing import Any

from tqdm import tqdm

from hf_videolang.data.records import Record, name_some
from hf_videolang.data.shards.parquet_shard import ParquetShard
from hf_videolang.data.shards.tar_shard import TarShard, file_system
from hf_videolang.data.video_files import list_files
from hf_videolang.data.video_folder import METADATA_NAMES, read_video_folder

SHARD_EXTENSIONS = (".tar", ".parquet")


class VideoFolderShard:
    """A video folder with its metadata (`read_video_folder`) as one shard; the videos stay files."""

    def __init__(self, folder: str | Path, split: str, records: list[Record]):
        self.path = str(folder)
        self.name = f"{Path(folder).name}-{split}"
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, row: int) -> dict[str, Any]:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {self.path}, which has {len(self)}")
        return self._records[row].row()


Shard = TarShard | ParquetShard | VideoFolderShard


def find_shards(source: str | Path, split: str = "train") -> list[Shard]:
    """
    The shards of a source, in the order of their names; nothing of their content is read.

    Args:
        source: a folder of .tar (WebDataset) and .parquet files; one such file or a glob of them, also as URL
            ("hf://datasets/org/name/data/*.tar", "s3://…"); a data set on the Hub, "org/name"; or a video folder with
            metadata, which is one shard.
        split: which files of a folder or a data set on the Hub: those that `datasets.load_dataset` would take for it,
            by the names of files and folders, or by what its card says. Where no name speaks of a split, all are
            "train". Of a video folder: as `read_video_folder`. Files and globs are taken as they are.

    Raises:
        FileNotFoundError: nothing of that name, or nothing in it that is a shard.
        ValueError: no such split; two shards of one name.
    """
    source = str(source)
    if "://" not in source and Path(source).is_dir():
        folder = str(Path(source).absolute())
        names = [file.name for file in list_files(folder)]
        if not any(map(_is_shard, names)):
            if any(name in METADATA_NAMES for name in names):
                return [_video_folder(folder, split)]
            raise FileNotFoundError(
                f"{folder} holds no .tar or .parquet shards and no {' or '.join(METADATA_NAMES)}.{_unpack(names)}"
            )
        paths = _files_of_folder(folder, split)
    elif re.search(r"[*?[]", source) or "://" in source or Path(source).exists():
        paths = _files_of_glob(source)
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        paths = _files_on_hub(source, split)
    else:
        raise FileNotFoundError(
            f"{source!r} is no folder, no file, and not the name of a data set on the Hub, such as 'org/name'."
        )
    kinds = {".tar": TarShard, ".parquet": ParquetShard}
    return [kinds[PurePosixPath(path).suffix](path, name) for path, name in zip(paths, _names(paths))]


def count_clips(shards: Sequence[Shard]) -> list[int]:
    """
    The number of clips in each shard, of 16 shards at once, since it takes waits: on a disk of the network one for each
    header of a tar that has no index yet. Parsing them keeps one core busy; processes that start together share the
    tars out, as each goes through them in an order of its own and finds what another has done.

    Raises:
        FileNotFoundError, ValueError: as the shards, of the first one that cannot be counted.
    """
    mixed = Random().sample(shards, len(shards))  # not in the seeded order, which all have in common
    is_quiet = os.environ.get("RANK", "0") != "0"
    with ThreadPoolExecutor(16) as pool:
        counts = pool.map(len, mixed)
        list(tqdm(counts, "counting clips", len(mixed), unit="shard", delay=3, disable=is_quiet))
    return [len(shard) for shard in shards]


def _video_folder(folder: str, split: str) -> VideoFolderShard:
    records = read_video_folder(folder).records
    if split not in records:
        raise ValueError(f"{folder} has no split {split!r}; it has {', '.join(records)}.")
    return VideoFolderShard(folder, split, records[split])


def _is_shard(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.endswith(SHARD_EXTENSIONS) and name not in METADATA_NAMES and not name.startswith(".")


def _unpack(paths: list[str]) -> str:
    compressed = [path for path in paths if re.search(r"\.(tgz|tar\.\w+)$", path)]
    if not compressed:
        return ""
    return f" Compressed ones give no access to one sample; unpack {name_some(compressed)}."


def _files_of_glob(source: str) -> list[str]:
    if "://" not in source and Path(source).exists():  # brackets in it are no pattern
        found = [str(Path(source).absolute())]
    else:
        files, root = file_system(source)
        found = sorted(files.glob(root))
        if "://" in source:
            found = [files.unstrip_protocol(path) for path in found]
    paths = list(filter(_is_shard, found))  # "*" finds hidden files, such as indices, too
    if not paths:
        raise FileNotFoundError(f"{source}: there is no such .tar or .parquet file.{_unpack(found)}")
    return paths


def _files_of_folder(folder: str, split: str) -> list[str]:
    from datasets.data_files import DataFilesDict, get_data_patterns

    files = DataFilesDict.from_patterns(
        get_data_patterns(folder), base_path=folder, allowed_extensions=list(SHARD_EXTENSIONS)
    )
    return _files_of_split(folder, files, split)


def _files_on_hub(name: str, split: str) -> list[str]:
    """URLs that `load_dataset` would read: by the card or the names of files. A data set cannot bring code."""
    from datasets import load_dataset_builder

    try:
        builder = load_dataset_builder(name)
    except OSError as error:
        raise FileNotFoundError(f"{name!r} is neither a folder or file nor a data set on the Hub: {error}") from error
    return _files_of_split(name, builder.config.data_files or {}, split)


def _files_of_split(source: str, files: Mapping[Any, Any], split: str) -> list[str]:
    splits = {str(name): [str(path) for path in paths] for name, paths in files.items()}
    if split not in splits:
        raise ValueError(f"{source} has no split {split!r}; it has {', '.join(splits) or 'none'}.")
    paths = sorted(filter(_is_shard, splits[split]))
    if not paths:
        raise FileNotFoundError(
            f"{source}: split {split!r} has no .tar or .parquet files but {name_some(splits[split])}. Make them "
            "of it with `datasets` (`push_to_hub` writes .parquet)."
        )
    return paths


def _names(paths: list[str]) -> list[str]:
    """File names without extension; with their folders below the common one where they are not unique."""
    names = [PurePosixPath(path).stem for path in paths]
    if len(set(names)) < len(names):
        parts = [PurePosixPath(path).with_suffix("").parts for path in paths]
        common = next(i for i, level in enumerate(zip(*parts)) if len(set(level)) > 1)
        names = ["-".join(part[common:]) for part in parts]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{len(twice)} shards have a name in common: {name_some(twice)}. Rename the files.")
    return names
