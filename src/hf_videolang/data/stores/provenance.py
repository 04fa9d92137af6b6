"""A note in a folder on how its content was made: the first run writes it, each later run must agree with it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_videolang.atomic_files import atomic_file
from hf_videolang.data.records import name_some


def write_or_check_provenance(file: Path, provenance: Mapping[str, Any], content: Sequence[str]) -> None:
    """
    Write the provenance of a new folder, or check that an earlier run wrote the same.

    Args:
        file: a JSON file in the folder, which is created if absent.
        provenance: everything that decides the content (model and its hash, settings, …), as JSON values.
        content: names of the files that the folder already holds. List them before this call, since another process
            may start to fill the folder meanwhile.

    Raises:
        ValueError: the earlier run wrote something else, or the folder has content but no such file.
    """
    folder = file.parent
    if not file.is_file():
        if content:
            raise ValueError(
                f"{folder} holds {name_some(content)} but no {file.name}, so it is not known how they were made. "
                "Choose another folder, or empty this one."
            )
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as temporary:
            temporary.write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")
    if differing := differences(read_provenance(file), provenance):
        raise ValueError(
            f"{folder} was made with other settings ({'; '.join(differing)}). Use the same settings, choose another "
            "folder, or remove this one."
        )


def differences(before: Mapping[str, Any], today: Mapping[str, Any]) -> list[str]:
    """What differs between facts read from JSON and those of today: `["frames: 4 there, 2 now"]`."""
    earlier, now = _flat(before), _flat(json.loads(json.dumps(today)))
    return [
        f"{key}: {earlier.get(key)!r} there, {now.get(key)!r} now"
        for key in sorted(earlier.keys() | now.keys())
        if earlier.get(key) != now.get(key)
    ]


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """JSON values by their path, `{"extractors.0.model": …}`, so that a message shows only what differs."""
    if not isinstance(value, dict | list) or not value:
        return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {path: leaf for key, inner in items for path, leaf in _flat(inner, f"{name}.{key}".lstrip(".")).items()}


def read_provenance(file: Path) -> dict[str, Any]:
    """What `write_or_check_provenance` wrote."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}); remove {file.parent}.") from error
