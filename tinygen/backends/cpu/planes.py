"""Kernels of csrc/cpu/kernels/planes.cpp: resampling, pooling, choices by index and their adjoints.

Absent: average pooling and interpolation, which are `resample` with taps of their own.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy import ndarray as Array

import tinygen._cpu as _cpu

from ..arrays import check_planes, check_put, check_scatter, check_take, check_taps_inside
from ..geometry import Taps
from .arrays import empty, inputs, places


@lru_cache(maxsize=4096)
def _taps(taps: Taps) -> Any:  # by identity: a Taps object is a constant
    index, weight = np.array(taps.index, np.int64, order="C"), np.array(taps.weight, np.float64, order="C")
    return _cpu.Taps(index, weight, taps.size)  # copies, which nobody can change after they were checked


def resample(x: Array, rows: Taps, cols: Taps) -> Array:
    check_planes("resample", x, rows, cols)
    check_taps_inside("resample", rows, cols)
    (x,) = inputs("resample", x)
    y = empty((*x.shape[:2], len(rows.index), len(cols.index)), x.dtype)
    _cpu.resample(x, _taps(rows), _taps(cols), y)
    return y


def max_pool(x: Array, rows: Taps, cols: Taps) -> tuple[Array, Array]:
    check_planes("max_pool", x, rows, cols)
    (x,) = inputs("max_pool", x)
    shape = (*x.shape[:2], len(rows.index), len(cols.index))
    values, winners = empty(shape, x.dtype), empty(shape, np.int64)
    _cpu.max_pool(x, _taps(rows), _taps(cols), values, winners)
    return values, winners


def take_plane(x: Array, index: Array) -> Array:
    check_take(x, index)
    (x,) = inputs("take_plane", x)
    y = empty(index.shape, x.dtype)
    with places("take_plane", index, x.shape[2] * x.shape[3]) as at:
        _cpu.take_plane(x, at, y)
    return y


def put_plane(y: Array, index: Array, size: tuple[int, int]) -> Array:
    check_put(y, index, size)
    (y,) = inputs("put_plane", y)
    x = empty((*y.shape[:2], *size), y.dtype)
    with places("put_plane", index, size[0] * size[1]) as at:
        _cpu.put_plane(y, at, x)
    return x


def scatter_add(values: Array, index: Array, length: int) -> Array:
    check_scatter(values, index, length)
    (values,) = inputs("scatter_add", values)
    out = empty((length, *values.shape[1:]), values.dtype)
    with places("scatter_add", index, length) as at:
        _cpu.scatter_add(values, at, out)
    return out
