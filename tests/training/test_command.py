"""How a command ends."""

import os
import subprocess
import sys

import pytest

from hf_videolang.training.command import end_process

ENDING = """
import atexit
from hf_videolang.training.command import end_process
class Thing:
    def __del__(self):
        print("torn down")
thing = Thing()
atexit.register(print, "registered")
end_process(3)
"""


def test_one_of_several_processes_ends_before_the_interpreter_is_torn_down(monkeypatch):
    ended = subprocess.run(
        [sys.executable, "-c", ENDING],
        env=os.environ | {"WORLD_SIZE": "2"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert (ended.returncode, ended.stdout) == (3, "registered\n")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(SystemExit) as exit:
        end_process(2)
    assert exit.value.code == 2
