"""What is known of a question: one form for the rows of a user's folder and of every benchmark."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hf_videolang.data.records import Record
from hf_videolang.hub.question_heads import TRUTH

ANSWER_SPAN = ("answer_start", "answer_end")


def question_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """
    Reads a question and what is known of its answer. Nothing is checked yet, such as whether an index fits.

    Args:
        row: `statement` and `answer`, which is true or false, 1 or 0; or
            `question`, perhaps empty, and some of: `answer`, a text or a number; `choices`, the options, where
            `answer` is the text of one, or its number from 0; `answers`, which maps texts to scores; `answer_type`;
            `answer_start` and `answer_end`, the seconds of the file that show the answer. Cells of a text file hold
            lists and mappings as JSON.

    Returns:
        The columns of a record (`TASK_COLUMNS["question_answering"]`) except the id; `None` where nothing is known.
        `answer` is a text, also where the row has a number; that of an option where there are options. A statement
        stands as a question, with the answer "true" or "false".

    Raises:
        ValueError: the question is no text, `choices` is no list of texts, `answers` does not map texts to numbers, or
            a statement is neither true nor false.

    Example:
        >>> question_columns({"question": "what barks?", "choices": ["cat", "dog"], "answer": 1})["answer"]
        'dog'
    """
    is_statement = "statement" in row
    question = row.get("statement" if is_statement else "question")
    if not isinstance(question, str):
        raise ValueError(f"the {'statement' if is_statement else 'question'} is {question!r}; expected a text.")
    answer, choices, scores = (_cell(row.get(name)) for name in ("answer", "choices", "answers"))
    if choices is not None and not (isinstance(choices, list) and all(isinstance(one, str) for one in choices)):
        raise ValueError(f"choices is {choices!r}; expected a list of texts.")
    if isinstance(scores, dict):
        scores = {text: score for text, score in scores.items() if score is not None}  # Parquet fills in other keys
    if not (scores is None or (isinstance(scores, dict) and all(isinstance(s, int | float) for s in scores.values()))):
        raise ValueError(f'answers is {scores!r}; expected texts and scores, such as {{"lamp": 1, "light": 0.3}}.')
    index = None if choices is None or answer is None else _number_of(answer, choices)
    if index is not None and choices and 0 <= index < len(choices):
        answer = choices[index]
    answer_type = _cell(row.get("answer_type"))
    answer = None if answer is None else f"{answer:.12g}" if isinstance(answer, float) else str(answer)
    if is_statement and answer is not None:
        answer = dict(zip("01", TRUTH)).get(answer, answer.lower())
        if answer not in TRUTH:
            raise ValueError(f"the answer of a statement is {row['answer']!r}; expected true or false, 1 or 0.")
    return {
        "question": question,
        "answer": answer,
        "choices": choices,
        "answer_index": index,
        "answers": None if scores is None else [{"answer": text, "score": float(s)} for text, s in scores.items()],
        "answer_type": None if answer_type is None else str(answer_type),
        **{name: None if (second := _cell(row.get(name))) is None else float(second) for name in ANSWER_SPAN},
    }


def name_questions(records: Sequence[Record]) -> None:
    """Questions without an id get that of their video and a number: "kitchen#q1", "kitchen#q2"."""
    counts: Counter[str] = Counter()
    for record in records:
        counts[record.video_id] += 1
        record.question_id = record.question_id or f"{record.video_id}#q{counts[record.video_id]}"


def _cell(value: Any) -> Any:
    """The value of a cell: `None` where it is empty, and what its JSON says where it holds a list or a mapping."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):  # as data frames write it
        return None
    if isinstance(value, str) and value.lstrip()[:2] in ('["', '{"'):
        return json.loads(value)
    return value


def _number_of(answer: Any, choices: list[str]) -> int | None:
    """The number of an option, given its text or the number itself; `None` for another text."""
    if answer in choices:
        return choices.index(answer)
    try:
        return int(answer)
    except ValueError:
        return None
