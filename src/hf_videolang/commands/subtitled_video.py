"""What those commands share that read features and subtitles of videos."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from hf_videolang.video.subtitles import find_subtitles


def add_extractor_argument(parser: Any) -> None:
    parser.add_argument(
        "--extractor",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="weights of an extractor that the model names; default: those of the preset (see extract)",
    )


def add_feature_arguments(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("features and subtitles, of a model that reads them")
    group.add_argument(
        "--features",
        type=Path,
        metavar="FILE_OR_STORE",
        help=".npy or .npz of the video; or a feature store, which gets what it lacks (default: extract and forget)",
    )
    add_extractor_argument(group)
    group.add_argument(
        "--subtitles",
        default="auto",
        metavar="FILE",
        help="of the video; auto takes talk.srt, talk.vtt, talk.en.srt and the like beside talk.mp4, none takes none "
        "(default: %(default)s)",
    )


def chosen_subtitles(option: str, video: Path) -> Path | None:
    """The file that --subtitles means."""
    return {"auto": find_subtitles(video), "none": None}.get(option, Path(option))


def described(protocol: dict[str, Any]) -> str:
    """What a model sees, on one line."""
    return "; ".join(f"{name}: {value}" for name, value in protocol.items())
