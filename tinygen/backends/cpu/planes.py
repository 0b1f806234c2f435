"""Kernels of csrc/cpu/kernels/planes.cpp: resampling, pooling, choices by index and their adjoints.

Absent: average pooling and interpolation, which are `resample` with taps of their own.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy import ndarray as Array

import tinygen._cpu as _cpu

from ..geometry import Taps
from .arrays import as_index, empty, inputs


@lru_cache(maxsize=4096)
def _taps(taps: Taps) -> Any:  # by identity: a Taps object is a constant
    index, weight = np.ascontiguousarray(taps.index, np.int64), np.ascontiguousarray(taps.weight, np.float64)
    return _cpu.Taps(index, weight, taps.size)


def resample(x: Array, rows: Taps, cols: Taps) -> Array:
    (x,) = inputs("resample", x)
    y = empty((*x.shape[:2], len(rows.index), len(cols.index)), x.dtype)
    _cpu.resample(x, _taps(rows), _taps(cols), y)
    return y


def max_pool(x: Array, rows: Taps, cols: Taps) -> tuple[Array, Array]:
    (x,) = inputs("max_pool", x)
    shape = (*x.shape[:2], len(rows.index), len(cols.index))
    values, winners = empty(shape, x.dtype), empty(shape, np.int64)
    _cpu.max_pool(x, _taps(rows), _taps(cols), values, winners)
    return values, winners


def take_plane(x: Array, index: Array) -> Array:
    (x,) = inputs("take_plane", x)
    y = empty(index.shape, x.dtype)
    _cpu.take_plane(x, as_index(index), y)
    return y


def put_plane(y: Array, index: Array, size: tuple[int, int]) -> Array:
    (y,) = inputs("put_plane", y)
    x = empty((*y.shape[:2], *size), y.dtype)
    _cpu.put_plane(y, as_index(index), x)
    return x


def scatter_add(values: Array, index: Array, length: int) -> Array:
    (values,) = inputs("scatter_add", values)
    out = empty((length, *values.shape[1:]), values.dtype)
    _cpu.scatter_add(values, as_index(index), out, math.prod(values.shape[1:]))
    return out
