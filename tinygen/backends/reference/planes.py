"""Images plane by plane: resampling, pooling, choices by index and their adjoints.

A plane is one channel of one image, (H, W). The taps of an output say which inputs it reads, and with what weights.
Absent: average pooling and interpolation, which are `resample` with taps of their own.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy import ndarray as Array

from ..arrays import check_floats, check_inside, check_planes, check_put, check_scatter, check_take, check_taps_inside
from ..geometry import Taps


def columns(a: Array) -> Array:
    """(..., H, W) as (..., H * W), also where a size is 0."""
    return a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1])


def _resample_axis(x: Array, taps: Taps, axis: int) -> Array:
    shape = list(x.shape)
    shape[axis] = taps.index.shape[0]
    y = np.zeros(shape, x.dtype)
    if x.shape[axis] == 0:
        return y
    along = [1] * x.ndim
    along[axis] = -1
    for t in range(taps.index.shape[1]):
        weight = taps.weight[:, t].astype(x.dtype).reshape(along)
        # A tap that is not used must not turn an infinity into NaN, so it is left out and not multiplied by 0.
        np.add(y, weight * x.take(taps.index[:, t], axis), out=y, where=np.broadcast_to(weight != 0, y.shape))
    return y


def resample(x: Array, rows: Taps, cols: Taps) -> Array:
    """y[n,c,p,q] = sum over t, u of rows.weight[p,t] cols.weight[q,u] x[n, c, rows.index[p,t], cols.index[q,u]]."""
    check_planes("resample", x, rows, cols)
    check_taps_inside("resample", rows, cols)
    check_floats("resample", x)
    with np.errstate(invalid="ignore"):
        return _resample_axis(_resample_axis(x, rows, 2), cols, 3)


def max_pool(x: Array, rows: Taps, cols: Taps) -> tuple[Array, Array]:
    """(values, winners): the maximum over the taps of each output, and where it was (h * W + w, int64).

    The first maximum in row-major order of the taps wins, NaN wins over all; an output with no tap inside is -inf.
    """
    check_planes("max_pool", x, rows, cols)
    check_floats("max_pool", x)
    n, c, _, width = x.shape
    shape = (n, c, rows.index.shape[0], cols.index.shape[0])
    values, winners = np.full(shape, -np.inf, x.dtype), np.full(shape, -1, np.int64)
    for t, u in itertools.product(range(rows.index.shape[1]), range(cols.index.shape[1])):
        h, w = rows.index[:, t][:, None], cols.index[:, u]
        inside = (h >= 0) & (w >= 0)
        if not inside.any():
            continue
        value = x[:, :, np.maximum(h, 0), np.maximum(w, 0)]
        better = inside & ((value > values) | (winners < 0) | (np.isnan(value) & ~np.isnan(values)))
        np.copyto(values, value, where=better)
        np.copyto(winners, h * width + w, where=better)
    return values, np.maximum(winners, 0)


def take_plane(x: Array, index: Array) -> Array:
    """y[n,c,p,q] = x[n,c].flat[index[n,c,p,q]]."""
    check_take(x, index)
    check_floats("take_plane", x)
    check_inside("take_plane", index, x.shape[2] * x.shape[3])
    return np.take_along_axis(columns(x), columns(index), 2).reshape(index.shape)


def put_plane(y: Array, index: Array, size: tuple[int, int]) -> Array:
    """x (N, C, *size) with x[n,c].flat[index[n,c,p,q]] += y[n,c,p,q]: the adjoint of take_plane."""
    check_put(y, index, size)
    check_floats("put_plane", y)
    check_inside("put_plane", index, size[0] * size[1])
    x = np.zeros((*y.shape[:2], *size), y.dtype)
    n, c = np.ogrid[: y.shape[0], : y.shape[1]]
    np.add.at(x.reshape(*y.shape[:2], size[0] * size[1]), (n[..., None], c[..., None], columns(index)), columns(y))
    return x


def scatter_add(values: Array, index: Array, length: int) -> Array:
    """out (length, *values.shape[1:]) with out[index[i]] += values[i]."""
    check_scatter(values, index, length)
    check_floats("scatter_add", values)
    check_inside("scatter_add", index, length)
    out = np.zeros((length, *values.shape[1:]), values.dtype)
    np.add.at(out, index, values)
    return out
