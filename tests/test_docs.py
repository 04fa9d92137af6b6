"""Commands in docs/ name commands, options, recipes and files that exist."""

import re
import shlex
from argparse import ArgumentParser
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

from hf_videolang.cli import COMMANDS
from hf_videolang.training.pretraining_arguments import PretrainingArguments, PretrainingTrainingArguments
from hf_videolang.training.recipes import RECIPES
from hf_videolang.training.retrieval_arguments import RetrievalArguments, RetrievalTrainingArguments

REPOSITORY = Path(__file__).parents[1]
PAGES = sorted((REPOSITORY / "docs").glob("*.md"))
KEYS = {
    "run_retrieval": (RetrievalArguments, RetrievalTrainingArguments),
    "run_pretraining": (PretrainingArguments, PretrainingTrainingArguments),
}


def commands(page: Path) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_and_links(page):
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link
    for command in commands(page):
        words = shlex.split(command, comments=True)
        for program, classes in KEYS.items():
            if f"hf_videolang.training.{program}" in words:
                given = words[words.index(f"hf_videolang.training.{program}") + 1 :]
                known = {field.name for kind in classes for field in fields(kind)}
                assert {word[2:] for word in given if word.startswith("--")} <= known, command
                for recipe in [word for word in given if word.endswith(".yaml")]:
                    assert (RECIPES / recipe).exists(), command
        if "--config_file" in words:
            assert (RECIPES / "accelerate" / Path(words[words.index("--config_file") + 1]).name).exists(), command
        start = "hf-videolang" if "hf-videolang" in words else "hf_videolang.cli"
        if start in words:
            given = words[words.index(start) + 1 :]
            name = max((name for name in COMMANDS if given[: len(name.split())] == name.split()), key=len)
            parser = ArgumentParser(exit_on_error=True)
            import_module(COMMANDS[name][0]).add_arguments(parser)
            parser.parse_args(given[len(name.split()) :])
        for script in [word for word in words if word.endswith(".py")]:
            assert (REPOSITORY / script).exists(), command
