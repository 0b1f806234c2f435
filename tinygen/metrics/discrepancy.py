"""Maximum mean discrepancy: how far two sets of features are apart, as a kernel sees them.

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y),    k(a, b) = (a . b / D + 1)^3

It is 0 for equal distributions. The estimate here is unbiased for any number of points: no point is paired with itself
(Gretton et al. 2012). With this kernel it is known as the kernel distance, KID (Binkowski et al. 2018).
"""

from __future__ import annotations

import numpy as np

__all__ = ["mmd"]

BLOCK = 500


def mmd(x: np.ndarray, y: np.ndarray) -> float:
    """MMD^2 of features x (N, D) and y (M, D), unbiased, so it can fall below 0.

    Raises ValueError unless N and M are at least 2 and both have the same D.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(f"mmd: x {x.shape}, y {y.shape}; expected (N, D) and (M, D), N and M at least 2")
    return _within(x) + _within(y) - 2 * _total(x, y) / (len(x) * len(y))


def _within(x: np.ndarray) -> float:
    """The mean of k over pairs of different points."""
    n = len(x)
    return (_total(x, x) - _kernel((x**2).sum(1), x.shape[1]).sum()) / (n * (n - 1))


def _total(x: np.ndarray, y: np.ndarray) -> float:
    """The sum of k over all pairs."""
    return float(sum(_kernel(x[at : at + BLOCK] @ y.T, x.shape[1]).sum() for at in range(0, len(x), BLOCK)))


def _kernel(products: np.ndarray, dimensions: int) -> np.ndarray:
    return (products / dimensions + 1) ** 3
