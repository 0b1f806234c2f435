"""How well scores rank: positives (anomalies, defects) should score above negatives.

    AUROC = P(score of a positive > score of a negative) + 1/2 P(equal)
    AUPRC = sum over thresholds t of (R_t - R_before) P_t, the average precision

AUROC is .5 for scores that know nothing; AUPRC is then the share of positives, so it says more where they are rare.
"""

from __future__ import annotations

import numpy as np

__all__ = ["auprc", "auroc"]


def auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    """The area under the ROC curve: the share of (positive, negative) pairs in the right order; a tie counts 1/2.

    scores (N,), positive (N,) of booleans or 0 and 1. Raises ValueError for one class alone or NaN. By the sum of ranks
    (Mann and Whitney 1947).
    """
    scores, positive = _checked("auroc", scores, positive)
    _, group, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2  # equal scores share the mean of their ranks 1..N
    n = int(positive.sum())
    pairs = middle[group][positive].sum() - n * (n + 1) / 2
    return float(pairs / (n * (len(scores) - n)))


def auprc(scores: np.ndarray, positive: np.ndarray) -> float:
    """The average precision: precision at each distinct threshold, weighted by the recall gained there.

    scores (N,), positive (N,) of booleans or 0 and 1. Raises ValueError for one class alone or NaN.
    """
    scores, positive = _checked("auprc", scores, positive)
    _, group, counts = np.unique(-scores, return_inverse=True, return_counts=True)
    hits = np.bincount(group, positive)
    precision = np.cumsum(hits) / np.cumsum(counts)
    return float((hits * precision).sum() / positive.sum())


def _checked(name: str, scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, positive = np.asarray(scores, np.float64), np.asarray(positive)
    if scores.ndim != 1 or scores.shape != positive.shape:
        raise ValueError(f"{name}: scores {scores.shape} and labels {positive.shape}; both must be (N,): flatten maps")
    if not np.isin(positive, (0, 1)).all():
        raise ValueError(f"{name}: labels must be True (positive) or False; got {np.unique(positive)[:5]}")
    positive = positive.astype(bool)
    if positive.all() or not positive.any():
        raise ValueError(f"{name}: {positive.sum()} of {len(positive)} are positive; both classes are needed")
    if np.isnan(scores).any():
        raise ValueError(f"{name}: {np.isnan(scores).sum()} of {len(scores)} scores are NaN; numbers are needed")
    return scores, positive
