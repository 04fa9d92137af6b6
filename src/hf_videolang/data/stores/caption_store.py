"""Generated captions of the videos in shards: what `hf-videolang caption` writes and pre-training reads."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from hf_videolang.data.stores.part_store import PartStore

if TYPE_CHECKING:
    from pyarrow import Table

COLUMNS = ("video_id", "caption", "problem", "num_bytes")


class CaptionStore(PartStore):
    """
    A `PartStore` whose parts are `<shard name>-<first row, 8 digits>`: consecutive rows of one shard.

    Columns of a part, one row a video: `video_id`; `caption`, null for a video that could not be captioned; `problem`,
    the reason then and null else; `num_bytes` of the video ([`video_size`]), null where that is unknown. Id and size
    tell other data of the same names apart, and the same data that were copied, moved or packed anew are found again.

    Arguments and errors are those of `PartStore`; without `provenance` the store is only read.
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
        """One part, whole or not at all; the arguments are its columns, the last one unknown by default."""
        import pyarrow

        # With their type, or a part without a problem would have a column of no type.
        columns = [pyarrow.array(column, pyarrow.string()) for column in (video_ids, captions, problems)]
        columns.append(pyarrow.array(num_bytes or [None] * len(video_ids), pyarrow.int64()))
        self.write(name, dict(zip(COLUMNS, columns)))

    def rows(self, name: str) -> dict[int, tuple]:
        """The rows of one part by their number in the shard, each a tuple of `COLUMNS`."""
        rows = enumerate(self.read(name).to_pylist(), int(name.rpartition("-")[2]))
        return {number: tuple(row.get(column) for column in COLUMNS) for number, row in rows}

    def has_shard(self, shard_name: str) -> bool:
        """Whether some of this shard is captioned."""
        return shard_name in self._first_rows

    def caption(self, shard_name: str, row: int, video_id: str, num_bytes: int | None = None) -> str | None:
        """
        The caption of one clip, `None` if it is not captioned yet or could not be; reads its part only.

        Found by its row, since ids may come more than once in a shard (segments of one video).

        Raises:
            ValueError: the store has another video in this row, by its id or its size: it was made of other shards.
        """
        first_rows = self._first_rows.get(shard_name, [])
        position = bisect_right(first_rows, row) - 1
        if position < 0:
            return None
        part = self._part(self.part_name(shard_name, first_rows[position]))
        place = row - first_rows[position]
        if place >= len(part):  # of a part that is not there yet
            return None
        known = part.slice(place, 1).to_pylist()[0]
        there, now = known["video_id"] or video_id, video_id  # no id: the row could not be read
        size = known.get("num_bytes")  # older stores do not have it
        # Not of a row without a caption: a broken video may have been mended.
        if None not in (known["caption"], size, num_bytes):
            there, now = f"{there} of {size} bytes", f"{now} of {num_bytes} bytes"
        if there != now:
            raise ValueError(
                f"{self.folder} was made of other shards: in row {row} of {shard_name} it has {there}, where {now} lies "
                "now. Caption these shards into a folder of their own; so also videos that have been encoded anew."
            )
        return known["caption"]

    def all_captions(self) -> Iterator[str]:
        """The captions of all shards, in the order of their parts."""
        for name in self.names():
            yield from self.read(name)["caption"].drop_null().to_pylist()

    def count(self, names: Sequence[str] | None = None) -> tuple[int, int]:
        """Videos in the store, or in some parts, and how many of them could not be captioned; reads footers alone."""
        from pyarrow.parquet import read_metadata

        videos, broken = 0, 0
        for name in self.names() if names is None else names:
            facts = read_metadata(self.folder / f"{name}.parquet")
            videos += facts.num_rows
            groups = [facts.row_group(number) for number in range(facts.num_row_groups)]
            broken += sum(group.column(COLUMNS.index("caption")).statistics.null_count for group in groups)
        return videos, broken

    @cached_property
    def _first_rows(self) -> dict[str, list[int]]:
        """Of the parts of each shard, in order; as of the first call: a store that is read grows no more."""
        rows = defaultdict(list)
        for name in self.names():
            shard_name, _, first_row = name.rpartition("-")
            rows[shard_name].append(int(first_row))
        return {shard_name: sorted(first_rows) for shard_name, first_rows in rows.items()}

    @lru_cache(maxsize=2048)  # noqa: B019  ten parts of each shard that a batch takes clips from; 0.1 MB for 1024 captions
    def _part(self, name: str) -> "Table":
        return self.read(name)
