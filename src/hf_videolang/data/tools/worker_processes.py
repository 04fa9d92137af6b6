"""A pool of processes for work on each video of a folder."""

import os
import signal
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context, parent_process


class WorkerProcesses(ProcessPoolExecutor):
    """Fresh processes that end with the main process. Ctrl-C reaches only the main process."""

    def __init__(self, count: int):
        super().__init__(count, mp_context=get_context("spawn"), initializer=_end_with_parent)

    def submit(self, *args, **kwargs) -> Future:
        """As `Executor.submit`. It may start a process, which inherits the signals that are blocked now."""
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().submit(*args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def stop(self) -> None:
        """End the processes in the middle of their work, as `terminate_workers` in Python 3.14 does."""
        for process in list((self._processes or {}).values()):
            process.terminate()
        self.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """End this worker when the main process ends. It would wait for work forever."""

    def wait() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
