"""How NumPy arrays reach a C++ kernel: dtypes checked, contiguous, and with memory for the result.

Absent: conversions of dtype. A mixed call raises a TypeError that names the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import ndarray as Array

from ..arrays import FLOATS, check_floats, check_out, outside


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


INT64 = np.dtype(np.int64)
empty = np.empty  # an uninitialised array for a result: every kernel allocates through here


class places:
    """The indices as a kernel wants them, `with places(kernel, index, length) as at`; the kernel itself looks at each.

    IndexError naming the first that is not in [0, length): the kernel only tells that there is one.
    """

    __slots__ = ("index", "kernel", "length")

    def __init__(self, kernel: str, index: Array, length: int) -> None:
        self.kernel, self.length = kernel, length
        plain = index.dtype is INT64 and index.flags.c_contiguous
        self.index = index if plain else np.ascontiguousarray(index, np.int64).reshape(index.shape)

    def __enter__(self) -> Array:
        return self.index

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is IndexError:
            raise outside(self.kernel, self.index, self.length) from None


def result(kernel: str, x: Array, out: Array | None, *others: Array) -> Array:
    """`out`, if it was given, or else a new array like x."""
    if out is None:
        return empty(x.shape, x.dtype)
    check_out(kernel, x, out, *others)
    return out
