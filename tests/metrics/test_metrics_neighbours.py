"""Retrieval figures against a loop over queries that sorts all distances."""

from __future__ import annotations

import numpy as np
import pytest

from tinygen import metrics


def naive(embeddings, labels, k):
    """(P@1, R@k, MAP@R) by sorting, a query at a time."""
    first, recall, average = [], [], []
    for q in range(len(labels)):
        others = [j for j in range(len(labels)) if j != q]
        r = sum(labels[j] == labels[q] for j in others)
        if r == 0:
            continue
        others.sort(key=lambda j: float(np.linalg.norm(embeddings[j] - embeddings[q])))
        hits = [labels[j] == labels[q] for j in others]
        first.append(hits[0])
        recall.append(any(hits[:k]))
        average.append(sum(hits[i] * sum(hits[: i + 1]) / (i + 1) for i in range(r)) / r)
    return np.mean(first), np.mean(recall), np.mean(average)


@pytest.mark.parametrize("shift", [0, 1e4])
def test_against_a_naive_loop(shift, monkeypatch):
    import sys

    monkeypatch.setattr(sys.modules["tinygen.metrics.neighbours"], "BLOCK", 32)  # several blocks, the last one ragged
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 7, 150) ** 2  # unequal classes, labels with gaps
    labels[-1] = 1000  # a class of one
    embeddings = draw.normal(size=(150, 3)) + 0.6 * np.sqrt(labels.clip(0, 50))[:, None] + shift
    p1, r5, average = naive(embeddings, labels, 5)
    assert 0.15 < average < p1 < r5 < 1
    assert metrics.precision_at_1(embeddings, labels) == pytest.approx(p1)
    assert metrics.recall_at_k(embeddings, labels, 5) == pytest.approx(r5)
    assert metrics.map_at_r(embeddings, labels) == pytest.approx(average)


def test_by_hand():
    """On a line a a b a b: the second of the two nearest of each 'a' counts 1/2 or 1."""
    points, labels = np.array([[0.0], [1], [2.1], [3.3], [9]]), np.array([0, 0, 1, 0, 1])
    # neighbours of 0: 1 2.1 (a b); of 1: 0 2.1 (a b); of 3.3: 2.1 1 (b a); of 2.1: 1 (a); of 9: 3.3 (a)
    assert metrics.precision_at_1(points, labels) == pytest.approx(2 / 5)
    assert metrics.recall_at_k(points, labels, 2) == pytest.approx(4 / 5)  # 9: 3.3, 2.1
    assert metrics.map_at_r(points, labels) == pytest.approx((1 / 2 + 1 / 2 + 1 / 4) / 5)


def test_separate_classes_are_perfect():
    labels = np.arange(40) % 4
    points = 100.0 * labels[:, None] + np.random.default_rng(0).normal(size=(40, 2))
    figures = metrics.precision_at_1(points, labels), metrics.recall_at_k(points, labels, 9)
    assert (*figures, metrics.map_at_r(points, labels)) == (1, 1, 1)


def test_what_cannot_be_retrieved_is_refused():
    points = np.zeros((4, 2))
    with pytest.raises(ValueError, match="no class has two"):
        metrics.precision_at_1(points, np.arange(4))
    with pytest.raises(ValueError, match="no class has two"):
        metrics.map_at_r(points, np.arange(4))
    with pytest.raises(ValueError, match="k = 4 for 4 points"):
        metrics.recall_at_k(points, np.zeros(4), 4)
    with pytest.raises(ValueError, match=r"expected \(N, D\) and \(N,\)"):
        metrics.precision_at_1(points, np.zeros(3))
