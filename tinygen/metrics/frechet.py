"""Fréchet distance of two sets of features: the squared 2-Wasserstein distance of the Gaussians fitted to them.

    ||m1 - m2||^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2)

The root is taken through `eigvalsh` in float64: `sqrtm` of a nearly singular product returns complex numbers. The
distance falls with the number of samples, so report n beside it; fewer than 2 x dimensions is refused.
"""

from __future__ import annotations

import numpy as np

__all__ = ["frechet_distance", "frechet_from_features"]


def frechet_distance(mean1: np.ndarray, cov1: np.ndarray, mean2: np.ndarray, cov2: np.ndarray) -> float:
    """||m1 - m2||^2 + tr S1 + tr S2 - 2 sum sqrt(eigenvalues of S1^1/2 S2 S1^1/2): squared 2-Wasserstein of two
    Gaussians.

    mean (D,), cov (D, D). Raises ValueError where shapes differ. Dowson and Landau 1982.
    """
    mean1, cov1, mean2, cov2 = (np.asarray(a, np.float64) for a in (mean1, cov1, mean2, cov2))
    if not mean1.shape == mean2.shape == cov1.shape[:1] == cov2.shape[:1] or cov1.shape != cov2.shape:
        raise ValueError(
            f"frechet_distance: means {mean1.shape} and {mean2.shape}, covariances {cov1.shape} and {cov2.shape}; both "
            "sets must have the same number of features"
        )
    values, vectors = np.linalg.eigh(cov1)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    # eigvalsh reads one triangle: symmetric by force
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov2 @ root).clip(0)).sum()
    distance = ((mean1 - mean2) ** 2).sum() + np.trace(cov1) + np.trace(cov2) - 2 * cross
    return float(max(distance, 0.0))


def frechet_from_features(real: np.ndarray, fake: np.ndarray) -> float:
    """The Fréchet distance of two sets of features (N, D) and (M, D); ValueError when N or M is below 2 D."""
    moments = []
    for name, features in (("real", real), ("fake", fake)):
        n, dimensions = features.shape
        if n < 2 * dimensions:
            raise ValueError(
                f"frechet: {n} {name} samples for {dimensions} features; a covariance needs at least {2 * dimensions}"
            )
        features = features.astype(np.float64)
        moments += [features.mean(0), np.cov(features, rowvar=False).reshape(dimensions, dimensions)]
    return frechet_distance(*moments)
