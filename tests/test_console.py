"""One error line of a launch, whoever finds the error first."""

from hf_videolang import console
from tests.training.tiny_run import start


def test_an_error_of_all_processes_is_told_once_also_if_the_first_process_is_late():
    process = start("tests.common.one_error", processes=2)
    output = process.communicate(timeout=240)[0]
    assert process.returncode != 0 and output.count("error: of the test") == 1


def test_what_one_of_the_other_processes_alone_knows_is_told_at_last(monkeypatch, capsys):
    monkeypatch.setattr(console, "LATEST", 0.01)
    monkeypatch.setenv("RANK", "1")
    console.print_error("error: of the test")
    assert capsys.readouterr().err == "error: of the test\n"
