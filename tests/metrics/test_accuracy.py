"""Accuracy on literal cases, and through the evaluate library."""

import evaluate
import pytest

from hf_videolang.metrics import accuracy, metric_path, soft_accuracy


def test_accuracy():
    assert accuracy(["red", None, "two", "dog"], ["red", "dog", "2", "dog"]) == 0.5
    assert accuracy([1, 0], [1, 2]) == 0.5


def test_soft_accuracy_is_the_score_of_the_answer():
    references = [{"red": 1.0, "pink": 0.3}, {"dog": 0.6}, {"cat": 0.9}, {}]
    assert soft_accuracy(["pink", "dog", None, "cat"], references) == pytest.approx((0.3 + 0.6) / 4)


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="1 predictions and 0 references"):
        accuracy(["red"], [])


def test_through_evaluate(tmp_path):
    options = {"cache_dir": str(tmp_path), "experiment_id": "accuracy"}
    plain = evaluate.load(metric_path("accuracy"), **options)
    assert plain.compute(predictions=["red", "two"], references=["red", "2"]) == {"accuracy": 0.5}
    soft = evaluate.load(metric_path("soft_accuracy"), **options)
    scored = [[{"answer": "red", "score": 1.0}, {"answer": "pink", "score": 0.3}], [{"answer": "dog", "score": 0.6}]]
    assert soft.compute(predictions=["pink", "dog"], references=scored) == {"soft_accuracy": pytest.approx(0.45)}
