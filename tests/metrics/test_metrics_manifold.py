"""Precision and recall of clusters whose overlap is known."""

from __future__ import annotations

import numpy as np
import pytest

from tinygen import metrics


def test_precision_and_recall():
    """Samples from one of two clusters are real (precision 1); half of the real ones are never made (recall 1/2)."""
    draw = np.random.default_rng(0)
    left, right = draw.normal(size=(300, 4)), draw.normal(size=(300, 4)) + 100
    precision, recall = metrics.precision_recall(np.concatenate([left, right]), draw.normal(size=(600, 4)))
    assert precision > 0.75
    assert 0.4 < recall <= 0.5
    assert metrics.precision_recall(left, left) == (1, 1)
    assert metrics.precision_recall(left, right) == (0, 0)
    with pytest.raises(ValueError, match="3 fake features"):
        metrics.precision_recall(left, right[:3])


def test_the_two_sets_are_not_mixed_up():
    """By hand, k = 1: real balls of radius 1 around 0, 1, 10, 11; fakes at .5 and 20, 20.1, 20.2, 20.3."""
    real = np.array([[0.0], [1], [10], [11]])
    fake = np.array([[0.5], [20], [20.1], [20.2], [20.3]])
    assert metrics.precision_recall(real, fake, k=1) == (pytest.approx(1 / 5), 1)  # .5's ball reaches to 20
    assert metrics.precision_recall(fake, real, k=1) == (1, pytest.approx(1 / 5))
