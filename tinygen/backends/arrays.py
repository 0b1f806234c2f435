"""What kernel tables share: the checks of their arrays, whatever library these are of. Errors name the kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any  # numpy.ndarray or cupy.ndarray

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def float_dtype(kernel: str, dtype: Any) -> np.dtype:
    """`dtype` as NumPy's; TypeError unless it is float32 or float64."""
    dtype = np.dtype(dtype)
    if dtype not in FLOATS:
        raise TypeError(f"{kernel}: expected float32 or float64, got {dtype}")
    return dtype


def check_floats(kernel: str, *arrays: Array | None) -> None:
    """TypeError unless all arrays (None is skipped, the first is none) share one float dtype."""
    dtype = arrays[0].dtype  # type: ignore[union-attr]
    if dtype not in FLOATS:
        raise TypeError(f"{kernel}: expected float32 or float64, got {dtype}; convert the tensor with .float()")
    for a in arrays:
        if a is not None and a.dtype is not dtype and a.dtype != dtype:
            raise TypeError(f"{kernel}: arrays of {dtype} and {a.dtype} in one call; convert one of them")


def check_in_place(kernel: str, *arrays: Array | None) -> None:
    """ValueError for an array that an update in place cannot reach: a contiguous copy would be updated instead."""
    for a in arrays:
        # CuPy's flags have no `writeable`: all its arrays are.
        if a is not None and not (a.flags.c_contiguous and getattr(a.flags, "writeable", True)):
            raise ValueError(
                f"{kernel}: an update in place needs contiguous, writeable arrays, got strides {a.strides}; "
                "copy them with ascontiguousarray first"
            )


def check_out(kernel: str, x: Array, out: Array) -> None:
    """ValueError unless a result like x can be written to `out`."""
    check_in_place(kernel, out)
    if out.shape != x.shape or out.dtype != x.dtype:
        raise ValueError(f"{kernel}: out is {out.shape} {out.dtype}, the result {x.shape} {x.dtype}")


def native(array: Any) -> Any:
    """The array in this machine's byte order; itself if it is."""
    dtype = array.dtype
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))
