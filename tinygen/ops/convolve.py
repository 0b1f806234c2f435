"""Convolution as mathematics writes it: `convolve1d` and `convolve2d` flip the kernel, which the layers do not.

    y[n, k, p] = b[k] + sum over c, t of x[n, c, s p - d t + d (R - 1) - pad] w[k, c, t]

That is the correlation of conv.py with the kernel read backwards. With padding R - 1 it is numpy.convolve's "full", and
it commutes: w * x = x * w.
"""

from __future__ import annotations

from typing import Any

from ..tape import Tensor
from .conv import conv1d, conv2d
from .rearranging import flip

__all__ = ["convolve1d", "convolve2d"]


def convolve1d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """`conv1d` with the kernel flipped: input (N, C, L) or (C, L), weight (K, C / groups, R). Lecture 4."""
    return conv1d(input, flip(weight, -1), bias, stride, padding, dilation, groups)


def convolve2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """`conv2d` with the kernel flipped along both axes: input (N, C, H, W), weight (K, C / groups, R, S). Lecture 4."""
    return conv2d(input, flip(weight, (-2, -1)), bias, stride, padding, dilation, groups)
