"""Scores of anomalies: the larger, the less an image is like the normal ones (lecture 0).

    prior             -log N(E(s); 0, I) = |E(s)|^2 / 2 + D/2 log 2 pi
    estimated         -log p(E(s)),  p a Gaussian or a mixture of them, fitted to codes of normal images
    discriminator     -log D(s, E(s)) = log(1 + e^-logit)
    reconstruction    |G(E(s)) - s|_2
    feature match     |f(s, E(s)) - f(G(E(s)), E(s))|_2,  f: what the last layer of D sees
    combined          A(s) = (1 - alpha) reconstruction + alpha feature match
    PCA               |s - m - V V^T (s - m)|_2,  m and V the mean and leading axes of normal images

The slide scores by phi_z(E(s)) and D(s, E(s)), where low is anomalous: hence the minus. A uniform prior says nothing,
and a trained E need not fill N(0, I): an estimated p knows where codes of normal images lie.

    score = gaussian(codes_of_training_images);    score(codes_of_test_images)           # (N,)

Absent on purpose: thresholds, and terms brought to one scale. Inversion of G, the score without an E, is noise.py's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

RIDGE = 1e-6  # of the mean variance: a number of a code that never changes leaves the covariance singular


def prior(codes: np.ndarray) -> np.ndarray:
    """(N,): -log N(z; 0, I) = |z|^2 / 2 + D/2 log 2 pi of codes (N, D), in nats."""
    codes = codes.astype(np.float64)
    constant = codes.shape[1] / 2 * math.log(2 * math.pi)
    return (codes**2).sum(1) / 2 + constant


def gaussian(known: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The score -log N(z; m, C) of codes (N, D), in nats, with the mean and the covariance of known (M, D).

    = (z - m)^T C^-1 (z - m) / 2 + log det(2 pi C) / 2: half the squared Mahalanobis distance, and a constant.
    Raises ValueError where all known codes are equal.
    """
    mean, covariance = _moments(known)
    factor = np.linalg.cholesky(covariance)
    size = len(mean) / 2 * math.log(2 * math.pi)
    constant = np.log(np.diag(factor)).sum() + size

    def score(codes: np.ndarray) -> np.ndarray:
        whitened = np.linalg.solve(factor, (codes - mean).T)
        return (whitened**2).sum(0) / 2 + constant

    return score


def mixture(
    known: np.ndarray, components: int, seed: int = 0
) -> Callable[[np.ndarray], np.ndarray]:
    """The score -log sum_k p_k N(z; m_k, C_k) of codes (N, D), in nats, fitted to known (M, D) by EM.

    `seed`: of the clusters that EM begins with. Raises ValueError for fewer known codes than components, or equal ones.
    """
    from sklearn.mixture import GaussianMixture

    if not 1 <= components <= len(known):
        raise ValueError(
            f"a mixture of {components} Gaussians cannot be fitted to {len(known)} codes; "
            f"give 1 to {len(known)} of them"
        )
    covariance = _moments(known)[1]
    model = GaussianMixture(
        components,
        reg_covar=RIDGE * np.trace(covariance) / len(covariance),
        max_iter=500,
        random_state=seed,
    ).fit(known.astype(np.float64))
    return lambda codes: -model.score_samples(codes.astype(np.float64))


def discriminator(logits: np.ndarray) -> np.ndarray:
    """(N,): -log D of logits (N,), in nats; of a large negative logit it is minus the logit, and never infinite."""
    return np.logaddexp(0, -logits.astype(np.float64))


def distance(first: Any, second: Any) -> Any:
    """(N,): |a - b|_2 over all values of each of two batches (N, ...), arrays or tensors.

    Of G(E(s)) and s it is the reconstruction score, of f(s, E(s)) and f(G(E(s)), E(s)) the feature match.
    """
    return ((first - second) ** 2).reshape(len(first), -1).sum(1) ** 0.5


def combined(
    reconstruction: np.ndarray, feature_match: np.ndarray, alpha: float
) -> np.ndarray:
    """(N,): (1 - alpha) reconstruction + alpha feature match. Raises ValueError for an alpha outside [0, 1]."""
    if not 0 <= alpha <= 1:
        raise ValueError(
            f"alpha weighs the feature match against the reconstruction: it must lie in [0, 1], it is {alpha}; "
            f"0.1 is usual"
        )
    return (1 - alpha) * reconstruction + alpha * feature_match


def principal(
    known: np.ndarray, components: int
) -> Callable[[np.ndarray], np.ndarray]:
    """The score |s - m - V V^T (s - m)|_2 of images (N, C, H, W), with so many principal axes V of known (M, C, H, W).

    Raises ValueError unless there are at least as many known images, and values in each.
    """
    from sklearn.decomposition import PCA

    rows = known.reshape(len(known), -1)
    if not 1 <= components <= min(rows.shape):
        raise ValueError(
            f"PCA of {components} axes cannot be fitted to {len(rows)} images of {rows.shape[1]} values; "
            f"give 1 to {min(rows.shape)} of them"
        )
    axes = PCA(components, random_state=0).fit(rows.astype(np.float64))

    def score(images: np.ndarray) -> np.ndarray:
        rows = images.reshape(len(images), -1).astype(np.float64)
        return distance(axes.inverse_transform(axes.transform(rows)), rows)

    return score


def roc(
    scores: np.ndarray, positive: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(false, true positive rates), both rising from 0 to 1, a point for each threshold: score >= t is positive.

    scores (N,), positive (N,) of booleans. The area under straight lines between the points is the AUROC. Raises
    ValueError where all are positive, or none.
    """
    positive = np.asarray(positive, bool)
    if positive.all() or not positive.any():
        raise ValueError(
            f"roc: {positive.sum()} of {len(positive)} are positive; a curve needs both kinds"
        )
    group = np.unique(-np.asarray(scores), return_inverse=True)[1]
    rates = [
        np.cumsum(np.bincount(group, kind)) / kind.sum()
        for kind in (~positive, positive)
    ]
    return np.append(0, rates[0]), np.append(0, rates[1])


def _moments(known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean (D,), covariance (D, D)) of rows, each divided by their number; a ridge keeps it invertible."""
    known = known.astype(np.float64)
    mean = known.mean(0)
    covariance = (known - mean).T @ (known - mean) / len(known)
    variance = np.trace(covariance) / len(mean)
    if not variance > 0:
        raise ValueError(
            f"the {len(known)} codes are all equal, or no numbers: a Gaussian needs a spread; train longer"
        )
    return mean, covariance + RIDGE * variance * np.eye(len(mean))
