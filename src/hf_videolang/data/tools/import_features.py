"""Features that others extracted become a feature store."""

import logging
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from tqdm import tqdm

from hf_videolang.data.annotation_text import in_layout
from hf_videolang.data.benchmarks.value_features import SECONDS_PER_FEATURE, VALUE_FEATURES, WIDTHS, ValueFeature
from hf_videolang.data.records import name_some
from hf_videolang.data.stores.feature_store import FeatureStore, VideoFeatures, are_unit_rows

logger = logging.getLogger(__name__)

VIDEOS_PER_PART = 64  # of a file of the store: a read of one video reads the index of its file
LAYOUT = "an .npy file with an array of floats [rows, width], without Python objects"


class FeatureSource(Protocol):
    """
    Iterating gives id, file and features `[rows, width]` of each video.

    Attributes:
        name: of the features, `None` if nothing says it.
        seconds_per_feature: time between two rows, `None` if nothing says it.
        expected: which files there should be.
        left_out: videos without features, known after an iteration.
    """

    name: str | None
    seconds_per_feature: float | None
    expected: str
    left_out: list[str]

    def __iter__(self) -> Iterator[tuple[str, Path, np.ndarray]]: ...


@dataclass(frozen=True)
class ImportReport:
    """What was imported, the smallest and largest norm of the rows of each extractor, and videos without features."""

    store: FeatureStore
    num_videos: int
    num_rows: int
    norms: list[tuple[float, float]]
    left_out: list[str]

    def __str__(self) -> str:
        what = f"{self.num_videos} videos with {self.num_rows} rows of {self.store.dim} numbers"
        text = f"{what}, norms {_ranges(self.norms)}. {self.store.folder}: {self.store.description}."
        if self.left_out:
            text += f"\n{len(self.left_out)} videos have no features and are left out: {name_some(self.left_out)}."
        return text


def import_features(
    source: FeatureSource,
    output_dir: str | Path,
    *,
    name: str | None = None,
    model: str | None = None,
    frames: str | None = None,
    seconds_per_feature: float | None = None,
    rows: Literal["unit", "raw"] | None = None,
) -> ImportReport:
    """
    Read features from files into a store, as float16. All files are checked before anything is written.

    Args:
        source: the files, read twice: a [`FeatureFolder`],
            [`~hf_videolang.data.tools.value_containers.ValueDatabase`] or
            [`~hf_videolang.data.tools.value_containers.ValueFiles`].
        output_dir: the store, new or of the same import, which continues if it was killed.
        name (*optional*): of the features, as models name those that they were trained on; by default as the source
            says. A name of VALUE, such as `"clip-vit_slowfast"`, also tells models, frames and widths.
        model, frames (*optional*): which model made the features from which frames, in words. What is not said counts
            as unknown, and every result printed with the features says so.
        seconds_per_feature (*optional*): time between two rows; by default as the source says, 1.5 for a name of
            VALUE, and 1 otherwise.
        rows (*optional*): `"unit"` or `"raw"`, what the rows are said to be. They are measured, and must agree.

    Raises:
        FileNotFoundError: there are no features.
        ValueError: a file cannot be read, holds something else than numbers, or is wider or has other norms than the
            first one; the rows are not what they are said to be; or a name of VALUE has another width.

    Example:
        >>> print(import_features(FeatureFolder("s3d_npy"), "features", model="S3D of MIL-NCE", rows="unit"))
    """
    for _, file, features in source:
        width = _checked(features, file).shape[1]
        break
    else:
        raise FileNotFoundError(f"there are no features in {source}; expected {source.expected}.")
    extractors = _name_extractors(source, name, width, file)
    if seconds_per_feature is None:
        seconds_per_feature = source.seconds_per_feature or (SECONDS_PER_FEATURE if name in WIDTHS else 1.0)
    ends = np.cumsum([extractor.width for extractor in extractors.values()])
    num_videos, num_rows, norms = 0, 0, [(float("inf"), 0.0) for _ in extractors]
    first: tuple[Path, int, list[bool]] | None = None
    for _, file, features in tqdm(source, "checking", unit="video", disable=None):
        parts = np.split(_checked(features, file), ends[:-1], axis=1)
        found = (file, features.shape[1], [are_unit_rows(part) for part in parts])
        first = first or found
        if found[1:] != first[1:]:
            raise ValueError(
                f"{_describe(*first)}, but {_describe(*found)}. Features of one store must come from one model; "
                "import each kind from a folder of its own."
            )
        lengths = [np.linalg.norm(part.astype(np.float32), axis=1) for part in parts]
        norms = [(min(low, one.min()), max(high, one.max())) for (low, high), one in zip(norms, lengths)]
        num_videos, num_rows = num_videos + 1, num_rows + len(features)
    assert first is not None
    if rows is not None and {rows == "unit"} != set(first[2]):
        raise ValueError(
            f"the rows of {source} are said to be {rows}, but their norms run {_ranges(norms)}. Leave this out if "
            "these are the right files."
        )
    facts = [
        {
            "features": own_name,
            "model": model or extractor.model,
            "version": None,
            "rows_per_second": 1 / seconds_per_feature,
            "width": extractor.width,
            "normalized": is_unit,
            "frames": frames or extractor.frames,
        }
        for (own_name, extractor), is_unit in zip(extractors.items(), first[2])
    ]
    store, remaining = FeatureStore(output_dir, {"extractors": facts}), iter(source)
    while videos := list(islice(remaining, VIDEOS_PER_PART)):
        part = sha256("\n".join(video_id for video_id, _, _ in videos).encode()).hexdigest()[:16]
        if not store.is_whole(part):
            store.write_features(part, [VideoFeatures(video_id, features) for video_id, _, features in videos])
    return ImportReport(store, num_videos, num_rows, norms, source.left_out)


def _name_extractors(
    source: FeatureSource, name: str | None, width: int, file: Path
) -> dict[str | None, ValueFeature]:
    """The extractors whose features stand side by side in rows of this width; a single one if not VALUE's."""
    known = name or source.name
    if known not in WIDTHS:
        return {known: ValueFeature(model=None, frames=None, width=width)}
    if WIDTHS[known] == width:
        return {one: VALUE_FEATURES[one] for one in known.split("_")}
    differ = f"{file} has rows of {width} numbers, but {known} has {WIDTHS[known]}"
    if name:
        raise ValueError(f"{differ}. Say another name.")
    logger.warning("%s: the features count as unknown.", differ)
    return {None: ValueFeature(model=None, frames=None, width=width)}


def _ranges(norms: list[tuple[float, float]]) -> str:
    return " and ".join(f"from {low:.3g} to {high:.3g}" for low, high in norms)


def _describe(file: Path, width: int, are_unit: list[bool]) -> str:
    kinds = " and ".join("unit" if is_unit else "raw" for is_unit in are_unit)
    return f"{file} has {kinds} rows of {width} numbers"


class FeatureFolder:
    """
    The features of a folder, in any sub-folders: `<id>.npy`, an array `[rows, width]` of each video, where sub-folders
    become parts of the id; or `<split>_meta.pkl`, `<split>_<shard>_data.npy` and `<split>_<shard>_starts.npy`
    (videoclip §5.2).
    """

    name: str | None = None
    seconds_per_feature: float | None = None
    expected = f"<id>.npy, each {LAYOUT}"

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.left_out: list[str] = []

    def __str__(self) -> str:
        return str(self.folder)

    def __iter__(self) -> Iterator[tuple[str, Path, np.ndarray]]:
        shards = sorted(self.folder.rglob("*_meta.pkl"))
        for meta in shards:
            for shard, video_ids in _read_plain_pickle(meta).items():
                file = meta.with_name(f"{meta.name.removesuffix('_meta.pkl')}_{shard}_data.npy")
                rows, starts = _read(file), _read(file.with_name(file.name.replace("_data.npy", "_starts.npy")))
                if len(starts) != len(video_ids) + 1 or starts[-1] != len(rows):
                    raise ValueError(
                        f"{file} has {len(rows)} rows, its starts name {len(starts) - 1} videos up to row "
                        f"{starts[-1]}, and {meta} names {len(video_ids)}; the files do not belong together."
                    )
                for video_id, (start, end) in zip(video_ids, pairwise(starts)):
                    yield video_id, file, rows[start:end]
        for file in [] if shards else sorted(self.folder.rglob("*.npy")):
            yield file.relative_to(self.folder).with_suffix("").as_posix(), file, _read(file)


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
