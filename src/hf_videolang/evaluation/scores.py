"""The scores of an evaluation, whatever the task: as a table for people and as flat names for logs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hf_videolang.metrics.facts import CHANCE, METRICS

if TYPE_CHECKING:
    from hf_videolang.data.protocol import Protocol

# Column ("raw", "DSL", "chance") → group ("text_to_video", a type of question) → metric ("R1") → value.
# Shares run from 0 to 1.
Scores = dict[str, dict[str, dict[str, float]]]


def protocol_line(protocol: "Protocol", settings: Mapping[str, str | int]) -> str:
    """One line with the dataset and the settings. It stands above every table of scores."""
    return "; ".join([str(protocol), *(f"{name}: {value}" for name, value in settings.items())])


def score_table(scores: Scores) -> str:
    """
    A table for people: one row a metric, one column for raw, for each kind of post-processed scores, and for chance.
    Shares are in per cent.

    Example:
        >>> print(score_table({"raw": {"text_to_video": {"R1": 0.5, "MedianR": 1.5}}}))
                                    raw
        text to video R1           50.0
                      MedianR       1.5
    """
    groups = next(iter(scores.values()))
    first = max(len(group) for group in groups) + 1
    second = max(len(metric) for metrics in groups.values() for metric in metrics) + 1
    widths = [max(9, len(column) + 2) for column in scores]
    lines = [" " * (first + second) + "".join(f"{column:>{width}}" for column, width in zip(scores, widths))]
    for group, metrics in groups.items():
        for number, metric in enumerate(metrics):
            title = group.replace("_", " ") if number == 0 else ""
            values = [METRICS[metric].for_people(column[group][metric]) for column in scores.values()]
            lines.append(f"{title:<{first}}{metric:<{second}}" + "".join(map(_cell, values, widths)))
    return "\n".join(lines)


def _cell(value: float, width: int) -> str:
    return f"{value:>{width}}" if isinstance(value, int) else f"{value:>{width}.1f}"  # a count is an integer


def flat_scores(scores: Scores, prefix: str = "") -> dict[str, float]:
    """`{"text_to_video_R1": …, "text_to_video_R1_DSL": …}` for logs and for the choice of the best checkpoint."""
    return {
        f"{prefix}{group}_{metric}{'' if column == 'raw' else '_' + column}": value
        for column, groups in scores.items()
        if column != CHANCE
        for group, metrics in groups.items()
        for metric, value in metrics.items()
    }


def mean_rank_beside(name: str) -> str:
    """The flat name of the mean rank in the place of another metric: `text_to_video_R1_DSL` → `…_MeanR_DSL`."""
    return "_".join("MeanR" if word in METRICS else word for word in name.split("_"))


def higher_is_better(name: str) -> bool:
    """The direction of a flat score, such as `eval_text_to_video_MedianR_DSL`. A name without a metric counts up."""
    return all(METRICS[word].higher_is_better for word in name.split("_") if word in METRICS)
