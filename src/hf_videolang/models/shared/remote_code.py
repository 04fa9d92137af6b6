"""
Saved folders that load without the package (`trust_remote_code=True`).

Remote code is a flat folder of modules that import each other as `from .name import …`. The package is a tree. So
each save follows the imports of the modules named in `auto_map`, rewrites them to the flat form and writes the modules
beside the JSON. Flat code flattens to itself: a model loaded from remote code saves the same folder again.
"""

import ast
import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar


def flatten_code(entries: Iterable[Path]) -> dict[str, str]:
    """
    Flatten modules, and all modules of the same package that they import, for one folder.

    Args:
        entries: paths of the modules to start from.

    Returns:
        File name → source, in which each import from the package reads `from .<basename> import …`.

    Raises:
        ValueError: two modules share a file name, or an import cannot be flattened (`import package.module`,
            `from . import module`, names imported from a package's `__init__`).
    """
    sources: dict[str, str] = {}
    origins: dict[str, Path] = {}
    queue = [path.resolve() for path in entries]
    while queue:
        path = queue.pop()
        if (other := origins.setdefault(path.name, path)) != path:
            raise ValueError(f"{path} and {other} would both become {path.name}; rename one of them.")
        if path.name not in sources:
            sources[path.name], imported = _flatten_module(path)
            queue.extend(imported)
    return sources


def _flatten_module(path: Path) -> tuple[str, list[Path]]:
    """Source of one module with flat imports, and the modules that it imports from its own package."""
    root = path.parent
    while (root.parent / "__init__.py").exists():
        root = root.parent
    source = path.read_text(encoding="utf-8")
    lines, imported, tree = source.splitlines(keepends=True), [], ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(alias.name.split(".")[0] == root.name for alias in node.names):
            raise ValueError(
                f"{path}:{node.lineno}: write `from {root.name}.module import name`, since remote code is flat."
            )
        if not isinstance(node, ast.ImportFrom):
            continue
        package, *parts = (node.module or "").split(".")
        if node.level:
            target = path.parents[node.level - 1].joinpath(package, *parts)
        elif package == root.name:
            target = root.joinpath(*parts)
        else:
            continue
        target = target.with_suffix(".py")
        if not target.is_file():
            raise ValueError(
                f"{path}:{node.lineno}: there is no module {target}; import each name from the module that defines "
                "it, since remote code is flat."
            )
        line, start = lines[node.lineno - 1], node.col_offset
        flat = re.sub(r"^from\s+\S+\s+import", f"from .{target.stem} import", line[start:])
        lines[node.lineno - 1] = line[:start] + flat
        imported.append(target)
    _guard_late_imports(tree, lines)
    return "".join(lines), imported


def _guard_late_imports(tree: ast.Module, lines: list[str]) -> None:
    """
    Put each import inside a function into `try`.

    Only callers of the function need the package. transformers demands it from everybody who loads the code, unless
    the import stands in `try`.
    """
    walk = [*ast.walk(tree)]
    guarded = {id(node) for block in walk if isinstance(block, ast.Try) for node in ast.walk(block)}
    late = {
        node.lineno: node
        for function in walk
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and not node.level)
        if id(node) not in guarded
    }
    for number, node in late.items():
        indent, last = " " * node.col_offset, (node.end_lineno or number) - 1
        lines[number - 1] = f"{indent}try:\n    {lines[number - 1]}"
        lines[last] += f"{indent}except ImportError:\n{indent}    raise\n"


class RemoteCodeMixin:
    """
    Makes `save_pretrained` and `push_to_hub` of a config or processor write the code that reads the folder.

    A model does not need it: saving a model saves its config, whose `auto_map` names the model's module.

    Attributes:
        auto_map: Auto class → `"module.Class"`, with modules of the same folder. It is written into the JSON.
    """

    auto_map: ClassVar[dict[str, str]]

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "auto_map": dict(type(self).auto_map)}  # type: ignore[misc]

    def save_pretrained(self, save_directory, *args, **kwargs):
        owner = next(cls for cls in type(self).__mro__ if "auto_map" in vars(cls))
        home = Path(inspect.getfile(owner)).parent
        modules = {reference.split(".")[0] for reference in vars(owner)["auto_map"].values()}
        # A model loaded from remote code has only the modules in use. The others need not be saved.
        entries = [path for module in sorted(modules) if (path := home / f"{module}.py").exists()]
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        for name, source in flatten_code(entries).items():
            (folder / name).write_text(source, encoding="utf-8")
        return super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]

    def _get_files_timestamps(self, working_dir) -> dict[str, float]:
        """`save_pretrained(…, push_to_hub=True)` uploads files newer than these, and code always."""
        timestamps = super()._get_files_timestamps(working_dir)  # type: ignore[misc]
        return {name: time for name, time in timestamps.items() if not name.endswith(".py")}
