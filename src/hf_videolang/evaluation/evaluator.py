"""What the evaluators of all tasks share: their options, and batches that are kept on disk as they are finished."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from hf_videolang.atomic_files import atomic_file
from hf_videolang.data.batches.clip_reader import Policy
from hf_videolang.data.stores.feature_store import FeatureStore
from hf_videolang.evaluation.batch_parts import BatchParts
from hf_videolang.evaluation.loader import Progress, evaluation_loader, progress_bar
from hf_videolang.evaluation.scores import Scores


class Evaluator(ABC):
    """
    Scores a model on records. A subclass says how.

    Args:
        processor: of the model. It decides what the model sees of videos and texts.
        features (*optional*): stored features, read in place of the videos.
        batch_size (defaults to 16): videos of a process at once.
        num_workers (defaults to 0): processes that decode or read.
        folder (*optional*): finished batches are kept in a folder below it, so that the same evaluation continues
            after a kill. Every process must see it. Without it nothing is kept.
        provenance (*optional*): for `folder`, what decides the results: version of the model, dataset, split.

    Attributes, after a call:
        settings: what the model saw and how scores count, for the line above the table.
    """

    on_broken_video: Policy = "raise"
    settings: dict[str, str | int]

    def __init__(
        self,
        processor: Any,
        features: FeatureStore | None = None,
        *,
        batch_size: int = 16,
        num_workers: int = 0,
        folder: str | Path | None = None,
        provenance: Mapping[str, Any] | None = None,
    ):
        self.processor, self.batch_size, self.num_workers = processor, batch_size, num_workers
        self.features: Any = features
        self.folder, self.provenance = folder, provenance or {}
        self.parts: dict[str, BatchParts] = {}

    @abstractmethod
    def metric_names(self) -> list[str]:
        """Names of the scores in a log, without prefix."""

    @abstractmethod
    def __call__(
        self, model: nn.Module, records: Any, accelerator: Accelerator, progress: Progress | None = None
    ) -> Scores:
        """
        Args:
            model: in evaluation mode and prepared for the processes, e.g. by `accelerator.prepare_model`.
            records (`datasets.Dataset`): of the task, see `load_dataset`.
            accelerator: knows device, precision and the other processes.
            progress (*optional*): yields the batches of a loader and reports them; a progress bar by default.

        Returns:
            The scores, the same on every process.

        Raises:
            VideoDecodingError: a broken video under `on_broken_video="raise"`.
            ValueError: the model cannot be scored so, or `folder` holds batches of another provenance.
            OSError: a batch cannot be kept.
        """

    def input_protocol(self) -> dict[str, str | int]:
        """What the model sees: videos, or stored features."""
        if self.features is None:
            return self.processor.input_protocol()
        return self.processor.input_protocol(features=self.features.description)

    def open_parts(self, data: Mapping[str, Any], accelerator: Accelerator, **provenance: Any) -> None:
        """Look which batches of the records in `data` are kept, folder by folder, before the work begins."""
        if self.folder is not None:
            facts = {
                **self.provenance,
                **self.input_protocol(),
                "features": self.features and self.features.provenance,
                **provenance,
            }
            skipping = self.on_broken_video == "skip"
            self.parts = {
                name: BatchParts(Path(self.folder) / name, records, self.batch_size, accelerator, facts, skipping)
                for name, records in data.items()
            }

    def stored(self, name: str) -> list[dict[str, Tensor]]:
        """The kept batches of a folder."""
        return list(self.parts[name].stored) if name in self.parts else []

    def missing(self, name: str, records: Any) -> list[int]:
        """The first rows of the other batches."""
        return self.parts[name].missing if name in self.parts else list(range(0, len(records), self.batch_size))

    def batches(
        self,
        name: str,
        records: Any,
        collator: Any,
        accelerator: Accelerator,
        progress: Progress | None,
        index: str = "video_index",
        unit: str = "clip",
    ) -> Iterable[dict[str, Tensor]]:
        """The batches of this process that are not kept. `batch[index]` has an entry for each of its rows."""
        firsts = self.missing(name, records)
        loader = evaluation_loader(records, collator, accelerator, self.batch_size, self.num_workers, firsts)
        if progress:
            return progress(loader)
        kept = sum(len(part[index]) for part in self.stored(name))
        return progress_bar(loader, name.replace("_", " of the "), index, kept, accelerator, unit)

    def keep(self, name: str, rows: Tensor, tensors: Mapping[str, Tensor]) -> None:
        """Keep a finished batch: its rows of the records, of which there may be none, and its results."""
        if name in self.parts and len(rows):
            self.parts[name].write(int(rows.min()), {"num_broken_videos": torch.zeros(1), **tensors})

    def remove_parts(self) -> None:
        """Delete the kept batches, once the results are saved. One process does this."""
        for parts in self.parts.values():
            parts.remove()


def save_json(file: Path, content: Any, lines: bool = False) -> None:
    """Write JSON, or an entry a line, complete or not at all."""
    rows = content if lines else [content]
    with atomic_file(file) as temporary:
        temporary.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
