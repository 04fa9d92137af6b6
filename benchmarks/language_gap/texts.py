"""Read the texts of a collection."""

from pathlib import Path

import numpy as np

from hf_videolang.data.load_dataset import BENCHMARKS, find_dataset
from hf_videolang.data.shards.open_shards import count_clips, find_shards
from hf_videolang.data.stores.caption_store import CaptionStore
from hf_videolang.data.stores.part_store import PROVENANCE


def read_texts(source: str, limit: int) -> list[str]:
    """
    The texts of a source without blank ones, in their order.

    Args:
        source: one of
            `FILE.txt`, one text per line;
            the folder of a caption store;
            `BENCHMARK:FOLDER` or `BENCHMARK:FOLDER:SPLIT`, the captions of all splits or one
            (`msrvtt-9k:/data/msrvtt:train`), also `videofolder:FOLDER`;
            `SHARDS:COLUMN`, a field of the records that `find_shards` finds (`/data/hdvila:subtitle`).
        limit: of shards, read at most this many records, evenly spaced, because each one reads a video.
    """
    name, _, place = source.partition(":")
    if source.endswith(".txt"):
        texts = Path(source).read_text(encoding="utf-8").splitlines()
    elif (Path(source) / PROVENANCE).is_file():
        store = CaptionStore(source)
        texts = [text for part in store.names() for text in store.read(part)["caption"].drop_null().to_pylist()]
    elif name in BENCHMARKS or name == "videofolder":
        folder, _, split = place.partition(":")
        dataset = find_dataset(name, folder)
        records, _ = dataset.read(split or "+".join(dataset.splits))
        texts = [caption for record in records for caption in record.captions]
    else:
        texts = _read_shards(*source.rsplit(":", 1), limit)
    return [text.strip() for text in texts if text.strip()]


def _read_shards(source: str, column: str, limit: int) -> list[str]:
    shards = find_shards(source)
    starts = np.cumsum([0, *count_clips(shards)])
    rows = np.linspace(0, starts[-1] - 1, min(int(starts[-1]), limit)).round().astype(int)
    shard_numbers = np.searchsorted(starts, rows, side="right") - 1
    records = [shards[number][int(row - starts[number])] for number, row in zip(shard_numbers, rows)]
    return [record.get(column) or "" for record in records]
