"""How a command ends."""

import os
import subprocess
import sys

import pytest
from safetensors import SafetensorError
from safetensors.torch import load_file

from hf_videolang.training.run import end_process, run_command

ENDING = """
import atexit
from hf_videolang.training.run import end_process
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


def test_what_is_not_installed_is_one_line(capsys):
    def set_up(argv):
        raise ImportError("decoding needs PyAV: pip install av")

    assert run_command(set_up, print, None) == 2
    assert capsys.readouterr().err == "error: decoding needs PyAV: pip install av\n"


def test_a_file_that_cannot_be_read_is_no_full_disk(tmp_path, capsys):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"half of a file")
    with pytest.raises(SafetensorError):
        run_command(lambda argv: (file,), load_file, None)
    assert "cannot write" not in capsys.readouterr().err
