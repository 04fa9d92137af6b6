"""Videos and questions become batches, in the DataLoader's workers: decode, sample, tokenise."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from hf_videolang.data.answer_vocabulary import can_answer, check_choices, known_answers
from hf_videolang.data.batches.clip_collator import ClipCollator
from hf_videolang.data.batches.clip_reader import reads_subtitles
from hf_videolang.data.questions import ANSWER_SPAN

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)


class QuestionAnsweringCollator(ClipCollator):
    """
    Batches of questions about videos, with the right answers in training.

    In training, each question comes with clips of its own. The draw depends on the seed, the epoch and the question's
    id alone. In evaluation, nothing is drawn, and each video of a batch is read once, however many questions it has.

    Args:
        processor, dataset, training, options: as of [`ClipCollator`].
        head: of the model, see [`hf_videolang.hub.question_heads`].
        answers: of an open or soft head, row by row; of statements "false" and "true".

    A batch has what the processor returns for the videos and for the questions, and

        num_broken_videos `[1]`: videos skipped or replaced.

    In training it also has

        labels: int64 `[questions]`, rows of the answers or numbers of the options, 1 for a true statement; float
            `[questions, answers]`, the scores, for a soft head; float `[questions]` for counts;
        num_cut_questions `[1]`: questions that are longer than the processor's `max_length`.

    In evaluation it has

        video_index `[questions]`: the video of the batch that each question is about;
        question_index `[questions]`: row of each question in `dataset`, without those of videos that were skipped;
        question_is_cut `[questions]`: 1 where a question is longer than `max_length`.

    If "skip" leaves nothing of a batch in evaluation, `question_index` is empty and one empty question about a black
    video stands in, since every process must call the model equally often.

    Raises:
        VideoDecodingError: a video is broken under "raise", or so are its replacements under "replace".
        ValueError: options are absent or needless for the head, a training question has no answer that the head can
            give, or "skip" leaves nothing of a training batch.

    Example:
        >>> collator = QuestionAnsweringCollator(processor, dataset, True, "open", ["red", "blue"])
        >>> loader = DataLoader(dataset, batch_size=16, shuffle=True, collate_fn=collator, num_workers=8)
    """

    id_column = "question_id"

    def __init__(
        self,
        processor: Any,
        dataset: "Dataset",
        training: bool,
        head: str,
        answers: Sequence[str] = (),
        **options: Any,
    ):
        super().__init__(processor, dataset, training, **options)
        self.head = head
        self.answer_rows = {answer: row for row, answer in enumerate(answers)}
        check_choices(head, sum(bool(choices) for choices in dataset["choices"][:]), len(dataset))
        if training and not all(can_answer(row, head, self.answer_rows) for row in dataset.remove_columns("video")):
            raise ValueError("some training questions have no answer that the model can give; leave them out.")

    def __call__(self, records: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        if self.training:
            videos, kept, num_broken = self._read(records)
            questions = [record for record, _ in kept]
            cut = self._cut(questions).sum()[None]
            batch = {**videos, **self._texts(questions), "labels": self._labels(questions), "num_cut_questions": cut}
            if reads_subtitles(self.processor) and self.head != "statement":
                batch |= self._spans(questions, videos["video_attention_mask"])
        else:
            first: dict[str, dict[str, Any]] = {}
            for record in records:
                first.setdefault(record["video_id"], record)
            videos, kept, num_broken = self._read(list(first.values()))
            position = {record["video_id"]: number for number, (record, _) in enumerate(kept)}
            questions = [record for record in records if record["video_id"] in position]
            rows = [self._rows[record["question_id"]] for record in questions]
            batch = {**videos, **self._texts(questions or [{"question": "", "choices": ["", ""]}])}
            batch["video_index"] = torch.tensor([position[one["video_id"]] for one in questions] or [0])
            batch["question_index"] = torch.tensor(rows, dtype=torch.int64)
            batch["question_is_cut"] = self._cut(questions)
        batch["num_broken_videos"] = torch.tensor([num_broken])
        return batch

    def _texts(self, questions: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        texts = [one["question"] for one in questions]
        if self.head == "statement":
            return {**self.processor(statement=texts)}
        choices = {"choices": [one["choices"] for one in questions]} if self.head == "multiple_choice" else {}
        return {**self.processor(text=texts, return_tensors="pt", **choices)}

    def _spans(self, questions: Sequence[dict[str, Any]], mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """First and last row of features that show each answer, -1 where that is unknown."""
        spans = []
        for question, length in zip(questions, mask.sum(dim=1).tolist()):
            start, end = (math.nan if question[name] is None else question[name] for name in ANSWER_SPAN)
            spans.append(self.processor.span_frames(start, end, length))
        starts, ends = torch.tensor(spans).unbind(dim=1)
        return {"start_positions": starts, "end_positions": ends}

    def _cut(self, questions: Sequence[dict[str, Any]]) -> torch.Tensor:
        cut = [is_cut(self.processor, one["question"], one["choices"] or ()) for one in questions]
        return torch.tensor(cut, dtype=torch.int64)

    def _labels(self, questions: Sequence[dict[str, Any]]) -> torch.Tensor:
        if self.head == "multiple_choice":
            return torch.tensor([one["answer_index"] for one in questions])
        if self.head == "count":
            return torch.tensor([float(one["answer"]) for one in questions])
        labels = torch.zeros(len(questions), len(self.answer_rows))
        for row, question in enumerate(questions):
            for answer, score in known_answers(question).items():
                if answer in self.answer_rows:
                    labels[row, self.answer_rows[answer]] = score
        return labels if self.head == "soft" else labels.argmax(dim=-1)


def is_cut(processor: Any, question: str, choices: Sequence[str] = ()) -> bool:
    """Whether a question, with its longest option, exceeds the tokens that the model reads. Warns once."""
    if reads_subtitles(processor):
        return False  # it cuts no text
    text = f"{question} {max(choices, key=len)}" if choices else question
    if len(processor.tokenizer(text, verbose=False)["input_ids"]) <= processor.max_length:
        return False
    cut = f"questions are cut at max_length, {processor.max_length} tokens."
    logger.warning_once(cut)  # type: ignore[attr-defined]
    return True


def is_too_long(processor: Any, record: Mapping[str, Any]) -> bool:
    """Whether a question with its longest option exceeds the `max_length` of a processor that cuts no text."""
    longest = max((len(processor.token_ids(choice)) for choice in record["choices"] or ()), default=0)
    return len(processor.token_ids(record["question"])) + longest > processor.max_length
