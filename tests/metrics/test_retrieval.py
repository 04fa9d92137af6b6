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
    Product,
    chance_metrics,
    dual_softmax,
    metric_path,
    product,
    querybank_norm,
    rank_metrics,
    retrieval_metrics,
)
from hf_videolang.metrics.dual_softmax import dual_softmax_by_rows
from hf_videolang.metrics.querybank_norm import querybank_norm_by_rows


def metrics_of(ranks):
    recalls = {f"R{k}": float(np.mean(np.array(ranks) <= k)) for k in (1, 5, 10)}
    return {**recalls, "MedianR": float(np.median(ranks)), "MeanR": float(np.mean(np.array(ranks) - 1) + 1)}


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
    assert retrieval_metrics(TIED, ties=ties)["text_to_video"] == metrics_of(ranks)


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
    expected = {"text_to_video": metrics_of(by_text), "video_to_text": metrics_of(by_video)}
    assert retrieval_metrics(similarity, labels.tolist(), ties) == expected


@pytest.mark.parametrize("ties", ["original", "average"])
def test_blocks_of_a_product_equal_the_whole_matrix(ties, monkeypatch):
    """Several captions a video, equal captions, equal videos, a video without caption; the last block is smaller."""
    generator = torch.Generator().manual_seed(4)
    texts, videos, bank_texts, bank_videos = (
        torch.randint(-2, 3, (size, 6), generator=generator).float() / 8 for size in (53, 20, 31, 15)
    )
    texts[7], videos[3] = texts[40], videos[4]
    labels = [*range(19), *torch.randint(0, 19, (34,), generator=generator).tolist()]
    whole, text_bank, video_bank = texts @ videos.T, bank_texts @ videos.T, bank_videos @ texts.T
    similarity = Product(texts, videos)
    banks = Product(bank_texts, videos), Product(bank_videos, texts)
    monkeypatch.setattr(product, "PAIRS_IN_A_BLOCK", 150)  # 7 texts or 2 videos
    assert retrieval_metrics(similarity, labels, ties) == retrieval_metrics(whole, labels, ties)
    expected = retrieval_metrics(dual_softmax(whole), labels, ties)
    assert retrieval_metrics(similarity, labels, ties, processing=dual_softmax_by_rows(similarity)) == expected
    normalized = [
        retrieval_metrics(querybank_norm(whole, text_bank), labels, ties)["text_to_video"],
        retrieval_metrics(querybank_norm(whole.T, video_bank).T, labels, ties)["video_to_text"],
    ]
    processing = tuple(querybank_norm_by_rows(bank) for bank in banks)
    assert list(retrieval_metrics(similarity, labels, ties, processing=processing).values()) == normalized


def test_equal_columns_of_a_product_tie():
    """A matrix product may round the last column differently from the first."""
    torch.manual_seed(0)
    texts, videos = torch.randn(10, 512), torch.randn(57, 512)
    texts[-1] = texts[0]
    rows = Product(videos, texts)[3:20]
    assert torch.equal(rows[:, 0], rows[:, -1])
    torch.testing.assert_close(rows, videos[3:20] @ texts.T, atol=1e-4, rtol=0)


def test_ties_need_no_list_of_their_ranks():
    """All ranks of a model that embeds everything alike would take 80 GB."""
    better, equal = np.zeros(100_000, int), np.full(100_000, 99_999)
    assert rank_metrics(better, equal) == {"R1": 1e-5, "R5": 5e-5, "R10": 1e-4, "MedianR": 50000.5, "MeanR": 50000.5}


def test_tensors_of_half_precision_are_taken():
    similarity = torch.tensor(TIED)
    exact = retrieval_metrics((similarity * 8).round() / 8)
    assert retrieval_metrics(((similarity * 8).round() / 8).bfloat16().requires_grad_()) == exact


@pytest.mark.parametrize(
    ("similarity", "arguments", "message"),
    [
        ([[1.0, float("nan")], [0.0, 1.0]], {}, "NaN for 1 pairs, the first query 0 with candidate 1"),
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
    with pytest.raises(ValueError, match=r"'bleu' for evaluate; expected one of accuracy, .*retrieval"):
        metric_path("bleu")
