"""Norms by a mean of squares, without a mean that is taken away: `rms_norm` and `local_response_norm`.

    rms_norm             y = x / sqrt(mean(x^2) + eps) * weight        mean over the last axes, per row
    local_response_norm  y = x / (k + alpha mean(x^2))^beta            mean over neighbouring channels

Those that centre x have kernels of their own (ops/fused).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..backends.geometry import integers
from ..ops.padding import pad
from ..ops.pointwise import cast, rsqrt, square
from ..ops.pool import avg_pool2d
from ..tape import Tensor

__all__ = ["local_response_norm", "rms_norm"]


def rms_norm(
    input: Tensor, normalized_shape: int | Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """x / sqrt(mean of x^2 + eps) * weight, the mean over the last axes, which are `normalized_shape`.

    weight has that shape too. eps is the dtype's own (the gap above 1) by default. ValueError where the shapes differ.
    Zhang and Sennrich 2019.
    """
    shape = integers(normalized_shape, 1)
    if not shape or tuple(input.shape[-len(shape) :]) != shape:
        raise ValueError(f"rms_norm: input {tuple(input.shape)} should end in normalized_shape={shape}, of one axis up")
    if weight is not None and tuple(weight.shape) != shape:
        raise ValueError(f"rms_norm: weight should be of shape {shape}, as the rows, got {tuple(weight.shape)}")
    eps = float(np.finfo(input.dtype).eps) if eps is None else eps
    x = _at_least_single(input)
    y = x * rsqrt(square(x).mean(tuple(range(-len(shape), 0)), keepdim=True) + eps)
    y = y if y.dtype == input.dtype else cast(y, input.dtype)
    return y if weight is None else y * weight


def _at_least_single(x: Tensor) -> Tensor:
    """x, of half precision in single: its squares may be beyond 65504."""
    return x if x.dtype != np.float16 else cast(x, "float32")


def local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """x / (k + alpha * mean of x^2)^beta, the mean over `size` channels around each; beyond the first and last are 0.

    input (N, C, ...) with at least 3 axes, else ValueError. Krizhevsky et al. 2012.
    """
    if input.ndim < 3:
        raise ValueError(f"local_response_norm: input should be (N, C, L) or (N, C, H, W), got {tuple(input.shape)}")
    if size < 1:
        raise ValueError(f"local_response_norm: size={size} should be at least 1 channel")
    if not input.numel():
        return input
    batch, channels, *space = input.shape
    x = _at_least_single(input)
    rows = square(x).reshape(batch, 1, channels, math.prod(space))
    mean = avg_pool2d(pad(rows, (0, 0, size // 2, (size - 1) // 2)), (size, 1), 1)
    y = x / (mean.reshape(tuple(input.shape)) * alpha + k) ** beta
    return y if y.dtype == input.dtype else cast(y, input.dtype)
