"""Kernels of csrc/cpu/kernels/reduce.cpp: sums, and the losses that are one sum with its derivative.

Absent: means and variances, which ops compose of sums; maxima, which NumPy computes.
"""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

import tinygen._cpu as _cpu

from ..arrays import check_labels, check_shape
from ..geometry import extents
from .arrays import empty, inputs, places


def sum(x: Array, axes: tuple[int, ...], scale: float = 1.0) -> Array:
    if x.dtype.itemsize < 4:  # half precision is added up in single
        return sum(x.astype(np.float32), axes, scale).astype(x.dtype)
    if type(x) is not Array or not x.flags.c_contiguous:
        (x,) = inputs("sum", x)
    lengths, shape = extents(x.shape, axes)
    if x.size == 0:
        inputs("sum", x)
        return np.full(shape, scale * 0.0, x.dtype)
    if len(lengths) > 4:  # more than two separate runs of reduced axes
        return sum(sum(x, axes[-1:]), axes[:-1], scale)
    y = empty(shape, x.dtype)
    _cpu.sum(x, lengths, scale, y)
    return y


def _loss(name: str, x: Array, target: Array, scale: float, slope: bool) -> tuple[Array, Array | None]:
    y, derivative = empty((), x.dtype), empty(x.shape, x.dtype) if slope else None
    getattr(_cpu, name)(x, target, scale, y, derivative)
    return y, derivative


def squared_error(x: Array, target: Array, scale: float, slope: bool) -> tuple[Array, Array | None]:
    check_shape("squared_error", "target", target, x.shape)
    x, target = inputs("squared_error", x, target)
    return _loss("squared_error", x, target, scale, slope)


def bernoulli_loss(x: Array, target: Array, scale: float, slope: bool) -> tuple[Array, Array | None]:
    check_shape("bernoulli_loss", "target", target, x.shape)
    x, target = inputs("bernoulli_loss", x, target)
    return _loss("bernoulli_loss", x, target, scale, slope)


def class_loss(x: Array, labels: Array, scale: float, slope: bool) -> tuple[Array, Array | None]:
    if not len(x.shape) - 1 == len(labels.shape) == 1 or labels.dtype.kind not in "iu":
        check_labels(x, labels)
    try:
        (x,) = inputs("class_loss", x)
        with places("class_loss", labels, x.shape[1]) as at:
            return _loss("class_loss", x, at, scale, slope)
    except (ValueError, TypeError):
        check_labels(x, labels)
        raise
