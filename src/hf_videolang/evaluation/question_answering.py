"""Questions about videos: answer each once, compare with what is known, count what cannot be right."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import extract_model_from_parallel
from torch import Tensor, nn

from hf_videolang.data.answer_vocabulary import can_answer, known_answers
from hf_videolang.data.batches.question_answering import QuestionAnsweringCollator
from hf_videolang.data.records import name_some
from hf_videolang.evaluation.evaluator import Evaluator, save_json
from hf_videolang.evaluation.loader import Progress
from hf_videolang.evaluation.scores import Scores
from hf_videolang.hub.question_heads import UNUSED, Head, answers_of, question_head
from hf_videolang.inference.question_answering import TOP, Answers, answer_questions, name_answers
from hf_videolang.metrics import accuracy, soft_accuracy
from hf_videolang.metrics.facts import CHANCE

PREDICTIONS, SUBMISSION = "predictions.jsonl", "submission.json"
ANSWERS = "answers"  # the folder of the finished batches
COLUMNS = ("question_id", "video_id", "answer_type", "choices")
INDICES = ("question_index", "question_is_cut", "num_broken_videos")  # not for the model


class QuestionAnsweringEvaluator(Evaluator):
    """
    Score a model on questions about videos. Its head decides whether it answers openly, chooses, or counts.

    A question counts as wrong if its answer is outside the model's vocabulary, or if its video does not decode. Scores
    are the accuracy; where answers have scores, the soft accuracy; for counts also the mean squared error of the
    questions that were answered. Questions of which no answer is known are answered, but not scored.

    Args:
        processor: of the model.
        on_broken_video (defaults to `"skip"`): the questions about a video that does not decode stay unanswered, or
            `"raise"` stops the evaluation.
        options: as of [`Evaluator`]; `batch_size` counts questions. Batches are kept in the folder `answers`.

    Attributes, after a call:
        predictions (`list[dict]`): of each question `question_id`, `answer`, `probability` (of a count, the number
            before it is rounded) and `top`, the best answers; `answer` is `None` where there is none.
        submission (`dict[str, int] | None`): of each question the number of the chosen option, of a statement 1 if it
            is true, -1 if there is no answer: the layout of the VALUE benchmark (hero §9.3). `None` of other heads.
        counts (`dict[str, int]`): `questions` that are scored, those `outside_vocabulary`, and `unanswered` ones.

    Example:
        >>> model, processor = load_model_and_processor("org/clipbert-msrvtt-qa")
        >>> records, protocol = load_dataset("my_folder", split="test")
        >>> scores = QuestionAnsweringEvaluator(processor, num_workers=4)(model, records, Accelerator())
        >>> scores["raw"]["overall"]["accuracy"], scores["chance"]["overall"]["accuracy"]
    """

    def __init__(self, processor: Any, *, on_broken_video: Literal["raise", "skip"] = "skip", **options: Any):
        super().__init__(processor, **options)
        self.on_broken_video = on_broken_video

    def metric_names(self) -> list[str]:
        """Names of the scores in a log, without prefix. The data decide which of them there are."""
        return [f"overall_{metric}" for metric in ("accuracy", "soft_accuracy", "MSE")]

    def __call__(
        self, model: nn.Module, records: Any, accelerator: Accelerator, progress: Progress | None = None
    ) -> Scores:
        """
        Arguments, result and errors are those of [`Evaluator`]: scores of all questions (`overall`) and of each
        `answer_type`; a `ValueError` if no answer is known.
        """
        plain: Any = extract_model_from_parallel(model)
        head = question_head(plain)
        vocabulary = answers_of(plain) if head in ("open", "soft", "statement") else []
        rows = list(records.remove_columns("video"))
        known = [known_answers(row) for row in rows]
        if not any(known):
            raise ValueError(f"none of the {len(records)} questions has an answer to compare with.")
        no_counts = [row["answer"] for row in rows if row["answer"] and not can_answer(row, head, ())]
        if head == "count" and no_counts:
            raise ValueError(f"the model counts, but the questions have answers such as {no_counts[0]!r}.")
        collator = QuestionAnsweringCollator(
            self.processor,
            records,
            False,
            head,
            vocabulary,
            on_broken_video=self.on_broken_video,
            features=self.features,
        )
        self.open_parts({ANSWERS: records}, accelerator)
        batches = self.batches(ANSWERS, records, collator, accelerator, progress, "question_index", "question")
        answers, is_cut = self._answer(model, batches, len(records), accelerator)
        return self._score(records, known, head, vocabulary, answers, is_cut, accelerator)

    def save(self, folder: Path) -> None:
        """Write the predictions, a question a line, and the numbers of the options."""
        save_json(folder / PREDICTIONS, self.predictions, lines=True)
        if self.submission is not None:
            save_json(folder / SUBMISSION, self.submission)

    def _answer(self, model, batches, size: int, accelerator: Accelerator) -> tuple[Answers, Tensor]:
        """The answers of all questions, with -1 in the rows of unanswered ones; and which questions are cut."""
        found = self.stored(ANSWERS)
        for batch in batches:
            indices = {name: batch[name] for name in INDICES}
            answers = answer_questions(model, {name: value for name, value in batch.items() if name not in INDICES})
            count = len(indices["question_index"])  # 0 if all videos are broken
            rows = {"numbers": answers.numbers[:count], "probabilities": answers.probabilities[:count]}
            found.append({**indices, **rows})
            self.keep(ANSWERS, indices["question_index"], found[-1])

        def gather(name: str, padding: int = 0) -> Tensor:
            mine = torch.cat([part[name].to(accelerator.device) for part in found])
            return accelerator.gather(accelerator.pad_across_processes(mine, pad_index=padding)).cpu()

        index = gather("question_index", -1)
        table = {
            "numbers": torch.full((size, TOP), -1),
            "probabilities": torch.zeros(size, TOP),
            "question_is_cut": torch.zeros(size, dtype=torch.long),
        }
        for name, values in table.items():
            values[index[index >= 0]] = gather(name)[index >= 0]
        return Answers(table["numbers"], table["probabilities"]), table["question_is_cut"]

    def _score(self, records, known, head: Head, vocabulary, answers: Answers, is_cut, accelerator) -> Scores:
        words = {answer for answer in vocabulary if not answer.startswith(UNUSED)}
        ids, video_ids, types, choices = (records[name][:] for name in COLUMNS)
        texts = choices if head == "multiple_choice" else [vocabulary or None] * len(ids)
        named = [name_answers(*row) for row in zip(answers.numbers, answers.probabilities, texts, strict=True)]
        self.predictions = [
            {
                "question_id": question_id,
                "answer": best[0][0] if best else None,
                "probability": best[0][1] if best else None,
                "top": [{"answer": answer, "probability": p} for answer, p in best],
            }
            for question_id, best in zip(ids, named, strict=True)
        ]
        scored = [row for row, right in enumerate(known) if right]
        outside = [row for row in scored if vocabulary and words.isdisjoint(known[row])]
        unanswered = [row for row in scored if not named[row]]
        self.counts = {"questions": len(scored), "outside_vocabulary": len(outside), "unanswered": len(unanswered)}
        self.submission = None
        if head in ("multiple_choice", "statement"):
            self.submission = {str(one): number for one, number in zip(ids, answers.numbers[:, 0].tolist())}
        self.settings = self.input_protocol()
        if accelerator.mixed_precision != "no":
            self.settings["precision"] = accelerator.mixed_precision
        if head in ("open", "soft"):
            self.settings["vocabulary"] = f"{len(words)} answers"
            self.settings["outside the vocabulary"] = f"{len(outside)} of {len(scored)} answers, counted as wrong"
        if unanswered:
            videos = list(dict.fromkeys(video_ids[row] for row in unanswered))
            broken = f"these videos do not decode: {name_some(videos)}"
            self.settings["unanswered"] = f"{len(unanswered)} questions, counted as wrong; {broken}"
        if len(scored) < len(records):
            self.settings["not scored"] = f"{len(records) - len(scored)} questions without a known answer"
        if is_cut.any():
            self.settings["cut"] = f"{int(is_cut.sum())} questions"
        groups = {"overall": scored}
        for name in sorted({types[row] for row in scored} - {None}):
            groups[name] = [row for row in scored if types[row] == name]
        is_soft = any(answers is not None for answers in records["answers"][:])
        scores: Scores = {}
        for name, rows in groups.items():
            given, right = [self.predictions[row]["answer"] for row in rows], [known[row] for row in rows]
            columns = {"raw": score_answers(given, right, head == "count", is_soft)}
            if head != "count":
                columns[CHANCE] = chance_scores(right, [words or choices[row] for row in rows], is_soft)
            for column, found in columns.items():
                scores.setdefault(column, {})[name] = {**found, "questions": len(rows)}
        return scores


def score_answers(
    given: Sequence[str | None], right: Sequence[Mapping[str, float]], is_count: bool = False, is_soft: bool = False
) -> dict[str, float]:
    """
    Args:
        given: the answers; `None` where there is none.
        right: of each question the right answers with their scores.
        is_count: also the mean squared error of the questions that were answered.
        is_soft: the answers have scores.
    """
    if is_soft:
        return {"soft_accuracy": soft_accuracy(given, right)}
    texts = [next(iter(answers)) for answers in right]
    found = {"accuracy": accuracy(given, texts)}
    if is_count:
        errors = [float(answer) - float(text) for answer, text in zip(given, texts) if answer is not None]
        found["MSE"] = sum(error**2 for error in errors) / max(len(errors), 1)
    return found


def chance_scores(
    right: Sequence[Mapping[str, float]], among: Sequence[Collection[str]], is_soft: bool = False
) -> dict[str, float]:
    """What an answer drawn at random from `among`, the answers that the model may give, would score on the average."""
    drawn = [
        sum(s for answer, s in scores.items() if answer in some) / len(some) for scores, some in zip(right, among)
    ]
    return {"soft_accuracy" if is_soft else "accuracy": sum(drawn) / len(drawn)}
