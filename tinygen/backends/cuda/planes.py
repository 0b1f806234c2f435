"""Kernels of csrc/cuda/planes.cu: maps along rows and columns, pooling, and rows that are picked or added up."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from ..arrays import Array, check_planes, check_put, check_scatter, check_take, check_taps_inside
from ..geometry import Taps
from .launcher import Launcher
from .table import Table


class Planes(Table):
    """resample, max_pool, take_plane, put_plane and scatter_add."""

    def __init__(self, name: str, xp: Any, launcher: Launcher) -> None:
        super().__init__(name, xp, launcher)
        self._taps = lru_cache(4096)(self._upload_taps)

    def _upload_taps(self, taps: Taps) -> tuple:  # by identity: a Taps object is a constant
        upload = self.launcher.upload
        index = upload(np.ascontiguousarray(taps.index, np.int32))
        return index, {np.dtype(t): upload(np.ascontiguousarray(taps.weight, t)) for t in (np.float32, np.float64)}

    def resample(self, x: Array, rows: Taps, cols: Taps) -> Array:
        check_planes("resample", x, rows, cols)
        check_taps_inside("resample", rows, cols)
        (x,) = self._inputs("resample", x)
        y = self._empty((*x.shape[:2], len(rows.index), len(cols.index)), x.dtype)
        row, row_weight = self._taps(rows)
        column, column_weight = self._taps(cols)
        self._each(
            "resample", y.size, x, x, row, row_weight[x.dtype], row.shape[1], column, column_weight[x.dtype],
            column.shape[1], y, *x.shape[2:], *y.shape[2:],
        )  # fmt: skip
        return y

    def max_pool(self, x: Array, rows: Taps, cols: Taps) -> tuple[Array, Array]:
        check_planes("max_pool", x, rows, cols)
        (x,) = self._inputs("max_pool", x)
        shape = (*x.shape[:2], len(rows.index), len(cols.index))
        values, winners = self._empty(shape, x.dtype), self._empty(shape, np.int64)
        row, column = self._taps(rows)[0], self._taps(cols)[0]
        self._each(
            "max_pool", values.size, x, x, row, row.shape[1], column, column.shape[1], values, winners, *x.shape[2:],
            *shape[2:],
        )  # fmt: skip
        return values, winners

    def take_plane(self, x: Array, index: Array) -> Array:
        check_take(x, index)
        (x,) = self._inputs("take_plane", x)
        y = self._empty(index.shape, x.dtype)
        size, outputs = math.prod(x.shape[2:]), math.prod(index.shape[2:])
        self._each("take_plane", y.size, x, x, self._index(index), y, size, outputs)
        return y

    def put_plane(self, y: Array, index: Array, size: tuple[int, int]) -> Array:
        check_put(y, index, size)
        (y,) = self._inputs("put_plane", y)
        x = self.xp.zeros((*y.shape[:2], *size), y.dtype)
        planes, outputs = math.prod(y.shape[:2]), math.prod(y.shape[2:])
        if y.size:
            self._launch("put_plane", y, -(-planes // 8), y, self._index(index), x, planes, math.prod(size), outputs)
        return x

    def scatter_add(self, values: Array, index: Array, length: int) -> Array:
        check_scatter(values, index, length)
        (values,) = self._inputs("scatter_add", values)
        out = self._empty((length, *values.shape[1:]), values.dtype)
        if out.size:
            width = math.prod(values.shape[1:])
            self._launch(
                "scatter_add", values, -(-length // 8), values, self._index(index), out, length, len(values), width
            )
        return out
