"""The C++ backend: the kernel table on NumPy arrays, computed by the extension `tinygen._cpu` (csrc/cpu).

Each function checks dtypes, makes its arrays contiguous, allocates the result and calls one C++ kernel, which releases
the GIL. The kernels exist for several instruction sets; the best one that the machine has is used unless TINYGEN_CPU
names another (baseline, avx2, avx512, or `reference` for plain NumPy). What was measured, and decides which kernel
runs, stands in csrc/cpu/TUNING.md.

Threads: `set_num_threads` sets the kernels and NumPy's BLAS together; a fixed number gives bit-identical results.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

import tinygen._cpu as _cpu  # not `from tinygen import`: where it is missing, the error must name tinygen._cpu

from ..errors import SettingError
from .arrays import FLOATS, check_floats, check_in_place, check_out, float_dtype
from .geometry import Geometry, Pieces, Shape, Taps, extents

Array = np.ndarray

name = "cpu"
xp = np


def _select_isa() -> None:
    wanted = os.environ.get("TINYGEN_CPU", "")
    if wanted == "reference":  # asked for NumPy, and imported this module all the same: a test comparing the two
        wanted = ""
    try:
        _cpu.select(wanted)
    except ValueError as error:
        legal = ", ".join(["reference", *_cpu.isas()])
        raise SettingError(f"TINYGEN_CPU={wanted!r}: {error}; this machine runs {legal} (unset: the last)") from None


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
_cpu.set_winograd(os.environ.get("TINYGEN_WINOGRAD", "1") != "0")


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
    """The number of threads of the C++ kernels."""
    return _cpu.get_num_threads()


def isa() -> str:
    """The instruction set in use: "baseline", "avx2" or "avx512"."""
    return _cpu.isa()


def sources() -> dict[str, str]:
    """Kernel name -> "csrc/cpu/kernels/file.cpp:line", where it is defined."""
    where = _cpu.sources()
    convs = {f"{kernel}_moments": where[kernel] for kernel in ("conv", "conv_transpose")}
    return {**where, **convs, "linear": where["matmul"]}


def _inputs(kernel: str, *arrays: Any) -> Sequence[Any]:
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


_empty = np.empty  # an uninitialised array for a result: every kernel allocates through here


# Convolution ----------------------------------------------------------------------------------------------------------


def _geometry(geo: Geometry) -> Any:
    """The same in C++, kept with it."""
    if name not in geo.prepared:
        shapes = geo.x_shape, geo.w_shape, geo.y_shape
        geo.prepared[name] = _cpu.Geometry(*shapes, geo.stride, geo.dilation, geo.pad, geo.groups)
    return geo.prepared[name]


def set_winograd(enabled: bool) -> None:
    """See tinygen.set_winograd."""
    if not isinstance(enabled, bool):
        raise TypeError(f"set_winograd: expected True or False, got {enabled!r}")
    _cpu.set_winograd(enabled)


def get_winograd() -> bool:
    return _cpu.get_winograd()


def _as_matrices(*arrays: Array) -> list[Array]:
    return [a.reshape(len(a), math.prod(a.shape[1:])) for a in arrays]


def conv(x: Array, w: Array, geo: Geometry, bias: Array | None = None, slope: float = 1.0) -> Array:
    x, w, bias = _inputs("conv", x, w, bias)
    y = _empty(geo.y_shape, x.dtype)
    if geo.is_dense:
        mx, mw, my = _as_matrices(x, w, y)
        _cpu.matmul(mx, mw.T, bias, slope, my)
    else:
        _cpu.conv(_geometry(geo), x, w, bias, y)
    return y if slope == 1 or geo.is_dense else leaky_relu(y, slope, y)


def conv_transpose(y: Array, w: Array, geo: Geometry, bias: Array | None = None, slope: float = 1.0) -> Array:
    y, w, bias = _inputs("conv_transpose", y, w, bias)
    x = _empty(geo.x_shape, y.dtype)
    if geo.is_dense:
        mx, mw, my = _as_matrices(x, w, y)
        _cpu.matmul(my, mw, None if bias is None else bias.repeat(mx.shape[1] // len(bias)), slope, mx)
    else:
        _cpu.conv_transpose(_geometry(geo), y, w, bias, x)
    return x if slope == 1 or geo.is_dense else leaky_relu(x, slope, x)


def conv_weight(x: Array, y: Array, geo: Geometry) -> Array:
    x, y = _inputs("conv_weight", x, y)
    w = _empty(geo.w_shape, x.dtype)
    if geo.is_dense:
        mx, mw, my = _as_matrices(x, w, y)
        _cpu.matmul(my.T, mx, None, 1.0, mw)
    else:
        _cpu.conv_weight(_geometry(geo), x, y, w)
    return w


def conv_moments(
    x: Array, w: Array, geo: Geometry, bias: Array | None = None, slope: float = 1.0
) -> tuple[Array, Array | None]:
    return conv(x, w, geo, bias, slope), None  # channel_norm finds the result in the cache


def conv_transpose_moments(
    y: Array, w: Array, geo: Geometry, bias: Array | None = None, slope: float = 1.0
) -> tuple[Array, Array | None]:
    return conv_transpose(y, w, geo, bias, slope), None


# Products -------------------------------------------------------------------------------------------------------------


def matmul(a: Array, b: Array) -> Array:
    shape = (*a.shape[:-1], b.shape[-1])
    if a.ndim > 2 or b.ndim > 2:
        shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), *shape[-2:])
    c = _empty(shape, a.dtype)
    _cpu.matmul(a, b, None, 1.0, c)
    return c


def linear(x: Array, w: Array, bias: Array | None = None, slope: float = 1.0) -> Array:
    y = _empty((len(x), len(w)), x.dtype)
    _cpu.matmul(x, w.T, bias, slope, y)
    return y


# Planes ---------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _taps(taps: Taps) -> Any:  # by identity: a Taps object is a constant
    index, weight = np.ascontiguousarray(taps.index, np.int64), np.ascontiguousarray(taps.weight, np.float64)
    return _cpu.Taps(index, weight, taps.size)


def _index(index: Array) -> Array:
    return np.ascontiguousarray(index, np.int64)


def resample(x: Array, rows: Taps, cols: Taps) -> Array:
    (x,) = _inputs("resample", x)
    y = _empty((*x.shape[:2], len(rows.index), len(cols.index)), x.dtype)
    _cpu.resample(x, _taps(rows), _taps(cols), y)
    return y


def max_pool(x: Array, rows: Taps, cols: Taps) -> tuple[Array, Array]:
    (x,) = _inputs("max_pool", x)
    shape = (*x.shape[:2], len(rows.index), len(cols.index))
    values, winners = _empty(shape, x.dtype), _empty(shape, np.int64)
    _cpu.max_pool(x, _taps(rows), _taps(cols), values, winners)
    return values, winners


def take_plane(x: Array, index: Array) -> Array:
    (x,) = _inputs("take_plane", x)
    y = _empty(index.shape, x.dtype)
    _cpu.take_plane(x, _index(index), y)
    return y


def put_plane(y: Array, index: Array, size: tuple[int, int]) -> Array:
    (y,) = _inputs("put_plane", y)
    x = _empty((*y.shape[:2], *size), y.dtype)
    _cpu.put_plane(y, _index(index), x)
    return x


def scatter_add(values: Array, index: Array, length: int) -> Array:
    (values,) = _inputs("scatter_add", values)
    out = _empty((length, *values.shape[1:]), values.dtype)
    _cpu.scatter_add(values, _index(index), out, math.prod(values.shape[1:]))
    return out


# Sums and losses ------------------------------------------------------------------------------------------------------


def sum(x: Array, axes: tuple[int, ...], scale: float = 1.0) -> Array:
    (x,) = _inputs("sum", x)
    lengths, shape = extents(x.shape, axes)
    if x.size == 0:
        return np.full(shape, scale * 0.0, x.dtype)
    if len(lengths) > 4:  # more than two separate runs of reduced axes
        return sum(sum(x, axes[-1:]), axes[:-1], scale)
    y = _empty(shape, x.dtype)
    _cpu.sum(x, lengths, scale, y)
    return y


def _loss(name: str, x: Array, target: Array, scale: float, slope: bool) -> tuple[Array, Array | None]:
    y, derivative = _empty((), x.dtype), _empty(x.shape, x.dtype) if slope else None
    getattr(_cpu, name)(x, target, scale, y, derivative)
    return y, derivative


def squared_error(x: Array, target: Array, scale: float, slope: bool) -> tuple[Array, Array | None]:
    x, target = _inputs("squared_error", x, target)
    return _loss("squared_error", x, target, scale, slope)


def bernoulli_loss(x: Array, target: Array, scale: float, slope: bool) -> tuple[Array, Array | None]:
    x, target = _inputs("bernoulli_loss", x, target)
    return _loss("bernoulli_loss", x, target, scale, slope)


def class_loss(x: Array, labels: Array, scale: float, slope: bool) -> tuple[Array, Array | None]:
    (x,) = _inputs("class_loss", x)
    return _loss("class_loss", x, _index(labels), scale, slope)


# Normalisation --------------------------------------------------------------------------------------------------------


def channel_norm(
    x: Array, weight: Array, bias: Array, eps: float, slope: float = 1.0, moments: Array | None = None
) -> tuple[Array, Array, Array]:
    x, weight, bias = _inputs("channel_norm", x, weight, bias)
    y, mean, rstd = _empty(x.shape, x.dtype), _empty(weight.shape, x.dtype), _empty(weight.shape, x.dtype)
    _cpu.channel_norm(x, weight, bias, eps, slope, y, mean, rstd)
    return y, mean, rstd


def channel_norm_backward(
    g: Array, x: Array, weight: Array, bias: Array, mean: Array, rstd: Array, slope: float = 1.0,
    out: Array | None = None,
) -> tuple[Array, Array, Array]:  # fmt: skip
    g, x, weight, bias, mean, rstd = _inputs("channel_norm_backward", g, x, weight, bias, mean, rstd)
    gx = _result("channel_norm_backward", x, out)
    gweight, gbias = _empty(weight.shape, x.dtype), _empty(weight.shape, x.dtype)
    _cpu.channel_norm_backward(g, x, weight, bias, mean, rstd, slope, gx, gweight, gbias)
    return gx, gweight, gbias


def row_norm(x: Array, eps: float) -> tuple[Array, Array]:
    (x,) = _inputs("row_norm", x)
    y, rstd = _empty(x.shape, x.dtype), _empty(x.shape[:1], x.dtype)
    _cpu.row_norm(x, eps, y, rstd)
    return y, rstd


def row_norm_backward(g: Array, y: Array, rstd: Array) -> Array:
    g, y, rstd = _inputs("row_norm_backward", g, y, rstd)
    gx = _empty(y.shape, y.dtype)
    _cpu.row_norm_backward(g, y, rstd, gx)
    return gx


def _along_rows(name: str, x: Array) -> Array:
    (x,) = _inputs(name, x)
    y = _empty(x.shape, x.dtype)
    if x.size:
        getattr(_cpu, name)(x, y)
    return y


def softmax(x: Array) -> Array:
    return _along_rows("softmax", x)


def log_softmax(x: Array) -> Array:
    return _along_rows("log_softmax", x)


def _result(kernel: str, x: Array, out: Array | None) -> Array:
    """`out`, if it was given, or else a new array like x."""
    if out is None:
        return _empty(x.shape, x.dtype)
    check_out(kernel, x, out)
    return out


# Pointwise ------------------------------------------------------------------------------------------------------------


def _unary(kernel: str, x: Array, out: Array | None = None) -> tuple[Array, Array]:
    """x as a kernel wants it, and an array for the result: `out`, if it was given."""
    if type(x) is not Array or not x.flags.c_contiguous:
        (x,) = _inputs(kernel, x)
    return x, _empty(x.shape, x.dtype) if out is None else _result(kernel, x, out)


def _gradient(kernel: str, g: Array, x: Array, out: Array | None = None) -> tuple[Array, bool, Array, Array]:
    """The gradient g of a result, whether it is one value seen as an array (as a mean passes down), x, and a result."""
    one = False
    plain = type(g) is type(x) is Array and g.dtype is x.dtype
    if not (plain and g.flags.c_contiguous and x.flags.c_contiguous):
        one = g.size > 1 and not any(g.strides)
        g, x = _inputs(kernel, g[(slice(0, 1),) * g.ndim] if one else g, x)
    return g, one, x, _empty(x.shape, x.dtype) if out is None else _result(kernel, x, out)


def sigmoid(x: Array) -> Array:
    x, y = _unary("sigmoid", x)
    _cpu.sigmoid(x, y)
    return y


def sigmoid_backward(g: Array, out: Array) -> Array:
    g, one, out, gx = _gradient("sigmoid_backward", g, out)
    _cpu.sigmoid_backward(g, one, out, gx)
    return gx


def tanh(x: Array) -> Array:
    x, y = _unary("tanh", x)
    _cpu.tanh(x, y)
    return y


def tanh_backward(g: Array, out: Array) -> Array:
    g, one, out, gx = _gradient("tanh_backward", g, out)
    _cpu.tanh_backward(g, one, out, gx)
    return gx


def leaky_relu(x: Array, slope: float, out: Array | None = None) -> Array:
    x, y = _unary("leaky_relu", x, out)
    _cpu.leaky_relu(x, y, slope)
    return y


def leaky_relu_backward(g: Array, x: Array, slope: float, out: Array | None = None) -> Array:
    g, one, x, gx = _gradient("leaky_relu_backward", g, x, out)
    _cpu.leaky_relu_backward(g, one, x, gx, slope)
    return gx


def elu(x: Array, alpha: float, scale: float) -> Array:
    x, y = _unary("elu", x)
    _cpu.elu(x, y, alpha, scale)
    return y


def elu_backward(g: Array, x: Array, alpha: float, scale: float) -> Array:
    g, one, x, gx = _gradient("elu_backward", g, x)
    _cpu.elu_backward(g, one, x, gx, alpha, scale)
    return gx


def softplus(x: Array) -> Array:
    x, y = _unary("softplus", x)
    _cpu.softplus(x, y)
    return y


def softplus_backward(g: Array, x: Array) -> Array:
    g, one, x, gx = _gradient("softplus_backward", g, x)
    _cpu.softplus_backward(g, one, x, gx)
    return gx


def silu(x: Array) -> Array:
    x, y = _unary("silu", x)
    _cpu.silu(x, y)
    return y


def silu_backward(g: Array, x: Array) -> Array:
    g, one, x, gx = _gradient("silu_backward", g, x)
    _cpu.silu_backward(g, one, x, gx)
    return gx


def gelu(x: Array, tanh: bool) -> Array:
    x, y = _unary("gelu", x)
    _cpu.gelu(x, y, tanh)
    return y


def gelu_backward(g: Array, x: Array, tanh: bool) -> Array:
    g, one, x, gx = _gradient("gelu_backward", g, x)
    _cpu.gelu_backward(g, one, x, gx, tanh)
    return gx


def erf(x: Array) -> Array:
    x, y = _unary("erf", x)
    _cpu.erf(x, y)
    return y


def bce_with_logits(x: Array, target: Array) -> Array:
    x, target = _inputs("bce_with_logits", x, target)
    y = _empty(x.shape, x.dtype)
    _cpu.bce_with_logits(x, target, y)
    return y


def bce_with_logits_backward(g: Array, x: Array, target: Array) -> Array:
    g, one, x, gx = _gradient("bce_with_logits_backward", g, x)
    _cpu.bce_with_logits_backward(g, one, x, *_inputs("bce_with_logits_backward", target), gx)
    return gx


# Optimizer steps ------------------------------------------------------------------------------------------------------


def sgd_step(
    p: Array, g: Pieces, buffer: Array | None, lr: Array, step: Array,
    momentum: float, dampening: float, weight_decay: float, nesterov: bool,
) -> None:  # fmt: skip
    check_in_place("sgd_step", p, buffer)
    p, buffer, *pieces = _inputs("sgd_step", p, buffer, *g.arrays)
    _cpu.sgd_step(p, pieces, g.starts, buffer, float(lr), int(step) == 1, momentum, dampening, weight_decay, nesterov)


def adam_step(
    p: Array, g: Pieces, m: Array, v: Array, lr: Array, step: Array,
    beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool,
) -> None:  # fmt: skip
    check_in_place("adam_step", p, m, v)
    p, m, v, *pieces = _inputs("adam_step", p, m, v, *g.arrays)
    _cpu.adam_step(p, pieces, g.starts, m, v, float(lr), float(step), beta1, beta2, eps, weight_decay, decoupled)


def rmsprop_step(
    p: Array, g: Pieces, v: Array, buffer: Array | None, mean: Array | None, lr: Array,
    alpha: float, eps: float, weight_decay: float, momentum: float,
) -> None:  # fmt: skip
    check_in_place("rmsprop_step", p, v, buffer, mean)
    p, v, buffer, mean, *pieces = _inputs("rmsprop_step", p, v, buffer, mean, *g.arrays)
    _cpu.rmsprop_step(p, pieces, g.starts, v, buffer, mean, float(lr), alpha, eps, weight_decay, momentum)


# Random numbers -------------------------------------------------------------------------------------------------------

_WORD, _TWO_WORDS = (1 << 32) - 1, (1 << 64) - 1


def random_bits(seed: int, stream: int, offset: int, count: int) -> Array:
    bits = _empty((count,), np.uint32)
    _cpu.random_bits(int(seed) & _TWO_WORDS, int(stream) & _WORD, int(offset) & _TWO_WORDS, bits)
    return bits


def _random(name: str, seed: int, stream: int, offset: int, shape: Shape, dtype: Any) -> Array:
    out = _empty(shape, float_dtype(name, dtype))
    getattr(_cpu, name)(int(seed) & _TWO_WORDS, int(stream) & _WORD, int(offset) & _TWO_WORDS, out)
    return out


def random_uniform(seed: int, stream: int, offset: int, shape: Shape, dtype: Any) -> Array:
    return _random("random_uniform", seed, stream, offset, shape, dtype)


def random_normal(seed: int, stream: int, offset: int, shape: Shape, dtype: Any) -> Array:
    return _random("random_normal", seed, stream, offset, shape, dtype)
