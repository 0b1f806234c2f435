"""How NumPy arrays reach a C++ kernel: dtypes checked, contiguous, and with memory for the result.

Absent: conversions of dtype. A mixed call raises a TypeError that names the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import ndarray as Array

from ..arrays import FLOATS, check_floats, check_out


def inputs(kernel: str, *arrays: Any) -> Sequence[Any]:
    """The arrays (None stays None), C-contiguous; TypeError naming kernel and dtype unless all share a float dtype."""
    dtype = arrays[0].dtype
    ready = dtype in FLOATS
    for a in arrays:
        # Arithmetic on 0-d arrays gives scalars.
        if a is not None and (type(a) is not Array or a.dtype is not dtype or not a.flags.c_contiguous):
            ready = False
    if ready:
        return arrays
    check_floats(kernel, *arrays)
    return [a if a is None else np.asarray(a, order="C") for a in arrays]


empty = np.empty  # an uninitialised array for a result: every kernel allocates through here


def as_index(index: Array) -> Array:
    return np.ascontiguousarray(index, np.int64)


def result(kernel: str, x: Array, out: Array | None) -> Array:
    """`out`, if it was given, or else a new array like x."""
    if out is None:
        return empty(x.shape, x.dtype)
    check_out(kernel, x, out)
    return out
