"""Run a function in several processes of one gloo group, as one machine with several devices would."""

import faulthandler
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch.multiprocessing import start_processes

from tests.common.forks import FORKS


def run_processes(function: Callable, world_size: int, folder: Path, *arguments) -> None:
    """
    `function(rank, *arguments)` on every rank; an exception in one of them is raised here.

    The processes meet through a file in `folder`, so no port can be taken.
    """
    given = world_size, str(folder / "rendezvous"), function, arguments
    start_processes(_process, given, nprocs=world_size, start_method=FORKS.get_start_method())


def _process(rank: int, world_size: int, rendezvous: str, function: Callable, arguments: tuple) -> None:
    faulthandler.enable()
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world_size)
    function(rank, *arguments)  # what it raises reaches `run_processes`
    # Now and then, a thread of gloo that is still running aborts the interpreter's teardown. So wait for all
    # processes, free what holds the group, leave the group, and skip the teardown.
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
