"""The ranking losses against loops over every pair, and by hand."""

import math

import pytest
import torch

from hf_videolang.losses.moment_ranking import moment_ranking_losses


def by_loops(scores, owners, loss, pool, weight):
    """The sum over mismatches, written out (hero §3)."""

    def mean(match, mismatches):
        ordered = sorted(mismatches, reverse=True)
        weights = [(weight if rank < pool else 0.1) if pool else 1.0 for rank in range(len(ordered))]
        return sum(w * loss(match, other) for w, other in zip(weights, ordered)) / len(ordered) if ordered else 0.0

    videos, queries = [], []
    for query, owner in enumerate(owners):
        match = scores[query][owner]
        videos.append(mean(match, [score for video, score in enumerate(scores[query]) if video != owner]))
        queries.append(mean(match, [row[owner] for row, other in zip(scores, owners) if other != owner]))
    return videos, queries


LOSSES = {
    "hinge": lambda match, other: max(0.0, 0.2 + other - match),
    "log_sum_exp": lambda match, other: math.log(1 + math.exp(other - match)),
}


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize(("pool", "weight"), [(0, 10.0), (1, 5.0), (2, 10.0), (9, 3.0)])
@pytest.mark.parametrize("owners", [[0, 1, 2, 3], [0, 0, 1, 1, 2, 2, 3, 3], [3, 0, 0, 0, 2, 1]])
def test_losses_are_those_of_the_pairs(kind, pool, weight, owners):
    scores = torch.randn(len(owners), 4, generator=torch.Generator().manual_seed(len(owners)))
    found = moment_ranking_losses(scores, torch.tensor(owners), kind, 0.2, pool, weight)
    expected = by_loops(scores.tolist(), owners, LOSSES[kind], pool, weight)
    for ours, theirs in zip(found, expected):
        torch.testing.assert_close(ours, torch.tensor(theirs))


def test_one_video_costs_nothing():
    scores = torch.randn(3, 1, requires_grad=True)
    by_video, by_query = moment_ranking_losses(scores, torch.zeros(3, dtype=torch.long))
    (by_video + by_query).sum().backward()
    assert not by_video.any() and not by_query.any() and not scores.grad.any()
