"""The C++ backend: the kernel table on NumPy arrays, computed by the extension `tinygen._cpu` (csrc/cpu).

Each function checks dtypes, makes its arrays contiguous, allocates the result and calls one C++ kernel, which releases the
GIL. The kernels exist for several instruction sets; the best one that the machine has is used unless TINYGEN_CPU names
another (baseline, avx2, avx512, or `reference` for plain NumPy). matmul is NumPy's, whose BLAS is hard to beat.

Threads: `set_num_threads` sets the kernels and NumPy's BLAS together; a fixed number gives bit-identical results.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

import numpy as np

from tinygen import _cpu

from .geometry import Geometry

Array = np.ndarray

name = "cpu"
xp = np

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def _select_isa() -> None:
    wanted = os.environ.get("TINYGEN_CPU", "")
    if wanted == "reference":  # asked for NumPy, and imported this module all the same: a test comparing the two
        wanted = ""
    try:
        _cpu.select(wanted)
    except ValueError as error:
        raise ValueError(
            f"TINYGEN_CPU={wanted!r}: {error}; this machine runs reference, {', '.join(_cpu.isas())} (unset: {_cpu.isas()[-1]})"
        ) from None


def _default_threads() -> int:
    """OMP_NUM_THREADS where it is set (its first number), else the cores that this process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_select_isa()
_cpu.set_num_threads(_default_threads())


def set_num_threads(count: int) -> None:
    """Sets the number of threads of the C++ kernels and, if threadpoolctl is installed, of NumPy's BLAS."""
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"set_num_threads: expected an integer of at least 1, got {count!r}")
    _cpu.set_num_threads(count)
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return
    threadpool_limits(limits=count, user_api="blas")


def get_num_threads() -> int:
    """The number of threads of the C++ kernels (1 if they were built without OpenMP)."""
    return _cpu.get_num_threads()


def isa() -> str:
    """The instruction set in use: "baseline", "avx2" or "avx512"."""
    return _cpu.isa()


def sources() -> dict[str, str]:
    """Kernel name -> "csrc/cpu/kernels/file.cpp:line", where it is defined."""
    return _cpu.sources()


def _inputs(kernel: str, *arrays: Any) -> list[Any]:
    """The arrays (None stays None), C-contiguous; TypeError naming kernel and dtype unless all are float32 or all float64."""
    dtype = arrays[0].dtype
    if dtype not in _FLOATS:
        raise TypeError(f"{kernel}: expected float32 or float64, got {dtype}; convert the tensor with .float()")
    ready: list[Any] = []
    for a in arrays:
        if a is not None:
            if a.dtype != dtype:
                raise TypeError(f"{kernel}: arrays of {dtype} and {a.dtype} in one call; convert one of them")
            if not a.flags.c_contiguous:
                a = np.ascontiguousarray(a)
        ready.append(a)
    return ready


def _empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """An uninitialised array for a result: every kernel allocates through here."""
    return np.empty(shape, dtype)


# Convolution ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _geometry(geo: Geometry) -> Any:
    return _cpu.Geometry(geo.x_shape, geo.w_shape, geo.y_shape, geo.stride, geo.dilation, geo.pad, geo.groups)


def conv(x: Array, w: Array, geo: Geometry, bias: Array | None = None) -> Array:
    x, w, bias = _inputs("conv", x, w, bias)
    y = _empty(geo.y_shape, x.dtype)
    _cpu.conv(_geometry(geo), x, w, bias, y)
    return y


def conv_transpose(y: Array, w: Array, geo: Geometry, bias: Array | None = None) -> Array:
    y, w, bias = _inputs("conv_transpose", y, w, bias)
    x = _empty(geo.x_shape, y.dtype)
    _cpu.conv_transpose(_geometry(geo), y, w, bias, x)
    return x


def conv_weight(x: Array, y: Array, geo: Geometry) -> Array:
    x, y = _inputs("conv_weight", x, y)
    w = _empty(geo.w_shape, x.dtype)
    _cpu.conv_weight(_geometry(geo), x, y, w)
    return w


def matmul(a: Array, b: Array) -> Array:
    return np.matmul(a, b)
