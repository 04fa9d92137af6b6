"""Moments: literal small cases, and every span by loops."""

import evaluate
import numpy as np
import pytest
import torch

from hf_videolang.metrics import metric_path
from hf_videolang.metrics.moments import (
    average_recall,
    moment_recalls,
    suppress_overlaps,
    temporal_iou,
    top_moments,
    video_recalls,
)


@pytest.mark.parametrize(("low", "high"), [(2, 6), (0, 3), (1, 40)])
def test_the_best_spans_are_those_of_all_pairs(low, high):
    generator = torch.Generator().manual_seed(low)
    starts, ends, weights = (torch.rand(*shape, generator=generator) for shape in ((2, 3, 9), (2, 3, 9), (2, 3)))
    video, first, last, score = top_moments(starts, ends, weights, low, high, top=12)
    for query in range(2):
        pairs = [
            (float(weights[query, v] * starts[query, v, s] * ends[query, v, e]), v, s, e)
            for v in range(3)
            for s in range(9)
            for e in range(9)
            if low <= e - s < high
        ]
        best = sorted(pairs, reverse=True)[:12]
        found = list(zip(video[query].tolist(), first[query].tolist(), last[query].tolist()))
        assert found == [pair[1:] for pair in best]
        np.testing.assert_allclose(score[query], [pair[0] for pair in best], rtol=1e-6)


def test_a_video_that_is_too_short_has_no_span():
    ones = torch.ones(1, 2)
    assert not top_moments(ones, ones, min_frames=2)[3].any()


def test_iou_divides_by_the_hull():
    found = temporal_iou(np.array([[0, 4], [6, 8], [2, 2], [1, 5]]), (1, 5))
    np.testing.assert_allclose(found, [3 / 5, 0, 0, 1])


PREDICTIONS = [
    [["a", 0.0, 10.0, 0.9], ["b", 0.0, 5.0, 0.8], ["a", 2.0, 6.0, 0.7]],
    [["b", 0.0, 5.0, 0.9], ["b", 5.0, 9.0, 0.5]],
]
REFERENCES = [{"video": "a", "spans": [[2.0, 6.0]]}, {"video": "b", "spans": [[0.0, 7.0]]}]


def test_recalls_by_hand():
    found = moment_recalls(PREDICTIONS, REFERENCES, top=(1, 3))
    assert found == {"R1_IoU0.5": 0.5, "R3_IoU0.5": 1.0, "R1_IoU0.7": 0.5, "R3_IoU0.7": 1.0}
    assert moment_recalls([[], []], REFERENCES, top=(1,), ious=(0.5,)) == {"R1_IoU0.5": 0.0}
    assert video_recalls([["b", "a"], ["b"]], ["a", "b"], top=(1, 5)) == {"R1": 0.5, "R5": 1.0}


def test_through_evaluate(tmp_path):
    metric = evaluate.load(metric_path("moments"), cache_dir=str(tmp_path), experiment_id="moments")
    moments = [[dict(zip(("video", "start", "end"), one)) for one in found] for found in (*PREDICTIONS, [])]
    references = [*REFERENCES, {"video": "c", "spans": [[0.0, 1.0], [3.0, 4.0]]}]
    found = metric.compute(predictions=moments, references=references)
    assert found["R1_IoU0.5"] == pytest.approx(1 / 3) and found["R5_IoU0.7"] == pytest.approx(2 / 3)
    assert found["AveR_IoU0.7"] == pytest.approx((0.3333 + 0.6667 + 0.6667) / 3)
    assert found.keys() == {f"{name}_IoU{iou}" for name in ("R1", "R5", "R10", "R100", "AveR") for iou in (0.5, 0.7)}


def test_two_of_four_annotations_must_agree():
    spans = [[0.0, 4.0], [20.0, 24.0], [30.0, 34.0]]
    for extra, hit in (([40.0, 44.0], 0.0), ([0.0, 5.0], 1.0)):
        reference = [{"video": "a", "spans": [*spans, extra]}]
        assert moment_recalls([[["a", 0.0, 4.0, 1.0]]], reference, (1,), (0.7,)) == {"R1_IoU0.7": hit}
    assert moment_recalls([[["a", 0.0, 4.0, 1.0]]], [{"video": "a", "spans": spans}], (1,), (0.7,))["R1_IoU0.7"] == 1.0


def test_average_recall_rounds_as_the_benchmark_does():
    assert average_recall({"R1": 1 / 3, "R5": 2 / 3, "R10": 1.0}) == pytest.approx((0.3333 + 0.6667 + 1) / 3)
    assert average_recall({f"R{k}_IoU0.7": k / 100 for k in (1, 5, 10)}, 0.7) == pytest.approx(0.16 / 3)


def test_overlaps_are_suppressed_within_a_video():
    found = suppress_overlaps(PREDICTIONS[0], 0.3)
    assert [one[0] for one in found] == ["a", "b"] and suppress_overlaps(PREDICTIONS[0], 0.5) == PREDICTIONS[0]
