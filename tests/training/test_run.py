"""How a command ends."""

import errno
import os
import subprocess
import sys

import pytest
from safetensors import SafetensorError
from safetensors.torch import load_file

from hf_videolang.data.pretraining.omnisource import MissingTextError
from hf_videolang.training import processes, run
from hf_videolang.training.run import run_command
from hf_videolang.video import VideoDecodingError

ENDING = """
import atexit, runpy, sys
end_process = runpy.run_path(sys.argv[1])["end_process"]  # without the seconds of importing torch
class Thing:
    def __del__(self):
        print("torn down")
thing = Thing()
atexit.register(print, "registered")
end_process(3)
"""


def test_one_of_several_processes_ends_before_the_interpreter_is_torn_down(monkeypatch):
    command = [sys.executable, "-c", ENDING, processes.__file__]
    ended = subprocess.run(command, env=os.environ | {"WORLD_SIZE": "2"}, stdout=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stdout) == (3, "registered\n")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(SystemExit) as exit:
        processes.end_process(2)
    assert exit.value.code == 2


def test_a_rank_ends_when_its_launcher_is_killed():
    rank = (
        "import runpy, sys, time; runpy.run_path(sys.argv[1])['end_with_launcher'](); print('ready'); time.sleep(60)"
    )
    launcher = "import subprocess, sys; subprocess.run([sys.executable, '-u', '-c', *sys.argv[1:]])"
    command = [sys.executable, "-c", launcher, rank, processes.__file__]
    process = subprocess.Popen(command, env=os.environ | {"RANK": "1"}, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.kill()
    process.communicate(timeout=20)  # until nobody holds the pipe any more


def raising(error):
    def work(*arguments):
        raise error

    return work


@pytest.mark.parametrize("error", [ImportError("pip install av"), ValueError("wrong"), FileNotFoundError("absent")])
def test_wrong_input_is_one_line(error, capsys):
    assert run_command(raising(error), None) == 2
    assert capsys.readouterr().err == f"error: {error}\n"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (VideoDecodingError("a.mp4", "no video"), "on_broken_video: replace"),
        (MissingTextError("clip7 has no caption"), "clip7 has no caption"),
        (OSError(errno.ENOSPC, "No space left on device"), "save_total_limit"),
        (
            OSError(errno.EROFS, "Read-only file system", "out/checkpoint-3"),
            "Read-only file system: 'out/checkpoint-3'",
        ),
        (OSError(errno.EIO, "Input/output error"), "--resume_from_checkpoint true"),
        (OSError(errno.ESTALE, "Stale file handle"), "cannot write to the output folder"),
        (RuntimeError("[gloo/transport/tcp/pair.cc:544] Connection closed by peer [::1]:7"), "another rank ended"),
    ],
)
def test_what_a_user_can_mend_on_the_way_is_one_line_of_every_process(error, message, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setattr(run, "train_and_finish", raising(error))
    assert run_command(lambda argv: None, None) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("[rank 3] error: ") and message in line


def test_an_error_of_the_program_keeps_its_traceback(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run, "train_and_finish", raising(RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes"):
        run_command(lambda argv: None, None)
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"half of a file")
    monkeypatch.setattr(run, "train_and_finish", load_file)
    with pytest.raises(SafetensorError):  # a damaged file is no full disk
        run_command(lambda argv: file, None)
    assert capsys.readouterr().err == ""
