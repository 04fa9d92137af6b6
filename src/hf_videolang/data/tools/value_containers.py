"""Reads the containers in which the VALUE benchmark hands out features and texts (hero §7.4). Nothing is executed."""

import io
import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import numpy as np

from hf_videolang.data.annotation_text import in_layout
from hf_videolang.data.benchmarks.value_features import FOLDERS, SECONDS_PER_FEATURE, WIDTHS
from hf_videolang.data.records import name_some

INSTALL = 'reading VALUE\'s containers needs lmdb, lz4 and msgpack; pip install "hf_videolang[value]".'
VALUE = '{"features": an array of floats [rows, width]}, as msgpack or .npz, without Python objects'
RECORD = "a compressed msgpack record"


class ValueDatabase:
    """
    The features of an LMDB folder, `<name>_<seconds>` or `<name>_<seconds>_compressed`.

    Iterating gives id, file and features `[rows, width]` of each video. A video has as many rows as
    `id2nframe_<seconds>.json` beside the folder says, if it says less than there are.

    Attributes:
        name: of the features, `None` if the folder says no name of VALUE.
        seconds_per_feature: as the folder says, `None` otherwise.
        left_out: videos without a row, known after an iteration.

    Raises:
        FileNotFoundError: the folder has no database.
        ImportError: the extra `value` is not installed.
        ValueError: while iterating: the database is not whole, or a value is no array of floats.

    Example:
        >>> for video_id, _, features in ValueDatabase("tv/clip-vit_slowfast_1.5_compressed"):
        ...     print(video_id, features.shape)
    """

    expected = "videos that have rows"

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.left_out: list[str] = []
        stem, _, seconds = self.folder.resolve().name.removesuffix("_compressed").rpartition("_")
        try:
            self.seconds_per_feature: float | None = float(seconds)
        except ValueError:
            self.seconds_per_feature = None
        self.name = stem if stem in WIDTHS else None

    def __str__(self) -> str:
        return str(self.folder)

    def __iter__(self) -> Iterator[tuple[str, Path, np.ndarray]]:
        self.left_out, counts = [], self._counts()
        for video_id, value in read_database(self.folder):
            with in_layout(self.folder / video_id, "VALUE's features", VALUE):
                rows = _decode_features(value)[: counts.get(video_id)]
                is_empty = not len(rows)
            if is_empty:
                self.left_out.append(video_id)
            else:
                yield video_id, self.folder / video_id, rows

    def _counts(self) -> dict[str, int]:
        names = (f"id2nframe_{self.seconds_per_feature or 0:g}.json", "id2nframe.json")
        file = next((file for name in names if (file := self.folder.parent / name).is_file()), None)
        if file is None:
            return {}
        with in_layout(file, "VALUE's numbers of frames", '{"video": number}'):
            return {name: int(count) for name, count in json.loads(file.read_bytes()).items()}


class ValueFiles:
    """
    The features of two folders of `<id>.npz`, in any sub-folders: of single frames, and of clips.

    Iterating gives id, file and features of each video, side by side in this order and cut to the shorter. A video
    that one folder lacks, or that has no row there, is left out. Attributes and errors are those of
    [`ValueDatabase`].

    Example:
        >>> ValueFiles("features/clip-vit", "features/slowfast").name
        'clip-vit_slowfast'
    """

    seconds_per_feature: float | None = SECONDS_PER_FEATURE
    expected = "<id>.npz of the same ids in both"

    def __init__(self, folder_2d: str | Path, folder_3d: str | Path):
        self.folders = Path(folder_2d), Path(folder_3d)
        self.left_out: list[str] = []
        stems = [folder.resolve().name for folder in self.folders]
        name = "_".join(FOLDERS.get(stem, stem) for stem in stems)
        self.name = name if name in WIDTHS else None

    def __str__(self) -> str:
        return " and ".join(map(str, self.folders))

    def __iter__(self) -> Iterator[tuple[str, Path, np.ndarray]]:
        files = [
            {file.relative_to(folder).with_suffix("").as_posix(): file for file in sorted(folder.rglob("*.npz"))}
            for folder in self.folders
        ]
        self.left_out = sorted(files[0].keys() ^ files[1].keys())
        for video_id, file in files[0].items():
            if video_id not in files[1]:
                continue
            both = [_read_file(one[video_id]) for one in files]
            with in_layout(file, "VALUE's features", VALUE):
                count = min(map(len, both))
                rows = np.concatenate([one[:count] for one in both], axis=1) if count else None
            if rows is None:
                self.left_out.append(video_id)
            else:
                yield video_id, file, rows


def read_records(folder: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Id and record of each entry of a text database. The errors are those of [`ValueDatabase`]."""
    msgpack, lz4 = _extra("msgpack"), _extra("lz4.frame")
    for key, value in read_database(Path(folder)):
        with in_layout(Path(folder) / key, "VALUE's texts", RECORD):
            yield key, {**msgpack.unpackb(lz4.decompress(value))}


def read_database(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Keys and values of an LMDB folder, in the order of the keys. Errors are those of [`ValueDatabase`]."""
    lmdb, file = _extra("lmdb"), folder / "data.mdb"
    if not file.is_file():
        below = [one.parent.relative_to(folder) for one in sorted(folder.rglob("data.mdb"))]
        remedy = f"its folders {name_some(below)} are; give one of them" if below else "it has no data.mdb"
        raise FileNotFoundError(f"{folder} is no LMDB database: {remedy}.")
    with in_layout(file, "LMDB", "a whole database"), lmdb.open(str(folder), readonly=True, lock=False) as database:
        size = (database.info()["last_pgno"] + 1) * database.stat()["psize"]
        if file.stat().st_size < size:  # reading a page that is not there would end the process
            raise ValueError(f"it has {file.stat().st_size} of {size} bytes; copy or download it again")
        with database.begin() as transaction:
            for key, value in transaction.cursor():
                yield key.decode(), value


def _extra(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(INSTALL) from error


def _decode_features(value: bytes) -> np.ndarray:
    if value.startswith(b"PK"):
        return _read_npz(io.BytesIO(value))
    return _decode_array(_extra("msgpack").unpackb(value)["features"])


def _decode_array(packed: dict[Any, Any]) -> np.ndarray:
    """An array as msgpack-numpy packs it, from dtype and shape alone. That of objects would be a pickle: refused."""
    facts = {(key.decode() if isinstance(key, bytes) else key): value for key, value in packed.items()}
    name = facts["type"].decode() if isinstance(facts["type"], bytes) else facts["type"]
    dtype = np.dtype(name)
    if dtype.kind != "f":
        raise ValueError(f"its array is of {name}")
    return np.frombuffer(facts["data"], dtype).reshape(facts["shape"])


def _read_file(file: Path) -> np.ndarray:
    """The features of one .npz; none if the file is empty, as extractors that failed left it."""
    with in_layout(file, "VALUE's features", VALUE):
        return _read_npz(file) if file.stat().st_size else np.empty((0, 0))


def _read_npz(content: Path | IO[bytes]) -> np.ndarray:
    with np.load(content, allow_pickle=False) as arrays:
        return arrays["features"]
