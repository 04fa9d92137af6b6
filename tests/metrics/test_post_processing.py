"""Dual softmax, querybank normalisation and reranking: literal examples and twins from the formulas."""

import math

import numpy as np
import pytest
import torch

from hf_videolang.metrics import dual_softmax, querybank_norm, reranked, retrieval_metrics


def test_dual_softmax_follows_the_formula():
    similarity = np.random.default_rng(0).uniform(-0.1, 0.4, (6, 4))
    weights = np.exp(100 * similarity)
    expected = similarity * weights / weights.sum(axis=0, keepdims=True)
    np.testing.assert_allclose(dual_softmax(similarity).numpy(), expected, rtol=1e-12)


def test_reranking_orders_the_best_and_leaves_the_rest_behind_them():
    similarity = torch.tensor([[0.9, 0.8, 0.7, 0.1], [0.2, 0.3, 0.3, 0.4]])
    others = torch.tensor([[-5.0, -2.0, -3.0, 9.0], [1.0, 1.0, 7.0, 1.0]])

    def ranks(top, videos):
        return [int((row > row[video]).sum()) + 1 for row, video in zip(reranked(similarity, others, top), videos)]

    assert ranks(3, [3, 3]) == [4, 2] and ranks(3, [3, 1])[1] == 2  # in text 1, videos 1 and 3 tie
    assert ranks(3, [0, 2]) == [3, 1] and ranks(4, [3, 0]) == [1, 2]
    others[0, 1] = torch.nan  # has no score, so the first order stands
    assert ranks(3, [1, 2]) == [3, 1]


def test_dual_softmax_assigns_a_video_to_its_closest_text():
    # Video 0 is best for both texts. Text 0 scores higher with it, so text 1 gets video 1.
    similarity = [[0.50, 0.30], [0.45, 0.40]]
    assert retrieval_metrics(similarity)["text_to_video"]["MeanR"] == 1.5
    assert retrieval_metrics(dual_softmax(similarity))["text_to_video"]["MeanR"] == 1


def test_dual_softmax_survives_large_scores():
    assert dual_softmax(torch.tensor([[90.0, 0.0], [80.0, 1.0]])).isfinite().all()


@pytest.mark.parametrize("k", [1, 2])
def test_querybank_norm_follows_the_formula(k):
    generator = np.random.default_rng(k)
    similarity, bank = generator.uniform(-0.1, 0.6, (30, 12)), generator.uniform(-0.1, 0.6, (4, 12))
    active = {int(video) for row in bank for video in np.argsort(-row)[:k]}
    expected = similarity.copy()
    for row in range(30):
        if int(np.argmax(similarity[row])) in active:
            for video in range(12):
                hubness = sum(math.exp(20 * bank[query, video]) for query in range(4))
                expected[row, video] = math.exp(20 * similarity[row, video]) / hubness
    changed = np.any(expected != similarity, axis=1)
    assert changed.any() and not changed.all(), "the example must show both branches"
    np.testing.assert_allclose(querybank_norm(similarity, bank, k=k).numpy(), expected, rtol=1e-9)


def test_querybank_norm_lowers_a_hub():
    # Video 0 is the best of every bank query, so the test text gets video 1, a close second.
    similarity, bank = [[0.50, 0.48, 0.1]], [[0.6, 0.2, 0.1], [0.5, 0.1, 0.2]]
    assert querybank_norm(similarity, bank).argmax(1).tolist() == [1]
    # A text whose best video is no hub keeps its scores.
    assert querybank_norm([[0.1, 0.2, 0.9]], bank).tolist() == [pytest.approx([0.1, 0.2, 0.9])]


def test_querybank_norm_errors():
    with pytest.raises(ValueError, match=r"\[1, 3\] and querybank_similarity \[2, 2\]"):
        querybank_norm([[0.1, 0.2, 0.3]], [[0.1, 0.2], [0.3, 0.4]])
    with pytest.raises(ValueError, match="k is 4; expected 1 to the size of the gallery, 3"):
        querybank_norm([[0.1, 0.2, 0.3]], [[0.1, 0.2, 0.3]], k=4)
