"""Rules read from the source: who may name a family, who may import whom, what an import may need."""

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.parity.cases import REPOSITORY

SOURCE = REPOSITORY / "src" / "hf_videolang"
FILES = {file.relative_to(SOURCE).as_posix(): file for file in SOURCE.rglob("*") if file.is_file()}
MODULES = {name: ast.parse(file.read_text()) for name, file in sorted(FILES.items()) if name.endswith(".py")}

FAMILY = r"(clip_vip|videoclip|s3d|clipbert|hero|clip_enhanced|slowfast)"
FAMILY_FILE = re.compile(rf"(models|conversion|recipes)/{FAMILY}[/.]|hub/cards/{FAMILY}\.md$|data/benchmarks/")
NAMES_A_FAMILY = re.compile(
    r"(?i:clip[-_ ]?vip|videoclip|clipbert|slowfast|(?<![a-z])s3d(?![a-z]))"
    r"|(?<![A-Za-z])(hero(?![a-z])|Hero(?=[A-Z])|HERO)"
)

# From the ground up. A file imports from its own level and from those below it.
LEVELS = [
    {
        "__init__.py",
        "registration.py",
        "console.py",
        "atomic_files.py",
        "folder_lock.py",
        "strict_yaml.py",
        "losses",
        "metrics",
    },
    {"video", "hub"},
    {"models"},
    {"data"},
    {"inference"},
    {"evaluation"},
    {"conversion", "training"},
    {"commands"},
    {"cli.py", "__main__.py"},
]
# What models need, and what comes with it. All else is imported in the functions that use it.
ALWAYS_INSTALLED = {"torch", "torchvision", "transformers", "safetensors", "huggingface_hub"}
ALWAYS_INSTALLED |= {"accelerate", "numpy", "packaging", "PIL", "tokenizers", "tqdm", "yaml"}


def words(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of every identifier and every string, docstrings excepted."""
    scopes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(scope.body[0].value)
        for scope in ast.walk(tree)
        if isinstance(scope, scopes) and scope.body and isinstance(scope.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if id(node) not in docstrings:
            for field in ("id", "attr", "name", "asname", "arg", "module", "value"):
                if isinstance(text := getattr(node, field, None), str):
                    yield getattr(node, "lineno", 0), text


def test_only_a_familys_own_files_name_it():
    found = []
    for name, file in FILES.items():
        if FAMILY_FILE.match(name) or "__pycache__" in name:
            continue
        if NAMES_A_FAMILY.search(name):
            found.append(f"{name}: move it to the family's own files")
        if name == "__init__.py":  # the star imports for type checkers
            continue
        if name in MODULES:
            lines = words(MODULES[name])
        else:
            lines = enumerate((line.split("#")[0] for line in file.read_text().splitlines()), start=1)
        found += [f"{name}:{line}: {text.strip()[:80]}" for line, text in lines if NAMES_A_FAMILY.search(text)]
    assert not found, "general files name a family:\n" + "\n".join(found)


def imports(name: str) -> Iterator[tuple[int, str]]:
    """Line and file of every import from the package, wherever it stands."""
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Import):
            targets = [(alias.name.split("."), []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = ["hf_videolang", *Path(name).parts[: -node.level]] if node.level else []
            targets = [([*package, *(node.module or "").split(".")], [alias.name for alias in node.names])]
        else:
            continue
        for (root, *parts), members in targets:
            parts = [part for part in parts if part]
            for path in [*([*parts, member] for member in members), parts] if root == "hf_videolang" else []:
                for file in ("/".join(path) + ".py", "/".join([*path, "__init__.py"])):
                    if file in MODULES:
                        yield node.lineno, file


def level(name: str) -> int:
    room = name.split("/")[0]
    return next(number for number, rooms in enumerate(LEVELS) if room in rooms)


def test_no_import_runs_up():
    found = [
        f"{name}:{line} imports {target}"
        for name in MODULES
        if name != "__init__.py"  # the star imports for type checkers
        for line, target in imports(name)
        if level(target) > level(name)
    ]
    assert not found, "imports from a higher room:\n" + "\n".join(found)


def test_no_two_files_import_each_other():
    graph = {name: {target for _, target in imports(name)} - {name} for name in MODULES if name != "__init__.py"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("files import each other: " + " → ".join(reversed(error.args[1])))


def top_level_imports(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports that run when the file is imported: not those in functions, nor those for type checkers."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        elif not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from top_level_imports(child)


def test_other_packages_are_imported_where_they_are_used():
    allowed = ALWAYS_INSTALLED | sys.stdlib_module_names | {"hf_videolang"}
    found = []
    for name, tree in MODULES.items():
        if "for_evaluate" in name:  # `evaluate` loads such a file, and its class inherits from one of evaluate
            continue
        for node in top_level_imports(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            packages = {imported.split(".")[0] for imported in names} - allowed
            if packages and not getattr(node, "level", 0):
                found.append(f"{name}:{node.lineno} imports {', '.join(packages)}")
    assert not found, "import these inside the functions that need them:\n" + "\n".join(found)
