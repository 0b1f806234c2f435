"""Precision and recall of samples: are they real, and are all kinds of real ones among them?

    precision = share of fake points inside the real manifold        recall = share of real points inside the fake one

A manifold is the union of balls around its points; each ball reaches to the k-th nearest neighbour (Kynkäänniemi et
al. 2019). Both depend on the number of points, so report n beside them.
"""

from __future__ import annotations

import numpy as np

__all__ = ["precision_recall"]


def precision_recall(real: np.ndarray, fake: np.ndarray, k: int = 3) -> tuple[float, float]:
    """(precision, recall): the share of fake features inside the real manifold, and of real ones inside the fake
    manifold.

    real (N, D), fake (M, D). Raises ValueError unless N and M exceed k. Kynkäänniemi et al. 2019.
    """
    for name, features in (("real", real), ("fake", fake)):
        if len(features) <= k:
            raise ValueError(
                f"precision_recall: {len(features)} {name} features, but the {k}-th neighbour of each is needed"
            )
    real, fake = real.astype(np.float64), fake.astype(np.float64)
    return _inside(fake, real, k), _inside(real, fake, k)


def _inside(points: np.ndarray, centres: np.ndarray, k: int) -> float:
    from sklearn.neighbors import NearestNeighbors

    radii = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(centres).kneighbors(centres)[0][:, k]
    covered = []
    for start in range(0, len(points), 500):
        part = points[start : start + 500]
        squared = (part**2).sum(1)[:, None] - 2 * part @ centres.T + (centres**2).sum(1)
        covered.append((squared <= radii**2).any(1))
    return float(np.concatenate(covered).mean())
