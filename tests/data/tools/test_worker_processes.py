"""Worker processes when Ctrl-C is pressed."""

import os
import signal
import subprocess
import sys

HANGING = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite that runs in the background ignores Ctrl-C
from hf_videolang.data.tools.worker_processes import WorkerProcesses
from hf_videolang.console import explain_interrupt
explain_interrupt("stopped by Ctrl-C.")
pool = WorkerProcesses(2)
try:
    futures = [pool.submit(time.sleep, 600) for _ in range(20)]
    print("begun", flush=True)
    futures[0].result()
finally:
    pool.stop()
"""


def test_ctrl_c_ends_all_at_once_with_one_line():
    with subprocess.Popen(
        [sys.executable, "-c", HANGING],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout.readline() == b"begun\n"
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does: all processes get it
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (-signal.SIGINT, b"stopped by Ctrl-C.\n")
