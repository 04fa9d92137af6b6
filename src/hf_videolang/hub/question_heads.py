"""The head with which a model answers questions: which one it has, and how it gets a new one."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Literal

from transformers import (
    MODEL_FOR_MULTIPLE_CHOICE_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_FOR_VISUAL_QUESTION_ANSWERING_MAPPING,
    PreTrainedModel,
)

from hf_videolang.hub.heads import new_head

# "open": one of the answers in `config.id2label`; "soft": the same, trained on scored answers; "multiple_choice": one
# of the question's own options; "count": a number; "statement": whether what takes the question's place is true.
Head = Literal["open", "soft", "multiple_choice", "count", "statement"]
PROBLEM_TYPES: dict[Head, str] = {
    "open": "single_label_classification",
    "soft": "multi_label_classification",
    "count": "regression",
}
MAPPINGS: dict[Head, Any] = {
    "multiple_choice": MODEL_FOR_MULTIPLE_CHOICE_MAPPING,
    "statement": MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
}  # of the other heads MODEL_FOR_VISUAL_QUESTION_ANSWERING_MAPPING
TRUTH = ("false", "true")
UNUSED = "unused_"  # rows of a converted head beyond its list of answers are called unused_<row>


def question_head(model: PreTrainedModel) -> Head:
    """
    The kind of head, from the model's class and `config.problem_type`.

    Raises:
        ValueError: the model has no head for questions.

    Example:
        >>> question_head(AutoModelForMultipleChoice.from_pretrained("org/clipbert-tgif-action"))
        'multiple_choice'
    """
    for head in MAPPINGS:
        if isinstance(model, _head_class(model, head) or ()):
            return head
    if isinstance(model, _head_class(model, "open") or ()):
        kinds = {kind: head for head, kind in PROBLEM_TYPES.items()}
        return kinds[model.config.problem_type or PROBLEM_TYPES["open"]]
    raise ValueError(
        f"{model.name_or_path} is a {type(model).__name__}, which has no head for questions; train one with "
        "`python -m hf_videolang.training.run_question_answering`."
    )


def answers_of(model: PreTrainedModel) -> list[str]:
    """The answer of each row of an open head, also of the unused ones; of a statement "false" and "true"."""
    if question_head(model) == "statement":
        return list(TRUTH)
    labels: Any = model.config.id2label
    return [labels[row] for row in range(len(labels))]


def with_new_head(model: PreTrainedModel, head: Head, answers: Sequence[str] = ()) -> PreTrainedModel:
    """
    The base of a model under a new head, which starts random. The random generator of torch decides its weights.

    Args:
        model: with any head, or with none.
        head: kind of the new head.
        answers: of an open or soft head, row by row.

    Raises:
        ValueError: the family has no such head, or an open one has a single answer to choose from.

    Example:
        >>> model = with_new_head(ClipBertForPreTraining.from_pretrained("org/clipbert-base"), "open", ["red", "blue"])
    """
    head_class = _head_class(model, head)
    if head_class is None:
        raise ValueError(f"the system of {model.name_or_path} ({model.config.model_type}) has no head {head!r}.")
    if head == "open" and len(answers) < 2:
        raise ValueError(f"an open head chooses among answers, but the only one is {answers[0]!r}.")
    config: Any = deepcopy(model.config)
    if head in PROBLEM_TYPES:
        config.problem_type = PROBLEM_TYPES[head]
        config.id2label = dict(enumerate(answers)) if head != "count" else {0: "count"}
        config.label2id = {answer: row for row, answer in config.id2label.items()}
    return new_head(head_class, model, config)


def _head_class(model: PreTrainedModel, head: Head) -> Any:
    """The class of the model's family with this head; perhaps `None`."""
    return MAPPINGS.get(head, MODEL_FOR_VISUAL_QUESTION_ANSWERING_MAPPING).get(type(model.config), None)
