"""The answers among which a model chooses, and which questions they cover."""

import json
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_videolang.data.annotation_text import in_layout
from hf_videolang.hub.question_heads import UNUSED

if TYPE_CHECKING:
    from datasets import Dataset


def count_answers(dataset: "Dataset", min_count: int = 1, max_size: int | None = 1500) -> list[str]:
    """
    The answers of a split by falling frequency, then by alphabet. Of scored answers, each with a score counts once.

    Args:
        dataset: records with questions.
        min_count: answers that fewer questions have are left out.
        max_size: the most answers to keep.

    Raises:
        ValueError: nothing is left.
    """
    counts = Counter(answer for row in dataset for answer in known_answers(row))
    answers = sorted((answer for answer, count in counts.items() if count >= min_count), key=lambda a: (-counts[a], a))
    if not answers[:max_size]:
        raise ValueError(
            f"the vocabulary of answers is empty: {len(dataset)} questions have {len(counts)} different answers; "
            f"min_count is {min_count}, max_size is {max_size}."
        )
    return answers[:max_size]


def read_answers(path: str | Path) -> list[str]:
    """
    Reads a vocabulary: the answer of each row of a head.

    Args:
        path: a text file with one answer a line; or a .json file, a list or the original's mapping of answers to rows.
            Rows that the mapping leaves out are called unused_<row>, and are no answer.

    Raises:
        ValueError: the file has another layout, names an answer or a row twice, or is empty.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    with in_layout(path, "a list of answers", 'one answer a line, or JSON such as {"lamp": 0, "girl": 1}'):
        text = path.read_text(encoding="utf-8")
        answers: Any = json.loads(text) if path.suffix == ".json" else [line for line in text.splitlines() if line]
        if isinstance(answers, Mapping):
            by_row = {row: answer for answer, row in answers.items()}
            if len(by_row) < len(answers) or not all(type(row) is int and row >= 0 for row in by_row):
                raise ValueError("the rows of the answers must be different numbers from 0")
            answers = [by_row.get(row, f"{UNUSED}{row}") for row in range(max(by_row, default=-1) + 1)]
        twice = [answer for answer, count in Counter(answers).items() if count > 1]
        if not answers or twice or not all(isinstance(answer, str) for answer in answers):
            raise ValueError(f"{twice[0]!r} stands there twice" if twice else "it has no answers")
    return answers


def known_answers(row: Mapping[str, Any]) -> dict[str, float]:
    """The answers of a question with their scores in 0..1: of a plain answer 1; empty where none is known."""
    if row["answers"] is not None:
        return {entry["answer"]: entry["score"] for entry in row["answers"] if entry["score"] > 0}
    return {} if row["answer"] is None else {row["answer"]: 1.0}


def can_answer(row: Mapping[str, Any], head: str, vocabulary: Collection[str]) -> bool:
    """
    Whether a head can give an answer that is known to be right.

    Args:
        row: of a dataset of questions.
        head: `"open"`, `"soft"` and `"statement"` need an answer of the vocabulary, `"multiple_choice"` the number of
            an option, and `"count"` a number.
        vocabulary: the answers of the head.
    """
    if head == "multiple_choice":
        return row["answer_index"] is not None and 0 <= row["answer_index"] < len(row["choices"] or ())
    if head == "count":
        return row["answer"] is not None and row["answer"].strip().lstrip("-").replace(".", "", 1).isdigit()
    return not known_answers(row).keys().isdisjoint(vocabulary)


def check_choices(head: str, with_choices: int, questions: int) -> None:
    """
    Questions must have options where the head chooses among them, and only there.

    Args:
        head: see [`can_answer`].
        with_choices: the number of questions that have options.
        questions: their whole number.

    Raises:
        ValueError: they do not fit.
    """
    if head == "multiple_choice" and with_choices < questions:
        raise ValueError(
            f"the model chooses among options, but {questions - with_choices} of {questions} questions have no "
            "choices; give them choices, or take a model with an open head."
        )
    if head != "multiple_choice" and with_choices:
        raise ValueError(
            f"{with_choices} of {questions} questions have choices, but the model's head does not choose among "
            "options; leave the choices out, or train such a head (head: multiple_choice)."
        )
