"""Finding annotation files by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from hf_videolang.data.records import name_some

ANNOTATION_EXTENSIONS = (".json", ".jsonl", ".csv", ".txt")


@dataclass
class AnnotationFiles:
    """The annotation files of a benchmark below one folder.

    Attributes:
        benchmark: its name, for errors.
        source: where the files can be had, for errors.
        paths: all files with one of `ANNOTATION_EXTENSIONS` below the folder.
        name_of: gives the name of a video from what annotations, lists and files call it.
        used: the files that `find` has returned.
    """

    benchmark: str
    source: str
    paths: Sequence[Path]
    name_of: Callable[[str], str]
    used: list[Path] = field(default_factory=list)

    def find(self, patterns: Sequence[str]) -> Path | None:
        """The file that fits the first of the patterns that any file fits: lower case, with `*` for any text.

        Raises:
            ValueError: several files of different content fit.
        """
        for pattern in patterns:
            found = [path for path in self.paths if fnmatch(path.name.lower(), pattern)]
            if len(found) > 1 and len({path.read_bytes() for path in found}) > 1:
                raise ValueError(
                    f"Several different files could be the list {pattern}: {name_some(found)}. "
                    "Keep one of them below the data folder."
                )
            if found:
                self.used.append(found[0])
                return found[0]
        return None

    def missing(self, patterns: Sequence[str], what: str) -> FileNotFoundError:
        """The error for an absent file: what was expected, what is there, and where to get it."""
        names = name_some([path.name for path in self.paths], 20) or "none"
        return FileNotFoundError(
            f"{self.benchmark}: no file with {what}. Expected one of {', '.join(patterns)} (case does not matter) "
            f"below the data folder; annotation files there: {names}. Get the dataset at {self.source}."
        )
