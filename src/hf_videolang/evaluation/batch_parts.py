"""The batches that an evaluation has finished, kept on disk, so that a killed evaluation continues."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from hf_videolang.data.records import annotations_hash
from hf_videolang.data.stores.part_store import PartStore


class BatchParts:
    """
    A folder with one file a finished batch. The file holds the batch's tensors, whatever they are.

    A batch is the `batch_size` rows from a multiple of `batch_size` on, whatever the number of processes, so a kept
    batch need not be computed again. It is computed again if its file is damaged, if a video file of it has changed
    (size or date), or if it left out broken videos (`num_broken_videos`), which must now stop the run.

    Args:
        folder: every process must see it.
        dataset: the records.
        batch_size: rows of a batch.
        accelerator: the main process looks which batches are there and tells the others.
        provenance: what else decides the results, besides precision and device: model and settings; JSON values.
        skipping: broken videos may be left out.

    Attributes:
        stored (`list[dict[str, Tensor]]`): the kept batches.
        missing (`list[int]`): the first rows of the other batches.

    Raises:
        ValueError: the folder holds results of another provenance. The message names the differences.

    Example:
        >>> parts = BatchParts("results/embeddings", dataset, 16, accelerator, {"model": "org/clip-vip-b16"})
        >>> parts.write(row=32, tensors={"video_embeds": embeds, "num_broken_videos": torch.zeros(1)})
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
        facts = {
            **provenance,
            "mixed precision": accelerator.mixed_precision,
            "device": accelerator.device.type,
            "batch_size": batch_size,
            "records": len(dataset),
            "annotations": annotations_hash(dataset),
        }
        self._store = PartStore(folder, facts)
        names = set(self._store.names())
        missing = []
        if accelerator.is_main_process:
            firsts = range(0, len(dataset), batch_size)
            missing = [first for first in firsts if _name(first) not in names or not self._is_good(first, skipping)]
        self.missing: list[int] = broadcast_object_list([missing])[0]
        kept = sorted({*range(0, len(dataset), batch_size)} - {*self.missing})
        self.stored = [safetensors.torch.load(self._read(first)["tensors"]) for first in kept]

    def write(self, row: int, tensors: Mapping[str, Tensor]) -> None:
        """Keep the results of the batch that `row` belongs to. The file is complete or not there at all."""
        first = row // self._batch_size * self._batch_size
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        columns: dict[str, list[Any]] = {
            "tensors": [safetensors.torch.save(contiguous)],
            "files": [self._files(first)],
            "num_broken_videos": [int(tensors["num_broken_videos"])],
        }
        self._store.write(_name(first), columns)

    def remove(self) -> None:
        """Delete the batches first and the provenance last: batches without provenance must never lie there."""
        for name in self._store.names():
            (self._store.folder / f"{name}.parquet").unlink()
        shutil.rmtree(self._store.folder)

    def _read(self, first: int) -> dict[str, Any]:
        return self._store.read(_name(first)).to_pylist()[0]

    def _is_good(self, first: int, skipping: bool) -> bool:
        try:
            part = self._read(first)
        except (ValueError, OSError):
            return False
        return part["files"] == self._files(first) and (skipping or not part["num_broken_videos"])

    def _files(self, first: int) -> list[list[int]]:
        """Size and date of the video files of a batch."""
        videos = filter(None, self._dataset["video"][first : first + self._batch_size])
        return [_size_and_date(video["path"]) for video in videos if video["path"]]


def _size_and_date(path: str) -> list[int]:
    """Of a file, or of a frame folder with its pictures."""
    files = [os.stat(path)]
    if os.path.isdir(path):
        files += [file.stat() for file in os.scandir(path)]
    return [sum(file.st_size for file in files), max(file.st_mtime_ns for file in files)]


def _name(first: int) -> str:
    return f"{first:08d}"
