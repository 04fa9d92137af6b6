"""Generated captions of the videos in shards: what `hf-videolang caption` writes and pre-training reads."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from .part_store import PartStore

if TYPE_CHECKING:
    from pyarrow import Table

COLUMNS = ("video_id", "caption", "problem")


class CaptionStore(PartStore):
    """
    A `PartStore` whose parts are `<shard name>-<first row, 8 digits>`: consecutive rows of one shard.

    Columns of a part, one row a video: `video_id`; `caption`, null for a video that could not be captioned; `problem`,
    the reason then and null else.

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
    ) -> None:
        """One part, whole or not at all; the arguments are its columns."""
        import pyarrow

        columns = zip(COLUMNS, (video_ids, captions, problems))
        # With their type, or a part without a problem would have a column of no type.
        self.write(name, {key: pyarrow.array(column, pyarrow.string()) for key, column in columns})

    def has_shard(self, shard_name: str) -> bool:
        """Whether some of this shard is captioned."""
        return shard_name in self._first_rows

    def caption(self, shard_name: str, row: int, video_id: str) -> str | None:
        """
        The caption of one clip, `None` if it is not captioned yet or could not be; reads its part only.

        Found by its row, since ids may come more than once in a shard (segments of one video).

        Raises:
            ValueError: the store has another video in this row: it was made of other shards.
        """
        first_rows = self._first_rows.get(shard_name, [])
        position = bisect_right(first_rows, row) - 1
        if position < 0:
            return None
        part = self._part(self.part_name(shard_name, first_rows[position]))
        place = row - first_rows[position]
        if place >= len(part):  # of a part that is not there yet
            return None
        known = part["video_id"][place].as_py()
        if known not in (None, video_id):  # None: the row could not be read when it was captioned
            raise ValueError(
                f"{self.folder} was made of other shards: in row {row} of {shard_name} it has {known}, where "
                f"{video_id} lies now. Caption these shards into a folder of their own."
            )
        return part["caption"][place].as_py()

    def all_captions(self) -> Iterator[str]:
        """The captions of all shards, in the order of their parts."""
        for name in self.names():
            yield from self.read(name)["caption"].drop_null().to_pylist()

    def count(self) -> tuple[int, int]:
        """Videos in the store, and how many of them could not be captioned; from the footers of the parts alone."""
        from pyarrow.parquet import read_metadata

        videos, broken = 0, 0
        for name in self.names():
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

    @lru_cache(maxsize=512)  # noqa: B019  a batch takes clips from many shards at once; 0.1 MB for 1024 captions
    def _part(self, name: str) -> "Table":
        return self.read(name)
