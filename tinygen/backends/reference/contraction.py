"""Convolution, its transpose and its gradient by the weight as one loop over taps; products of matrices.

    T(x, w, y) = sum of x[n, c, stride * p + dilation * t - pad] w[k,c,t] y[n,k,p]

is linear in each of its three arrays, and each kernel of convolution is its derivative by one of them. For every tap t
that is one product of matrices. Absent: any faster algorithm; the oracle computes by definition.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy import ndarray as Array

from ..arrays import check_conv, check_floats, check_linear, check_matmul, check_shape
from ..geometry import Geometry
from .planes import columns
from .pointwise import leaky_relu


def _span(x_size: int, y_size: int, stride: int, offset: int) -> tuple[slice, slice] | None:
    """Where a tap touches, in y and in x: all p with 0 <= stride * p + offset < x_size; None if there is no such p."""
    first = max(0, -(offset // stride))
    end = min(y_size, (x_size - 1 - offset) // stride + 1)
    if end <= first:
        return None
    return slice(first, end), slice(stride * first + offset, stride * (end - 1) + offset + 1, stride)


def _taps(geo: Geometry) -> Iterator[tuple[int, int, tuple[Any, ...], tuple[Any, ...]]]:
    """For each kernel tap (i, j) that touches the input: i, j, where in y, where in x."""
    for i, j in itertools.product(range(geo.w_shape[2]), range(geo.w_shape[3])):
        rows = _span(geo.x_shape[2], geo.y_shape[2], geo.stride[0], geo.dilation[0] * i - geo.pad[0])
        cols = _span(geo.x_shape[3], geo.y_shape[3], geo.stride[1], geo.dilation[1] * j - geo.pad[1])
        if rows and cols:
            yield i, j, (..., rows[0], cols[0]), (..., rows[1], cols[1])


def _by_group(a: Array, groups: int) -> Array:
    """An activation (N, C, H, W) as a view (N, groups, C / groups, H, W)."""
    return a.reshape(a.shape[0], groups, a.shape[1] // groups, *a.shape[2:])


def _finished(y: Array, bias: Array | None, slope: float) -> Array:
    y = y if bias is None else y + bias[:, None, None]
    return y if slope == 1 else leaky_relu(y, slope)


def conv(x: Array, w: Array, geo: Geometry, bias: Array | None = None, slope: float = 1.0) -> Array:
    """y[n,k,p] = bias[k] + sum over c, t of x[n, c, stride * p + dilation * t - pad] w[k,c,t], per group."""
    check_conv("conv", geo, x, w, None)
    check_shape("conv", "bias", bias, geo.w_shape[:1])
    check_floats("conv", x, w, bias)
    y = np.zeros(geo.y_shape, x.dtype)
    x_view, y_view = _by_group(x, geo.groups), _by_group(y, geo.groups)
    w_view = w.reshape(geo.groups, geo.w_shape[0] // geo.groups, *geo.w_shape[1:])
    for i, j, at_y, at_x in _taps(geo):
        y_view[at_y] += (w_view[..., i, j] @ columns(x_view[at_x])).reshape(y_view[at_y].shape)
    return _finished(y, bias, slope)


def conv_transpose(y: Array, w: Array, geo: Geometry, bias: Array | None = None, slope: float = 1.0) -> Array:
    """x[n, c, stride * p + dilation * t - pad] = bias[c] + sum over k, p, t of y[n,k,p] w[k,c,t]: conv's adjoint."""
    check_conv("conv_transpose", geo, None, w, y)
    check_shape("conv_transpose", "bias", bias, geo.x_shape[1:2])
    check_floats("conv_transpose", y, w, bias)
    x = np.zeros(geo.x_shape, y.dtype)
    x_view, y_view = _by_group(x, geo.groups), _by_group(y, geo.groups)
    w_view = w.reshape(geo.groups, geo.w_shape[0] // geo.groups, *geo.w_shape[1:])
    for i, j, at_y, at_x in _taps(geo):
        x_view[at_x] += (w_view[..., i, j].swapaxes(1, 2) @ columns(y_view[at_y])).reshape(x_view[at_x].shape)
    return _finished(x, bias, slope)


def conv_weight(x: Array, y: Array, geo: Geometry) -> Array:
    """w[k,c,t] = sum over n, p of x[n, c, stride * p + dilation * t - pad] y[n,k,p]: conv's gradient by its weight."""
    check_conv("conv_weight", geo, x, None, y)
    check_floats("conv_weight", x, y)
    w = np.zeros(geo.w_shape, x.dtype)
    x_view, y_view = _by_group(x, geo.groups), _by_group(y, geo.groups)
    w_view = w.reshape(geo.groups, geo.w_shape[0] // geo.groups, *geo.w_shape[1:])
    for i, j, at_y, at_x in _taps(geo):
        w_view[..., i, j] = (columns(y_view[at_y]) @ columns(x_view[at_x]).swapaxes(2, 3)).sum(0)
    return w


def conv_moments(
    x: Array, w: Array, geo: Geometry, bias: Array | None = None, slope: float = 1.0
) -> tuple[Array, Array | None]:
    """conv, and no sums: channel_norm makes its own."""
    return conv(x, w, geo, bias, slope), None


def conv_transpose_moments(
    y: Array, w: Array, geo: Geometry, bias: Array | None = None, slope: float = 1.0
) -> tuple[Array, Array | None]:
    """conv_transpose, and no sums."""
    return conv_transpose(y, w, geo, bias, slope), None


def matmul(a: Array, b: Array) -> Array:
    """c[..., i, j] = sum over k of a[..., i, k] b[..., k, j]."""
    check_matmul(a, b)
    check_floats("matmul", a, b)
    return np.matmul(a, b)


def linear(x: Array, w: Array, bias: Array | None = None, slope: float = 1.0) -> Array:
    """y[i, j] = sum over k of x[i, k] w[j, k] + bias[j], then leaky_relu with this slope (1: nothing, 0: ReLU)."""
    check_linear(x, w, bias)
    check_floats("linear", x, w, bias)
    y = np.matmul(x, w.T)
    if bias is not None:
        y += bias
    return y if slope == 1 else leaky_relu(y, slope)
