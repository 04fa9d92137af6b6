"""
Named extractors of a benchmark: which model sees which frames. A preset is a YAML file in `recipes/<family>/features`.

Two presets may be joined, such as `clip-vit_slowfast`: rows of frames, then rows of clips, side by side.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hf_videolang.strict_yaml import load_yaml
from hf_videolang.video.decoded_video import Cut
from hf_videolang.video.interval_sampling import interval_clips, middle_frames

RECIPES = Path(__file__).parents[1] / "recipes"


@dataclass(frozen=True)
class Preset:
    """
    How features are made, all that decides their numbers except the weights.

    Attributes:
        name: of the file.
        features: short name, which a joined preset is made of, and by which models name the features they read.
        model_class: a class of this package, of transformers, or a model of torchvision, whose classifier is left out.
        weights: a Hub id, or torchvision's name; `None` if the user must give a folder.
        config: settings of the model's config that differ.
        method: of the model; its output has `pooler_output` `[rows, width]`.
        seconds_per_row: length of the interval that a row stands for.
        frames_per_row: frames of a clip; 1 takes the frame in the middle. See `video.interval_sampling`.
        shortest_edge, crop: pixels, see `filtered_rows`.
        image_mean, image_std: of the colours, in 0..1.
        unit_rows: whether rows are made unit vectors.
    """

    name: str
    features: str
    model_class: str
    seconds_per_row: float
    shortest_edge: int
    weights: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    method: str = "forward"
    frames_per_row: int = 1
    crop: int | None = None
    image_mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    image_std: tuple[float, ...] = (1.0, 1.0, 1.0)
    unit_rows: bool = False

    def rows(self, cut: Cut) -> np.ndarray:
        """Positions of the frames of each row: int64 `[rows, frames_per_row]`."""
        if self.frames_per_row == 1:
            return middle_frames(cut, self.seconds_per_row)
        return interval_clips(cut, self.seconds_per_row, self.frames_per_row)


@cache
def presets() -> dict[str, Preset]:
    """The presets of the package by their names."""
    files = sorted(RECIPES.glob("*/features/*.yaml"))
    return {file.stem: Preset(file.stem, **load_yaml(file.read_text(encoding="utf-8"))) for file in files}


def find_presets(name: str) -> list[Preset]:
    """
    The presets that a name means: one, or two that are joined.

    Args:
        name: of a file, such as `value-resnet152`; or of features, such as `slowfast` or `clip-vit_slowfast`.

    Raises:
        ValueError: there is no such preset.

    Example:
        >>> [preset.name for preset in find_presets("clip-vit_slowfast")]
        ['value-clip-vit-b32', 'value-slowfast-r50']
    """
    known = {key: [preset] for preset in presets().values() for key in (preset.name, preset.features)}
    of_frames = [preset for preset in presets().values() if preset.frames_per_row == 1]
    of_clips = [preset for preset in presets().values() if preset.frames_per_row > 1]
    known |= {f"{one.features}_{other.features}": [one, other] for one in of_frames for other in of_clips}
    if name not in known:
        raise ValueError(f"there is no preset {name!r}; expected one of {', '.join(sorted(known))}.")
    return known[name]


def read_weights(words: Iterable[str]) -> dict[str, str]:
    """
    `NAME=DIR` of a command line, as `load_preset` takes them.

    Raises:
        ValueError: a word is something else.
    """
    pairs = [word.partition("=") for word in words]
    if wrong := ["".join(pair) for pair in pairs if not all(pair)]:
        raise ValueError(f"{wrong[0]!r} is no NAME=DIR, such as clip-vit=clip-vit-b32.")
    return {name: place for name, _, place in pairs}
