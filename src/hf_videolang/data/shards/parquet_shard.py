"""A Parquet shard with random access, as `Dataset.push_to_hub` writes it."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_videolang.data.shards.tar_shard import open_file
from hf_videolang.data.video_files import check_place
from hf_videolang.video import VideoDecodingError

if TYPE_CHECKING:
    from pyarrow import Table


class ParquetShard:
    """
    Undecoded records of one Parquet file.

    The columns become fields. The video is the column "video", or the only column of `{"bytes", "path"}` or bytes.
    `video_id` is the column of that name, or "__key__" (of converted WebDatasets), or `<shard>/<row>`. A row without a
    video has neither path nor bytes; [`clip_of`] raises for it. A path must not lead outside the folder of the file
    ([`check_place`]). Whole row groups are read and the last two are kept. So read rows in their order: each jump
    reads a row group (100 clips, as `datasets` writes them).

    Arguments are as for `TarShard`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a Parquet file, or has no video column or several.
        VideoDecodingError: a row cannot be read, or its path leads outside.
    """

    def __init__(self, path: str, name: str | None = None):
        self.path = path
        self.name = name or path.rpartition("/")[2].removesuffix(".parquet")
        self._starts: np.ndarray | None = None  # first row of each row group, and the number of rows

    def __repr__(self) -> str:
        return f"ParquetShard({self.path!r})"

    def __len__(self) -> int:
        if self._starts is None:
            self._starts, _ = _read_facts(self.path)
        return int(self._starts[-1])

    def __getitem__(self, row: int) -> dict[str, Any]:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {self.path}, which has {len(self)}")
        assert self._starts is not None
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        place = f"{self.path}/{row:08d}"
        try:
            table, column = _read_row_group(self.path, group)
            record = table.slice(row - int(self._starts[group]), 1).to_pylist()[0]
            video = record.pop(column) or {"path": None, "bytes": None}
            if isinstance(video, bytes):
                video = {"path": None, "bytes": video}
            if video["path"] is not None and video["bytes"] is None:
                check_place(video["path"], self.path.rpartition("/")[0])
        except Exception as error:  # Arrow has many kinds
            if getattr(error, "errno", None) is not None:  # the disk, not the content
                raise
            raise VideoDecodingError(place, f"its row cannot be read: {error}") from error
        video_id = record.get("video_id") or record.get("__key__") or f"{self.name}/{row:08d}"
        name = None if video["bytes"] is None else place
        video = {"path": video["path"] or name, "bytes": video["bytes"]}
        return {**record, "video": video, "video_id": str(video_id)}


def _read_facts(path: str) -> tuple[np.ndarray, str]:
    """The first row of each row group, then the number of rows; and the name of the video column."""
    from pyarrow import ArrowException, types
    from pyarrow.parquet import ParquetFile

    with open_file(path) as file:
        try:
            parquet = ParquetFile(file)
        except (ArrowException, OSError) as error:
            if getattr(error, "errno", None) is not None:
                raise
            raise ValueError(f"{path} is not a Parquet file: {error}. Download or write it again.") from error
        facts, schema = parquet.metadata, parquet.schema_arrow
    rows = [facts.row_group(group).num_rows for group in range(facts.num_row_groups)]

    def may_be_video(field: Any) -> bool:
        is_struct = types.is_struct(field.type)
        names = {field.type.field(i).name for i in range(field.type.num_fields)} if is_struct else set()
        return names == {"bytes", "path"} or types.is_binary(field.type) or types.is_large_binary(field.type)

    columns = [field.name for field in schema if may_be_video(field)]
    if "video" not in columns and len(columns) != 1:
        raise ValueError(
            f"{path} has the columns {schema.names}; expected a column 'video' of {{'bytes', 'path'}}, or one column "
            f"of that kind (found: {columns}). Rename the column with `datasets` and write the file again."
        )
    return np.cumsum([0, *rows]), "video" if "video" in columns else columns[0]


@lru_cache(maxsize=2)
def _read_row_group(path: str, group: int) -> tuple["Table", str]:
    from pyarrow.parquet import ParquetFile

    _, column = _read_facts(path)
    with open_file(path) as file:
        return ParquetFile(file).read_row_group(group), column
