"""Kernels of csrc/cpu/kernels/norm.cpp: normalisation per channel and per row, with gradients; softmax along rows.

Absent: moments from the convolution before it; the result is still in the cache when channel_norm reads it.
"""

from __future__ import annotations

import math

from numpy import ndarray as Array

import tinygen._cpu as _cpu

from ..arrays import check_axes, check_channels, check_row_gradient, check_rows, check_shape
from .arrays import empty, inputs, result


def channel_norm(
    x: Array, weight: Array, bias: Array, eps: float, slope: float = 1.0, moments: Array | None = None
) -> tuple[Array, Array, Array]:
    check_channels("channel_norm", x, weight=weight, bias=bias)
    x, weight, bias = inputs("channel_norm", x, weight, bias)
    y, mean, rstd = empty(x.shape, x.dtype), empty(weight.shape, x.dtype), empty(weight.shape, x.dtype)
    if not x.size:
        mean.fill(math.nan)
        rstd.fill(math.nan)
        return y, mean, rstd
    _cpu.channel_norm(x, weight, bias, eps, slope, y, mean, rstd)
    return y, mean, rstd


def channel_norm_backward(
    g: Array, x: Array, weight: Array, bias: Array, mean: Array, rstd: Array, slope: float = 1.0,
    out: Array | None = None,
) -> tuple[Array, Array, Array]:  # fmt: skip
    check_channels("channel_norm_backward", x, weight=weight, bias=bias, mean=mean, rstd=rstd)
    check_shape("channel_norm_backward", "g", g, x.shape)
    given = g, x
    g, x, weight, bias, mean, rstd = inputs("channel_norm_backward", g, x, weight, bias, mean, rstd)
    gx = result("channel_norm_backward", x, out, *given)
    gweight, gbias = empty(weight.shape, x.dtype), empty(weight.shape, x.dtype)
    if not x.size:
        gweight.fill(0)
        gbias.fill(0)
        return gx, gweight, gbias
    _cpu.channel_norm_backward(g, x, weight, bias, mean, rstd, slope, gx, gweight, gbias)
    return gx, gweight, gbias


def row_norm(x: Array, eps: float) -> tuple[Array, Array]:
    check_axes("row_norm", "x", x, "M D")
    (x,) = inputs("row_norm", x)
    y, rstd = empty(x.shape, x.dtype), empty(x.shape[:1], x.dtype)
    _cpu.row_norm(x, eps, y, rstd)
    return y, rstd


def row_norm_backward(g: Array, y: Array, rstd: Array) -> Array:
    check_row_gradient(g, y, rstd)
    g, y, rstd = inputs("row_norm_backward", g, y, rstd)
    gx = empty(y.shape, y.dtype)
    _cpu.row_norm_backward(g, y, rstd, gx)
    return gx


def _along_rows(name: str, x: Array) -> Array:
    (x,) = inputs(name, x)
    y = empty(x.shape, x.dtype)
    if x.size:
        getattr(_cpu, name)(x, y)
    return y


def softmax(x: Array) -> Array:
    check_rows("softmax", x)
    return _along_rows("softmax", x)


def log_softmax(x: Array) -> Array:
    check_rows("log_softmax", x)
    return _along_rows("log_softmax", x)
