"""One error line of a launch, whoever finds the error first."""

import os
import sys
import time

import pytest

from hf_videolang.inference import error_lines
from tests.training.tiny_run import start


@pytest.mark.parametrize("late", ["0", "1"])
def test_an_error_of_all_processes_is_told_once_whoever_is_late(late):
    process = start("tests.inference.test_error_lines", late, processes=2)
    output = process.communicate(timeout=240)[0]
    assert process.returncode != 0 and output.count("error: of the test") == 1


def test_what_one_of_the_other_processes_alone_knows_is_told_at_last(monkeypatch, capsys):
    monkeypatch.setattr(error_lines, "LATEST", 0.01)
    monkeypatch.setenv("RANK", "1")
    error_lines.print_error("error: of the test")
    assert capsys.readouterr().err == "error: of the test\n"


if __name__ == "__main__":  # one of the two processes
    if os.environ["RANK"] == sys.argv[1]:
        time.sleep(3)
    error_lines.print_error("error: of the test")
    sys.exit(2)
