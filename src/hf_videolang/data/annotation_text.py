"""Reading annotations that others wrote, with errors that say what is wrong in which file."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def in_layout(path: Path, whose: str, expected: str) -> Iterator[None]:
    """Turns any error inside into one ValueError, which says that the file does not have the expected layout."""
    try:
        yield
    except Exception as error:  # RecursionError, OverflowError, csv.Error, Arrow's own kinds …
        if isinstance(error, ImportError) or getattr(error, "errno", None) is not None:  # the disk, not the content
            raise
        raise ValueError(
            f"{path} is not in the layout of {whose} ({type(error).__name__}: {error}); expected {expected}."
        ) from error


def parse_json(text: str) -> Any:
    """Parses JSON. Half of an emoji, which neither tokenizers nor Arrow take, becomes a question mark."""
    content = json.loads(text)
    if "\\ud" in text.lower():
        content = json.loads(json.dumps(content, ensure_ascii=False).encode("utf-8", "replace"))
    return content


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Reads a file with one JSON object a line. Leaves out blank lines.

    Raises:
        ValueError: a line is not a JSON object, or not UTF-8; names the line.
    """
    rows, number = [], 0
    try:
        for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):  # noqa: B007
            if text := line.decode("utf-8-sig").strip():
                rows.append({**parse_json(text)})
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"line {number} is not a JSON object: {error}") from error
    return rows
