"""Convolution, its two adjoints and matrix products: one gather form, with tables made once per geometry (gather.py).

A plan is made at the first call of a shape: it chooses the kernel ("route"), how many blocks share out a sum, and
uploads the tables. csrc/cuda/gather.h states the form, TUNING.md what the choices stand on.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from .. import float32_matmul_precision
from ..arrays import Array, check_conv, check_floats, check_linear, check_matmul, check_shape
from ..geometry import Geometry, Shape
from . import gather
from .launcher import Launcher
from .table import Table

_SLABS = 1 << 24  # the most numbers that a product whose k is shared out may keep for its second pass
# The part of a product that one block computes, rows by columns, and its threads.
TILES = {
    "1": ((1, 256), 256), "8": ((8, 256), 256), "sums": ((1, 4), 256), "64": ((64, 64), 128), "128": ((128, 128), 256),
}  # fmt: skip


def _single() -> str:
    """The engine for float32 products of precision "highest", TINYGEN_CUDA_FLOAT32 or else "simt".

    "simt" are the ordinary units; "tf32x3", three products on tensor cores for each, is as accurate, but makes NaN of
    infinity. No GPU has said yet which is faster; benchmarks.gpu_check does.
    """
    name = os.environ.get("TINYGEN_CUDA_FLOAT32") or "simt"
    if name not in ("simt", "tf32x3"):
        raise ValueError(f"TINYGEN_CUDA_FLOAT32={name!r} is neither simt nor tf32x3")
    return name


class Contraction(Table):
    """Convolution, its adjoints, matmul and linear."""

    def __init__(self, name: str, xp: Any, launcher: Launcher) -> None:
        super().__init__(name, xp, launcher)
        self.single = _single()  # what computes products of precision "highest"
        self.route: str | None = None  # "direct_1", "direct_8", "sums" or "simt_64", "tf32_128" ...: tests compare them
        self._plan = lru_cache(4096)(self._make_plan)

    def _make_plan(self, kind: str, double: bool, engine: str, route: str | None, *shape: Any) -> Callable:
        """A function (a, b, c, bias) that computes one product, with its tables on the device."""
        makers: dict[str, Callable] = {
            "conv": lambda geo: gather.convolution(geo, weight=False),
            "conv_weight": lambda geo: gather.convolution(geo, weight=True),
            "conv_transpose": gather.transposed,
            "matmul": gather.matrices,
        }
        tables = makers[kind](*shape)
        route = route or self._route(kind, tables, double, engine)
        tile, threads = TILES[route.split("_")[-1]]
        threads = 256 if "simt" in route else threads
        kernel = f"gather_{route}"
        if route not in ("direct_1", "direct_8", "sums"):
            kernel = f"gemm_{route}" + ("_k" if tables.b_k_fast else "_m" if tables.a_m_fast else "")
        m_tiles, j_tiles = -(-tables.rows // tile[0]), -(-tables.columns // tile[1])
        cells = m_tiles * j_tiles * len(tables.phases) * tables.groups
        splits = 1 if "direct" in route else self._splits(tables, cells, 4096 if route == "sums" else 256)
        blocks, t, upload = cells * splits, tables, self.launcher.upload
        a_k, b_k, b_j, c_j, phases = (upload(x) for x in (t.a_k, t.b_k, t.b_j, t.c_j, t.phases))

        def run(
            a: Array, b: Array, c: Array, bias: Array | None, bias_inner: int = 0, slope: float = 1.0,
            moments: bool = False,
        ) -> Array | None:  # fmt: skip
            of_tiles = None
            if splits > 1:  # bias, activation and sums of channels come behind the second pass
                slabs = self._empty((splits * c.size,), c.dtype)
                target, last = slabs, (splits, c.size, None, 0, 1.0, None)
            else:
                if moments and kernel.startswith("gemm"):
                    pieces = 1 if "simt" in kernel else tile[1] // 32  # of a row of a tile: one for each warp
                    of_tiles = self._empty((t.groups * t.rows, len(t.phases) * j_tiles * pieces, 4), c.dtype)
                target, last = c, (1, 0, bias, bias_inner, slope, of_tiles)
            self._launch(
                kernel, c, blocks, a, t.a_row, a_k, b, b_k, b_j, target, t.c_row, c_j, phases, len(t.phases), t.rows,
                j_tiles, t.limit, t.signs, t.groups, t.a_group, t.b_group, t.c_group, *last, threads=threads,
            )  # fmt: skip
            if splits > 1:  # channel of a number i of the result: i // inner % channels
                inner, channels = t.c_row, t.rows * t.groups
                if bias_inner:
                    inner, channels = bias_inner, t.columns // bias_inner
                grid = min(-(-c.size // 256), 32 * self.launcher.processors)
                self._launch("sum_slabs", c, grid, slabs, c, c.size, splits, bias, inner, channels, slope)
            return of_tiles

        return run

    def _splits(self, t: gather.Gather, blocks: int, least: int) -> int:
        """How many blocks share out the k of one tile: as many as keep the GPU busy, `least` k or more for each."""
        busy = 2 * self.launcher.processors
        if blocks >= busy // 2:
            return 1
        results = t.rows * t.columns * len(t.phases) * t.groups
        return max(1, min(-(-busy // max(1, blocks)), t.count // least, _SLABS // max(1, results)))

    def _route(self, kind: str, t: gather.Gather, double: bool, engine: str) -> str:
        """The kernel for a product: without tiles where a tile would be mostly empty, else the engine and its tile."""
        if kind in ("conv", "conv_transpose") and (t.rows <= 8 or t.count <= 40):
            return "direct_1" if t.rows <= 2 else "direct_8"
        if kind == "conv_weight" and t.rows * t.columns <= 128:
            return "sums"
        if double or not self.launcher.tensor_cores:
            engine = "simt"
        blocks = -(-t.rows // 128) * -(-t.columns // 128) * len(t.phases) * t.groups
        large = blocks >= self.launcher.processors and t.rows > 64 and t.columns > 64 and not double
        return f"{engine}_{128 if large else 64}"

    def _product(self, kind: str, like: Array, *shape: Any) -> Callable:
        engine = {"highest": self.single, "high": "tf32", "medium": "bf16"}[float32_matmul_precision()]
        return self._plan(kind, like.dtype == np.float64, engine, self.route, *shape)

    def _matrices(
        self, a: Array, b: Array, c: Array, sizes: tuple, a_steps: tuple, b_steps: tuple,
        bias: Array | None = None, bias_inner: int = 0, slope: float = 1.0,
    ) -> None:  # fmt: skip
        """c (batch, m, n) = a @ b; sizes (m, k, n, batch), distances along batch, row and column; see gather.h."""
        self._product("matmul", c, *sizes, a_steps, b_steps)(a, b, c, bias, bias_inner, float(slope))

    def conv(self, x: Array, w: Array, geo: Geometry, bias: Array | None = None, slope: float = 1.0) -> Array:
        return self._conv(x, w, geo, bias, slope, False)[0]

    def conv_moments(
        self, x: Array, w: Array, geo: Geometry, bias: Array | None = None, slope: float = 1.0
    ) -> tuple[Array, Array | None]:
        return self._conv(x, w, geo, bias, slope, True)

    def _conv(
        self, x: Array, w: Array, geo: Geometry, bias: Array | None, slope: float, moments: bool
    ) -> tuple[Array, Array | None]:
        check_conv("conv", geo, x, w, None)
        check_shape("conv", "bias", bias, geo.w_shape[:1])
        x, w, bias = self._inputs("conv", x, w, bias)
        y, sums = self._empty(geo.y_shape, x.dtype), None
        if geo.is_dense:
            n, k, size = geo.x_shape[0], geo.w_shape[0], math.prod(geo.w_shape[1:])
            self._matrices(x, w, y, (n, size, k, 1), (0, size, 1), (0, 1, size), bias, 1, slope)
        else:
            sums = self._product("conv", x, geo)(w, x, y, bias, 0, float(slope), moments)
        return y, sums

    def conv_transpose(self, y: Array, w: Array, geo: Geometry, bias: Array | None = None, slope: float = 1.0) -> Array:
        return self._conv_transpose(y, w, geo, bias, slope, False)[0]

    def conv_transpose_moments(
        self, y: Array, w: Array, geo: Geometry, bias: Array | None = None, slope: float = 1.0
    ) -> tuple[Array, Array | None]:
        return self._conv_transpose(y, w, geo, bias, slope, True)

    def _conv_transpose(
        self, y: Array, w: Array, geo: Geometry, bias: Array | None, slope: float, moments: bool
    ) -> tuple[Array, Array | None]:
        check_conv("conv_transpose", geo, None, w, y)
        check_shape("conv_transpose", "bias", bias, geo.x_shape[1:2])
        y, w, bias = self._inputs("conv_transpose", y, w, bias)
        x, sums = self._empty(geo.x_shape, y.dtype), None
        if geo.is_dense:
            n, k, size = geo.x_shape[0], geo.w_shape[0], math.prod(geo.w_shape[1:])
            plane = geo.x_shape[2] * geo.x_shape[3]
            self._matrices(y, w, x, (n, k, size, 1), (0, k, 1), (0, size, 1), bias, plane, slope)
        else:
            sums = self._product("conv_transpose", y, geo)(w, y, x, bias, 0, float(slope), moments)
        return x, sums

    def conv_weight(self, x: Array, y: Array, geo: Geometry) -> Array:
        check_conv("conv_weight", geo, x, None, y)
        x, y = self._inputs("conv_weight", x, y)
        w = self._empty(geo.w_shape, x.dtype)
        if geo.is_dense:
            n, k, size = geo.x_shape[0], geo.w_shape[0], math.prod(geo.w_shape[1:])
            self._matrices(y, x, w, (k, n, size, 1), (0, 1, k), (0, size, 1))
        else:
            self._product("conv_weight", x, geo)(y, x, w, None)
        return w

    def matmul(self, a: Array, b: Array) -> Array:
        check_matmul(a, b)
        check_floats("matmul", a, b)
        if a.shape[-1] != b.shape[-2]:
            raise ValueError(f"matmul: the shapes of the arrays do not fit together: {a.shape} and {b.shape}")
        batch, (m, k), n = np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2:], b.shape[-1]
        c = self._empty((*batch, m, n), a.dtype)
        if b.ndim == 2 and batch:  # one matrix for all: the batch becomes rows
            a, m, count = a.reshape(math.prod(batch) * m, k), math.prod(batch) * m, 1
        else:
            count = math.prod(batch)
            a, b = (self._batched(x, batch, count) for x in (a, b))
        self._matrices(a, b, c, (m, k, n, count), self._steps(a), self._steps(b))
        return c

    def linear(self, x: Array, w: Array, bias: Array | None = None, slope: float = 1.0) -> Array:
        check_linear(x, w, bias)
        check_floats("linear", x, w, bias)
        (m, k), n, (_, along, down) = x.shape, len(w), self._steps(w)
        y = self._empty((m, n), x.dtype)
        if bias is not None:
            bias = self.xp.ascontiguousarray(bias)
        self._product("matmul", y, m, k, n, 1, self._steps(x), (0, down, along))(x, w, y, bias, 1, float(slope))
        return y

    def _batched(self, x: Array, batch: Shape, count: int) -> Array:
        if x.ndim > 2 and x.shape[:-2] != batch:
            x = self.xp.broadcast_to(x, (*batch, *x.shape[-2:]))
        return x.reshape(count, *x.shape[-2:]) if x.ndim > 2 else x

    @staticmethod
    def _steps(x: Array) -> tuple[int, int, int]:
        """Distances along batch (0 without one), row and column, in numbers; the kernels take any."""
        steps = tuple(s // x.itemsize for s in x.strides)
        return steps if len(steps) == 3 else (0, *steps)  # type: ignore[return-value]
