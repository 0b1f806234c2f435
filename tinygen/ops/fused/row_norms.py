"""Normalisations within each example: one op on rows, `row_norm`, and an affine map.

All are y = (x - mean) / sqrt(variance + eps) * weight + bias. They differ in what the mean is over:

    layer_norm      the last axes, per row
    instance_norm   space, per image and channel
    group_norm      space and a group of channels

The derivative of row_norm needs only its results, so the tape does not keep x.
"""

from __future__ import annotations

import math
from typing import Any

from ...backends.geometry import by, integers
from ...tape import Tensor, op
from .channel_norm import along_channels, check_channels

__all__ = ["group_norm", "instance_norm", "layer_norm", "row_norm"]


@op
def _row_norm(k, x, *, eps):
    """(y, rstd) of x (M, D): y = (x - mean) * rstd, rstd = 1 / sqrt(var + eps) (M,), statistics per row."""
    return k.row_norm(x, eps)


@op
def _row_norm_backward(k, dy, y, rstd):
    """rstd * (dy - avg(dy) - y * avg(dy * y)), averages per row: linear in dy, and its own adjoint."""
    return k.row_norm_backward(dy, y, rstd)


def _row_norm_vjp(g: tuple, out: tuple) -> Tensor:
    dy, drstd = g
    y, rstd = out
    if drstd is None:
        return _row_norm_backward(dy, y, rstd)
    through_rstd = y * (drstd * rstd * rstd).unsqueeze(1) * (-1 / max(1, y.shape[1]))  # d rstd / dx = -rstd^2 y / D
    return through_rstd if dy is None else _row_norm_backward(dy, y, rstd) + through_rstd


def _row_norm_backward_by_y(g: Tensor, dy: Tensor, y: Tensor, rstd: Tensor) -> Tensor:
    return (g * (dy * y).mean(1, keepdim=True) + dy * (g * y).mean(1, keepdim=True)) * -rstd.unsqueeze(1)


def _row_norm_backward_by_rstd(g: Tensor, dy: Tensor, y: Tensor) -> Tensor:
    centred = dy - dy.mean(1, keepdim=True) - y * (dy * y).mean(1, keepdim=True)
    return (g * centred).sum(1)


_row_norm.vjp("x")(_row_norm_vjp)
_row_norm_backward.vjp("dy")(lambda g, y, rstd: _row_norm_backward(g, y, rstd))
_row_norm_backward.vjp("y")(_row_norm_backward_by_y)
_row_norm_backward.vjp("rstd")(_row_norm_backward_by_rstd)


def row_norm(input: Tensor, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(var + eps) per row of x (M, D), with the biased variance; ValueError unless input is 2-D."""
    if input.array.ndim != 2:
        raise ValueError(f"row_norm: input should be (M, D), got shape {input.array.shape}; reshape it first")
    return _row_norm(input, eps=float(eps))[0]


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def layer_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, the statistics over the last axes, which are `normalized_shape`.

    weight and bias have that shape, or are None. Raises ValueError for shapes that do not fit. Ba et al. 2016.
    """
    last = integers(normalized_shape, 1)
    shape = input.array.shape
    if not last or shape[-len(last) :] != last:
        raise ValueError(f"layer_norm: input {by(shape)} should end in normalized_shape {last}; pass input.shape[-n:]")
    for what, t in (("weight", weight), ("bias", bias)):
        if t is not None and t.array.shape != last:
            raise ValueError(f"layer_norm: {what} should have shape {last}, as normalized_shape, got {t.array.shape}")
    rows = input.reshape((math.prod(shape[: -len(last)]), math.prod(last)))
    return _affine(row_norm(rows, eps).reshape(shape), weight, bias)


def _grouped(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    shape = x.array.shape
    rows = x.reshape((shape[0] * groups, shape[1] // groups * math.prod(shape[2:])))
    y = row_norm(rows, eps).reshape(shape)
    return _affine(y, *[None if t is None else along_channels(t, len(shape)) for t in (weight, bias)])


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, statistics over space and each of `num_groups` groups of channels.

    input (N, C, ...), weight and bias (C,) or None. Raises ValueError unless num_groups divides C. Wu and He 2018.
    """
    check_channels("group_norm", input, weight, bias, 2)
    if num_groups < 1 or input.array.shape[1] % num_groups:
        raise ValueError(
            f"group_norm: num_groups={num_groups} does not divide the {input.array.shape[1]} channels of input "
            f"{by(input.array.shape)}; choose a divisor"
        )
    return _grouped(input, num_groups, weight, bias, eps)


def instance_norm(input: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, the statistics over space, for each image and channel by itself.

    input (N, C, L, ...), weight and bias (C,) or None. Raises ValueError for shapes that do not fit. Ulyanov et al.
    2016.
    """
    check_channels("instance_norm", input, weight, bias, 3)
    return _grouped(input, input.array.shape[1], weight, bias, eps)
