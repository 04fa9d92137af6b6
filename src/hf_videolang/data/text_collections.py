"""Texts from wherever they lie: lines, columns of tables, caption stores, data sets, shards."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hf_videolang.data.load_dataset import BENCHMARKS, find_dataset
from hf_videolang.data.records import is_blank
from hf_videolang.data.shards.open_shards import count_clips, find_shards
from hf_videolang.data.stores.caption_store import CaptionStore
from hf_videolang.data.stores.part_store import FACTS

TEXT_COLUMNS = ("text", "caption", "captions", "subtitle", "subtitles", "sentence")
TABLES = {".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}


def read_texts(source: str, limit: int | None = None) -> list[str]:
    """
    All texts of a source, blank ones left out, in its order.

    Args:
        source: one of
            `FILE.txt`, a text a line;
            `FILE.jsonl`, `.csv` or `.parquet`, perhaps with `:COLUMN`, of texts or lists of texts; without it, the
            only column called text, caption, captions, subtitle, subtitles or sentence;
            the folder of a caption store;
            a video folder with metadata, whose captions are read;
            `BENCHMARK:FOLDER`, perhaps with `:SPLIT` (`msrvtt-9k:/data/msrvtt:train`), default all splits;
            `SHARDS:COLUMN`, a field of the records of what `find_shards` knows (`/data/hdvila:subtitle`).
        limit: of shards read at most this many records, evenly taken, since each costs its video's bytes.

    Raises:
        FileNotFoundError: there is no such source.
        ValueError: no such column, or none that is certain, or it does not hold texts, or no UTF-8.
    """
    texts: list[str] = []
    for entry in _entries(source, limit):
        found = entry if isinstance(entry, list) else [] if entry is None else [entry]
        if not all(isinstance(text, str) for text in found):
            raise ValueError(f"{source} holds {entry!r}; expected a text or a list of texts.")
        texts += [text.strip() for text in found if not is_blank(text)]
    return texts


def _entries(source: str, limit: int | None) -> Iterator[Any]:
    benchmark, _, place = source.partition(":")
    if benchmark in BENCHMARKS:
        folder, _, split = place.partition(":")
        return _captions(benchmark, folder or None, split or None)
    if (Path(source) / FACTS).is_file():
        return CaptionStore(source).all_captions()
    if Path(source).is_dir():
        return _captions(source, None, None)
    path, column = Path(source), None
    if not path.is_file() and ":" in source:
        name, _, column = source.rpartition(":")
        path = Path(name)
    if path.is_file() and path.suffix == ".txt":
        try:
            return iter(path.read_text(encoding="utf-8-sig").splitlines())
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is no UTF-8: {error}. Write it anew as UTF-8.") from error
    if path.is_file() and path.suffix in TABLES:
        return _column(path, column)
    if column is None:
        raise FileNotFoundError(
            f"{source!r} is no file of texts (.txt, .jsonl, .csv, .parquet), caption store or video folder; shards "
            "need a column, as in /data/shards:subtitle, and benchmarks a folder, as in msrvtt-9k:/data/msrvtt."
        )
    return _fields(name, column, limit)


def _captions(name: str, data_dir: str | None, split: str | None) -> Iterator[list[str]]:
    dataset = find_dataset(name, data_dir)
    records, _ = dataset.read(split or "+".join(dataset.splits))
    return iter([record.captions for record in records])


def _column(path: Path, column: str | None) -> Iterator[Any]:
    from pyarrow.csv import ParseOptions
    from pyarrow.dataset import CsvFileFormat, dataset

    csv = CsvFileFormat(ParseOptions(newlines_in_values=True))
    table = dataset(path, format=csv if path.suffix == ".csv" else TABLES[path.suffix])
    names = table.schema.names
    known = [column] if column else [name for name in TEXT_COLUMNS if name in names]
    if len(known) != 1 or known[0] not in names:
        given = f" (given: {column})" if column else ""
        raise ValueError(
            f"{path} has the columns {names}; name the one with the texts, as in {path.name}:COLUMN{given}."
        )
    return iter(table.to_table(columns=known)[known[0]].to_pylist())


def _fields(source: str, column: str, limit: int | None) -> Iterator[Any]:
    shards = find_shards(source)
    ends = np.cumsum(count_clips(shards))
    total = int(ends[-1])
    known: set[str] = set()
    rows = np.linspace(0, total - 1, min(total, limit or total)).round().astype(int)
    for count, row in enumerate(rows, 1):
        number = int(np.searchsorted(ends, row, side="right"))
        record = shards[number][int(row - ends[number] + len(shards[number]))]
        known |= record.keys()
        # Not of the first record alone: a clip may lack a text, and a tar then has no such field.
        if column not in known and count == min(100, len(rows)):
            raise ValueError(f"{source} has records with {sorted(known)}, none of them {column!r}.")
        yield record.get(column)
