"""AUROC and AUPRC against counting all pairs, and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from tinygen import metrics


def tied_scores(seed, n=300):
    draw = np.random.default_rng(seed)
    positive = draw.random(n) < 0.2
    return (draw.normal(size=n) + positive).round(1), positive  # a tenth apart: many ties


@pytest.mark.parametrize("seed", range(3))
def test_auroc_counts_pairs_and_half_of_the_ties(seed):
    scores, positive = tied_scores(seed)
    count = 0.0
    for a in scores[positive]:
        for b in scores[~positive]:
            count += 1 if a > b else 0.5 if a == b else 0
    assert metrics.auroc(scores, positive) == pytest.approx(count / (positive.sum() * (~positive).sum()))


@pytest.mark.parametrize("seed", range(3))
def test_both_areas_equal_those_of_scikit_learn(seed):
    from sklearn.metrics import average_precision_score, roc_auc_score

    scores, positive = tied_scores(seed)
    assert metrics.auroc(scores, positive) == pytest.approx(roc_auc_score(positive, scores))
    assert metrics.auprc(scores, positive) == pytest.approx(average_precision_score(positive, scores))


def test_areas_that_are_known():
    labels = np.array([0, 0, 1, 1])
    assert metrics.auroc(np.array([1, 2, 3, 4]), labels) == 1
    assert metrics.auroc(np.array([4, 3, 2, 1]), labels) == 0
    assert metrics.auroc(np.zeros(4), labels) == 0.5
    assert metrics.auprc(np.array([1, 2, 3, 4]), labels) == 1
    assert metrics.auprc(np.array([4, 3, 2, 1]), labels) == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert metrics.auprc(np.zeros(4), labels) == 0.5  # the share of positives
    assert metrics.auroc(np.array([0, 1, np.inf]), np.array([0, 0, 1])) == 1


@pytest.mark.parametrize("area", [metrics.auroc, metrics.auprc])
def test_what_cannot_be_ranked_is_refused(area):
    with pytest.raises(ValueError, match="0 of 3 are positive"):
        area(np.arange(3), np.zeros(3))
    with pytest.raises(ValueError, match="3 of 3 are positive"):
        area(np.arange(3), np.ones(3))
    with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
        area(np.array([0, np.nan]), np.array([0, 1]))
    with pytest.raises(ValueError, match="labels must be True"):
        area(np.arange(3), np.array([0, 1, 2]))
    with pytest.raises(ValueError, match="flatten"):
        area(np.zeros((2, 2)), np.zeros((2, 2)))
