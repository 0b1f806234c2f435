"""Samples of a known mixture: which modes are covered, how many samples are near one, how far two point sets are apart.

    energy distance = 2 E|x - y| - E|x - x'| - E|y - y'|

A sample belongs to its nearest mode and is near it within 3 standard deviations (Srivastava et al. 2017). The energy
distance is 0 for equal distributions alone (Székely and Rizzo 2013).
"""

from __future__ import annotations

import numpy as np

__all__ = ["energy_distance", "modes_covered", "within_3_sigma"]

BLOCK = 500


def modes_covered(samples: np.ndarray, centres: np.ndarray, sd: float, share: float = 0.01) -> float:
    """The number of modes covered: those with at least `share` of an even share N/K within 3 sd.

    samples (N, D), centres (K, D), sd: standard deviation of a mode along one axis.
    """
    nearest, near = _nearest(samples, centres, sd)
    counts = np.bincount(nearest[near], minlength=len(centres))
    return float((counts >= share * len(samples) / len(centres)).sum())


def within_3_sigma(samples: np.ndarray, centres: np.ndarray, sd: float) -> float:
    """The share of samples (N, D) within 3 sd of a centre (K, D). The mixture itself has .989 in the plane."""
    return float(_nearest(samples, centres, sd)[1].mean())


def energy_distance(x: np.ndarray, y: np.ndarray) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'|, unbiased: no point is paired with itself, so it can fall below 0.

    x (N, D), y (M, D), N and M at least 2. Raises ValueError else.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(f"energy_distance: x {x.shape}, y {y.shape}; expected (N, D) and (M, D), both at least 2")
    n, m = len(x), len(y)
    between = 2 * _distances(x, y) / (n * m)
    within = _distances(x, x) / (n * (n - 1)) + _distances(y, y) / (m * (m - 1))
    return between - within


def _distances(x: np.ndarray, y: np.ndarray) -> float:
    """The sum of |x_i - y_j| over all pairs."""
    from scipy.spatial.distance import cdist

    return float(sum(cdist(x[start : start + BLOCK], y).sum() for start in range(0, len(x), BLOCK)))


def _nearest(samples: np.ndarray, centres: np.ndarray, sd: float) -> tuple[np.ndarray, np.ndarray]:
    """(index of the nearest centre, is it within 3 sd?) of every sample."""
    from scipy.spatial.distance import cdist

    samples, centres = np.asarray(samples, np.float64), np.asarray(centres, np.float64)
    if samples.ndim != 2 or centres.ndim != 2 or samples.shape[1] != centres.shape[1]:
        raise ValueError(f"modes: samples {samples.shape} and centres {centres.shape}; expected (N, D) and (K, D)")
    distances = cdist(samples, centres)
    return distances.argmin(1), distances.min(1) <= 3 * sd
