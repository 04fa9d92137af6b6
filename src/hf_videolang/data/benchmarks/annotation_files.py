"""Finding annotation files by name, and saying what is wrong with one: what all readers share."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from hf_videolang.data.records import name_some


class Annotation(NamedTuple):
    """What an annotation file says about one video, or one segment of it.

    Attributes:
        video: as the file calls it, perhaps with folders and an extension.
        captions: its sentences, in order.
        start, end: segment in seconds; None for the whole video.
        num_frames: pictures that its frame folder must have; None where the file says nothing.
    """

    video: str
    captions: list[str]
    start: float | None = None
    end: float | None = None
    num_frames: int | None = None


class AnnotationFiles:
    """The annotation files of a benchmark; remembers in `sources` which were found.

    Args:
        benchmark: its name, for errors.
        files: all files below the data folder.
    """

    def __init__(self, benchmark: str, files: Sequence[Path]):
        self.benchmark = benchmark
        self.files = [file for file in files if file.suffix.lower() in (".json", ".jsonl", ".csv", ".txt")]
        self.sources: list[Path] = []

    def find(self, patterns: Sequence[str]) -> Path | None:
        """The file that fits the first of the lower-case patterns that any file fits; several must be equal."""
        for pattern in patterns:
            found = [file for file in self.files if fnmatch(file.name.lower(), pattern)]
            if len(found) > 1 and len({file.read_bytes() for file in found}) > 1:
                raise ValueError(
                    f"Several different files could be the list {pattern}: {name_some([str(file) for file in found])}. "
                    "Keep one of them below the data folder."
                )
            if found:
                self.sources.append(found[0])
                return found[0]
        return None

    def missing(self, patterns: Sequence[str], what: str) -> FileNotFoundError:
        """The error that says what was looked for, and what is there."""
        names = name_some([file.name for file in self.files], 20) or "none"
        return FileNotFoundError(
            f"{self.benchmark}: no file with {what}. Expected one of {', '.join(patterns)} (case does not matter) below "
            f"the data folder; annotation files there: {names}."
        )


@contextmanager
def in_layout(path: Path, whose: str, expected: str) -> Iterator[None]:
    """Whatever goes wrong inside means that the file is not as expected, and becomes one ValueError that says so."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(
            f"{path} is not in the layout of {whose} ({type(error).__name__}: {error}); expected {expected}."
        ) from error
