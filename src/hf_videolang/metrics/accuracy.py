"""Accuracy of answers: equal to the right one, or with the score that people gave to the answer (clipbert §10)."""

from collections.abc import Mapping, Sequence
from typing import Any


def accuracy(predictions: Sequence[Any], references: Sequence[Any]) -> float:
    """
    The share of predictions that equal their reference. Answers are compared letter by letter.

    Args:
        predictions: texts, or numbers of options. `None` stands for no answer, which is wrong.
        references: the right ones.

    Raises:
        ValueError: there are none, or not equally many.

    Example:
        >>> accuracy(["red", None, "two"], ["red", "dog", "2"])
        0.3333333333333333
    """
    _check(predictions, references)
    return sum(given == right for given, right in zip(predictions, references)) / len(references)


def soft_accuracy(predictions: Sequence[str | None], references: Sequence[Mapping[str, float]]) -> float:
    """
    The mean score of the predictions, as of VQA.

    Args:
        predictions: texts. `None` stands for no answer, which scores 0.
        references: of each question the scores of its answers, in 0..1; any other answer scores 0.

    Raises:
        ValueError: there are none, or not equally many.

    Example:
        >>> soft_accuracy(["red", "cat"], [{"red": 1.0, "dark red": 0.3}, {"dog": 1.0}])
        0.5
    """
    _check(predictions, references)
    return sum(scores.get(given or "", 0.0) for given, scores in zip(predictions, references)) / len(references)


def _check(predictions: Sequence[Any], references: Sequence[Any]) -> None:
    if len(predictions) != len(references) or not references:
        raise ValueError(f"{len(predictions)} predictions and {len(references)} references; expected equally many.")
