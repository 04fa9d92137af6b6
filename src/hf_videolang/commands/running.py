"""Where commands run: on a device, or, through many videos, on several processes."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState

LONGEST_WAIT = timedelta(days=30)  # how long the first process may wait for the last one


def add_running_arguments(parser: ArgumentParser, batch_size: int, of: str) -> None:
    run = parser.add_argument_group("running")
    run.add_argument(
        "--batch-size", type=int, default=batch_size, help=f"{of} at once per process (default: %(default)s)"
    )
    run.add_argument("--num-workers", type=int, default=2, help="decoding processes (default: %(default)s)")
    run.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="default: %(default)s"
    )
    run.add_argument("--cpu", action="store_true", help="do not use a GPU")


def on_device(model: Any, cpu: bool = False) -> Any:
    """The model on the accelerator, if there is one."""
    if cpu or not torch.accelerator.is_available():
        return model
    return model.to(torch.accelerator.current_accelerator())


def start_processes(cpu: bool) -> PartialState:
    return PartialState(cpu=cpu or not torch.accelerator.is_available(), timeout=LONGEST_WAIT)


def end_processes(state: PartialState, report: object) -> None:
    """The first process prints the report."""
    if state.is_main_process:
        print(report, flush=True)
    state.wait_for_everyone()  # a launcher ends the other processes once one has returned 1
    state.destroy_process_group()
