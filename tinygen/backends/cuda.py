"""The CUDA backend: the kernel table on CuPy arrays, computed by the kernels of csrc/cuda.

`Cuda` holds the table's functions; it knows an array library `xp` and a launcher, no more. `load()` gives it CuPy and
the kernels that CuPy compiles at first use; `emulated.load()` gives it NumPy and the same .cu files compiled by g++. So
all that is here runs, and is tested, on a machine without a GPU.

Results are reproducible: no kernel adds with atomics, a sum that is shared out is gathered in a fixed order. Products
are computed in full precision unless `set_float32_matmul_precision` says otherwise. Deliberately absent: cuBLAS, cuDNN
and cuRAND, which cannot be captured into a graph through CuPy, and any fallback.
"""

from __future__ import annotations

import math
import os
import re
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from . import float32_matmul_precision, gather
from .geometry import Geometry, Pieces, Shape, Taps, extents

Array = Any

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_SLABS = 1 << 24  # the most numbers that a product whose k is shared out may keep for its second pass
# The part of a product that one block computes, rows by columns, and its threads.
TILES = {
    "1": ((1, 256), 256), "8": ((8, 256), 256), "sums": ((1, 4), 256), "64": ((64, 64), 128), "128": ((128, 128), 256),
}  # fmt: skip


# The sources ----------------------------------------------------------------------------------------------------------


def folder() -> Path:
    """Where the .cu files are: inside the package where it was installed, beside it in a clone."""
    package = Path(__file__).resolve().parents[1]
    for place in (package / "csrc" / "cuda", package.parent / "csrc" / "cuda"):
        if (place / "device.h").is_file():
            return place
    raise ImportError(f"the CUDA sources are neither in {package} nor beside it; install tinygen from a wheel")


@cache
def kernel_files() -> dict[str, str]:
    """The .cu file that defines each kernel: KERNEL(threads, name, ...) or a macro like it."""
    return {
        name: path.name
        for path in sorted(folder().glob("*.cu"))
        for name in re.findall(r"^[A-Z]*_?KERNEL(?:_WITH)?\((?:\d+, |[A-Z]+, )+(\w+)", path.read_text(), re.MULTILINE)
    }


def source(name: str) -> str:
    """A .cu file with its headers in it: the key of CuPy's cache of compiled kernels does not see included files.

    Errors of the compiler, profilers and compute-sanitizer name file and line as they are in the folder.
    """
    seen = {"cudacpu.h"}

    def expand(file: str) -> list[str]:
        seen.add(file)
        lines = [f'#line 1 "{file}"']
        for number, line in enumerate((folder() / file).read_text().splitlines(), 1):
            included = re.fullmatch(r'#include "([\w/]+\.h)"', line)
            if included and included[1] not in seen:
                lines += [*expand(included[1]), f'#line {number + 1} "{file}"']
            else:
                lines.append("" if included or line == "#pragma once" else line)
        return lines

    return "\n".join(expand(name)) + "\n"


def _single() -> str:
    """The engine for float32 products of precision "highest", TINYGEN_CUDA_FLOAT32 or else "simt".

    "simt" are the ordinary units; "tf32x3", three products on tensor cores for each, is as accurate, but makes NaN of
    infinity. No GPU has said yet which is faster; benchmarks.gpu_check does.
    """
    name = os.environ.get("TINYGEN_CUDA_FLOAT32") or "simt"
    if name not in ("simt", "tf32x3"):
        raise ValueError(f"TINYGEN_CUDA_FLOAT32={name!r} is neither simt nor tf32x3")
    return name


class Launcher(Protocol):
    """What runs kernels: CuPy or the emulator."""

    processors: int  # multiprocessors of the GPU: how many blocks keep it busy
    tensor_cores: bool  # with tf32 and bf16

    def launch(self, kernel: str, double: bool, blocks: int, threads: int, arguments: tuple) -> None: ...
    def upload(self, array: np.ndarray) -> Array: ...  # a constant, to the device
    def empty(self, shape: Shape, dtype: Any) -> Array: ...  # where a kernel writes its result
    def capture(self, function: Callable) -> tuple[Any, Callable]: ...  # its result, and what launches it again


class _CupyLauncher:
    """Compiles a .cu file once per number type, at the first launch of one of its kernels."""

    def __init__(self, cupy: Any) -> None:
        self.cupy = cupy
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        self.processors = properties["multiProcessorCount"]
        self.tensor_cores = properties["major"] >= 8
        self.empty = cupy.empty
        self._left: list[Any] = []  # the memory of graphs that are gone
        self._module = cache(self._compile)
        self._function = cache(lambda kernel, double: self._module(kernel_files()[kernel], double).get_function(kernel))

    def _compile(self, file: str, double: bool) -> Any:
        return self.cupy.RawModule(code=source(file), options=OPTIONS + (("-DDOUBLE",) if double else ()))

    def launch(self, kernel: str, double: bool, blocks: int, threads: int, arguments: tuple) -> None:
        self._function(kernel, double)((blocks,), (threads,), tuple(0 if a is None else a for a in arguments))

    def upload(self, array: np.ndarray) -> Array:
        return self.cupy.asarray(array)

    def capture(self, function: Callable) -> tuple[Any, Callable]:
        """The work of function() as a CUDA graph with memory of its own, launched on the then current stream."""
        cupy = self.cupy
        self._give_back()
        stream, pool = cupy.cuda.Stream(non_blocking=True), cupy.cuda.MemoryPool()
        with cupy.cuda.using_allocator(pool.malloc), stream:
            stream.begin_capture()
            try:
                result = function()
            except BaseException:
                with suppress(Exception):  # the capture is already invalid: its own error says less than this one
                    stream.end_capture()
                self._left.append(pool)
                raise
            graph = stream.end_capture()
        graph.upload(cupy.cuda.get_current_stream())

        def launch() -> None:
            graph.launch(cupy.cuda.get_current_stream())

        weakref.finalize(launch, self._left.append, pool).atexit = False  # the memory lives as long as the graph
        return result, launch

    def _give_back(self) -> None:
        """The memory of graphs that are gone goes to the driver; a pool of CuPy's that is dropped keeps its blocks.

        Arrays from there, such as gradients, may live on: their blocks wait for a later call.
        """
        for pool in self._left:
            pool.free_all_blocks()
        self._left[:] = [pool for pool in self._left if pool.total_bytes()]


OPTIONS = ("--std=c++17", "-lineinfo")


# The table ------------------------------------------------------------------------------------------------------------


class Cuda:
    """The kernel table (see `Kernels` in backends/__init__.py) on one array library and one launcher."""

    def __init__(self, name: str, xp: Any, launcher: Launcher) -> None:
        self.name, self.xp, self.launcher = name, xp, launcher
        self.single = _single()  # what computes products of precision "highest"
        self.route: str | None = None  # "direct_1", "direct_8", "sums" or "simt_64", "tf32_128" ...: tests compare them
        self._plan = lru_cache(4096)(self._make_plan)
        self._taps = lru_cache(4096)(self._upload_taps)
        self.replayed = launcher.upload(np.zeros(1, np.int64))  # blocks of random numbers that graph replays have used

    # Plumbing ---------------------------------------------------------------------------------------------------------

    @staticmethod
    def _same_float(kernel: str, *arrays: Any) -> None:
        """TypeError, naming kernel and dtype, unless all (but None) share a float dtype."""
        dtype = arrays[0].dtype
        if dtype not in _FLOATS:
            raise TypeError(f"{kernel}: expected float32 or float64, got {dtype}; convert the tensor with .float()")
        for a in arrays:
            if a is not None and a.dtype != dtype:
                raise TypeError(f"{kernel}: arrays of {dtype} and {a.dtype} in one call; convert one of them")

    def _inputs(self, kernel: str, *arrays: Any) -> list[Any]:
        """The arrays (None stays None), C-contiguous and of one float dtype."""
        self._same_float(kernel, *arrays)
        ready: list[Any] = []
        for a in arrays:
            if a is not None and (not isinstance(a, self.xp.ndarray) or not a.flags.c_contiguous):
                a = self.xp.ascontiguousarray(self.xp.asarray(a)).reshape(a.shape)
            ready.append(a)
        return ready

    def _empty(self, shape: Shape, dtype: Any) -> Array:
        return self.launcher.empty(shape, dtype)

    @staticmethod
    def _in_place(kernel: str, *arrays: Array | None) -> None:
        """Refuses arrays that an update in place could not reach: it would change a copy."""
        for a in arrays:
            if a is not None and not a.flags.c_contiguous:
                raise ValueError(f"{kernel}: an update in place needs contiguous arrays, got strides {a.strides}")

    def _result(self, kernel: str, x: Array, out: Array | None) -> Array:
        """`out`, if it was given, or else a new array like x."""
        if out is None:
            return self._empty(x.shape, x.dtype)
        self._in_place(kernel, out)
        if out.shape != x.shape or out.dtype != x.dtype:
            raise ValueError(f"{kernel}: out is {out.shape} {out.dtype}, the result {x.shape} {x.dtype}")
        return out

    def _launch(self, kernel: str, like: Array, blocks: int, *arguments: Any, threads: int = 256) -> None:
        if blocks > 0:
            self.launcher.launch(kernel, like.dtype == np.float64, blocks, threads, arguments)

    def _each(self, kernel: str, count: int, like: Array, *arguments: Any) -> None:
        """A kernel whose threads share out `count` items, the last argument but those given here."""
        blocks = min(-(-count // 256), 32 * self.launcher.processors)
        self._launch(kernel, like, blocks, *arguments, count)

    # Products: convolution, its adjoints, matrices --------------------------------------------------------------------

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
        x, y = self._inputs("conv_weight", x, y)
        w = self._empty(geo.w_shape, x.dtype)
        if geo.is_dense:
            n, k, size = geo.x_shape[0], geo.w_shape[0], math.prod(geo.w_shape[1:])
            self._matrices(y, x, w, (k, n, size, 1), (0, 1, k), (0, size, 1))
        else:
            self._product("conv_weight", x, geo)(y, x, w, None)
        return w

    def matmul(self, a: Array, b: Array) -> Array:
        self._same_float("matmul", a, b)
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
        self._same_float("linear", x, w, bias)
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

    # Planes -----------------------------------------------------------------------------------------------------------

    def _upload_taps(self, taps: Taps) -> tuple:  # by identity: a Taps object is a constant
        upload = self.launcher.upload
        index = upload(np.ascontiguousarray(taps.index, np.int32))
        return index, {np.dtype(t): upload(np.ascontiguousarray(taps.weight, t)) for t in (np.float32, np.float64)}

    def resample(self, x: Array, rows: Taps, cols: Taps) -> Array:
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
        (x,) = self._inputs("max_pool", x)
        shape = (*x.shape[:2], len(rows.index), len(cols.index))
        values, winners = self._empty(shape, x.dtype), self._empty(shape, np.int64)
        row, column = self._taps(rows)[0], self._taps(cols)[0]
        self._each(
            "max_pool", values.size, x, x, row, row.shape[1], column, column.shape[1], values, winners, *x.shape[2:],
            *shape[2:],
        )  # fmt: skip
        return values, winners

    def _index(self, index: Array) -> Array:
        return self.xp.ascontiguousarray(index.astype(np.int64, copy=False))

    def take_plane(self, x: Array, index: Array) -> Array:
        (x,) = self._inputs("take_plane", x)
        y = self._empty(index.shape, x.dtype)
        size, outputs = math.prod(x.shape[2:]), math.prod(index.shape[2:])
        self._each("take_plane", y.size, x, x, self._index(index), y, size, outputs)
        return y

    def put_plane(self, y: Array, index: Array, size: tuple[int, int]) -> Array:
        (y,) = self._inputs("put_plane", y)
        x = self.xp.zeros((*y.shape[:2], *size), y.dtype)
        planes, outputs = math.prod(y.shape[:2]), math.prod(y.shape[2:])
        if y.size:
            self._launch("put_plane", y, -(-planes // 8), y, self._index(index), x, planes, math.prod(size), outputs)
        return x

    def scatter_add(self, values: Array, index: Array, length: int) -> Array:
        (values,) = self._inputs("scatter_add", values)
        out = self._empty((length, *values.shape[1:]), values.dtype)
        if out.size:
            width = math.prod(values.shape[1:])
            self._launch(
                "scatter_add", values, -(-length // 8), values, self._index(index), out, length, len(values), width
            )
        return out

    # Sums and losses ---------------------------------------------------------------------------------------------

    def _finish(self, pieces: Array, y: Array, scale: float) -> Array:
        """y = scale * the sum of each row of `pieces` (outputs, parts)."""
        outputs, parts = y.size, pieces.size // max(1, y.size)
        team = 256 if parts > 64 else 32
        self._launch("sum_pieces", y, -(-outputs // (256 // team)), pieces, y, float(scale), outputs, parts, team)
        return y

    def sum(self, x: Array, axes: tuple[int, ...], scale: float = 1.0) -> Array:
        (x,) = self._inputs("sum", x)
        lengths, shape = extents(x.shape, axes)
        if x.size == 0:
            return self.xp.full(shape, scale * 0.0, x.dtype)
        if len(lengths) > 4:  # more than two separate runs of reduced axes
            return self.sum(self.sum(x, axes[-1:]), axes[:-1], scale)
        r0, k0, r1, k1 = lengths
        if r1 == k1 == 1:  # columns of a matrix, which neighbouring threads should read side by side
            r0, k0, r1, k1 = 1, 1, r0, k0
        y = self._empty(shape, x.dtype)
        items, busy = r0 * r1, 4 * self.launcher.processors
        if k1 == 1:
            team = 32 if items <= 1024 else 256
            parts = max(1, min(busy // k0, items // 4096))
            pieces = self._empty((y.size, parts), np.float64)
            blocks = -(-k0 * parts // (256 // team))
            self._launch("sum_rows", x, blocks, x, pieces, r0, k0, r1, parts, team)
        else:
            tiles = -(-k0 * k1 // 256)
            parts = max(1, min(busy // tiles, items // 32))
            pieces = self._empty((y.size, parts), np.float64)
            self._launch("sum_columns", x, tiles * parts, x, pieces, r0, k0, r1, k1, parts)
        return self._finish(pieces, y, scale)

    def _loss(self, kernel: str, x: Array, target: Array, scale: float, slope: bool) -> tuple[Array, Array | None]:
        x, target = self._inputs(kernel, x, target)
        y, derivative = self._empty((), x.dtype), self._empty(x.shape, x.dtype) if slope else None
        blocks = max(1, min(-(-x.size // 1024), 4 * self.launcher.processors))
        pieces = self._empty((blocks,), np.float64)
        self._launch(kernel, x, blocks, x, target, derivative, pieces, float(scale), x.size)
        return self._finish(pieces, y, scale), derivative

    def squared_error(self, x: Array, target: Array, scale: float, slope: bool) -> tuple[Array, Array | None]:
        return self._loss("squared_error", x, target, scale, slope)

    def bernoulli_loss(self, x: Array, target: Array, scale: float, slope: bool) -> tuple[Array, Array | None]:
        return self._loss("bernoulli_loss", x, target, scale, slope)

    def class_loss(self, x: Array, labels: Array, scale: float, slope: bool) -> tuple[Array, Array | None]:
        (x,) = self._inputs("class_loss", x)
        y, derivative = self._empty((), x.dtype), self._empty(x.shape, x.dtype) if slope else None
        pieces = self._empty(x.shape[:1], np.float64)
        self._rows("class_loss", x, x, self._index(labels), derivative, pieces, float(scale))
        return self._finish(pieces, y, scale), derivative

    # Normalisation ----------------------------------------------------------------------------------------------------

    def _parts(self, n: int, channels: int, s: int) -> int:
        """Into how many pieces a channel is cut: enough blocks to keep the GPU busy, 1024 items or more in each."""
        return max(1, min(-(-4 * self.launcher.processors // max(1, channels)), n * s // 1024, 256))

    def channel_norm(
        self, x: Array, weight: Array, bias: Array, eps: float, slope: float = 1.0, moments: Array | None = None
    ) -> tuple[Array, Array, Array]:
        x, weight, bias = self._inputs("channel_norm", x, weight, bias)
        n, channels, s = x.shape
        parts = self._parts(n, channels, s)
        y, mean, rstd = (self._empty(shape, x.dtype) for shape in (x.shape, weight.shape, weight.shape))
        sizes, blocks = (n, channels, s, parts), channels * parts
        if n * s == 0:
            return y, self.xp.full_like(mean, math.nan), self.xp.full_like(rstd, math.nan)
        if moments is None:
            pieces, statistics = parts, self._empty((channels, parts, 4), x.dtype)
            self._launch("channel_statistics", x, blocks, x, statistics, *sizes)
        else:
            pieces, statistics = moments.shape[1], moments
            if pieces > 32:  # too many for each block to go through
                of_tiles, statistics = statistics, self._empty((channels, 4), x.dtype)
                self._launch("channel_combine", x, channels, of_tiles, statistics, n * s, pieces)
                pieces = 1
        settings = float(eps), float(slope), pieces
        self._launch("channel_normalize", x, blocks, x, weight, bias, statistics, y, mean, rstd, *settings, *sizes)
        return y, mean, rstd

    def channel_norm_backward(
        self, g: Array, x: Array, weight: Array, bias: Array, mean: Array, rstd: Array, slope: float = 1.0,
        out: Array | None = None,
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        arrays = g, x, weight, bias, mean, rstd = self._inputs("channel_norm_backward", g, x, weight, bias, mean, rstd)
        n, channels, s = x.shape
        parts = self._parts(n, channels, s)
        gx = self._result("channel_norm_backward", x, out)
        gweight, gbias = self._empty(weight.shape, x.dtype), self._empty(weight.shape, x.dtype)
        sums, sizes = self._empty((channels, parts, 2), x.dtype), (n, channels, s, parts)
        if n * s == 0:
            return gx, self.xp.zeros_like(weight), self.xp.zeros_like(weight)
        blocks, settings = channels * parts, (float(slope), *sizes)
        self._launch("channel_gradient_sums", x, blocks, *arrays, sums, *settings)
        self._launch("channel_norm_gradient", x, blocks, *arrays, sums, gx, gweight, gbias, *settings)
        return gx, gweight, gbias

    def _rows(self, kernel: str, like: Array, *arguments: Any) -> None:
        """A kernel of rows.cu: 32 threads for a short row, a block for a long one."""
        length = like.shape[-1] if like.ndim else 1
        if like.size:
            rows, team = like.size // length, 32 if length <= 1024 else 256
            self._launch(kernel, like, -(-rows // (256 // team)), *arguments, rows, length, team)

    def row_norm(self, x: Array, eps: float) -> tuple[Array, Array]:
        (x,) = self._inputs("row_norm", x)
        y, rstd = self._empty(x.shape, x.dtype), self._empty(x.shape[:1], x.dtype)
        self._rows("row_norm", x, x, y, rstd, float(eps))
        return y, rstd

    def row_norm_backward(self, g: Array, y: Array, rstd: Array) -> Array:
        g, y, rstd = self._inputs("row_norm_backward", g, y, rstd)
        gx = self._empty(y.shape, y.dtype)
        self._rows("row_norm_backward", y, g, y, rstd, gx)
        return gx

    def softmax(self, x: Array) -> Array:
        (x,) = self._inputs("softmax", x)
        y = self._empty(x.shape, x.dtype)
        self._rows("softmax", x, x, y)
        return y

    def log_softmax(self, x: Array) -> Array:
        (x,) = self._inputs("log_softmax", x)
        y = self._empty(x.shape, x.dtype)
        self._rows("log_softmax", x, x, y)
        return y

    # Pointwise --------------------------------------------------------------------------------------------------------

    def _unary(self, kernel: str, x: Array, *settings: Any) -> Array:
        (x,) = self._inputs(kernel, x)
        y = self._empty(x.shape, x.dtype)
        self._each(kernel, y.size, x, x, y, *settings)
        return y

    def _gradient(
        self, kernel: str, g: Array, *operands: Array, settings: tuple[Any, ...] = (), out: Array | None = None
    ) -> Array:
        one = g.size > 1 and not any(g.strides)  # one value seen as an array: what a sum or a mean passes down
        if one:
            g = g[(slice(0, 1),) * g.ndim]
        g, *operands = self._inputs(kernel, g, *operands)  # type: ignore[assignment]
        gx = self._result(kernel, operands[0], out)
        self._each(kernel, gx.size, g, g, 0 if one else 1, *operands, gx, *settings)
        return gx

    def sigmoid(self, x: Array) -> Array:
        return self._unary("sigmoid", x)

    def sigmoid_backward(self, g: Array, out: Array) -> Array:
        return self._gradient("sigmoid_backward", g, out)

    def tanh(self, x: Array) -> Array:
        return self._unary("tanh_forward", x)

    def tanh_backward(self, g: Array, out: Array) -> Array:
        return self._gradient("tanh_backward", g, out)

    def leaky_relu(self, x: Array, slope: float, out: Array | None = None) -> Array:
        (x,) = self._inputs("leaky_relu", x)
        y = self._result("leaky_relu", x, out)
        self._each("leaky_relu", y.size, x, x, y, float(slope))
        return y

    def leaky_relu_backward(self, g: Array, x: Array, slope: float, out: Array | None = None) -> Array:
        return self._gradient("leaky_relu_backward", g, x, settings=(float(slope),), out=out)

    def elu(self, x: Array, alpha: float, scale: float) -> Array:
        return self._unary("elu", x, float(alpha), float(scale))

    def elu_backward(self, g: Array, x: Array, alpha: float, scale: float) -> Array:
        return self._gradient("elu_backward", g, x, settings=(float(alpha), float(scale)))

    def softplus(self, x: Array) -> Array:
        return self._unary("softplus", x)

    def softplus_backward(self, g: Array, x: Array) -> Array:
        return self._gradient("softplus_backward", g, x)

    def silu(self, x: Array) -> Array:
        return self._unary("silu", x)

    def silu_backward(self, g: Array, x: Array) -> Array:
        return self._gradient("silu_backward", g, x)

    def gelu(self, x: Array, tanh: bool) -> Array:
        return self._unary("gelu", x, int(tanh))

    def gelu_backward(self, g: Array, x: Array, tanh: bool) -> Array:
        return self._gradient("gelu_backward", g, x, settings=(int(tanh),))

    def erf(self, x: Array) -> Array:
        return self._unary("erf_forward", x)

    def bce_with_logits(self, x: Array, target: Array) -> Array:
        x, target = self._inputs("bce_with_logits", x, target)
        y = self._empty(x.shape, x.dtype)
        self._each("bce_with_logits", y.size, x, x, target, y)
        return y

    def bce_with_logits_backward(self, g: Array, x: Array, target: Array) -> Array:
        return self._gradient("bce_with_logits_backward", g, x, target)

    # Optimizer steps --------------------------------------------------------------------------------------------------

    def _joined(self, kernel: str, g: Pieces, p: Array) -> Array:
        """The pieces side by side as p is, eight to a launch; a single one that is all of p stays where it is."""
        arrays = self._inputs(kernel, p, *g.arrays)[1:]
        if len(arrays) == 1 and arrays[0].size == p.size:
            return arrays[0]
        ends = [0, *(start + a.size for a, start in zip(arrays, g.starts, strict=True))]
        if any(start < end for start, end in zip([*g.starts, p.size], ends, strict=True)):
            raise ValueError(f"{kernel}: g: the pieces should lie side by side within p")
        flat = self.xp.zeros(p.shape, p.dtype)
        for i in range(0, len(arrays), 8):
            eight = [x for a, start in zip(arrays[i : i + 8], g.starts[i : i + 8]) for x in (a, start, a.size)]
            blocks = min(-(-max(a.size for a in arrays[i : i + 8]) // 256), 32 * self.launcher.processors)
            self._launch("join_pieces", p, blocks, flat, *eight, *[None, 0, 0] * (8 - len(eight) // 3))
        return flat

    def sgd_step(
        self, p: Array, g: Pieces, buffer: Array | None, lr: Array, step: Array,
        momentum: float, dampening: float, weight_decay: float, nesterov: bool,
    ) -> None:  # fmt: skip
        self._in_place("sgd_step", p, buffer)
        p, buffer = self._inputs("sgd_step", p, buffer)
        settings = float(momentum), float(dampening), float(weight_decay), int(nesterov)
        self._each("sgd_step", p.size, p, p, self._joined("sgd_step", g, p), buffer, lr, step, *settings)

    def adam_step(
        self, p: Array, g: Pieces, m: Array, v: Array, lr: Array, step: Array,
        beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool,
    ) -> None:  # fmt: skip
        self._in_place("adam_step", p, m, v)
        p, m, v = self._inputs("adam_step", p, m, v)
        settings = float(beta1), float(beta2), float(eps), float(weight_decay), int(decoupled)
        self._each("adam_step", p.size, p, p, self._joined("adam_step", g, p), m, v, lr, step, *settings)

    def rmsprop_step(
        self, p: Array, g: Pieces, v: Array, buffer: Array | None, mean: Array | None, lr: Array,
        alpha: float, eps: float, weight_decay: float, momentum: float,
    ) -> None:  # fmt: skip
        self._in_place("rmsprop_step", p, v, buffer, mean)
        p, v, buffer, mean = self._inputs("rmsprop_step", p, v, buffer, mean)
        settings = float(alpha), float(eps), float(weight_decay), float(momentum)
        self._each("rmsprop_step", p.size, p, p, self._joined("rmsprop_step", g, p), v, buffer, mean, lr, *settings)

    # Random numbers ---------------------------------------------------------------------------------------------------

    def _random(self, kernel: str, seed: int, stream: int, offset: int, out: Array, per_block: int) -> Array:
        seed, offset = (int(np.uint64(int(v) % 2**64).view(np.int64)) for v in (seed, offset))
        blocks = -(-out.size // per_block)
        self._each(kernel, blocks, out, seed, int(stream) % 2**32, offset, self.replayed, out, out.size)
        return out

    def random_bits(self, seed: int, stream: int, offset: int, count: int) -> Array:
        return self._random("random_bits", seed, stream, offset, self._empty((count,), np.uint32), 4)

    def _numbers(self, kernel: str, seed: int, stream: int, offset: int, shape: Shape, dtype: Any) -> Array:
        dtype = np.dtype(dtype)
        if dtype not in _FLOATS:
            raise TypeError(f"{kernel}: expected float32 or float64, got {dtype}")
        return self._random(kernel, seed, stream, offset, self._empty(shape, dtype), 16 // dtype.itemsize)

    def random_uniform(self, seed: int, stream: int, offset: int, shape: Shape, dtype: Any) -> Array:
        return self._numbers("random_uniform", seed, stream, offset, shape, dtype)

    def random_normal(self, seed: int, stream: int, offset: int, shape: Shape, dtype: Any) -> Array:
        return self._numbers("random_normal", seed, stream, offset, shape, dtype)


def load() -> Cuda:
    """The table on CuPy; ImportError, naming the extra to install, without CuPy or a GPU that works."""
    try:
        import cupy
    except ImportError as error:
        raise ImportError("CuPy is not installed") from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise ImportError(f"CuPy {cupy.__version__} finds no usable GPU or driver ({error})") from error
    if not count:
        raise ImportError(f"CuPy {cupy.__version__} finds no GPU")
    return Cuda("cuda", cupy, _CupyLauncher(cupy))
