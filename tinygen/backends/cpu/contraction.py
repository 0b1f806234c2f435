"""Kernels of csrc/cpu/kernels/conv*.cpp, winograd*.cpp and gemm.cpp: convolutions and products of matrices.

A convolution whose kernel is as large as its image is one product of matrices, and is computed as such. Absent: the
choice of an algorithm, which C++ makes (csrc/cpu/conv/choose.h).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy import ndarray as Array

import tinygen._cpu as _cpu

from ..arrays import check_conv, check_floats, check_linear, check_matmul, check_shape
from ..geometry import Geometry
from .arrays import empty, inputs
from .pointwise import leaky_relu


def _geometry(geo: Geometry) -> Any:
    """The same in C++, kept with it."""
    if "cpu" not in geo.prepared:
        shapes = geo.x_shape, geo.w_shape, geo.y_shape
        geo.prepared["cpu"] = _cpu.Geometry(*shapes, geo.stride, geo.dilation, geo.pad, geo.groups)
    return geo.prepared["cpu"]


def _as_matrices(*arrays: Array) -> list[Array]:
    return [a.reshape(len(a), math.prod(a.shape[1:])) for a in arrays]


def conv(x: Array, w: Array, geo: Geometry, bias: Array | None = None, slope: float = 1.0) -> Array:
    if x.shape != geo.x_shape or w.shape != geo.w_shape:
        check_conv("conv", geo, x, w, None)
    if bias is not None and bias.shape != geo.w_shape[:1]:
        check_shape("conv", "bias", bias, geo.w_shape[:1])
    x, w, bias = inputs("conv", x, w, bias)
    y = empty(geo.y_shape, x.dtype)
    if geo.is_dense:
        mx, mw, my = _as_matrices(x, w, y)
        _cpu.matmul(mx, mw.T, bias, slope, my)
    else:
        _cpu.conv(_geometry(geo), x, w, bias, y)
    return y if slope == 1 or geo.is_dense else leaky_relu(y, slope, y)


def conv_transpose(y: Array, w: Array, geo: Geometry, bias: Array | None = None, slope: float = 1.0) -> Array:
    if y.shape != geo.y_shape or w.shape != geo.w_shape:
        check_conv("conv_transpose", geo, None, w, y)
    if bias is not None and bias.shape != geo.x_shape[1:2]:
        check_shape("conv_transpose", "bias", bias, geo.x_shape[1:2])
    y, w, bias = inputs("conv_transpose", y, w, bias)
    x = empty(geo.x_shape, y.dtype)
    if geo.is_dense:
        mx, mw, my = _as_matrices(x, w, y)
        _cpu.matmul(my, mw, None if bias is None else bias.repeat(mx.shape[1] // len(bias)), slope, mx)
    else:
        _cpu.conv_transpose(_geometry(geo), y, w, bias, x)
    return x if slope == 1 or geo.is_dense else leaky_relu(x, slope, x)


def conv_weight(x: Array, y: Array, geo: Geometry) -> Array:
    if x.shape != geo.x_shape or y.shape != geo.y_shape:
        check_conv("conv_weight", geo, x, None, y)
    x, y = inputs("conv_weight", x, y)
    w = empty(geo.w_shape, x.dtype)
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


def matmul(a: Array, b: Array) -> Array:
    m, n = a.shape, b.shape
    try:
        shape = (m[0], n[1]) if len(m) == len(n) == 2 else (*np.broadcast_shapes(m[:-2], n[:-2]), m[-2], n[-1])
        c = empty(shape, a.dtype)
        _cpu.matmul(a, b, None, 1.0, c)
    except (ValueError, IndexError, TypeError):  # the binding looks at all shapes; the words are found here
        check_matmul(a, b)
        raise
    return c


def linear(x: Array, w: Array, bias: Array | None = None, slope: float = 1.0) -> Array:
    if bias is not None and bias.ndim != 1:  # the binding counts its elements alone
        check_linear(x, w, bias)
    try:
        y = empty((len(x), len(w)), x.dtype)
        _cpu.matmul(x, w.T, bias, slope, y)
    except (ValueError, TypeError):  # as in `matmul`, or the bias has gaps
        check_linear(x, w, bias)
        check_floats("linear", x, w, bias)
        _cpu.matmul(x, w.T, None if bias is None else np.ascontiguousarray(bias), slope, y)
    return y
