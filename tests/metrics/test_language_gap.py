"""NMI of cluster and source: counted by hand, and against all clusterings there are."""

from itertools import product
from math import log

import numpy as np
import pytest

from hf_videolang.metrics.language_gap import language_gap


def test_counted_by_hand():
    """Near 0 lie three texts of the first collection, near 10 one of it and both of the second.

    Entropies in bits: of the source (4 and 2 of 6) 0.9183, of the cluster (3 and 3) 1; of the source within the
    clusters 0 and 0.9183 (1 and 2 of 3), so the mutual information is 0.9183 - 0.9183 / 2 = 0.4591.
    """
    first, second = np.array([[0.0], [0.1], [0.2], [10.0]]), np.array([[10.1], [10.2]])
    expected = {"arithmetic": 0.4787, "geometric": 0.4791, "min": 0.5, "max": 0.4591}
    for average, value in expected.items():
        nmi, clusters = language_gap(first, second, average=average)
        assert nmi == pytest.approx(value, abs=5e-5)
        assert clusters.tolist() == [0, 0, 0, 1, 1, 1]


def test_extremes():
    apart = np.array([[0.0, 1.0], [0.1, 1.0]]), np.array([[5.0, 1.0], [5.1, 1.0]])
    assert language_gap(*apart)[0] == pytest.approx(1)
    assert language_gap(apart[1], apart[0])[1].tolist() == [0, 0, 1, 1]
    alike = np.array([[0.0, 1.0], [5.0, 1.0]])
    assert language_gap(alike, alike)[0] == pytest.approx(0)


def entropy(labels) -> float:
    counts = [list(labels).count(label) for label in set(labels)]
    return -sum(count / len(labels) * log(count / len(labels)) for count in counts)


@pytest.mark.parametrize("seed", range(4))
def test_all_clusterings(seed):
    """K-means finds the best of the 511 ways to cut ten texts in two; NMI from the entropies of joint labels."""
    generator = np.random.default_rng(seed)
    first, second = generator.normal(size=(5, 3)), generator.normal([1, 0, 0], size=(5, 3))
    points = np.concatenate([first, second])
    cuts = [np.array((0, *cut)) for cut in product((0, 1), repeat=9) if any(cut)]

    def squared_distances(cut) -> float:
        groups = [points[cut == number] for number in (0, 1)]
        return sum(((group - group.mean(axis=0)) ** 2).sum() for group in groups)

    best = min(cuts, key=squared_distances).tolist()
    nmi, clusters = language_gap(first, second, seed=seed, num_starts=50)
    assert clusters.tolist() in (best, [1 - cluster for cluster in best])
    sources = [0] * 5 + [1] * 5
    information = entropy(sources) + entropy(best) - entropy(list(zip(sources, best)))
    assert nmi == pytest.approx(2 * information / (entropy(sources) + entropy(best)))


def test_refusals():
    with pytest.raises(ValueError, match=r"\[2, 3\] and \[2, 4\]; expected \[texts, dim\] twice"):
        language_gap(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="at least one text"):
        language_gap(np.zeros((0, 3)), np.zeros((2, 3)))
