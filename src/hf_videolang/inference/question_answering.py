"""A model answers questions about videos: one way for `hf-videolang ask`, for evaluation and for validation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import logging

from hf_videolang.data.answer_vocabulary import check_choices
from hf_videolang.data.batches.question_answering import is_cut
from hf_videolang.hub.question_heads import UNUSED, answers_of, question_head

logger = logging.get_logger(__name__)

TOP = 5  # answers of a question that are kept


@dataclass(frozen=True)
class Answers:
    """
    The best answers of some questions.

    Attributes:
        numbers: int64 `[questions, top]`, the best first: rows of an open head, numbers of options, or in the first
            column a count. -1 where there are fewer answers.
        probabilities: float32 `[questions, top]`: of all answers together 1, of a soft head each by itself; of a
            count, the number that the model gives before it is rounded.
    """

    numbers: Tensor
    probabilities: Tensor


@torch.no_grad()
def answer_questions(model: nn.Module, inputs: Mapping[str, Tensor], output: Any = None, top: int = TOP) -> Answers:
    """
    Args:
        model: with a head for questions, perhaps wrapped for several processes.
        inputs: what its processor makes of videos, questions and perhaps options.
        output: of the model, if it has run already.
        top (defaults to `TOP`): answers of a question that are returned.

    Raises:
        ValueError: the model has no head for questions.
    """
    plain: Any = extract_model_from_parallel(model)
    head, logits = question_head(plain), (model(**inputs) if output is None else output).logits.float()
    if head == "count":
        numbers, probabilities = plain.counts(logits)[:, None], logits[:, :1]
    else:
        if head in ("open", "soft"):
            is_unused = torch.tensor([answer.startswith(UNUSED) for answer in answers_of(plain)], device=logits.device)
            logits = logits.masked_fill(is_unused, -torch.inf)
        if head == "statement":  # false, then true
            logits = torch.cat([-logits, logits], dim=-1)
        probabilities = logits.sigmoid() if head in ("soft", "statement") else logits.softmax(dim=-1)
        probabilities, numbers = probabilities.topk(min(top, logits.shape[-1]))
        numbers = numbers.masked_fill(probabilities == 0, -1)  # unused rows, and options that fill up a batch
    missing = (0, top - numbers.shape[-1])
    return Answers(nn.functional.pad(numbers, missing, value=-1), nn.functional.pad(probabilities, missing))


def name_answers(numbers: Tensor, probabilities: Tensor, texts: Sequence[str] | None) -> list[tuple[str, float]]:
    """
    The answers of one question as texts, the best first.

    Args:
        numbers, probabilities: a row of [`Answers`].
        texts: the answers of an open head or of a statement, or the options of the question; `None` for a count.
    """
    pairs = zip(numbers.tolist(), probabilities.tolist(), strict=True)
    return [(str(number) if texts is None else texts[number], p) for number, p in pairs if number >= 0]


def ask_features(
    model: PreTrainedModel, processor: Any, features: Tensor, subtitles: Any, question: str, choices: Sequence[str]
) -> tuple[list[tuple[str, float]], dict[str, Any] | None]:
    """
    Ask a model that reads features and subtitles one question about one video, or whether a statement is true.

    Args:
        model: chooses among options, or judges statements.
        processor: of the model. Of a video that is longer than the model reads it keeps the start, with a warning.
        features: `[rows, width]` of the video.
        subtitles: what the processor takes.
        question, choices: the question, perhaps empty, and its options; or a statement without options.

    Returns:
        The options, or "true" and "false", with their probabilities, the best first; and the moment that was looked
        at, `{"start", "end", "score", …}` in seconds, or `None`.
    """
    head = question_head(model)
    check_choices(head, int(bool(choices)), 1)
    is_statement = head == "statement"
    text = {"statement": question} if is_statement else {"question": question, "choices": list(choices)}
    if len(features) > processor.max_frames:
        seconds = processor.seconds_per_feature
        logger.warning(
            f"the video lasts {len(features) * seconds:g} s, and the model reads only the first "
            f"{processor.max_frames * seconds:g} s. Cut out the part that the question is about."
        )
    inputs = processor(video_features=features, subtitles=subtitles, truncation=True, **text).to(model.device)
    with torch.no_grad():
        output = model(**inputs)
    answers = answer_questions(model, inputs, output, max(TOP, len(choices)))
    texts = answers_of(model) if is_statement else choices
    moments = [] if output.start_logits is None else processor.post_process_moments(output, top=1)[0]
    return name_answers(answers.numbers[0], answers.probabilities[0], texts), next(iter(moments), None)


def ask(
    model: PreTrainedModel, processor: Any, video: Any, question: str, choices: Sequence[str] | None = None
) -> list[tuple[str, float]]:
    """
    Ask one question about one video.

    Args:
        model: with a head for questions.
        processor: of the model. It decides how many clips and frames are read.
        video: path, URL, bytes, or whatever else the processor takes.
        question: a sentence.
        choices (*optional*): the options of a model that chooses among them.

    Returns:
        The best answers with their probabilities, see [`Answers`]; of a count only the number.

    Raises:
        VideoDecodingError: the video cannot be read.
        ValueError: the model has no head for questions, or options are given where the model answers openly or are
            absent where it chooses.

    Example:
        >>> model, processor = load_model_and_processor("org/clipbert-msrvtt-qa")
        >>> ask(model, processor, "kitchen.mp4", "what is the man doing?")[0]
        ('cooking', 0.61)
    """
    head = question_head(model)
    check_choices(head, int(bool(choices)), 1)
    is_cut(processor, question, choices or ())  # warns
    options = {"choices": list(choices)} if choices else {}
    inputs = processor(videos=[video], text=question, return_tensors="pt", **options).to(model.device)
    answers = answer_questions(model, inputs, top=max(TOP, len(choices or ())))
    texts = {"count": None, "multiple_choice": choices}.get(head, answers_of(model))
    return name_answers(answers.numbers[0], answers.probabilities[0], texts)
