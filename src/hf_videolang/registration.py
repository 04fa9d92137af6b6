"""
Registers every family with the Auto classes of transformers, without importing either.

A family is a folder of `models` with a `configuration_<family>.py`. Its modules name their public classes in
`__all__`, and each config names the classes that read it in its `auto_map`. Nothing else lists them.

Importing torch and transformers takes seconds. So a class is registered at the moment its Auto class has been
imported, before anybody can ask for it.
"""

import ast
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

PACKAGE = "hf_videolang.models"
AUTO_MODULES = [
    f"transformers.models.auto.{name}"
    for name in ("configuration_auto", "modeling_auto", "video_processing_auto", "processing_auto")
]


@cache
def family_modules() -> dict[str, Path]:
    """Name → file of every module of every family."""
    configurations = sorted((Path(__file__).parent / "models").glob("*/configuration_*.py"))
    files = [file for path in configurations for file in sorted(path.parent.glob("[!_]*.py"))]
    return {f"{PACKAGE}.{file.parent.name}.{file.stem}": file for file in files}


@cache
def public_names() -> dict[str, str]:
    """Public name → module: the `__all__` of every module, read from its source and not imported."""
    names: dict[str, str] = {}
    for module, file in family_modules().items():
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.targets[0], ast.Name)
                and node.targets[0].id == "__all__"
            ):
                names |= dict.fromkeys(ast.literal_eval(node.value), module)
    return names


class _AfterImport(MetaPathFinder):
    """
    Calls a function each time the outermost import of a module of transformers, or of a family, has ended.

    Inside it, another module may be half imported, which those of a family may need.
    """

    def __init__(self, action: Callable[[], None]):
        self.action = action
        self.depth = 0

    def find_spec(self, fullname, path, target=None):
        if not fullname.startswith(("transformers.", f"{PACKAGE}.")):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module):
            self.depth += 1
            try:
                execute(module)
            finally:
                self.depth -= 1
            if not self.depth:
                self.action()

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _configs() -> Iterator[Any]:
    """Every public config class."""
    for name in family_modules():
        if name.rpartition(".")[2].startswith("configuration_"):
            module = import_module(name)
            # A module that is still being imported has no `__all__` yet. Its turn comes when it is done.
            yield from (getattr(module, public) for public in getattr(module, "__all__", ()))


def _register_what_is_imported() -> None:
    """Register our classes with each Auto class whose module is there. Modules in the middle of an import wait."""
    auto_classes = {
        name: getattr(sys.modules[module], name)
        for module in AUTO_MODULES
        if module in sys.modules
        for name in getattr(sys.modules[module], "__all__", ())
    }
    if not auto_classes:
        return
    for config in _configs():
        for auto_name in auto_classes.keys() & getattr(config, "auto_map", {}).keys():
            if auto_name == "AutoConfig":
                auto_classes[auto_name].register(config.model_type, config, exist_ok=True)
                continue
            module_name, _, class_name = config.auto_map[auto_name].partition(".")
            module = import_module(f"{config.__module__.rpartition('.')[0]}.{module_name}")
            if hasattr(module, "__all__"):
                auto_classes[auto_name].register(config, getattr(module, class_name), exist_ok=True)


def register_with_auto_classes() -> None:
    """Make `AutoConfig`, `AutoModel`, `AutoProcessor` and `AutoVideoProcessor` know our classes."""
    sys.meta_path.insert(0, _AfterImport(_register_what_is_imported))
    _register_what_is_imported()
