"""Find the shards of a collection: files of some thousand records each, with random access and without decoding.

A shard has a `name` (unique in its source, usable as a file name), `len(shard)` and `shard[row]`: a dictionary with
`video` `{"path", "bytes"}`, `video_id` and the other fields of the clip.
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
from hf_videolang.data.video_folder import METADATA_NAMES, MissingMetadataError, read_video_folder

SHARD_EXTENSIONS = (".tar", ".parquet")


class VideoFolderShard:
    """The records of a video folder as one shard. The videos stay files."""

    def __init__(self, folder: str | Path, split: str, records: list[Record]):
        self.path = str(folder)
        self.name = f"{Path(folder).name}-{split}"
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.records[row].row()


Shard = TarShard | ParquetShard | VideoFolderShard


def find_shards(source: str | Path, split: str | None = "train") -> list[Shard]:
    """
    The shards of a source, sorted by name. This reads nothing of their content.

    Args:
        source: a folder of .tar (WebDataset) and .parquet files; one such file or a glob of them, also as a URL
            ("hf://datasets/org/name/data/*.tar", "s3://…"); a dataset on the Hub, "org/name"; or a folder of videos,
            which is one shard.
        split (defaults to `"train"`): of a folder of shards or a Hub dataset, the files that `datasets.load_dataset`
            takes for this split, by their names or by the dataset's card; if no name mentions a split, all files are
            "train". Of a video folder, see `read_video_folder`; without metadata all its videos are "train". Files and
            globs are taken as they are. `None` takes all splits.

    Raises:
        FileNotFoundError: the source does not exist or holds neither shards nor videos.
        ValueError: there is no such split, or two shards have the same name.

    Example:
        >>> shards = find_shards("hf://datasets/org/name/data/*.tar")
        >>> shards[0][0]["video_id"]
    """
    source = str(source)
    if "://" not in source and Path(source).is_dir():
        folder = str(Path(source).absolute())
        names = [file.name for file in list_files(folder)]
        if not any(map(_is_shard, names)):
            return [_video_folder(folder, split, names)]
        paths = _files_of_folder(folder, split)
    elif re.search(r"[*?[]", source) or "://" in source or Path(source).exists():
        paths = _files_of_glob(source)
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        paths = _files_on_hub(source, split)
    else:
        raise FileNotFoundError(
            f"{source!r} does not exist; expected a folder, a file, or the name of a dataset on the Hub ('org/name')."
        )
    kinds = {".tar": TarShard, ".parquet": ParquetShard}
    return [kinds[PurePosixPath(path).suffix](path, name) for path, name in zip(paths, _names(paths))]


def count_clips(shards: Sequence[Shard]) -> list[int]:
    """
    The number of clips in each shard.

    Counting a tar without an index waits for each of its headers, so 16 shards are counted at the same time. Processes
    that start together share the work: each takes the shards in its own order and finds the indices of the others.

    """
    mixed = Random().sample(shards, len(shards))  # unseeded, because all processes share the seed
    is_quiet = os.environ.get("RANK", "0") != "0"
    with ThreadPoolExecutor(16) as pool:
        counts = pool.map(len, mixed)
        list(tqdm(counts, "counting clips", len(mixed), unit="shard", delay=3, disable=is_quiet))
    return [len(shard) for shard in shards]


def _video_folder(folder: str, split: str | None, names: list[str]) -> VideoFolderShard:
    try:
        records = read_video_folder(folder).records
    except MissingMetadataError as error:
        if not error.records:
            raise FileNotFoundError(
                f"{folder} holds neither shards (.tar, .parquet) nor videos.{_unpack(names)}"
            ) from error
        records = {"train": error.records}
    if split is None:
        return VideoFolderShard(folder, "all", [record for found in records.values() for record in found])
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
    return f" A compressed tar can only be read from its beginning; unpack {name_some(compressed)}."


def _files_of_glob(source: str) -> list[str]:
    if "://" not in source and Path(source).exists():  # a name with brackets is not a pattern
        found = [str(Path(source).absolute())]
    else:
        files, root = file_system(source)
        found = sorted(files.glob(root))
        if "://" in source:
            found = [files.unstrip_protocol(path) for path in found]
    paths = list(filter(_is_shard, found))  # "*" also finds hidden files, such as indices
    if not paths:
        raise FileNotFoundError(
            f"{source} matches no .tar or .parquet file; for single videos, give the folder that holds them."
            f"{_unpack(found)}"
        )
    return paths


def _files_of_folder(folder: str, split: str | None) -> list[str]:
    from datasets.data_files import DataFilesDict, get_data_patterns

    files = DataFilesDict.from_patterns(
        get_data_patterns(folder), base_path=folder, allowed_extensions=list(SHARD_EXTENSIONS)
    )
    return _files_of_split(folder, files, split)


def _files_on_hub(name: str, split: str | None) -> list[str]:
    """The URLs that `load_dataset` would read. A dataset cannot bring code."""
    from datasets import load_dataset_builder

    try:
        builder = load_dataset_builder(name)
    except OSError as error:
        raise FileNotFoundError(f"{name!r} is neither a folder or file nor a dataset on the Hub: {error}") from error
    return _files_of_split(name, builder.config.data_files or {}, split)


def _files_of_split(source: str, files: Mapping[Any, Any], split: str | None) -> list[str]:
    splits = {str(name): [str(path) for path in paths] for name, paths in files.items()}
    if split is not None and split not in splits:
        raise ValueError(f"{source} has no split {split!r}; it has {', '.join(splits) or 'none'}.")
    found = [path for name, files in splits.items() if split in (None, name) for path in files]
    paths = sorted(filter(_is_shard, found))
    if not paths:
        raise FileNotFoundError(
            f"{source}: split {split!r} has no .tar or .parquet files but {name_some(found)}. Convert them "
            "with `datasets` (`push_to_hub` writes .parquet)."
        )
    return paths


def _names(paths: list[str]) -> list[str]:
    """File names without extension; if they are not unique, with the folders below the common one."""
    names = [PurePosixPath(path).stem for path in paths]
    if len(set(names)) < len(names):
        parts = [PurePosixPath(path).with_suffix("").parts for path in paths]
        common = next((i for i, level in enumerate(zip(*parts)) if len(set(level)) > 1), -1)
        names = ["-".join(part[common:]) for part in parts]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{len(twice)} names belong to several shards: {name_some(twice)}. Rename the files.")
    return names
