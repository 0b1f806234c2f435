"""Modes covered and energy distances that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tinygen import metrics

RING = np.stack([np.cos(np.arange(8) * math.pi / 4), np.sin(np.arange(8) * math.pi / 4)], 1)


def test_modes_of_the_mixture_itself():
    draw = np.random.default_rng(0)
    which = draw.integers(0, 8, 10_000)
    samples = RING[which] + 0.02 * draw.normal(size=(10_000, 2))
    assert metrics.modes_covered(samples, RING, 0.02) == 8
    inside = 1 - math.exp(-4.5)  # of a Gaussian in the plane
    assert metrics.within_3_sigma(samples, RING, 0.02) == pytest.approx(inside, abs=4 * math.sqrt(0.011 / 10_000))
    assert metrics.modes_covered(samples[which < 3], RING, 0.02) == 3


def test_a_mode_needs_its_share_within_3_sigma():
    """800 samples, 8 modes: an even share is 100, and 1 % of it is 1; 10 % are 10."""
    samples = np.repeat(RING[[0, 1, 2]], [780, 11, 9], 0)
    assert metrics.modes_covered(samples, RING, 0.02) == 3
    assert metrics.modes_covered(samples, RING, 0.02, share=0.1) == 2
    assert metrics.modes_covered(samples, RING, 0.02, share=0.11) == 2
    few = np.repeat(RING[:2], [3, 1], 0)
    assert metrics.modes_covered(few, RING, 0.02) == 2  # never from no sample at all
    assert metrics.within_3_sigma(np.array([[1.0599, 0], [1.0601, 0]]), RING, 0.02) == 0.5
    assert metrics.modes_covered(RING + 0.2, RING, 0.02) == 0
    with pytest.raises(ValueError, match=r"samples \(8, 2\) and centres \(8, 3\)"):
        metrics.modes_covered(RING, np.zeros((8, 3)), 1)


def test_energy_distance_against_all_pairs(monkeypatch):
    import sys

    monkeypatch.setattr(sys.modules["tinygen.metrics.modes"], "BLOCK", 7)
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(23, 3)), draw.normal(size=(17, 3)) + 0.5

    def mean(a, b, same):
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (same and i == j)]
        return np.mean([np.sqrt(((a[i] - b[j]) ** 2).sum()) for i, j in pairs])

    expected = 2 * mean(x, y, False) - mean(x, x, True) - mean(y, y, True)
    assert metrics.energy_distance(x, y) == pytest.approx(expected)
    assert metrics.energy_distance(x, y) == pytest.approx(metrics.energy_distance(y, x))


def test_energy_distance_is_unbiased_and_knows_two_gaussians():
    """Mean 0 for equal distributions. N(0, 1) against N(m, 1) on a line: E|N(m, 2)| = 2 phi(m/2^.5) 2^.5 + ..."""
    draw = np.random.default_rng(0)
    found = [metrics.energy_distance(draw.normal(size=(20, 2)), draw.normal(size=(30, 2))) for _ in range(400)]
    assert abs(np.mean(found)) < 4 * np.std(found) / 20 and min(found) < 0
    m, s = 2.0, math.sqrt(2)
    folded = s * math.sqrt(2 / math.pi) * math.exp(-(m**2) / (2 * s**2)) + m * math.erf(m / (s * math.sqrt(2)))
    expected = 2 * folded - 2 * 2 / math.sqrt(math.pi)
    x, y = draw.normal(size=(3000, 1)), draw.normal(size=(3000, 1)) + m
    assert metrics.energy_distance(x, y) == pytest.approx(expected, abs=0.12)
    with pytest.raises(ValueError, match="energy_distance"):
        metrics.energy_distance(x, y[:1])
