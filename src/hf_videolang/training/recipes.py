"""A recipe (YAML) and `--key value` options become typed dataclasses, with one set of checks for both."""

import argparse
import dataclasses
import difflib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from transformers import HfArgumentParser

RECIPES = Path(__file__).parents[1] / "recipes"


class RecipeError(ValueError):
    """A recipe or command line that cannot be understood; the message says where, what was expected and what to do."""


def parse_recipe(
    dataclass_types: Sequence[Any],
    argv: Sequence[str] | None = None,
    description: str = "",
    program: str = "",
) -> tuple:
    """
    Parse `RECIPE.yaml [--key value …]`. What the command line says wins over the recipe.

    Values of a recipe go through the same conversion as options, so that a number written as a word is found here and
    not in the middle of training.

    Args:
        dataclass_types: dataclasses whose fields are the keys of recipe and command line. A dataclass may list in
            `_required` the fields that must be given, and in `_help_only` those that `--help` shows.
        argv: words of the command line after the program's name; those of this process when `None`.
        description: shown by `--help`.
        program: how the command is typed, e.g. `"python -m hf_videolang.training.run_retrieval"`.

    Returns:
        One instance of each dataclass, in order, and the given values (recipe and options together) as a dictionary.

    Raises:
        RecipeError: unreadable recipe, unknown or missing key, or a value of the wrong type.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    parser = _Parser(
        list(dataclass_types),
        prog=program,
        description=description,
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.usage = f"{program} RECIPE.yaml [--key value ...]"
    parser.add_argument("-h", "--help", action="store_true", default=argparse.SUPPRESS, help="show this page")
    if "-h" in words or "--help" in words:
        parser.print_page()
        raise SystemExit(0)
    recipe: dict[str, Any] = {}
    source = "no recipe"
    if words and not words[0].startswith("-"):
        path = find_recipe(words.pop(0))
        recipe, source = _read_recipe(path), str(path)
    known = {field.name for cls in dataclass_types for field in dataclasses.fields(cls) if field.init}
    for key in recipe:
        if key not in known:
            raise RecipeError(f"{source} has the unknown key {key!r}{_close_matches(key, known)}{_REMEDY}")
    parser.source = source
    from_recipe, rest = parser.parse_known_args(_as_words(recipe))
    if rest:
        raise RecipeError(
            f"{source} gives a list to a key that takes one value: {' '.join(rest)} is too much.{_REMEDY}"
        )
    given = {key: getattr(from_recipe, key) for key in recipe}
    parser.source = "the command line"
    parsed, rest = parser.parse_known_args(words, argparse.Namespace(**vars(from_recipe)))
    if rest:
        name = rest[0].split("=")[0]
        close = _close_matches(name.lstrip("-").replace("-", "_"), known, "--") if name.startswith("-") else "."
        what = f"the option {name}" if name.startswith("-") else f"{name!r}, which belongs to no option"
        raise RecipeError(f"the command line has {what}; it is unknown{close}{_REMEDY}")
    given |= {key: getattr(parsed, key) for key in sorted(known) if _is_given(key, words)}
    _check_required(dataclass_types, given, source)
    return *parser.build(parsed), given


_REMEDY = " `--help` lists the keys; every field of transformers.TrainingArguments is one, too."


def find_recipe(name: str) -> Path:
    """
    The recipe at this path, or the one of this name that comes with the package.

    Raises:
        RecipeError: there is neither; the message lists the package's recipes.
    """
    for path in (Path(name), RECIPES / name, RECIPES / f"{name}.yaml"):
        if path.is_file():
            return path
    shipped = sorted(
        str(path.relative_to(RECIPES)) for path in RECIPES.glob("*/*.yaml") if path.parent.name != "accelerate"
    )
    raise RecipeError(
        f"there is no recipe {name!r}{_close_matches(name, shipped)} Give the path of a YAML file or one of "
        f"{', '.join(shipped)}."
    )


def _read_recipe(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise RecipeError(
            f"{path} holds {'nothing' if content is None else type(content).__name__}; expected lines such as `learning_rate: 1.0e-6`."
        )
    return {key.replace("-", "_"): value for key, value in content.items()}


def _as_words(recipe: Mapping[str, Any]) -> list[str]:
    """A recipe as the command line that says the same; keys without a value keep their default."""
    words = []
    for key, value in recipe.items():
        if value is False and key.endswith("_strategy"):
            value = "no"  # which YAML takes for false
        if isinstance(value, list):
            words += [f"--{key}", *map(str, value)]
        elif value is not None:
            words.append(f"--{key}={json.dumps(value) if isinstance(value, dict) else value}")
    return words


def _is_given(key: str, words: Sequence[str]) -> bool:
    names = {word.split("=")[0].lstrip("-").replace("-", "_") for word in words if word.startswith("--")}
    return bool(names & {key, f"no_{key}"})


def _close_matches(key: str, known, prefix: str = "") -> str:
    close = difflib.get_close_matches(key, sorted(known), n=3)
    return f"; did you mean {' or '.join(prefix + name for name in close)}?" if close else "."


def _check_required(dataclass_types: Sequence[Any], given: Mapping[str, Any], source: str) -> None:
    for cls in dataclass_types:
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for key in getattr(cls, "_required", ()):
            if given.get(key) in (None, ""):
                raise RecipeError(
                    f"{key} is missing ({source}): {fields[key].metadata['help']}. Add the line `{key}: …` to the "
                    f"recipe or pass --{key} on the command line."
                )


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    pass


class _Parser(HfArgumentParser):
    """Errors as exceptions, and a page of help that shows what a recipe sets before the hundred other options."""

    source = "the command line"

    def error(self, message: str) -> NoReturn:
        raise RecipeError(f"{self.source}: {message.rstrip('.')}.{_REMEDY}")

    def build(self, parsed: argparse.Namespace) -> tuple:
        values = vars(parsed)
        try:
            return tuple(
                cls(**{field.name: values[field.name] for field in dataclasses.fields(cls) if field.init})
                for cls in self.dataclass_types
            )
        except json.JSONDecodeError as error:  # of an option that takes a dictionary; transformers does not name it
            key = next((key for key, value in values.items() if value == error.doc), "an option")
            raise RecipeError(f"{key} is {error.doc!r}, which is no JSON: {error}.") from error

    def print_page(self) -> None:
        hidden = {
            field.name
            for cls in self.dataclass_types
            for field in dataclasses.fields(cls)
            if field.name not in getattr(cls, "_help_only", [field.name])
        }
        for action in self._actions:
            if action.dest in hidden or "--no_" in action.option_strings[0]:
                action.help = argparse.SUPPRESS
            else:
                action.option_strings = action.option_strings[:1]
                choices = ",".join(map(str, action.choices or ()))
                action.metavar = action.metavar or (f"{{{choices}}}" if choices else "VALUE")
        self.print_help()
        print(
            f"\n{len(hidden)} more: every field of transformers.TrainingArguments is an option and a key of a recipe."
        )
        names = ", ".join(sorted(str(path.relative_to(RECIPES)) for path in RECIPES.glob("*/*.yaml")))
        print(
            f"Recipes of the package: {names}\nThey lie in {RECIPES}, accelerate's configurations in accelerate/ beside them.",
            flush=True,  # a closed pipe would otherwise only show when Python ends
        )
