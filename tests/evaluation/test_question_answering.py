"""Questions are answered in one way, counted once, and what cannot be right is wrong and reported."""

import json

import pytest
import torch
from accelerate import Accelerator

from hf_videolang.data import load_dataset
from hf_videolang.evaluation.question_answering import QuestionAnsweringEvaluator, chance_scores, score_answers
from hf_videolang.hub.loading import load_model_and_processor
from hf_videolang.inference.question_answering import ask
from tests.common.questions import WORDS, choices_of, save_model, write_question_folder, write_questions


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_question_folder(tmp_path_factory.mktemp("questions") / "folder")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    heads = ("open", "soft", "multiple_choice", "count")
    return {head: load_model_and_processor(save_model(root / head, head)) for head in heads}


def evaluate(folder, model_and_processor, **options):
    model, processor = model_and_processor
    records, _ = load_dataset(str(folder), split="+".join(("train", "validation")))
    evaluator = QuestionAnsweringEvaluator(processor, **{"batch_size": 3, **options})
    return evaluator(model, records, Accelerator(cpu=True)), evaluator


ROWS = {
    "open": [
        {"file_name": f"{name}.mp4", "question": f"{word} is it?", "answer": name, "answer_type": word}
        for name in WORDS
        for word in ("what", "who")
    ],
    "multiple_choice": [choices_of(name) for name in WORDS] + [{**choices_of("red"), "choices": ["blue", "red"]}],
    "count": [{"file_name": f"{name}.mp4", "question": "how many?", "answer": 2} for name in WORDS],
    "soft": [
        {"file_name": f"{name}.mp4", "question": "what?", "answers": {name: 1.0, "red": 0.3, "pink": 0.6}}
        for name in WORDS
    ],
}


@pytest.mark.parametrize("head", ROWS)
def test_evaluation_answers_as_the_command_does(folder, models, head):
    """Batches with several questions of a video, and with other numbers of options, change nothing."""
    write_questions(folder, ROWS[head])
    scores, evaluator = evaluate(folder, models[head])
    model, processor = models[head]
    records, _ = load_dataset(str(folder), split="train+validation")
    right = []
    for row, prediction in zip(records, evaluator.predictions, strict=True):
        alone = ask(model, processor, row["video"]["path"], row["question"], row["choices"])
        assert prediction["question_id"] == row["question_id"]
        assert prediction["answer"] == alone[0][0]
        got = [(one["answer"], one["probability"]) for one in prediction["top"]]
        assert [answer for answer, _ in got] == [answer for answer, _ in alone]
        torch.testing.assert_close([p for _, p in got], [p for _, p in alone], rtol=1e-4, atol=1e-5)
        known = {one["answer"]: one["score"] for one in row["answers"] or ()} or {row["answer"]: 1.0}
        right.append(known.get(alone[0][0], 0.0))
    metric = "soft_accuracy" if head == "soft" else "accuracy"
    assert scores["raw"]["overall"][metric] == pytest.approx(sum(right) / len(right))
    assert scores["raw"]["overall"]["questions"] == len(ROWS[head])


def test_types_chance_and_counts(folder, models):
    write_questions(folder, ROWS["open"])
    scores, evaluator = evaluate(folder, models["open"])
    assert {group: found["questions"] for group, found in scores["raw"].items()} == {"overall": 8, "what": 4, "who": 4}
    assert scores["chance"]["overall"]["accuracy"] == 1 / 4
    assert evaluator.counts == {"questions": 8, "outside_vocabulary": 0, "unanswered": 0}
    write_questions(folder, ROWS["multiple_choice"])
    assert evaluate(folder, models["multiple_choice"])[0]["chance"]["overall"]["accuracy"] == (4 / 4 + 1 / 2) / 5
    write_questions(folder, ROWS["soft"])
    chance = evaluate(folder, models["soft"])[0]["chance"]["overall"]["soft_accuracy"]
    assert chance == pytest.approx((3 * (1.0 + 0.3) / 4 + 0.3 / 4) / 4)  # for red, 0.3 takes the place of 1.0


def test_answers_outside_the_vocabulary_and_broken_videos_are_wrong(folder, models, caplog):
    (folder / "broken.mp4").write_bytes(b"no video")
    rows = [{"file_name": f"{name}.mp4", "question": "what?", "answer": name} for name in (*WORDS, "broken")]
    rows += [{"file_name": "red.mp4", "question": "why?"}]
    write_questions(folder, rows)
    try:
        scores, evaluator = evaluate(folder, models["open"])
    finally:
        (folder / "broken.mp4").unlink()
    assert evaluator.counts == {"questions": 5, "outside_vocabulary": 1, "unanswered": 1}
    assert evaluator.settings["outside the vocabulary"] == "1 of 5 answers, counted as wrong"
    assert evaluator.settings["unanswered"].endswith("these videos do not decode: broken")
    assert evaluator.settings["not scored"] == "1 questions without a known answer"
    by_id = {prediction["question_id"]: prediction for prediction in evaluator.predictions}
    assert by_id["broken#q1"] == {"question_id": "broken#q1", "answer": None, "probability": None, "top": []}
    assert by_id["red#q2"]["answer"] in WORDS
    right = sum(by_id[f"{name}#q1"]["answer"] == name for name in WORDS)
    assert scores["raw"]["overall"]["accuracy"] == right / 5


def test_a_killed_evaluation_continues(folder, models, tmp_path):
    write_questions(folder, ROWS["open"])
    whole, evaluator = evaluate(folder, models["open"])

    class Killed(Exception):
        pass

    def two_batches(loader):
        for number, batch in enumerate(loader):
            if number == 2:
                raise Killed
            yield batch

    model, processor = models["open"]
    records, _ = load_dataset(str(folder), split="train+validation")
    again = QuestionAnsweringEvaluator(processor, batch_size=3, folder=tmp_path, provenance={"model": "tiny"})
    with pytest.raises(Killed):
        again(model, records, Accelerator(cpu=True), two_batches)
    seen = []
    scores = again(model, records, Accelerator(cpu=True), lambda loader: (seen.append(b) or b for b in loader))
    assert len(seen) == 1 and len(seen[0]["question_index"]) == 2
    assert scores == whole and again.predictions == evaluator.predictions
    again.save(tmp_path)
    lines = (tmp_path / "predictions.jsonl").read_text().splitlines()
    assert list(map(json.loads, lines)) == again.predictions
    again.remove_parts()
    assert not (tmp_path / "answers").exists()


def test_unused_rows_are_never_answered(folder, tmp_path):
    write_questions(folder, ROWS["open"])
    model, processor = load_model_and_processor(
        save_model(tmp_path / "model", "open", ("red", "unused_1", "unused_2"))
    )
    with torch.no_grad():
        model.classifier[2].bias[:] = torch.tensor([-9.0, 9.0, 9.0])
    assert ask(model, processor, folder / "red.mp4", "what?") == [("red", 1.0)]
    _, evaluator = evaluate(folder, (model, processor))
    assert evaluator.settings["vocabulary"] == "1 answers"
    assert evaluator.settings["outside the vocabulary"] == "6 of 8 answers, counted as wrong"


@pytest.mark.parametrize(
    ("head", "rows", "message"),
    [
        ("open", "multiple_choice", "5 of 5 questions have choices, but the model's head does not choose"),
        ("multiple_choice", "open", "the model chooses among options, but 8 of 8 questions have no choices"),
        ("count", "open", "the model counts, but the questions have answers such as 'red'"),
    ],
)
def test_questions_that_do_not_fit_the_head(folder, models, head, rows, message):
    write_questions(folder, ROWS[rows])
    with pytest.raises(ValueError, match=message):
        evaluate(folder, models[head])


def test_counts_score_their_squared_error():
    right = [{"2": 1.0}, {"5": 1.0}, {"3": 1.0}]
    assert score_answers(["2", "3", None], right, is_count=True) == {"accuracy": 1 / 3, "MSE": 2.0}


def test_chance_counts_only_answers_that_can_be_given():
    assert chance_scores([{"a": 1.0}, {"z": 1.0}], [{"a", "b"}] * 2) == {"accuracy": 0.25}
