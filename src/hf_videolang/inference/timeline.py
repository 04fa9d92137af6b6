"""A picture of what happens when in a video: its parts as bars, and the score of each second as curves."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

from torch import Tensor

from hf_videolang.atomic_files import atomic_file
from hf_videolang.inference.segmentation import VideoPart


def draw_timeline(path: str | Path, parts: Sequence[VideoPart], labels: Sequence[str], scores: Tensor) -> None:
    """
    Args:
        path: of the picture; its ending is the format: `.png`, `.svg`, `.pdf`.
        parts: with labels out of `labels`.
        labels: one row of bars and one curve each.
        scores: `[seconds, labels]`.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: the ending is no format of pictures.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('a picture needs matplotlib; pip install "hf_videolang[plot]".') from error

    height = 0.4 * len(labels) + 1
    figure = Figure(figsize=(10, height + 2.5), layout="constrained")
    bars, curves = figure.subplots(2, 1, sharex=True, height_ratios=(height, 2.5))
    colours = [f"C{number}" for number in range(len(labels))]
    for number, label in enumerate(labels):
        of_label = [(part.start, part.end - part.start) for part in parts if part.label == label]
        bars.broken_barh(of_label, (number - 0.4, 0.8), color=colours[number])
        curves.stairs(scores[:, number].tolist(), color=colours[number], baseline=None)
    names = [fill(label, 40).replace("$", r"\$") for label in labels]  # between two $, matplotlib reads a formula
    bars.set_yticks(range(len(labels)), names)
    bars.set_ylim(len(labels) - 0.5, -0.5)
    curves.set_xlim(0, len(scores))
    curves.set_xlabel("seconds")
    curves.set_ylabel("score")
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=120)
