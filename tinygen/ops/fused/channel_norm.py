"""Batch normalisation, and the activation behind it: one kernel, one pass over memory, not five.

    y = (x - mean) / sqrt(var + eps) * weight + bias       mean and variance per channel, over batch and space

`_batch_norm_composite` is the definition. Running averages are the business of nn; the norms that look at each
example by itself are in row_norms.py.
"""

from __future__ import annotations

import math
from typing import Any

from ...backends.geometry import by
from ...memory import may_overwrite
from ...tape import Tensor, op
from ..activation import leaky_relu
from ..pointwise import rsqrt

__all__ = ["batch_norm"]


def along_channels(parameter: Tensor, ndim: int) -> Tensor:
    """(C,) as (C, 1, ...), to broadcast against (N, C, ...)."""
    return parameter.reshape((parameter.shape[0],) + (1,) * (ndim - 2))


def check_channels(name: str, x: Tensor, weight: Tensor | None, bias: Tensor | None, least: int) -> None:
    shape = x.array.shape
    if len(shape) < least:
        expected = "(N, C, L, ...)" if least == 3 else "(N, C, ...)"
        raise ValueError(f"{name}: input should be {expected}, got shape {shape}; add an axis with unsqueeze")
    for what, t in (("weight", weight), ("bias", bias)):
        if t is not None and t.array.shape != (shape[1],):
            raise ValueError(
                f"{name}: {what} should have shape ({shape[1]},), one per channel of input {by(shape)}, "
                f"got {t.array.shape}"
            )


def _batch_norm_composite(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, slope: float = 1.0, moments: Any = None
) -> tuple:
    axes = (0, *range(2, x.ndim))
    mean = x.mean(axes, keepdim=True)
    centred = x - mean
    var = (centred * centred).mean(axes, keepdim=True)
    y = centred * rsqrt(var + eps) * along_channels(weight, x.ndim) + along_channels(bias, x.ndim)
    return y if slope == 1 else leaky_relu(y, slope), mean.reshape(weight.shape), var.reshape(weight.shape)


@op(composite=_batch_norm_composite, residuals=True)
def _batch_norm(k, x, weight, bias, *, eps, slope=1.0, moments=None):
    """(y, mean, biased variance) per channel of x (N, C, ...); y has passed leaky_relu unless slope is 1.

    The fast VJP needs mean and rstd but not y, and a rule that reads `out` would keep y too, as large as x. So the
    two small arrays are residuals.
    """
    y, mean, rstd = k.channel_norm(_images(x), weight, bias, eps, slope, moments)
    # The variance from rstd costs no pass over x; what rounding adds is below 1e-7 * (var + eps).
    return (y.reshape(x.shape), mean, k.xp.maximum(1 / (rstd * rstd) - eps, 0)), (mean, rstd)


@_batch_norm.fused_vjp
def _(k, g, x, weight, bias, slope, residuals):
    if g[0] is None or g[1] is not None or g[2] is not None:
        return NotImplemented
    images = _images(g[0])
    out = images if may_overwrite(g[0]) else None
    gx, gweight, gbias = k.channel_norm_backward(images, _images(x), weight, bias, *residuals, slope, out)
    return gx.reshape(x.shape), gweight, gbias


def _images(x: Any) -> Any:
    """(N, C, ...) as (N, C, S)."""
    return x.reshape(x.shape[0], x.shape[1], math.prod(x.shape[2:]))


def batch_norm(
    input: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, slope: float = 1.0,
    moments: Any = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """(y, mean, var): y = (x - mean) / sqrt(var + eps) * weight + bias, statistics per channel over batch and space.

    input (N, C, ...), weight and bias (C,) (None: ones and zeros); y as input, mean and the biased variance var (C,),
    both differentiable. With a slope other than 1, y is leaky_relu(y, slope) (0: ReLU) in the same kernel. `moments` is
    what conv_moments gave with input. Raises ValueError for shapes that do not fit. Ioffe and Szegedy 2015.
    """
    check_channels("batch_norm", input, weight, bias, 2)
    xp, channels = input.device.kernels.xp, input.array.shape[1]
    if weight is None:
        weight = Tensor(xp.ones(channels, input.array.dtype), None, input.device)
    if bias is None:
        bias = Tensor(xp.zeros(channels, input.array.dtype), None, input.device)
    return _batch_norm(input, weight, bias, eps=float(eps), slope=float(slope), moments=moments)[0]
