"""Activations composed of ops, as functions: pieces of lines and parabolas, and gates.

    hardswish(x) = x * min(max(x + 3, 0), 6) / 6        glu(a, b) = a * sigmoid(b)

At a kink the derivative is torch's: hardsigmoid and hardswish have that of the flat side, prelu the learned slope.
functional.py offers them beside the others, activation.py has them as modules.
"""

from __future__ import annotations

from ..ops.activation import sigmoid, tanh
from ..ops.choosing import clamp, where
from ..ops.comparison import ge, gt, le, logical_and, logical_or, lt
from ..ops.in_place import changed
from ..ops.joining import split
from ..ops.pointwise import expm1
from ..ops.view import dim_of, reshape
from ..tape import Tensor, op

__all__ = ["celu", "glu", "hardsigmoid", "hardswish", "prelu", "softshrink", "tanhshrink"]


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha (e^(x / alpha) - 1): differentiable at 0 for every alpha (Barron 2017)."""
    if alpha == 0:
        raise ValueError("celu: alpha=0 should not be zero; for max(x, 0) use relu")
    if inplace:
        return changed(celu, input, alpha)
    below = where(gt(input, 0), 0.0, input)  # expm1 of what is not chosen must not overflow
    return where(gt(input, 0), input, expm1(below / alpha) * alpha)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """0 up to x = -3, 1 from x = 3 on, x / 6 + 1/2 between: a sigmoid of three lines."""
    if inplace:
        return changed(hardsigmoid, input)
    middle = clamp(input, -3, 3)  # its derivative at NaN is 0, as torch's
    return where(le(input, -3), 0.0, where(ge(input, 3), 1.0, middle / 6 + 0.5))


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x * hardsigmoid(x) (Howard et al. 2019)."""
    if inplace:
        return changed(hardswish, input)
    middle = where(logical_or(le(input, -3), ge(input, 3)), 0.0, input)
    return where(ge(input, 3), input, middle * (middle + 3) / 6)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved towards 0 by `lambd`, 0 where |x| <= lambd: the proximal step of the l1 norm."""
    if lambd < 0:
        raise ValueError(f"softshrink: lambd={lambd} should not be negative")
    outside = where(lt(input, 0), input + lambd, input - lambd)  # NaN is: its derivative is 1
    return where(logical_and(ge(input, -lambd), le(input, lambd)), input * 0.0, outside)


def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x)."""
    return input - tanh(input)


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """a * sigmoid(b), where a and b are the halves of input along `dim` (Dauphin et al. 2017)."""
    if not input.ndim:
        raise ValueError("glu: input should have an axis to halve, got a scalar")
    dim = dim_of("glu", dim, input.ndim)
    if input.shape[dim] % 2:
        raise ValueError(f"glu: axis {dim} of {tuple(input.shape)} should have an even length, to be halved")
    value, gate = split(input, [input.shape[dim] // 2] * 2, dim)
    return value * sigmoid(gate)


@op
def _prelu(k, x, weight):
    """x where x > 0, else weight * x; weight broadcasts."""
    return k.xp.where(x > 0, x, weight * x)


_prelu.vjp("x")(lambda g, x, weight: where(gt(x, 0), g, g * weight))
_prelu.vjp("weight")(lambda g, x: g * where(gt(x, 0), 0.0, x))


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x where x > 0, else weight * x; weight holds one number, or one for each channel of axis 1 (He et al. 2015).

    ValueError for as many numbers as there are neither.
    """
    count = weight.numel()
    channels = input.shape[1] if input.ndim > 1 else 1
    if weight.ndim > 1 or count not in (1, channels) or (input.ndim == 0 and weight.ndim and count != 1):
        raise ValueError(
            f"prelu: weight should hold one number, or one for each of {channels} channels of {tuple(input.shape)}, "
            f"got {tuple(weight.shape)}"
        )
    along = () if count == 1 and input.ndim < 2 else (-1,) + (1,) * max(input.ndim - 2, 0)
    return _prelu(input, reshape(weight, along))
