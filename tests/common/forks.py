"""
Commands that start at once: forks of a process that has imported the package. The import takes longer than most tests.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
from tempfile import NamedTemporaryFile

# With one thread a process, a test and its subprocesses add in the same order and get the same bits.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
OFFLINE = {"HF_HUB_OFFLINE": "1"}
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.common.preloaded"])


class Fork:
    """`python -m MODULE WORDS` without the imports; with the methods of `subprocess.Popen` that the tests use."""

    def __init__(self, module: str, *words, variables: dict[str, str] | None = None):
        self._output = NamedTemporaryFile()  # noqa: SIM115  gone with this object
        arguments = (module, list(map(str, words)), variables or {}, self._output.name)
        self._process = FORKS.Process(target=_run_module, args=arguments)
        self._process.start()
        self.pid, self.kill = self._process.pid, self._process.kill

    def poll(self) -> int | None:
        return self._process.exitcode

    returncode = property(poll)

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        self.wait(timeout)
        return self._output.read().decode(), None


def _run_module(module: str, words: list[str], variables: dict[str, str], output: str) -> None:
    with open(output, "wb") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    os.environ |= variables
    multiprocessing.set_start_method(None, force=True)  # workers of the command start as they always do
    sys.argv = [module, *words]
    sys.modules.pop(module, None)  # if it is preloaded, runpy would warn
    runpy.run_module(module, run_name="__main__", alter_sys=True)
