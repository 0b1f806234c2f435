"""Pooling: the maximum, or the mean, of each window.

Average pooling is linear and separable, so it is `resample` with the window's taps (resize.py). Max pooling keeps, of
each window, the maximum and where it was; its gradient goes to that one place: the first maximum in row-major order
wins a tie, as in torch, so the sum of the gradient is preserved. `take_plane` and `put_plane` (read at, and add to,
given places of an image) are each other's adjoint, so second derivatives need nothing new.

Outputs per axis: floor((size + 2 padding - dilation (kernel - 1) - 1) / stride) + 1; with ceil_mode rounded up,
unless the last window would start beyond the input and its left padding. Padding never wins a maximum.
"""

from __future__ import annotations

import operator
from functools import lru_cache
from typing import Any

import numpy as np

from ..backends.geometry import Taps
from ..tape import Tensor, op
from .resize import mean_taps, resample, unchanged

__all__ = [
    "max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
    "adaptive_max_pool1d", "adaptive_max_pool2d", "max_unpool2d",
]  # fmt: skip


@op
def _take_plane(k, x, *, index):
    """y[n,c,p,q] = x[n,c].flat[index[n,c,p,q]]; index is an integer tensor."""
    return k.take_plane(x, index.array)


@op
def _put_plane(k, y, *, index, size):
    """x (N, C, *size) with x[n,c].flat[index[n,c,p,q]] += y[n,c,p,q]: the adjoint of _take_plane."""
    return k.put_plane(y, index.array, size)


@op
def _set_plane(k, y, *, index, size):
    """x (N, C, *size) with x[n,c].flat[index[n,c,p,q]] = y[n,c,p,q], else 0; of values that meet one stays."""
    planes, places = y.shape[0] * y.shape[1], y.shape[2] * y.shape[3]
    x = k.xp.zeros((planes, size[0] * size[1]), y.dtype)
    x[k.xp.arange(planes)[:, None], index.array.reshape(planes, places)] = y.reshape(planes, places)
    return x.reshape(*y.shape[:2], *size)


_take_plane.vjp("x")(lambda g, x_shape, index: _put_plane(g, index=index, size=x_shape[2:]))
_put_plane.vjp("y")(lambda g, index: _take_plane(g, index=index))
_set_plane.vjp("y")(lambda g, index: _take_plane(g, index=index))  # each reads its place, also where values met


@op
def _max_pool(k, x, *, rows, cols):
    """(values, winners): the maximum over each output's taps, and its place h W + w."""
    return k.max_pool(x, rows, cols)


_max_pool.vjp("x")(lambda g, out, x_shape: _put_plane(g[0], index=out[1], size=x_shape[2:]))


# ---------------------------------------------------------------- arguments


def _pair(name: str, what: str, value: Any, axes: int, smallest: int) -> tuple[int, ...]:
    if type(value) is int and value >= smallest:
        return (value,) * axes
    values = tuple(value) if np.ndim(value) else (value,) * axes
    values = values * axes if len(values) == 1 else values
    if len(values) != axes or any(int(v) != v or v < smallest for v in values):
        raise ValueError(f"{name}: {what}={value} should be one integer, or {axes}, of at least {smallest}")
    return tuple([int(v) for v in values])


def _planes(name: str, x: Tensor, axes: int) -> Tensor:
    """x as (N, C, H, W): a batch axis and, in one dimension, a height of one are added."""
    if x.ndim not in (axes + 1, axes + 2):
        image = "(N, C, H, W) or (C, H, W)" if axes == 2 else "(N, C, L) or (C, L)"
        raise ValueError(f"{name}: input should be {image}, got {tuple(x.shape)}")
    if min(x.shape[-axes:]) < 1:
        raise ValueError(f"{name}: input {tuple(x.shape)} has an axis without elements to pool")
    x = x if x.ndim == axes + 2 else x.unsqueeze(0)
    return x if axes == 2 else x.unsqueeze(2)


def _back(y: Tensor, x: Tensor, axes: int) -> Tensor:
    """The result with the axes that _planes added taken away."""
    y = y if axes == 2 else y.squeeze(2)
    return y if x.ndim == axes + 2 else y.squeeze(0)


def _windows(
    name: str, x: Tensor, axes: int, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool
) -> list[tuple]:
    """(size, kernel, stride, padding, dilation, outputs) per axis."""
    kernels = _pair(name, "kernel_size", kernel, axes, 1)
    given = stride is not None and (type(stride) is int or np.size(stride) > 0)
    strides = _pair(name, "stride", stride, axes, 1) if given else kernels
    pads = _pair(name, "padding", padding, axes, 0)
    dilations = _pair(name, "dilation", dilation, axes, 1)
    windows = []
    for n, k, s, p, d in zip(x.shape[-axes:], kernels, strides, pads, dilations):
        if p > k // 2:
            raise ValueError(
                f"{name}: padding {p} should be at most half the kernel size {k}; larger windows see padding alone"
            )
        span = n + 2 * p - d * (k - 1) - 1
        outputs = (-(-span // s) if ceil else span // s) + 1
        if ceil and (outputs - 1) * s >= n + p:
            outputs -= 1
        if outputs < 1:
            raise ValueError(
                f"{name}: kernel_size {kernels} (dilation {dilations}) is larger than the padded input {tuple(x.shape)}"
            )
        windows.append((n, k, s, p, d, outputs))
    return windows


# ---------------------------------------------------------------- maximum


@lru_cache(maxsize=256)
def _max_taps(n: int, k: int, s: int, p: int, d: int, outputs: int) -> Taps:
    index = np.arange(outputs)[:, None] * s - p + np.arange(k) * d
    return Taps(np.where((index >= 0) & (index < n), index, -1), np.ones(index.shape), n)


@lru_cache(maxsize=256)
def _adaptive_max_taps(n: int, outputs: int) -> Taps:
    taps = mean_taps(n, outputs)
    return Taps(np.where(taps.weight > 0, taps.index, -1), np.ones(taps.index.shape), n)


def _maxima(name: str, x: Tensor, axes: int, taps: list[Taps], return_indices: bool) -> Any:
    if x.ndim == axes + 1 and x.shape[0] == 0:
        raise ValueError(f"{name}: input {tuple(x.shape)} has no channels to pool; only a batch may be empty")
    rows, cols = taps if axes == 2 else (unchanged(1), taps[0])
    values, winners = _max_pool(_planes(name, x, axes), rows=rows, cols=cols)
    values = _back(values, x, axes)
    if not return_indices:
        return values
    return values, _back(Tensor(winners.array, None, x.device), x, axes)


def max_pool2d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:  # fmt: skip
    """y[n,c,p,q] = max over t, u of input[n, c, s p + d t - pad, s q + d u - pad], inside the image.

    The stride s is kernel_size by default. input (N, C, H, W) or (C, H, W). With return_indices also the places of
    the maxima, h W + w (int64). The gradient goes to the first maximum of a window; NaN is a maximum. ValueError for
    padding > kernel_size / 2. Lecture 4.
    """
    windows = _windows("max_pool2d", input, 2, kernel_size, stride, padding, dilation, ceil_mode)
    return _maxima("max_pool2d", input, 2, [_max_taps(*w) for w in windows], return_indices)


def max_pool1d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:  # fmt: skip
    """`max_pool2d` along one axis: input (N, C, L) or (C, L)."""
    windows = _windows("max_pool1d", input, 1, kernel_size, stride, padding, dilation, ceil_mode)
    return _maxima("max_pool1d", input, 1, [_max_taps(*w) for w in windows], return_indices)


def _adaptive_sizes(name: str, x: Tensor, output_size: Any, axes: int) -> list[tuple[int, int]]:
    """(input, output) per axis; None keeps a size."""
    given = tuple(output_size) if np.ndim(output_size) else (output_size,) * axes
    given = tuple([m if m is None else operator.index(m) for m in given])
    if len(given) != axes or any(m is not None and m < 1 for m in given):
        raise ValueError(
            f"{name}: output_size={output_size} should be one integer of at least 1, or {axes} (None keeps a size)"
        )
    return [(n, n if m is None else m) for n, m in zip(x.shape[-axes:], given)]


def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The maximum over output_size windows per axis: window p is floor(p H / P) up to ceil((p + 1) H / P)."""
    taps = [_adaptive_max_taps(*s) for s in _adaptive_sizes("adaptive_max_pool2d", input, output_size, 2)]
    return _maxima("adaptive_max_pool2d", input, 2, taps, return_indices)


def adaptive_max_pool1d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """`adaptive_max_pool2d` along one axis: input (N, C, L) or (C, L)."""
    taps = [_adaptive_max_taps(*s) for s in _adaptive_sizes("adaptive_max_pool1d", input, output_size, 1)]
    return _maxima("adaptive_max_pool1d", input, 1, taps, return_indices)


def max_unpool2d(
    input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> Tensor:
    """Zeros with input[n,c,p,q] at the places `indices` that max_pool2d returned; of values that meet one stays.

    The size is (P - 1) stride - 2 padding + kernel_size unless output_size says it.
    """
    kernels = _pair("max_unpool2d", "kernel_size", kernel_size, 2, 1)
    strides = kernels if stride is None else _pair("max_unpool2d", "stride", stride, 2, 1)
    pads = _pair("max_unpool2d", "padding", padding, 2, 0)
    size = tuple([(n - 1) * s - 2 * p + k for n, s, p, k in zip(input.shape[-2:], strides, pads, kernels)])
    if output_size is not None:
        size = tuple(output_size)[-2:]
    if tuple(indices.shape) != tuple(input.shape):
        raise ValueError(
            f"max_unpool2d: indices {tuple(indices.shape)} should have the shape of input {tuple(input.shape)}"
        )
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"max_unpool2d: the result would have size {size}; pass the pooled image's as output_size")
    places = indices.array
    if places.dtype.kind not in "iu":
        raise TypeError(f"max_unpool2d: indices should be integers, got {places.dtype}")
    if places.size and (int(places.min()) < 0 or int(places.max()) >= size[0] * size[1]):
        raise ValueError(
            f"max_unpool2d: indices {int(places.min())}..{int(places.max())} lie outside an image of {size}, whose "
            f"places are 0..{size[0] * size[1] - 1}; pass the pooled image's size as output_size"
        )
    place = _planes("max_unpool2d", indices, 2)
    return _back(_set_plane(_planes("max_unpool2d", input, 2), index=place, size=size), input, 2)


# ---------------------------------------------------------------- mean


@lru_cache(maxsize=256)
def _mean_taps(n: int, k: int, s: int, p: int, d: int, outputs: int, count: str) -> Taps:
    """The window's taps, each weighing 1 / count: taps 'inside' the input, 'padded' ones too, or 'one' (a plain
    sum)."""
    start = np.arange(outputs)[:, None] * s - p
    index = start + np.arange(k)
    inside = (index >= 0) & (index < n)
    counts = {
        "inside": inside.sum(1, keepdims=True),
        "padded": np.minimum(start + k, n + p) - start,  # a window that ceil_mode lets out of the padding is cut there
        "one": np.ones_like(start),
    }[count]
    return Taps(np.where(inside, index, 0), inside / counts, n)


def _means(
    name: str,
    x: Tensor,
    axes: int,
    kernel: Any,
    stride: Any,
    padding: Any,
    ceil: bool,
    include: bool,
    divisor: int | None,
) -> Tensor:
    if divisor == 0:
        raise ValueError(f"{name}: divisor_override should not be zero")
    count = "one" if divisor is not None else "padded" if include else "inside"
    windows = _windows(name, x, axes, kernel, stride, padding, 1, ceil)
    taps = [_mean_taps(*w, count) for w in windows]
    rows, cols = taps if axes == 2 else (unchanged(1), taps[0])
    y = _back(resample(_planes(name, x, axes), rows=rows, cols=cols), x, axes)
    return y if divisor is None else y * (1 / divisor)


def avg_pool2d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """The mean of each window of input (N, C, H, W) or (C, H, W); stride = kernel_size by default.

    Padding counts as zeros, or with count_include_pad=False not at all; divisor_override replaces the window's size.
    """
    return _means("avg_pool2d", input, 2, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool1d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:  # fmt: skip
    """`avg_pool2d` along one axis: input (N, C, L) or (C, L)."""
    return _means("avg_pool1d", input, 1, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """The mean over output_size windows per axis (None keeps a size); output_size = 1 is global average pooling.

    Window p of an axis is floor(p H / P) up to ceil((p + 1) H / P): neighbours may share an element.
    """
    sizes = _adaptive_sizes("adaptive_avg_pool2d", input, output_size, 2)
    planes = _planes("adaptive_avg_pool2d", input, 2)
    if sizes[0][1] == sizes[1][1] == 1:
        return _back(planes.mean((2, 3), keepdim=True), input, 2)
    return _back(resample(planes, rows=mean_taps(*sizes[0]), cols=mean_taps(*sizes[1])), input, 2)


def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """`adaptive_avg_pool2d` along one axis: input (N, C, L) or (C, L)."""
    sizes = _adaptive_sizes("adaptive_avg_pool1d", input, output_size, 1)
    planes = _planes("adaptive_avg_pool1d", input, 1)
    if sizes[0][1] == 1:
        return _back(planes.mean(3, keepdim=True), input, 1)
    return _back(resample(planes, rows=unchanged(1), cols=mean_taps(*sizes[0])), input, 1)
