"""
Saved folders that load without the package (`trust_remote_code=True`).

Remote code is a flat folder of modules that import each other as `from .name import …`. The package is a tree, so
each save walks the imports of the modules that read the folder, starting at those named in `auto_map`, rewrites them
to the flat form and writes the modules beside the JSON. Flattened code is its own fixed point: a model that was itself loaded
from remote code saves a folder of the same kind through the same lines.
"""

import ast
import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar


def flatten_code(entries: Iterable[Path]) -> dict[str, str]:
    """
    The entry modules and, recursively, every module of the same package they import, ready for one flat folder.

    Args:
        entries: paths of the modules to start from.

    Returns:
        File name → source in which each package-internal import reads `from .<basename> import …`.

    Raises:
        ValueError: two modules share a file name, or an internal import has a form that cannot be flattened
            (`import package.module`, `from . import module`, names taken from a package's `__init__`).
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
    """Source of one module with flat imports, and the modules it imports from its own package."""
    root = path.parent
    while (root.parent / "__init__.py").exists():
        root = root.parent
    source = path.read_text(encoding="utf-8")
    lines, imported, tree = source.splitlines(keepends=True), [], ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(alias.name.split(".")[0] == root.name for alias in node.names):
            raise ValueError(
                f"{path}:{node.lineno}: write `from {root.name}.module import name`; remote code is flat."
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
                "it, not from a package, since remote code is flat."
            )
        line, start = lines[node.lineno - 1], node.col_offset
        flat = re.sub(r"^from\s+\S+\s+import", f"from .{target.stem} import", line[start:])
        lines[node.lineno - 1] = line[:start] + flat
        imported.append(target)
    _guard_late_imports(tree, lines)
    return "".join(lines), imported


def _guard_late_imports(tree: ast.Module, lines: list[str]) -> None:
    """
    Put each import that stands in a function into `try`, which changes nothing but for whom it is needed.

    An import in a function is for those who call it; transformers demands it of everybody who loads the code unless it
    stands in `try`.
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

    A model needs nothing: saving it saves its config, and the config's `auto_map` names the model's module.

    Attributes:
        auto_map: Auto class → `"module.Class"`, modules lying beside the one that states it. Written into the JSON.
    """

    auto_map: ClassVar[dict[str, str]]

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "auto_map": dict(type(self).auto_map)}  # type: ignore[misc]

    def save_pretrained(self, save_directory, *args, **kwargs):
        owner = next(cls for cls in type(self).__mro__ if "auto_map" in vars(cls))
        home = Path(inspect.getfile(owner)).parent
        modules = {reference.split(".")[0] for reference in vars(owner)["auto_map"].values()}
        # Without the package, transformers fetched only the modules in use; the others cannot and need not be saved.
        entries = [path for module in sorted(modules) if (path := home / f"{module}.py").exists()]
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        for name, source in flatten_code(entries).items():
            (folder / name).write_text(source, encoding="utf-8")
        return super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]

    def _get_files_timestamps(self, working_dir) -> dict[str, float]:
        """`save_pretrained(…, push_to_hub=True)` uploads what is newer than this; code always travels."""
        timestamps = super()._get_files_timestamps(working_dir)  # type: ignore[misc]
        return {name: time for name, time in timestamps.items() if not name.endswith(".py")}


__all__ = ["RemoteCodeMixin", "flatten_code"]
