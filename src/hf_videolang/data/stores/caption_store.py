"""Generated captions of videos in shards: `hf-videolang data caption-frames` writes them, pre-training reads them."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from hf_videolang.data.stores.part_store import PartStore

if TYPE_CHECKING:
    from pyarrow import Table

COLUMNS = ("video_id", "caption", "problem", "num_bytes")


class CaptionStore(PartStore):
    """
    A `PartStore` whose parts are named `<shard name>-<first row, 8 digits>` and hold consecutive rows of one shard.

    A part has one row per video and these columns: `video_id`; `caption`, null if the video could not be captioned;
    `problem`, why it could not, otherwise null; `num_bytes`, the size of the video ([`video_size`]), null if unknown.
    Id and size show whether a row still belongs to the same video, also after shards were moved or packed again.

    Arguments and errors are those of `PartStore`.
    """

    @staticmethod
    def part_name(shard_name: str, first_row: int) -> str:
        return f"{shard_name}-{first_row:08d}"

    def write_captions(
        self,
        name: str,
        video_ids: Sequence[str],
        captions: Sequence[str | None],
        problems: Sequence[str | None],
        num_bytes: Sequence[int | None] | None = None,
    ) -> None:
        """Write one part, completely or not at all. The arguments are its columns; by default no size is known."""
        import pyarrow

        # Named types, because a column of nulls alone would have none.
        columns = [pyarrow.array(column, pyarrow.string()) for column in (video_ids, captions, problems)]
        columns.append(pyarrow.array(num_bytes or [None] * len(video_ids), pyarrow.int64()))
        self.write(name, dict(zip(COLUMNS, columns)))

    def rows(self, name: str) -> dict[int, tuple]:
        """The rows of one part: number in the shard -> values of `COLUMNS`."""
        first_row = int(name.rpartition("-")[2])
        rows = self.read(name).select(COLUMNS).to_pylist()
        return {number: tuple(row.values()) for number, row in enumerate(rows, first_row)}

    def has_shard(self, shard_name: str) -> bool:
        """Whether any part of this shard is captioned."""
        return shard_name in self._first_rows

    def caption(self, shard_name: str, row: int, video_id: str, num_bytes: int | None = None) -> str | None:
        """
        The caption of one clip, or `None` if it is not captioned yet or could not be captioned. This reads one part.

        A clip is found by its row, since one id may occur several times in a shard (segments of one video).

        Raises:
            ValueError: the store has another video in this row, by its id or size.
        """
        first_rows = self._first_rows.get(shard_name, [])
        position = bisect_right(first_rows, row) - 1
        if position < 0:
            return None
        part = self._part(self.part_name(shard_name, first_rows[position]))
        place = row - first_rows[position]
        if place >= len(part):  # the part with this row is not written yet
            return None
        known = part.slice(place, 1).to_pylist()[0]
        there, now = known["video_id"] or video_id, video_id  # a damaged record has no id
        # A video without a caption was broken, and may have another size now that it is repaired.
        if None not in (known["caption"], known["num_bytes"], num_bytes):
            there, now = f"{there} of {known['num_bytes']} bytes", f"{now} of {num_bytes} bytes"
        if there != now:
            raise ValueError(
                f"{self.folder} was made from other shards: row {row} of {shard_name} was {there} and is now {now}. "
                "Write the captions of these shards to another folder; the same holds for videos encoded again."
            )
        return known["caption"]

    def count(self, names: Sequence[str] | None = None) -> tuple[int, int]:
        """Number of videos, and of those without a caption, in the store or in some parts. Reads only footers."""
        from pyarrow.parquet import read_metadata

        videos, uncaptioned = 0, 0
        for name in self.names() if names is None else names:
            facts = read_metadata(self.folder / f"{name}.parquet")
            videos += facts.num_rows
            groups = [facts.row_group(number) for number in range(facts.num_row_groups)]
            uncaptioned += sum(group.column(COLUMNS.index("caption")).statistics.null_count for group in groups)
        return videos, uncaptioned

    @cached_property
    def _first_rows(self) -> dict[str, list[int]]:
        """Shard name -> first rows of its parts, sorted. Parts written after the first call are not seen."""
        rows = defaultdict(list)
        for name in self.names():
            shard_name, _, first_row = name.rpartition("-")
            rows[shard_name].append(int(first_row))
        return {shard_name: sorted(first_rows) for shard_name, first_rows in rows.items()}

    @lru_cache(maxsize=2048)  # noqa: B019  ten parts per shard of a large batch; 0.1 MB for 1024 captions
    def _part(self, name: str) -> "Table":
        return self.read(name)
