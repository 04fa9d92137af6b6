"""
Reads subtitle files: a list of `{"start", "end", "text"}`, in seconds and in the order of their start.

FFmpeg, which comes with PyAV, reads the formats and their mark-up.
"""

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any, TypedDict

from transformers.utils import logging

logger = logging.get_logger(__name__)

SUFFIXES = (".srt", ".vtt", ".ass", ".ssa")
MARKUP = re.compile(r"\{[^{}]*\}")  # FFmpeg turns the mark-up of every format into that of .ass


class Subtitle(TypedDict):
    """A text, and the seconds in which it is shown."""

    start: float
    end: float
    text: str


class SubtitleError(ValueError):
    """A subtitle file cannot be read. The message has its path, the reason and the remedy."""


def read_subtitles(source: str | Path | Iterable[Mapping[str, Any]] | None) -> list[Subtitle]:
    """
    Read the subtitles of one video.

    Args:
        source: path of a `.srt`, `.vtt`, `.ass` or `.ssa` file in UTF-8 or UTF-16, an empty file included;
            `"FILE.jsonl#VIDEO"` for one video of [`read_subtitle_lines`], which perhaps has none there; or entries
            with `"start"`, `"end"` and `"text"`. `None` is a video without subtitles.

    Returns:
        The subtitles by their start, without mark-up. One that ends before it starts is left out, with a warning.

    Raises:
        SubtitleError: the file is missing, is no subtitle file, or has another encoding; an entry has no text, or its
            seconds are not finite.

    Example:
        >>> read_subtitles("talk.srt")[0]
        {'start': 1.0, 'end': 4.5, 'text': 'Hello and welcome'}
    """
    if source is None:
        return []
    file, separator, video = str(source).partition(".jsonl#") if isinstance(source, (str, Path)) else ("", "", "")
    if separator:
        return list(_cached_lines(f"{file}.jsonl").get(video, ()))
    if isinstance(source, (str, Path)):
        if not Path(source).is_file():
            raise SubtitleError(f"{source} does not exist; give a file of {', '.join(SUFFIXES)}.")
        facts = Path(source).stat()
        return list(_cached_file(Path(source), facts.st_mtime_ns, facts.st_size))
    name = "the list of subtitles"
    found = [Subtitle(start=float(one["start"]), end=float(one["end"]), text=one["text"]) for one in source]
    if not all(isinstance(one["text"], str) and isfinite(one["start"] + one["end"]) for one in found):
        raise SubtitleError(f"{name} has an entry without a text or with endless seconds; correct it.")
    return _in_order(found, name)


def _in_order(found: list[Subtitle], name: str) -> list[Subtitle]:
    """By their start, without those that end before they start, which are counted."""
    kept = [one for one in found if one["start"] <= one["end"]]
    if len(kept) < len(found):
        logger.warning(f"{name}: {len(found) - len(kept)} subtitles end before they start and are left out.")
    in_order = sorted(kept, key=lambda one: one["start"])
    moved = sum(one is not other for one, other in zip(kept, in_order))
    if moved:
        logger.warning(f"{name}: {moved} subtitles do not stand in the order of their start and were sorted.")
    return in_order


def read_subtitle_lines(path: str | Path) -> dict[str, list[Subtitle]]:
    """
    Read the subtitles of many videos, as the VALUE benchmark has them (hero §7.1).

    Args:
        path: JSON lines, one a video: `{"vid_name": …, "sub": [{"text", "start", "end"}]}`.

    Returns:
        Video id → subtitles.

    Raises:
        SubtitleError: a line is no such JSON.
    """
    found = {}
    with Path(path).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                entry = json.loads(line)
                found[str(entry["vid_name"])] = read_subtitles([*entry["sub"]])  # a list; never a path
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise SubtitleError(
                    f'{path}, line {number} cannot be read ({error!r}); expected {{"vid_name": …, "sub": '
                    '[{"text": …, "start": …, "end": …}]}.'
                ) from error
    return found


_cached_lines = lru_cache(maxsize=4)(read_subtitle_lines)  # a benchmark has one file for all videos


@lru_cache(maxsize=4096)  # training reads a file once, however many queries and epochs the video has
def _cached_file(path: Path, changed: int, size: int) -> list[Subtitle]:
    return _in_order(_read_file(path), str(path))


def find_subtitles(video: str | Path) -> Path | None:
    """The subtitle file beside a video, such as `talk.srt` or `talk.en.vtt` beside `talk.mp4`; `None` without one."""
    video = Path(video)
    beside = [video.with_suffix(suffix) for suffix in SUFFIXES]
    beside += [video.with_suffix(f".en{suffix}") for suffix in SUFFIXES]
    return next((path for path in beside if path.is_file()), None)


def subtitle_text(entries: Iterable[tuple[str, float, float]], is_vtt: bool = False) -> str:
    """
    The content of a subtitle file: .srt, or .vtt.

    Example:
        >>> print(subtitle_text([("a dog runs", 0.0, 4.5)]))
        1
        00:00:00,000 --> 00:00:04,500
        a dog runs
    """

    def clock(seconds: float) -> str:
        minutes, thousandths = divmod(round(seconds * 1000), 60_000)
        hours, minutes = divmod(minutes, 60)
        whole, thousandths = divmod(thousandths, 1000)
        return f"{hours:02}:{minutes:02}:{whole:02}{'.' if is_vtt else ','}{thousandths:03}"

    blocks = [f"{clock(start)} --> {clock(end)}\n{text}\n" for text, start, end in entries]
    if not is_vtt:
        blocks = [f"{number}\n{block}" for number, block in enumerate(blocks, start=1)]
    return "\n".join(["WEBVTT\n"] * is_vtt + blocks)


def _read_file(path: Path) -> list[Subtitle]:
    import av
    from av.subtitles.subtitle import AssSubtitle

    if not path.read_bytes().strip():
        return []
    entries = []
    try:
        allowed = {"protocol_whitelist": "file", "format_whitelist": "ass,srt,webvtt"}  # no playlist of other files
        with av.open(str(path), options=allowed) as container:
            for packet in container.demux(subtitles=0):
                if packet.pts is None or packet.time_base is None or not packet.size:
                    continue
                start = float(packet.pts * packet.time_base)
                lines = [part.dialogue.decode() for part in packet.decode() if isinstance(part, AssSubtitle)]
                text = " ".join(MARKUP.sub("", " ".join(lines)).split())
                entries.append((packet.pos, start, start + float((packet.duration or 0) * packet.time_base), text))
    except (av.FFmpegError, IndexError, UnicodeError) as error:
        raise SubtitleError(
            f"{path} cannot be read as subtitles ({type(error).__name__}); expected a file of {', '.join(SUFFIXES)} "
            "in UTF-8. `iconv -f LATIN1 -t UTF-8` changes the encoding."
        ) from error
    # FFmpeg sorts; the place in the file tells the order that the file has.
    return [Subtitle(start=start, end=end, text=text) for _, start, end, text in sorted(entries) if text]
