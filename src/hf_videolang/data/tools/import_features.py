"""Features that others extracted become a feature store: `<id>.npy` files, or the shards of VideoCLIP's authors."""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tqdm import tqdm

from hf_videolang.data.annotation_text import in_layout
from hf_videolang.data.stores.feature_store import FeatureStore, VideoFeatures, are_unit_rows

LAYOUT = "an .npy file with an array of floats [rows, width], without Python objects"


@dataclass(frozen=True)
class ImportReport:
    """What was imported, and the smallest and largest norm of a row."""

    store: FeatureStore
    num_videos: int
    num_rows: int
    norms: tuple[float, float]

    def __str__(self) -> str:
        low, high = self.norms
        what = f"{self.num_videos} videos with {self.num_rows} rows of {self.store.dim} numbers"
        return f"{what}, norms from {low:.3g} to {high:.3g}. {self.store.folder}: {self.store.description}."


def import_features(
    folder: str | Path,
    output_dir: str | Path,
    *,
    model: str | None = None,
    frames: str | None = None,
    rows_per_second: float = 1.0,
    rows: Literal["unit", "raw"] | None = None,
    videos_per_part: int = 256,
) -> ImportReport:
    """
    Read features from files into a store, as float16. All files are checked before anything is written.

    Args:
        folder: with `<id>.npy`, an array `[rows, width]` of each video, in any sub-folders, which become parts of the
            id; or with `<split>_meta.pkl`, `<split>_<shard>_data.npy` and `<split>_<shard>_starts.npy` (videoclip
            §5.2).
        output_dir: the store, new or of the same import, which continues if it was killed.
        model, frames (*optional*): which model made the features from which frames, in words. What is not said counts
            as unknown, and every result printed with the features says so.
        rows_per_second (defaults to 1.0): grid of the rows.
        rows (*optional*): `"unit"` or `"raw"`, what the rows are said to be. They are measured, and must agree.
        videos_per_part (defaults to 256): videos of a file of the store.

    Raises:
        FileNotFoundError: the folder has no such files.
        ValueError: a file cannot be read, holds something else than numbers, or is wider or has other norms than the
            first one; or the rows are not what they are said to be.

    Example:
        >>> print(import_features("s3d_npy", "features", model="S3D of MIL-NCE", rows="unit"))
    """
    folder = Path(folder)
    first: tuple[Path, int, bool] | None = None
    num_videos, num_rows, low, high = 0, 0, float("inf"), 0.0
    for _, file, features in tqdm(_arrays(folder), "checking", unit="video", disable=None):
        found = (file, features.shape[1], are_unit_rows(features))
        first = first or found
        if found[1:] != first[1:]:
            raise ValueError(
                f"{_describe(*first)}, but {_describe(*found)}. Features of one store must come from one model; "
                "import each kind from a folder of its own."
            )
        norms = torch.from_numpy(features).float().norm(dim=1)
        num_videos, num_rows = num_videos + 1, num_rows + len(features)
        low, high = min(low, norms.min().item()), max(high, norms.max().item())
    if first is None:
        raise FileNotFoundError(f"{folder} holds no features; expected <id>.npy, each {LAYOUT}.")
    _, width, is_unit = first
    if rows is not None and (rows == "unit") != is_unit:
        raise ValueError(
            f"the rows in {folder} are said to be {rows}, but their norms run from {low:.3g} to {high:.3g}. Say "
            f"{'unit' if is_unit else 'raw'} if these are the right files."
        )
    facts: dict[str, Any] = {"model": model, "version": None, "rows_per_second": rows_per_second, "width": width}
    store = FeatureStore(output_dir, {"extractors": [{**facts, "normalized": is_unit, "frames": frames}]})
    arrays = _arrays(folder)
    while videos := list(islice(arrays, videos_per_part)):
        name = sha256("\n".join(video_id for video_id, _, _ in videos).encode()).hexdigest()[:16]
        if not store.is_whole(name):
            store.write_features(name, [VideoFeatures(video_id, features) for video_id, _, features in videos])
    return ImportReport(store, num_videos, num_rows, (low, high))


def _describe(file: Path, width: int, is_unit: bool) -> str:
    return f"{file} has {'unit' if is_unit else 'raw'} rows of {width} numbers"


def _arrays(folder: Path) -> Iterator[tuple[str, Path, np.ndarray]]:
    """Id, file and float16 features `[rows, width]` of each video."""
    shards = sorted(folder.rglob("*_meta.pkl"))
    for meta in shards:
        for shard, video_ids in _read_plain_pickle(meta).items():
            file = meta.with_name(f"{meta.name.removesuffix('_meta.pkl')}_{shard}_data.npy")
            rows, starts = _read(file), _read(file.with_name(file.name.replace("_data.npy", "_starts.npy")))
            if len(starts) != len(video_ids) + 1 or starts[-1] != len(rows):
                raise ValueError(
                    f"{file} has {len(rows)} rows, its starts name {len(starts) - 1} videos up to row {starts[-1]}, "
                    f"and {meta} names {len(video_ids)}; the files do not belong together."
                )
            for video_id, (start, end) in zip(video_ids, pairwise(starts)):
                yield video_id, file, _checked(rows[start:end], file)
    for file in [] if shards else sorted(folder.rglob("*.npy")):
        yield file.relative_to(folder).with_suffix("").as_posix(), file, _checked(_read(file), file)


def _read(file: Path) -> np.ndarray:
    """An array that stays on the disk. Python objects in it are refused, not executed."""
    with in_layout(file, "features", LAYOUT):
        return np.lib.format.open_memmap(file, mode="r")


def _checked(features: np.ndarray, file: Path) -> np.ndarray:
    with in_layout(file, "features", LAYOUT):
        if features.ndim != 2 or not features.size or not np.issubdtype(features.dtype, np.floating):
            raise ValueError(f"it is {features.dtype} of shape {features.shape}")
        with np.errstate(over="ignore"):
            halves = np.array(features, np.float16)
        if not np.isfinite(halves).all():
            raise ValueError("it has values that are infinite, no number, or too large for float16")
    return halves


def _read_plain_pickle(file: Path) -> dict[int, list[str]]:
    """A pickle of dictionaries, lists, numbers and texts. Anything else is refused before it is made."""
    with in_layout(file, "shards of features", "a pickle of {shard number: [video ids]}"), open(file, "rb") as content:
        try:
            shards = _PlainUnpickler(content).load()
        except (pickle.UnpicklingError, EOFError) as error:
            raise ValueError(str(error)) from error
        if not all(isinstance(name, str) for names in shards.values() for name in names):
            raise ValueError(f"it is {str(shards)[:80]}")
    return shards


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}, which could run code")
