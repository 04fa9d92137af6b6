"""Features of videos: `hf-videolang extract` and `data import-features` write them; collators read them for frames."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from hf_videolang.data.annotation_text import in_layout
from hf_videolang.data.records import name_some, whole_video_id
from hf_videolang.data.stores.part_store import PartStore
from hf_videolang.video import VideoDecodingError

COLUMNS = ("video_id", "features", "num_rows", "problem", "num_bytes", "source", "note")
NORM_TOLERANCE = 0.01  # of a unit row in float16


class MissingFeaturesError(ValueError):
    """A store has no features of a video."""


@dataclass(frozen=True)
class VideoFeatures:
    """
    One row of a store: the features of a video, or why there are none.

    Attributes:
        video_id: as in the records of a dataset.
        features: `[rows, width]`; empty if the video does not decode.
        problem: why it does not decode; `None` if it does.
        num_bytes: size of the file, which shows whether it has changed; `None` if unknown.
        source: what the video is called where it was read: its id in a folder, `<shard>/<row>` in a shard.
        note: what users of the features should know, such as a low frame rate; `None` if there is nothing.
    """

    video_id: str
    features: np.ndarray
    problem: str | None = None
    num_bytes: int | None = None
    source: str | None = None
    note: str | None = None


class _Place(NamedTuple):
    part: str
    row: int
    num_rows: int
    num_bytes: int | None
    problem: str | None


class FeatureStore(PartStore):
    """
    A `PartStore` of the features of videos, one row a video, as float16.

    The provenance is `{"extractors": [...]}`, with an entry for each model whose features stand side by side in a row
    of features: `features`, the name by which other models know them (absent: that of the model), `model` and
    `version`, `rows_per_second` (`None`: one vector a clip), `width`, `normalized` (whether its part of each row is a
    unit vector), and how frames and pixels were chosen. What is not known is `None`.

    Arguments and errors are those of `PartStore`. A store of something else, and one that an earlier version of the
    package wrote in another layout, raise `ValueError`, too.

    Example:
        >>> store = FeatureStore("features")
        >>> store.features("kitchen").shape
        torch.Size([95, 512])
    """

    def __init__(self, folder: str | Path, provenance: Mapping[str, Any] | None = None):
        super().__init__(folder, provenance)
        if "extractors" not in self.provenance:
            raise ValueError(
                f"{folder} is a store, but not of features; expected a folder that `hf-videolang extract` or "
                "`hf-videolang data import-features` wrote."
            )
        if self._has_old_layout():
            raise ValueError(
                f"{folder} holds features in an old layout: {self.names()[0]}.parquet has no column num_rows. Remove "
                "the folder, or choose another one, and run `hf-videolang extract` or `hf-videolang data "
                "import-features` again."
            )

    @property
    def extractors(self) -> list[dict[str, Any]]:
        return self.provenance["extractors"]

    @property
    def dim(self) -> int:
        """Width of a row."""
        return sum(extractor["width"] for extractor in self.extractors)

    @property
    def name(self) -> str | None:
        """What the features are called, "clip-vit_slowfast" where two stand side by side; `None` if unknown."""
        names = [extractor.get("features") or extractor["model"] for extractor in self.extractors]
        return "_".join(names) if all(names) else None

    @property
    def rows_per_second(self) -> float | None:
        """`None` if a clip has a single vector."""
        return self.extractors[0]["rows_per_second"]

    @property
    def rate(self) -> str:
        """`rows_per_second` in words."""
        rate = self.rows_per_second
        return "one vector a clip" if rate is None else f"{rate:g} row{'s' * (rate != 1)} a second"

    @property
    def video_ids(self) -> list[str]:
        """Ids of all videos, also of those that do not decode."""
        return list(self._places)

    def has(self, video_id: str, num_bytes: int | None = None) -> bool:
        """Whether the store knows a video, also as broken, from a file of this size as far as sizes are known."""
        place = self._place(video_id)
        return place is not None and (num_bytes is None or place.num_bytes in (None, num_bytes))

    def broken(self, video_ids: Iterable[str]) -> dict[str, str]:
        """Those of these videos that did not decode when the features were made, and why."""
        places = {video_id: self._place(video_id) for video_id in video_ids}
        return {video_id: place.problem for video_id, place in places.items() if place and place.problem}

    def id_of(self, video: str | Path) -> str:
        """The id under which a file is stored: its path below the folder that was extracted, without the ending."""
        parts = Path(video).parts
        paths = [Path(*parts[first:]) for first in range(len(parts))]
        names = [name for path in paths for name in (path.as_posix(), path.with_suffix("").as_posix())]
        return next((name for name in names if name in self._places), Path(video).stem)

    def features(self, video_id: str) -> torch.Tensor:
        """
        All rows of a video. A part of a video, "<video id>#t=1.5,4", has those of the whole.

        Returns:
            float32 `[rows, dim]`.

        Raises:
            MissingFeaturesError: the store does not know the video.
            VideoDecodingError: it did not decode when the features were made.
        """
        place = self._known_place(video_id)
        (video,) = self._videos(self.read(place.part, place.row))
        return torch.from_numpy(video.features).float()

    def num_rows(self, video_id: str) -> int:
        """How many rows `features` returns, without reading them. The errors are its own."""
        return self._known_place(video_id).num_rows

    def first_rows(self) -> torch.Tensor:
        """
        The features of the first video that has some, to see what the store holds.

        Raises:
            MissingFeaturesError: there is none.
        """
        for part in self.names():
            for video in self.read_features(part):
                if video.problem is None:
                    return torch.from_numpy(video.features).float()
        raise MissingFeaturesError(f"{self.folder} has no features of any video. Run `hf-videolang extract` again.")

    def rows(self, video_id: str, start: float | None = None, end: float | None = None) -> torch.Tensor:
        """
        The rows of a segment: floor(start) to ceil(end) of the file's own grid, counted from its first frame.

        Args:
            video_id: see `features`, whose errors this raises, too.
            start, end: seconds; `None` for the beginning and the end of the file.

        Raises:
            VideoDecodingError: no row lies between `start` and `end`.
            ValueError: a segment is asked for, but the store has one vector a clip.
        """
        rows = self.features(video_id)
        if start is None and end is None:
            return rows
        if self.rows_per_second is None:
            raise ValueError(
                f"{self.folder} has one vector a clip, so it has no rows between {start} and {end} s of {video_id}. "
                "Extract features with a model that gives rows for each second."
            )
        first = math.floor((start or 0) * self.rows_per_second)
        stop = len(rows) if end is None else math.ceil(end * self.rows_per_second)
        if not len(rows[first:stop]):
            raise VideoDecodingError(
                video_id, f"it has {len(rows)} rows of features, and none lies between {start} and {end} s"
            )
        return rows[first:stop]

    def check_complete(self, video_ids: Sequence[str]) -> None:
        """
        Raises:
            MissingFeaturesError: the store does not know some of these videos, e.g. because its run was killed.
        """
        if missing := [name for name in video_ids if not self.has(name)]:
            raise MissingFeaturesError(
                f"{self.folder} has no features of {len(missing)} of {len(video_ids)} videos: {name_some(missing)}. "
                "Run `hf-videolang extract` with this output folder again: it adds what is missing."
            )

    @property
    def description(self) -> str:
        """How the features were made, part of every result printed with them."""
        return " + ".join(map(_describe, self.extractors)) + f", {self.rate}"

    def write_features(self, name: str, videos: Sequence[VideoFeatures]) -> None:
        """Write one part, completely or not at all."""
        import pyarrow

        # Bytes are read ten times faster than lists of numbers.
        features = [video.features.astype(np.float16).tobytes() for video in videos]
        columns = {
            "video_id": pyarrow.array([video.video_id for video in videos], pyarrow.string()),
            "features": pyarrow.array(features, pyarrow.large_binary()),
            "num_rows": pyarrow.array([len(video.features) for video in videos], pyarrow.int64()),
            "problem": pyarrow.array([video.problem for video in videos], pyarrow.string()),
            "num_bytes": pyarrow.array([video.num_bytes for video in videos], pyarrow.int64()),
            "source": pyarrow.array([video.source for video in videos], pyarrow.string()),
            "note": pyarrow.array([video.note for video in videos], pyarrow.string()),
        }
        # A row group is a video, so that one video can be read alone. Packed numbers would be hardly smaller, and to
        # compare them for statistics takes several times their memory.
        options = {"use_dictionary": False, "compression": "none", "write_statistics": False}
        self.write(name, columns, row_group_size=1, **options)

    def read_features(self, name: str) -> list[VideoFeatures]:
        """The rows of one part."""
        return list(self._videos(self.read(name)))

    def facts(self, name: str) -> list[dict[str, Any]]:
        """The rows of one part without the features: a dictionary of the other columns for each."""
        return self.read(name, columns=[column for column in COLUMNS if column != "features"]).to_pylist()

    def _has_old_layout(self) -> bool:
        """Whether features are lists of numbers instead of bytes, as far as the first part tells."""
        for name in self.names()[:1]:
            with suppress(FileNotFoundError, ValueError):  # a damaged part may be written again
                return "num_rows" not in self.read(name, columns=["num_rows"]).column_names
        return False

    def _videos(self, table: Any) -> Iterator[VideoFeatures]:
        for video in table.to_pylist():
            rows = np.frombuffer(video.pop("features"), np.float16).reshape(video.pop("num_rows"), self.dim)
            yield VideoFeatures(**video, features=rows.copy())

    @cached_property
    def _places(self) -> dict[str, "_Place"]:
        """Where each video is. Parts written after the first call are not seen."""
        columns = ["video_id", "num_rows", "num_bytes", "problem"]
        return {
            video.pop("video_id"): _Place(part, row, **video)
            for part in self.names()
            for row, video in enumerate(self.read(part, columns=columns).to_pylist())
        }

    def _place(self, video_id: str) -> "_Place | None":
        return self._places.get(video_id) or self._places.get(whole_video_id(video_id))

    def _known_place(self, video_id: str) -> "_Place":
        place = self._place(video_id)
        if place is None:
            raise MissingFeaturesError(
                f"{self.folder} has no features of {video_id}; it has those of {name_some(self.video_ids, 3)}. Run "
                "`hf-videolang extract` on the folder with this video; the store keeps what it has."
            )
        if place.problem is not None:
            raise VideoDecodingError(video_id, f"it has no features: {place.problem}")
        return place


def read_rows(path: str | Path) -> torch.Tensor:
    """
    The features of one video from an .npy file, or from the array `features` of an .npz: float32 `[rows, width]`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else.
    """
    with in_layout(Path(path), "features", '.npy, an array [rows, width], or .npz with such an array "features"'):
        rows = np.load(path, allow_pickle=False)
        if isinstance(rows, np.lib.npyio.NpzFile):
            with rows as arrays:
                rows = arrays["features"]
        return torch.from_numpy(rows).float()


def are_unit_rows(features: np.ndarray | torch.Tensor) -> bool:
    """Whether each row `[rows, width]` has norm 1, as far as float16 tells (videoclip A4)."""
    norms = torch.as_tensor(features).float().norm(dim=1)
    return bool(((norms - 1).abs() <= NORM_TOLERANCE).all())


def _describe(extractor: Mapping[str, Any]) -> str:
    version = extractor.get("version")
    model = f"{extractor.get('model') or 'unknown model'}" + (f" ({version[:15]})" if version else "")
    frames = extractor.get("frames") or "unknown"
    return f"{model}, frames {frames}, {'unit' if extractor['normalized'] else 'raw'} rows"
