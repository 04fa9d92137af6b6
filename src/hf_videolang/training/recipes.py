"""A recipe (YAML) sets the defaults of `--key value` options, which become typed dataclasses."""

import argparse
import dataclasses
import difflib
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from transformers import HfArgumentParser, TrainingArguments

from hf_videolang.strict_yaml import load_yaml

RECIPES = Path(__file__).parents[1] / "recipes"
REMEDY = " `--help` lists the keys; every field of transformers.TrainingArguments is one, too."
EPILOG = """
Every field of transformers.TrainingArguments is an option and a key of a recipe, too: --learning_rate,
--num_train_epochs, --per_device_train_batch_size, --bf16, --seed, --save_total_limit, --report_to and so on.

Recipes of the package:
  {recipes}
They lie in {folder}; its folder accelerate has configurations for `accelerate launch`.
"""


class RecipeError(ValueError):
    """A recipe or command line that cannot be used; the message names the place, the expectation and the remedy."""


def parse_recipe(
    dataclass_types: Sequence[Any], argv: Sequence[str] | None = None, description: str | None = None, module: str = ""
) -> tuple:
    """
    Parse `RECIPE.yaml [--key value …]`. The command line wins over the recipe.

    A recipe may extend another one: `extends: finetuning.yaml` names a file beside it or a recipe of the package, and
    its own values win. A key without a value stands for the default.

    Args:
        dataclass_types: dataclasses whose fields are the keys of recipe and command line. A field without a default
            must be given.
        argv: words of the command line after the program's name; default: those of this process.
        description: shown by `--help`.
        module: of this package, for the help: `"run_retrieval"`.

    Returns:
        One instance of each dataclass, in order, and a dictionary of the values of recipe and command line together.

    Raises:
        RecipeError: unreadable recipe, unknown or missing key, or a value of the wrong type.

    Example:
        >>> arguments, training_args, given = parse_recipe((RetrievalArguments, RetrievalTrainingArguments))
    """
    words = list(sys.argv[1:] if argv is None else argv)
    parser = _Parser(dataclass_types, description, f"python -m hf_videolang.training.{module}")
    recipe = read_recipe(words.pop(0), parser.keys) if words and not words[0].startswith("-") else {}
    parser.set_recipe(recipe)
    parsed, rest = parser.parse_known_args(words)
    if rest:
        name = rest[0].split("=")[0]
        if not name.startswith("-"):
            raise RecipeError(f"{name!r} on the command line belongs to no option.{REMEDY}")
        close = _close_matches(name.lstrip("-").replace("-", "_"), parser.keys, "--")
        raise RecipeError(f"the option {name} is unknown{close}{REMEDY}")
    values = vars(parsed)
    objects = [
        cls(**{field.name: values[field.name] for field in dataclasses.fields(cls) if field.init})
        for cls in dataclass_types
    ]
    options = (word[2:].split("=")[0].replace("-", "_") for word in words if word.startswith("--"))
    typed = {option.removeprefix("no_") for option in options}
    return *objects, {key: value for key, value in values.items() if key in recipe or key in typed}


def read_recipe(name: str, known: Iterable[str], beside: Path = Path()) -> dict[str, Any]:
    """The values of a recipe (a file or a name) and of those that it extends, which may lie `beside` it."""
    places = (beside / name, RECIPES / name, RECIPES / f"{name}.yaml")
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        shipped = shipped_recipes()
        raise RecipeError(
            f"there is no recipe {name!r}{_close_matches(name, shipped)} Give the path of a YAML file, or one of "
            f"{', '.join(shipped)}."
        )
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path} holds no keys; expected lines such as `learning_rate: 1.0e-6`.")
    values = {str(key).replace("-", "_"): value for key, value in content.items()}
    extended = values.pop("extends", None)
    for key in values.keys() - set(known):
        raise RecipeError(f"{path} has the unknown key {key!r}{_close_matches(key, known)}{REMEDY}")
    values = (read_recipe(extended, known, path.parent) if extended else {}) | values
    return {key: value for key, value in values.items() if value is not None}


def shipped_recipes() -> list[str]:
    """Names of the package's recipes."""
    names = {path.relative_to(RECIPES).as_posix() for path in RECIPES.glob("*/*.yaml")}
    return sorted(name for name in names if not name.startswith("accelerate/"))


def _close_matches(key: str, known: Iterable[str], prefix: str = "") -> str:
    close = difflib.get_close_matches(key, sorted(known), n=3)
    return f"; did you mean {' or '.join(prefix + name for name in close)}?" if close else "."


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action):
        if action.required:
            return f"{action.help} (required)"
        return action.help if action.default is None else super()._get_help_string(action)


class _Parser(HfArgumentParser):
    """Takes defaults from a recipe, raises errors, and shows in its help only what our classes declare."""

    def __init__(self, dataclass_types: Sequence[Any], description: str | None, program: str):
        super().__init__(
            list(dataclass_types),
            prog=program,
            usage=f"{program} RECIPE.yaml [--key value ...]",
            description=description,
            epilog=EPILOG.format(recipes="\n  ".join(shipped_recipes()), folder=RECIPES),
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
        )
        self.keys = {field.name for cls in dataclass_types for field in dataclasses.fields(cls) if field.init}
        self.defaults = {key: self.get_default(key) for key in self.keys}
        inherited = {id(field) for field in dataclasses.fields(TrainingArguments)}
        fields = [field for cls in dataclass_types for field in dataclasses.fields(cls)]
        shown = {field.name for field in fields if field.metadata and id(field) not in inherited}
        for action in self._actions:
            if action.dest in self.keys:
                action.option_strings = action.option_strings[:1]  # what messages show; --data-dir works, too
                if action.type in (str, dict):
                    action.type = _text_or_mapping
                if action.dest not in shown or action.option_strings[0].startswith("--no_"):
                    action.help = argparse.SUPPRESS

    def set_recipe(self, recipe: dict[str, Any]) -> None:
        """Make the values of a recipe the defaults."""
        for action in self._actions:
            if action.dest in recipe:
                action.default, action.required = self._default(action, recipe[action.dest]), False

    def _default(self, action: argparse.Action, value: Any) -> Any:
        """A value of YAML as a default: text, which argparse converts to the option's type, or a list or mapping."""
        if isinstance(value, list | dict):
            if action.nargs != "+" and action.type is not _text_or_mapping:
                self.error(f"{action.dest} takes one value, not {value}")
            return value
        if value is False and action.dest.endswith("_strategy"):
            value = "no"  # YAML reads no as false
        if action.choices and value not in action.choices:
            self.error(f"{action.dest} is {value!r}; expected one of {', '.join(map(str, action.choices))}")
        return [value] if action.nargs == "+" else str(value)

    def error(self, message: str) -> NoReturn:
        raise RecipeError(f"{message.rstrip('.')}.{REMEDY}")

    def print_help(self, file: Any = None) -> None:
        print(self.format_help(), flush=True)  # flushed, so that a closed pipe raises here


def _text_or_mapping(text: str) -> Any:
    """The value of an option such as `--sources`: text, or a mapping as JSON."""
    if not text.startswith("{"):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is not JSON: {error}") from error
