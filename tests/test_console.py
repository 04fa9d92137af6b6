"""Error lines of a command and of a launch."""

import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from hf_videolang.console import print_error


@pytest.mark.parametrize(
    ("environment", "printed"),
    [
        ({}, "error: the disk is full\n"),
        ({"RANK": "0", "WORLD_SIZE": "1"}, "error: the disk is full\n"),
        ({"RANK": "3", "WORLD_SIZE": "4"}, "[rank 3] error: the disk is full\n"),
    ],
)
def test_an_error_line_names_its_rank_in_a_launch(environment, printed, monkeypatch, capsys):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    print_error("the disk is full")
    assert capsys.readouterr().err == printed


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="waits for torch in /proc/PID/maps, which Linux has")
@pytest.mark.parametrize("command", [["cli", "evaluate"], ["training.run_retrieval"]])
def test_ctrl_c_while_torch_is_being_imported_is_one_line(command):
    program = [sys.executable, "-m", f"hf_videolang.{command[0]}", *command[1:], "--help"]
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    # A suite that runs in the background ignores Ctrl-C, and so would its children.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(program, preexec_fn=heard, **options) as process:
        maps = Path(f"/proc/{process.pid}/maps")
        while "libtorch" not in maps.read_text():
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == -signal.SIGINT
    assert errors.count("\n") == 1 and "stopped by Ctrl-C." in errors


@pytest.mark.parametrize(("name", "encoding"), [("videos/café.mp4", "ascii"), ("caf\udce9.mp4", "utf-8")])
def test_a_file_name_that_cannot_be_encoded_is_named(name, encoding, capsys):
    with pytest.raises(UnicodeEncodeError) as error:
        name.encode(encoding)
    print_error(error.value)
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: the name {name!r} cannot be written in {encoding}; rename the file")
