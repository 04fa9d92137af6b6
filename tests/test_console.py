"""Error lines of a command and of a launch."""

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
