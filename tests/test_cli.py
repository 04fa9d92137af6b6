"""The command as a user types it."""

import subprocess
import sys
from pathlib import Path

import pytest

from hf_videolang.cli import COMMANDS, main


def run(capsys, *words: str) -> tuple[int, str, str]:
    try:
        code = main(list(words))
    except SystemExit as exit:  # argparse leaves this way
        code = exit.code
    return code, *capsys.readouterr()


def test_the_installed_command_lists_every_command():
    command = Path(sys.executable).with_name("hf-videolang")
    result = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
    assert all(f"{name}  " in result.stdout for name in COMMANDS)  # a gap between every name and its summary


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    code, out, err = run(capsys, *name.split(), "--help")
    assert code == 0 and f"hf-videolang {name}" in out, err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evalute", "--model", "x"], "error: unknown command 'evalute'. Did you mean 'evaluate'?"),
        (["data", "chek"], "error: unknown command 'data chek'. Did you mean 'data check'?"),
        (["evaluate", "--modle", "x"], "unrecognized arguments: --modle"),
    ],
)
def test_a_mistyped_word_exits_with_two_and_says_so(words, message, capsys):
    code, _, err = run(capsys, *words)
    assert code == 2 and message in err


@pytest.mark.parametrize(("words", "expected"), [(["data", "--help"], 0), (["data"], 2), (["--help"], 0), ([], 2)])
def test_a_word_that_several_commands_share_lists_them(words, expected, capsys):
    code, out, _ = run(capsys, *words)
    assert code == expected and "data check" in out
    assert ("evaluate" in out) is ("data" not in words)


def test_a_reader_that_ends_first_sees_no_traceback():
    """As in `hf-videolang --help | head -c 0`, with the pipe closed for certain before anything is written."""
    modules = ("hf_videolang.cli", "hf_videolang.training.run_retrieval")
    scripts = [
        f"import sys; from {name} import main; sys.stdin.read(); sys.exit(main(['--help']))" for name in modules
    ]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [subprocess.Popen([sys.executable, "-c", script], **pipes) for script in scripts]
    for process in processes:
        with process:
            process.stdout.close()
            process.stdin.close()
            assert (process.stderr.read(), process.wait()) == (b"", 141)
