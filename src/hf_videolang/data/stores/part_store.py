"""Results of long work over many clips, in parts that many processes write and a killed run finds again."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_videolang.atomic_files import atomic_file

if TYPE_CHECKING:
    from pyarrow import Table

FACTS = "store.json"


class PartStore:
    """
    A folder of Parquet files, one a part, each there whole or not at all, and `store.json` with how they came about.

    Work is cut into parts of fixed names before it starts; a run writes those that are not there yet. So neither a kill
    nor several processes lose or double a row: whoever writes a part twice replaces it by the same rows. A part has
    checksums, so that damage is an error and not another number.

    Args:
        folder: made if absent.
        provenance: what decides the content (model and its hash, settings, frame rule, …), JSON values. `None` only
            reads: the folder must be a store.

    Raises:
        FileNotFoundError: `provenance` is `None` and the folder is no store.
        ValueError: the store came about otherwise than `provenance` says (names what differs), or does not tell.
    """

    def __init__(self, folder: str | Path, provenance: Mapping[str, Any] | None = None):
        self.folder = Path(folder)
        facts = self.folder / FACTS
        if provenance is None and not facts.is_file():
            raise FileNotFoundError(f"{self.folder} is no store: it has no {FACTS}.")
        names = self.names()  # before the next line: another process may begin the store meanwhile
        if not facts.is_file():
            if names:
                raise ValueError(f"{self.folder} holds parts but no {FACTS}, how they came about; remove it.")
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(facts) as temporary:
                temporary.write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")
        try:
            self.provenance: dict[str, Any] = dict(json.loads(facts.read_text(encoding="utf-8")))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{facts} is damaged ({error}); remove {self.folder}.") from error
        wanted = self.provenance if provenance is None else json.loads(json.dumps(provenance))
        if wanted != self.provenance:
            differing = [
                f"{key}: {self.provenance.get(key)!r} there, {wanted.get(key)!r} now"
                for key in sorted(wanted.keys() | self.provenance.keys())
                if self.provenance.get(key) != wanted.get(key)
            ]
            raise ValueError(
                f"{self.folder} holds results that came about otherwise ({'; '.join(differing)}). Take another "
                "folder, or remove this one."
            )

    def names(self) -> list[str]:
        """The parts that are there, sorted."""
        return sorted(file.stem for file in self.folder.glob("[!.]*.parquet"))

    def write(self, name: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """
        One part, whole or not at all.

        Args:
            name: of the part, a file name without extension that does not begin with a dot.
            columns: equally long lists (or numpy arrays) by name.

        Raises:
            OSError: the disk is full; the parts before it stay.
        """
        from pyarrow import table
        from pyarrow.parquet import write_table

        with atomic_file(self.folder / f"{name}.parquet") as temporary:
            write_table(table(dict(columns)), temporary, write_page_checksum=True)

    def read(self, name: str) -> "Table":
        """
        One part as an Arrow table.

        Raises:
            FileNotFoundError: there is no such part.
            ValueError: it is damaged.
            OSError: the disk does not give it.
        """
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import read_table

        file = self.folder / f"{name}.parquet"
        try:
            return read_table(file, page_checksum_verification=True)
        except (ArrowInvalid, OSError) as error:
            if getattr(error, "errno", None) is not None:  # of the disk; for a wrong checksum it has none
                raise
            raise ValueError(
                f"{file} is damaged ({error}); remove it, and the command that made it makes it again."
            ) from error
