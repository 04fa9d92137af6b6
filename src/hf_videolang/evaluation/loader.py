"""The batches of an evaluation, divided among the processes, and how far it is."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

Progress = Callable[[DataLoader], Iterable[dict[str, Tensor]]]  # yields the batches of a loader and reports them


def evaluation_loader(
    dataset: Any, collator: Any, accelerator: Accelerator, batch_size: int, num_workers: int, firsts: Sequence[int]
) -> DataLoader:
    """
    The batches that begin with the rows `firsts`, divided among the processes.

    Sharded models need equally many batches on every process, so some batches may come twice, and their results must
    count once. No row is dropped.
    """
    each = math.ceil(len(firsts) / accelerator.num_processes)
    turns = range(accelerator.process_index, each * accelerator.num_processes, accelerator.num_processes)
    mine = [firsts[turn % len(firsts)] for turn in turns]
    loader = DataLoader(
        dataset,
        batch_sampler=[list(range(first, min(first + batch_size, len(dataset)))) for first in mine],
        collate_fn=collator,
        num_workers=num_workers,
        pin_memory=accelerator.device.type == "cuda",
    )
    # The batches are divided already. This only moves them to the device.
    return prepare_data_loader(loader, accelerator.device, num_processes=1, process_index=0, put_on_device=True)


def progress_bar(
    loader: DataLoader, title: str, index: str, kept: int, accelerator: Accelerator, unit: str = "clip"
) -> Iterable[dict[str, Tensor]]:
    """Counts the rows of `batch[index]`, after the `kept` ones. The main process shows it, for all."""
    total = len(loader.dataset)  # type: ignore[arg-type]
    with tqdm(total=total, initial=kept, desc=title, unit=unit, disable=not accelerator.is_main_process) as bar:
        for batch in loader:
            yield batch
            bar.update(min(len(batch[index]) * accelerator.num_processes, total - bar.n))
