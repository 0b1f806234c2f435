"""Normalisation per channel (batch norm) and per row (layer norm), with their gradients; softmax along rows.

    y = (x - mean) / sqrt(variance + eps)

Absent: running statistics, which are the layer's; gradients of softmax, which ops write.
"""

from __future__ import annotations

import math

import numpy as np
from numpy import ndarray as Array

from ..arrays import check_axes, check_channels, check_floats, check_out, check_row_gradient, check_rows, check_shape
from .adding import sum
from .pointwise import into, leaky_relu, leaky_relu_backward


def _mean(x: Array, axes: tuple[int, ...]) -> Array:
    count = math.prod(x.shape[a] for a in axes)
    return sum(x, axes, 1 / count if count else math.nan)


def channel_norm(
    x: Array, weight: Array, bias: Array, eps: float, slope: float = 1.0, moments: Array | None = None
) -> tuple[Array, Array, Array]:
    """(y, mean, rstd) of x (N, C, S): y = (x - mean) * rstd * weight + bias, statistics per channel c over n and s.

    Behind it comes leaky_relu with this slope (1: nothing, 0: ReLU). Without values the statistics are NaN.
    """
    check_channels("channel_norm", x, weight=weight, bias=bias)
    check_floats("channel_norm", x, weight, bias)
    if x.shape[0] * x.shape[2] == 0:
        return np.empty_like(x), np.full_like(weight, np.nan), np.full_like(weight, np.nan)
    mean = _mean(x, (0, 2))
    centred = x - mean[:, None]
    rstd = 1 / np.sqrt(_mean(centred * centred, (0, 2)) + x.dtype.type(eps))
    y = centred * (rstd * weight)[:, None] + bias[:, None]
    return y if slope == 1 else leaky_relu(y, slope), mean, rstd


def channel_norm_backward(
    g: Array, x: Array, weight: Array, bias: Array, mean: Array, rstd: Array, slope: float = 1.0,
    out: Array | None = None,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """(gx, gweight, gbias): with h = (x - mean) * rstd, gx = weight * rstd * (g - avg(g) - h * avg(g * h)).

    With a slope other than 1, g has first passed leaky_relu_backward at h * weight + bias.
    """
    check_channels("channel_norm_backward", x, weight=weight, bias=bias, mean=mean, rstd=rstd)
    check_shape("channel_norm_backward", "g", g, x.shape)
    check_floats("channel_norm_backward", g, x, weight, bias, mean, rstd)
    check_out("channel_norm_backward", x, out, g, x)
    h = (x - mean[:, None]) * rstd[:, None]
    if slope != 1:
        g = leaky_relu_backward(g, h * weight[:, None] + bias[:, None], slope)
    gweight, gbias = sum(g * h, (0, 2)), sum(g, (0, 2))
    count = max(1, x.shape[0] * x.shape[2])
    gx = (g - (gbias[:, None] + h * gweight[:, None]) / count) * (weight * rstd)[:, None]
    return into(out, gx), gweight, gbias


def row_norm(x: Array, eps: float) -> tuple[Array, Array]:
    """(y, rstd) of x (M, D): y = (x - mean) * rstd with statistics per row; rstd (M,)."""
    check_axes("row_norm", "x", x, "M D")
    check_floats("row_norm", x)
    centred = x - _mean(x, (1,))[:, None]
    rstd = 1 / np.sqrt(_mean(centred * centred, (1,)) + x.dtype.type(eps))
    return centred * rstd[:, None], rstd


def row_norm_backward(g: Array, y: Array, rstd: Array) -> Array:
    """gx = rstd * (g - avg(g) - y * avg(g * y)), averages per row."""
    check_row_gradient(g, y, rstd)
    check_floats("row_norm_backward", g, y, rstd)
    return (g - _mean(g, (1,))[:, None] - y * _mean(g * y, (1,))[:, None]) * rstd[:, None]


def softmax(x: Array) -> Array:
    """exp(x) / sum(exp(x)) along the last axis."""
    check_rows("softmax", x)
    check_floats("softmax", x)
    e = np.exp(x - x.max(-1, keepdims=True, initial=-np.inf))
    return e / sum(e, (e.ndim - 1,))[..., None]


def log_softmax(x: Array) -> Array:
    """x - log(sum(exp(x))) along the last axis."""
    check_rows("log_softmax", x)
    check_floats("log_softmax", x)
    centred = x - x.max(-1, keepdims=True, initial=-np.inf)
    return centred - np.log(sum(np.exp(centred), (x.ndim - 1,)))[..., None]
