"""The command as it is typed."""

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
    assert all(name in result.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    code, out, err = run(capsys, *name.split(), "--help")
    assert code == 0 and f"hf-videolang {name}" in out, err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evalute"], "'evalute'. Did you mean 'evaluate'?"),
        (
            ["data", "--help"],
            "'data'. Did you mean 'data check' or 'data prepare' or 'data shard' or 'data caption-frames'?",
        ),
        (["data", "chek"], "'data chek'. Did you mean 'data check'?"),
        (["evaluate", "--modle", "x"], "unrecognized arguments: --modle"),
    ],
)
def test_a_mistyped_word_exits_with_two_and_says_so(words, message, capsys):
    code, _, err = run(capsys, *words)
    assert code == 2 and message in err


def test_no_command_shows_usage(capsys):
    code, out, _ = run(capsys)
    assert code == 2 and "commands:" in out
    assert all(f"{name}  " in out for name in COMMANDS)  # a gap between every name and its summary


@pytest.mark.parametrize("module", ["hf_videolang.cli", "hf_videolang.training.run_retrieval"])
def test_a_reader_that_leaves_first_meets_no_traceback(module):
    """As in `hf-videolang --help | head -c 0`, with the pipe closed for certain before anything is written."""
    script = f"import sys; sys.stdin.read(); from {module} import main; sys.exit(main(['--help']))"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        process.stdin.close()
        assert (process.stderr.read(), process.wait()) == (b"", 141)
