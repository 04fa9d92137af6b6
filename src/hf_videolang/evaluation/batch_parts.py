"""What an evaluation has encoded so far, so that a killed one continues instead of beginning anew."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from hf_videolang.data.stores.part_store import PartStore

BATCH_FIELDS = ("video_index", "video_embeds", "caption_index", "text_embeds", "num_broken_videos")


class EmbeddingParts:
    """
    A `PartStore` with one part a batch, named by its first row.

    The batches of `evaluation_loader` hold the same rows whatever the number of processes, so a part is a batch that
    need not be encoded again. One that is damaged, whose video files have changed since (another size or date), or that
    left broken videos out which are now to stop the run, is encoded again.

    Args:
        folder: one that every process sees.
        dataset: the records.
        batch_size: rows of a batch.
        accelerator: the main process decides for all what is there.
        provenance: what else decides the embeddings.
        skipping: broken videos may be left out.

    Attributes:
        stored (`list[dict[str, Tensor]]`): the batches that are there, as `encode_pairs` made them.
        missing (`list[int]`): first rows of the others.

    Raises:
        ValueError: the folder holds embeddings that came about otherwise; names what differs.
    """

    def __init__(
        self,
        folder: str | Path,
        dataset: Any,
        batch_size: int,
        accelerator: Accelerator,
        provenance: Mapping[str, Any],
        skipping: bool = False,
    ):
        self._dataset, self._batch_size = dataset, batch_size
        records = dataset.remove_columns("video")
        facts = {
            **provenance,
            "batch_size": batch_size,
            "records": len(dataset),
            "ids and captions": hashlib.sha256(json.dumps(records.to_dict()).encode()).hexdigest()[:16],
        }
        self._store = PartStore(folder, facts)
        self._names = set(self._store.names())
        firsts = range(0, len(dataset), batch_size)
        missing = [first for first in firsts if accelerator.is_main_process and not self._holds(first, skipping)]
        self.missing: list[int] = broadcast_object_list([missing])[0]
        self.stored = [self._read(first) for first in sorted({*firsts} - {*self.missing})]

    def _holds(self, first: int, skipping: bool) -> bool:
        if _name(first) not in self._names:
            return False
        try:
            part = self._store.read(_name(first)).select(["files", "num_broken_videos"]).to_pylist()[0]
        except (ValueError, OSError):
            return False
        return part["files"] == self._files(first) and (skipping or not any(part["num_broken_videos"]))

    def _read(self, first: int) -> dict[str, Tensor]:
        part = self._store.read(_name(first)).to_pylist()[0]
        return {field: torch.tensor(part[field]) for field in BATCH_FIELDS}

    def write(self, batch: Mapping[str, Tensor]) -> None:
        """Keep an encoded batch; whole or not at all."""
        first = int(batch["video_index"].min()) // self._batch_size * self._batch_size
        columns = {field: [batch[field].tolist()] for field in BATCH_FIELDS}
        self._store.write(_name(first), {**columns, "files": [self._files(first)]})

    def remove(self) -> None:
        """The parts, then what they came from: a folder of parts without provenance must never be there."""
        for name in self._store.names():
            (self._store.folder / f"{name}.parquet").unlink()
        shutil.rmtree(self._store.folder)

    def _files(self, first: int) -> list[list[int]]:
        """Size and date of the videos of a batch."""
        rows = range(first, min(first + self._batch_size, len(self._dataset)))
        return [_size_and_date(video["path"]) for video in self._dataset.select(rows)["video"] if video["path"]]


def _size_and_date(path: str) -> list[int]:
    """Of a file, or of a folder of pictures with all that is in it."""
    files = [os.stat(path)]
    if os.path.isdir(path):
        files += [file.stat() for file in os.scandir(path)]
    return [sum(file.st_size for file in files), max(file.st_mtime_ns for file in files)]


def _name(first: int) -> str:
    return f"{first:08d}"
