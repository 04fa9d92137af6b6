"""Results of long work in named parts, which several processes write and a killed run finds again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_videolang.atomic_files import atomic_file
from hf_videolang.data.stores.provenance import read_provenance, write_or_check_provenance

if TYPE_CHECKING:
    from pyarrow import Table

PROVENANCE = "store.json"


class PartStore:
    """
    A folder with one Parquet file per part, and `store.json`, which tells how the parts were made.

    Divide the work into named parts before it starts, and let each run write the parts that are missing or damaged.
    Then neither a kill nor several processes lose or duplicate a row: a part is written completely or not at all, and
    a part that is written twice gets the same rows. Checksums turn damage into an error, not into a wrong number.

    Args:
        folder: created if absent.
        provenance: everything that decides the content (model and its hash, settings, frame rule, …), as JSON values.
            With `None` the store can only be read, and must exist.

    Raises:
        FileNotFoundError: `provenance` is `None` and the folder is not a store.
        ValueError: the store was made with another provenance (the message lists the differences).

    Example:
        >>> store = PartStore("embeddings", {"model": "org/model", "num_frames": 12})
        >>> if not store.is_whole("train-00000"):
        ...     store.write("train-00000", {"video_id": ["a", "b"], "score": [0.1, 0.7]})
        >>> store.read("train-00000").to_pylist()
    """

    def __init__(self, folder: str | Path, provenance: Mapping[str, Any] | None = None):
        self.folder = Path(folder)
        file = self.folder / PROVENANCE
        if provenance is not None:
            write_or_check_provenance(file, provenance, self.names())
        elif not file.is_file():
            raise FileNotFoundError(
                f"{self.folder} is not a store: it has no {PROVENANCE}. Give a folder that `hf-videolang extract` or "
                "another command wrote as its store."
            )
        self.provenance = read_provenance(file)

    def names(self) -> list[str]:
        """The names of the parts that exist, sorted."""
        return sorted(file.stem for file in self.folder.glob("[!.]*.parquet"))

    def is_whole(self, name: str) -> bool:
        """Whether a part exists and is undamaged. This reads the part."""
        try:
            self.read(name)
        except (FileNotFoundError, ValueError):
            return False
        return True

    def write(self, name: str, columns: Mapping[str, Sequence[Any]], **options: Any) -> None:
        """
        Write one part, completely or not at all. An existing part is replaced.

        Args:
            name: of the part: a file name without extension that does not begin with a dot.
            columns: name -> values, a list, numpy array or Arrow array. All are equally long.
            options: of `pyarrow.parquet.write_table`, e.g. `row_group_size`, the rows that can be read alone.
        """
        from pyarrow import table
        from pyarrow.parquet import write_table

        with atomic_file(self.folder / f"{name}.parquet") as temporary:
            write_table(table(dict(columns)), temporary, write_page_checksum=True, **options)

    def read(self, name: str, row_group: int | None = None, columns: list[str] | None = None) -> "Table":
        """
        One part as an Arrow table, or one row group of it, or only some columns.

        Raises:
            FileNotFoundError: there is no such part.
            ValueError: it is damaged.
        """
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import ParquetFile

        file = self.folder / f"{name}.parquet"
        try:
            with ParquetFile(file, page_checksum_verification=True) as part:
                if row_group is None:
                    return part.read(columns)
                return part.read_row_group(row_group, columns, use_threads=False)  # short, and workers are many
        except (ArrowInvalid, OSError) as error:
            if getattr(error, "errno", None) is not None:  # an error of the disk; a wrong checksum has no number
                raise
            raise ValueError(
                f"{file} is damaged ({error}). Run the command that made it again: it replaces the part."
            ) from error
