"""Sums over axes, added up in float64."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

from ..arrays import check_floats, check_sum


def sum(x: Array, axes: tuple[int, ...], scale: float = 1.0) -> Array:
    """scale * the sum of x over `axes`, added up in float64."""
    check_sum(x.ndim, axes)
    if x.dtype.itemsize >= 4:  # half precision is added up too
        check_floats("sum", x)
    return np.asarray(scale * x.sum(axes, np.float64), x.dtype)
