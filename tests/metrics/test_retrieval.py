"""Retrieval metrics: literal examples, and slow twins that sort and loop where ours counts."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from pytest import approx

from hf_videolang.metrics import (
    chance_metrics,
    dual_softmax,
    metric_path,
    retrieval_metrics,
    text_to_video_ranks,
    video_to_text_ranks,
)

TIED = [[0.9, 0.9, 0.1, 0.9], [0.2, 0.5, 0.8, 0.7], [0.1, 0.3, 0.4, 0.4], [0.0, 0.0, 0.0, 1.0]]


@pytest.mark.parametrize(
    ("ties", "ranks"),
    [
        ("original", [1, 2, 3, 3, 1, 2, 1]),  # three ranks for text 0, two for text 2
        ("optimistic", [1, 3, 1, 1]),
        ("pessimistic", [3, 3, 2, 1]),
        ("average", [2.0, 3.0, 1.5, 1.0]),
    ],
)
def test_ties_by_hand(ties, ranks):
    assert text_to_video_ranks(TIED, ties=ties).tolist() == ranks


def test_ties_of_a_constant_model():
    found = {
        ties: retrieval_metrics(np.zeros((20, 20)), ties=ties)["text_to_video"]["R1"]
        for ties in ("optimistic", "pessimistic", "original")
    }
    assert found == {"optimistic": 1.0, "pessimistic": 0.0, "original": 0.05}


def test_metrics_by_hand():
    # Right columns 0 1 2 are ranked 1, 2, 3 by their rows; columns rank rows 1, 1, 3.
    similarity = [[0.9, 0.2, 0.8], [0.7, 0.6, 0.5], [0.6, 0.4, 0.3]]
    assert retrieval_metrics(similarity, recall_at=(1, 2)) == {
        "text_to_video": {"R1": 1 / 3, "R2": 2 / 3, "MedianR": 2.0, "MeanR": 2.0},
        "video_to_text": {"R1": 2 / 3, "R2": 2 / 3, "MedianR": 1.0, "MeanR": pytest.approx(5 / 3)},
    }


def test_chance_by_hand():
    # Of 4 texts in random order, video 0 has 3 and video 1 has 1: ranks of the first of them, 1 or 2, and 1 … 4.
    assert chance_metrics([0, 0, 0, 1], num_videos=3, recall_at=(1, 2)) == {
        "text_to_video": {"R1": approx(1 / 3), "R2": approx(2 / 3), "MedianR": 2.0, "MeanR": 2.0},
        "video_to_text": {"R1": approx(1 / 2), "R2": approx(3 / 4), "MedianR": 1.5, "MeanR": approx(15 / 8)},
    }
    assert chance_metrics([0], num_videos=1)["text_to_video"] == {
        "R1": 1.0,
        "R5": 1.0,
        "R10": 1.0,
        "MedianR": 1.0,
        "MeanR": 1.0,
    }


def test_chance_is_the_average_of_random_scores():
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(30), generator.integers(1, 6, 30))
    drawn = [retrieval_metrics(generator.random((len(labels), 40)), labels) for _ in range(400)]
    for direction, metrics in chance_metrics(labels, num_videos=40).items():
        for metric, value in metrics.items():
            values = np.array([scores[direction][metric] for scores in drawn])
            margin = 4 * values.std() / len(values) ** 0.5 + (0.5 if metric == "MedianR" else 0)
            assert abs(values.mean() - value) < margin, (direction, metric, values.mean(), value)


def original_metrics(similarity: np.ndarray) -> dict[str, float]:
    """As the authors do: sort each row; every position with the diagonal's value is a rank."""
    descending = -np.sort(-similarity, axis=1)
    entries = np.where(descending - np.diag(similarity)[:, None] == 0)[1]
    recalls = {f"R{k}": float(np.sum(entries < k)) / len(entries) for k in (1, 5, 10)}
    return {**recalls, "MedianR": np.median(entries) + 1, "MeanR": np.mean(entries) + 1}


@pytest.mark.parametrize("levels", [3, 40, 10**6])
def test_original_ties_equal_sorting(levels):
    similarity = np.random.default_rng(levels).integers(0, levels, (60, 60)).astype(np.float32)
    found = retrieval_metrics(similarity)
    assert found["text_to_video"] == original_metrics(similarity)
    assert found["video_to_text"] == original_metrics(similarity.T)


@pytest.mark.parametrize("ties", ["original", "optimistic", "pessimistic", "average"])
def test_several_captions_a_video(ties):
    generator = np.random.default_rng(3)
    similarity = generator.integers(0, 3, (23, 9)).astype(float)  # ties within a video and between videos
    labels = generator.integers(0, 8, 23)  # video 8 has no caption: a distractor
    labels[:8] = range(8)

    def ranks(better: int, equal: int) -> list[float]:
        return {
            "original": [better + 1 + i for i in range(equal + 1)],
            "optimistic": [better + 1],
            "pessimistic": [better + equal + 1],
            "average": [better + equal / 2 + 1],
        }[ties]

    by_text: list[float] = []
    for scores, label in zip(similarity, labels):
        others = np.delete(scores, label)
        by_text += ranks(int(np.sum(others > scores[label])), int(np.sum(others == scores[label])))
    by_video: list[float] = []
    for video in range(8):
        best = similarity[labels == video, video].max()
        others = similarity[labels != video, video]
        by_video += ranks(int(np.sum(others > best)), int(np.sum(others == best)))
    assert text_to_video_ranks(similarity, labels.tolist(), ties).tolist() == by_text
    assert video_to_text_ranks(similarity, labels.tolist(), ties).tolist() == by_video


def test_tensors_of_half_precision_are_taken():
    similarity = torch.tensor(TIED)
    exact = retrieval_metrics((similarity * 8).round() / 8)
    assert retrieval_metrics(((similarity * 8).round() / 8).bfloat16().requires_grad_()) == exact


@pytest.mark.parametrize(
    ("similarity", "arguments", "message"),
    [
        ([[1.0, float("nan")], [0.0, 1.0]], {}, "NaN for 1 pairs, the first text 0 with video 1"),
        (np.zeros((3, 2)), {}, "3 texts by 2 videos and has no labels"),
        (np.zeros((3, 2)), {"labels": [0, 1]}, r"labels are \[2\] of int64, .*each of the 3 texts"),
        (np.zeros((3, 2)), {"labels": [0, 1, 2]}, r"unknown are \[2\]; .*an integer from 0 to 1"),
        (np.zeros((0, 2)), {}, r"\[0, 2\]"),
        (np.eye(2), {"ties": "fair"}, "'fair'.*optimistic"),
    ],
)
def test_bad_input(similarity, arguments, message):
    with pytest.raises(ValueError, match=message):
        retrieval_metrics(similarity, **arguments)


def test_evaluate_loads_the_local_path(tmp_path):
    pytest.importorskip("evaluate")
    script = """
import json, sys, evaluate
metric = evaluate.load(sys.argv[1])
rows, labels, options = json.loads(sys.argv[2])
metric.add_batch(predictions=rows[:2], references=labels[:2])
metric.add_batch(predictions=rows[2:], references=labels[2:])
print(json.dumps([metric.compute(), *(metric.compute(predictions=rows, references=labels, **o) for o in options)]))
close = metric.compute(predictions=[[0.1, 0.1 + 1e-12], [0.0, 1.0]], references=[0, 1])
assert close["text_to_video_MeanR"] == 1.5, close  # no tie, as it would be in float32
"""
    labels = [0, 1, 2, 3]
    options = [{"ties": "average"}, {"dual_softmax": True}]
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    command = [sys.executable, "-c", script, metric_path("retrieval"), json.dumps([TIED, labels, options])]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert result.returncode == 0, result.stderr
    expected = [
        retrieval_metrics(np.array(TIED)),
        retrieval_metrics(np.array(TIED), ties="average"),
        retrieval_metrics(dual_softmax(np.array(TIED))),
    ]
    flat = [
        {f"{way}_{name}": value for way, found in directions.items() for name, value in found.items()}
        for directions in expected
    ]
    assert json.loads(result.stdout.splitlines()[-1]) == flat


def test_metric_path_names_what_there_is():
    with pytest.raises(ValueError, match=r"'bleu' for evaluate; expected one of accuracy, retrieval, soft_accuracy"):
        metric_path("bleu")
