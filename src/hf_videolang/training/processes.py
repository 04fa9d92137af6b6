"""How the processes of a launch end, without a crash of one that ends the others."""

import atexit
import ctypes
import gc
import os
import signal
import sys
from typing import NoReturn


def end_with_launcher() -> None:
    """From now on, Linux kills this rank of a launch when its launcher dies. It would wait for other ranks forever."""
    if "RANK" in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def leave_process_group() -> None:
    """Free the models, and leave the group of all processes together."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        gc.collect()  # models in DDP or FSDP hold the group in reference cycles
        dist.barrier()
        dist.destroy_process_group()


def end_process(status: int) -> NoReturn:
    """
    `sys.exit(status)`; in a launch of several processes, without the teardown of the interpreter.

    Threads of the process group may still live then, because torch's caches of sharded tensors hold the group. Once in
    some hundred runs one of them wakes up during the teardown and aborts the process. So we run the functions that are
    registered with `atexit`, and end the process at once.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
