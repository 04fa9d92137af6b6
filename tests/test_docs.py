"""What the pages name exists: links, commands with their options, recipes, files, imports, sections of a reference."""

import ast
import re
import shlex
from argparse import ArgumentParser
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from hf_videolang.cli import COMMANDS
from hf_videolang.data.tools.check import PROBLEMS
from hf_videolang.training.moment_retrieval_arguments import (
    MomentRetrievalArguments,
    MomentRetrievalTrainingArguments,
)
from hf_videolang.training.pretraining_arguments import PretrainingArguments, PretrainingTrainingArguments
from hf_videolang.training.question_answering_arguments import (
    QuestionAnsweringArguments,
    QuestionAnsweringTrainingArguments,
)
from hf_videolang.training.recipes import RECIPES
from hf_videolang.training.retrieval_arguments import RetrievalArguments, RetrievalTrainingArguments

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
SCRIPTS = {
    "hf_videolang.training.run_moment_retrieval": (MomentRetrievalArguments, MomentRetrievalTrainingArguments),
    "hf_videolang.training.run_question_answering": (QuestionAnsweringArguments, QuestionAnsweringTrainingArguments),
    "hf_videolang.training.run_retrieval": (RetrievalArguments, RetrievalTrainingArguments),
    "hf_videolang.training.run_pretraining": (PretrainingArguments, PretrainingTrainingArguments),
}
FAMILIES = ("clip_vip", "clipbert", "videoclip", "s3d", "hero", "slowfast")
CITATION = re.compile(rf"\b({'|'.join(FAMILIES)}) (§[\d.]*\d(?:(?:,| and) §[\d.]*\d)*)")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", text_of(page), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[list[str]]:
    lines = [line for block in blocks(page, "bash") for line in block.replace("\\\n", " ").splitlines()]
    return [words for line in lines for part in line.split(" && ") if (words := shlex.split(part, comments=True))]


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def after(words: list[str], start: str) -> list[str] | None:
    return words[words.index(start) + 1 :] if start in words else None


def known_keys(script: str) -> set[str]:
    return {field.name for kind in SCRIPTS[script] for field in fields(kind)}


@every_page
def test_links(page):
    for link, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)]*))?\)", text_of(page)):
        target = page.parent / link if link else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), f"{link}#{anchor}"


@every_page
def test_commands(page):
    for words in commands(page):
        given = after(words, "hf-videolang") or after(words, "hf_videolang.cli")
        if given:
            name = next((name for name in COMMANDS if given[: len(name.split())] == name.split()), None)
            assert name, f"no command for {words}"
            parser = ArgumentParser()
            import_module(COMMANDS[name][0]).add_arguments(parser)
            parser.parse_args(given[len(name.split()) :])
        for script in SCRIPTS:
            for word in after(words, script) or ():
                assert not word.startswith("--") or word[2:] in known_keys(script), f"{word} in {words}"
                assert not word.endswith(".yaml") or (RECIPES / word).is_file(), word
        for configuration in (after(words, "--config_file") or ())[:1]:
            assert (RECIPES / "accelerate" / Path(configuration).name).is_file(), configuration
        for module in [word for word in words if word.startswith("benchmarks.")]:
            assert list(REPOSITORY.glob(module.replace(".", "/") + "*")), module
        for file in [word for word in words if word.endswith(".py")]:
            assert (REPOSITORY / file).is_file(), file
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", text_of(REPOSITORY / "Makefile"), re.MULTILINE), words


@every_page
def test_commands_in_the_text(page):
    named = re.findall(r"`hf-videolang ((?:data )?[a-z-]+)", text_of(page))
    assert set(named) <= set(COMMANDS)


@every_page
def test_code(page):
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("hf_videolang"):
                for alias in node.names:
                    assert hasattr(import_module(node.module), alias.name), f"{node.module}.{alias.name}"
    for block in blocks(page, "yaml"):
        recipe = yaml.safe_load(block)
        assert (RECIPES / recipe.pop("extends")).is_file()
        assert recipe.keys() <= known_keys("hf_videolang.training.run_retrieval")


@every_page
def test_files(page):
    """`models/<family>/` and the like: some file fits, from the root of the repository or that of the package."""
    for path in re.findall(r"`([\w<>*./-]+/[\w<>*.-]*)`", text_of(page)):
        if not path.endswith((".py", ".md", ".yaml", ".json", "/")):
            continue
        pattern = re.sub("<[a-z]+>", "*", path).rstrip("/")
        roots = (REPOSITORY, REPOSITORY / "src" / "hf_videolang", RECIPES, DOCS)
        assert any(list(root.glob(pattern)) for root in roots), path


def test_every_recipe_has_a_row():
    named = {name for page in DOCS.glob("tasks/*.md") for name in re.findall(r"\b(\w+/\w+\.yaml)\b", text_of(page))}
    shipped = {path.relative_to(RECIPES).as_posix() for path in RECIPES.glob("*/*.yaml")}
    shipped = {name for name in shipped if not name.startswith("accelerate/")}
    assert shipped <= named


def test_readme_lists_the_commands():
    table = text_of(REPOSITORY / "README.md").partition("\n## Commands\n")[2]
    assert sorted(re.findall(r"^\| `hf-videolang ([a-z -]+)` \|", table, re.MULTILINE)) == sorted(COMMANDS)


def test_kinds_of_problems():
    section = text_of(DOCS / "data_formats.md").partition("| kind | |")[2].partition("\n\n")[0]
    kinds = [kind for row in section.splitlines() for kind in re.findall(r"`(\w+)`", row.split(" | ")[0])]
    assert sorted(kinds) == sorted(PROBLEMS)


def test_the_papers_argument_shows_the_committed_results():
    results = text_of(REPOSITORY / "benchmarks" / "results" / "fusion_comparison.md")
    rows = [line for line in results.splitlines() if line.startswith("|")]
    assert rows and set(rows) <= set(text_of(DOCS / "the_papers_argument.md").splitlines())


def sections(family: str) -> set[str]:
    """The numbers of the headings of a reference, and of the items of the lists below them: "10", "10.14"."""
    found, heading = set(), ""
    for line in text_of(DOCS / "reference" / f"{family}.md").splitlines():
        if match := re.match(r"##+ (\d+(?:\.\d+)*)", line):
            heading = match[1]
            found.add(heading)
        elif match := re.match(r"(\d+)\. ", line):
            found.add(f"{heading}.{match[1]}")
    return found


def test_cited_sections_exist():
    known = {page.stem: sections(page.stem) for page in DOCS.glob("reference/*.md")}
    folders = ("src", "tests", "docs", "conversion", "demo", "benchmarks", "model_cards")
    files = [file for folder in folders for file in (REPOSITORY / folder).rglob("*") if file.is_file()]
    cited = 0
    for file in [*files, REPOSITORY / "README.md"]:
        if file.suffix not in (".py", ".md", ".yaml") or "fixtures" in file.parts:
            continue
        for family, numbers in CITATION.findall(text_of(file)):
            for number in re.findall(r"§([\d.]*\d)", numbers):
                assert number in known.get(family, ()), f"{file.relative_to(REPOSITORY)} cites {family} §{number}"
                cited += 1
    for family in known:
        within = CITATION.sub("", text_of(DOCS / "reference" / f"{family}.md"))
        assert set(re.findall(r"§([\d.]*\d)", within)) <= known[family]
    assert cited > 50
