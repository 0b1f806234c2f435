"""Activations: tanh, sigmoid, softplus, and the family of ReLU. Integers give float32, save in relu.

An activation whose derivative has a kernel of its own is a closed pair: `tanh` and `_tanh_backward`, which is linear in
the gradient and so its own derivative. `elu`, `silu` and `gelu` are fused ops; their composites are their formulas.

At its kink relu has derivative 0, as in torch. Absent: what is composed of these (mish, hardtanh), which is in
nn/functional.py, and softmax, which sums over an axis and is in reduce.py.
"""

from __future__ import annotations

import math

from ..memory import may_overwrite
from ..tape import Tensor, op
from .choosing import where
from .comparison import gt
from .pointwise import _real, cast, erf, expm1

__all__ = ["tanh", "sigmoid", "softplus", "log_sigmoid", "relu", "leaky_relu", "elu", "selu", "gelu", "silu"]


@op
def tanh(k, x):
    """(e^x - e^-x) / (e^x + e^-x), between -1 and 1."""
    return k.tanh(_real(x))


@op
def _tanh_backward(k, dy, y):
    """dy * (1 - y^2)."""
    return k.tanh_backward(dy, y)


@op
def sigmoid(k, x):
    """1 / (1 + e^-x), between 0 and 1, without overflow."""
    return k.sigmoid(_real(x))


@op
def _sigmoid_backward(k, dy, y):
    """dy * y * (1 - y)."""
    return k.sigmoid_backward(dy, y)


@op
def softplus(k, x):
    """log(1 + e^x), a smooth max(x, 0), without overflow."""
    return k.softplus(_real(x))


@op
def _softplus_backward(k, dy, x):
    """dy * sigmoid(x)."""
    return k.softplus_backward(dy, x)


@op
def relu(k, x):
    """max(x, 0), with derivative 0 at 0. The tape keeps the result, which the next layer keeps too."""
    return k.leaky_relu(x, 0.0) if x.dtype.kind == "f" else k.xp.maximum(x, 0)


@op
def _relu_backward(k, dy, y):
    """dy where y > 0, else 0."""
    return k.leaky_relu_backward(dy, y, 0.0, dy if may_overwrite(dy) else None)


@op
def _leaky_relu(k, x, *, slope):
    """x where x > 0, else slope * x, with slope >= 0: then the result has the sign of x and can stand in for it."""
    return k.leaky_relu(_real(x), slope)


@op
def _leaky_relu_backward(k, dy, y, *, slope):
    """dy where y > 0, else slope * dy."""
    return k.leaky_relu_backward(dy, y, slope, dy if may_overwrite(dy) else None)


tanh.vjp("x")(lambda g, out: _tanh_backward(g, out))
_tanh_backward.vjp("dy")(lambda g, y: _tanh_backward(g, y))
_tanh_backward.vjp("y")(lambda g, dy, y: g * dy * y * -2)
sigmoid.vjp("x")(lambda g, out: _sigmoid_backward(g, out))
_sigmoid_backward.vjp("dy")(lambda g, y: _sigmoid_backward(g, y))
_sigmoid_backward.vjp("y")(lambda g, dy, y: g * dy * (1 - y * 2))
softplus.vjp("x")(lambda g, x: _softplus_backward(g, x))
_softplus_backward.vjp("dy")(lambda g, x: _softplus_backward(g, x))
_softplus_backward.vjp("x")(lambda g, dy, x: _sigmoid_backward(g * dy, sigmoid(x)))
relu.vjp("x")(lambda g, out: _relu_backward(g, out))
_relu_backward.vjp("dy")(lambda g, y: _relu_backward(g, y))
_leaky_relu.vjp("x")(lambda g, out, slope: _leaky_relu_backward(g, out, slope=slope))
_leaky_relu_backward.vjp("dy")(lambda g, y, slope: _leaky_relu_backward(g, y, slope=slope))


def log_sigmoid(input: Tensor) -> Tensor:
    """log(1 / (1 + e^-x)) = -softplus(-x), finite at any x."""
    return -softplus(-(input if input.array.dtype.kind == "f" else cast(input, "float32")))


def leaky_relu(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else negative_slope * x."""
    if negative_slope < 0:
        return where(gt(input, 0), input, input * float(negative_slope))
    return _leaky_relu(input, slope=float(negative_slope))


def _elu_composite(x: Tensor, alpha: float, scale: float) -> Tensor:
    below = where(gt(x, 0), 0.0, x)  # expm1 of what is not chosen must not overflow
    return where(gt(x, 0), x, expm1(below) * alpha) * scale


@op(composite=_elu_composite)
def _elu(k, x, *, alpha, scale):
    """scale * (x if x > 0 else alpha * (e^x - 1))."""
    return k.elu(_real(x), alpha, scale)


@_elu.fused_vjp
def _(k, g, x, alpha, scale):
    return k.elu_backward(g, x, alpha, scale)


def elu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else alpha * (e^x - 1)."""
    return _elu(input, alpha=float(alpha), scale=1.0)


_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def selu(input: Tensor) -> Tensor:
    """1.0507 * (x if x > 0 else 1.6733 * (e^x - 1)): keeps mean 0 and variance 1 (Klambauer et al. 2017)."""
    return _elu(input, alpha=_SELU_ALPHA, scale=_SELU_SCALE)


@op(composite=lambda x: x * sigmoid(x))
def silu(k, x):
    """x * sigmoid(x)."""
    return k.silu(_real(x))


@silu.fused_vjp
def _(k, g, x):
    return k.silu_backward(g, x)


def _gelu_composite(x: Tensor, tanh: bool) -> Tensor:
    if tanh:
        return x * 0.5 * (1 + _tanh((x + x**3 * 0.044715) * math.sqrt(2 / math.pi)))
    return x * 0.5 * (1 + erf(x * math.sqrt(0.5)))


_tanh = tanh  # the attribute of the same name hides it above


@op(composite=_gelu_composite)
def _gelu(k, x, *, tanh):
    """x * Phi(x), or its approximation by tanh."""
    return k.gelu(_real(x), tanh)


@_gelu.fused_vjp
def _(k, g, x, tanh):
    return k.gelu_backward(g, x, tanh)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x * Phi(x), Phi the normal distribution function; 'tanh': x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate={approximate!r} is not known; use 'none' or 'tanh'")
    return _gelu(input, tanh=approximate == "tanh")
