"""MMD against all pairs, and that its mean is 0 where both sets have one law."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from tinygen import metrics


def by_pairs(x, y):
    kernel = lambda a, b: (sum(p * q for p, q in zip(a, b)) / len(a) + 1) ** 3
    within = lambda z: np.mean([kernel(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j])
    return within(x) + within(y) - 2 * np.mean([kernel(a, b) for a in x for b in y])


@pytest.mark.parametrize(("n", "m", "d"), [(2, 2, 1), (7, 5, 3), (4, 9, 2)])
def test_mmd_against_all_pairs(n, m, d, monkeypatch):
    import sys

    monkeypatch.setattr(sys.modules["tinygen.metrics.discrepancy"], "BLOCK", 3)
    draw = np.random.default_rng(n)
    x, y = draw.normal(size=(n, d)).astype("f4"), draw.normal(size=(m, d)) + 1
    assert metrics.mmd(x, y) == pytest.approx(by_pairs(x, y), rel=1e-6)
    assert metrics.mmd(x, y) == pytest.approx(metrics.mmd(y, x))


def test_the_mean_of_mmd_over_all_ways_to_part_one_set_is_0():
    """Pairs of equal points would add k(x, x), and its mean would lie above 0."""
    points = np.random.default_rng(0).normal(size=(7, 2))
    found = []
    for chosen in combinations(range(7), 3):
        rest = [i for i in range(7) if i not in chosen]
        found.append(metrics.mmd(points[list(chosen)], points[rest]))
    assert np.mean(found) == pytest.approx(0, abs=1e-12)
    assert min(found) < 0 < max(found)


def test_mmd_of_single_precision_features_is_computed_in_double():
    """k is near 10^6, and what is left of its three means far less."""
    draw = np.random.default_rng(0)
    x, y = (10 + draw.normal(size=(40, 3)).astype("f4") for _ in range(2))
    assert metrics.mmd(x, y) == pytest.approx(by_pairs(x.astype(float), y.astype(float)), rel=1e-7)


def test_mmd_of_points_that_are_far_apart():
    """x at 0 and y at 1 in one dimension: 1 + 8 - 2."""
    assert metrics.mmd(np.zeros((3, 1)), np.ones((4, 1))) == pytest.approx(7)


@pytest.mark.parametrize("shapes", [((1, 2), (3, 2)), ((3, 2), (1, 2)), ((3, 2), (3, 3)), ((3,), (3,))])
def test_mmd_of_too_few_or_unlike_features_is_refused(shapes):
    with pytest.raises(ValueError, match=r"mmd: x \(.*, y \(.*; expected \(N, D\) and \(M, D\)"):
        metrics.mmd(*map(np.zeros, shapes))
