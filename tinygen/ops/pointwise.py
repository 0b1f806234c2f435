"""Pointwise ops: arithmetic, elementary functions, comparisons, activations. Shapes broadcast as in NumPy.

A differentiable op here is two lines, the function on arrays and its derivative on tensors:

    @op
    def exp(k, x):
        return k.xp.exp(_real(x))
    exp.vjp("x")(lambda g, out: g * out)      # d exp(x) = exp(x) dx; the tape keeps the result, not x

An activation whose derivative has a kernel of its own is a closed pair: `tanh` and `_tanh_backward`, which is linear in
the gradient and so its own derivative. `elu`, `silu` and `gelu` are fused ops; their composites are their formulas.

At a kink we do as torch does: maximum and minimum share a tie half and half, clamp passes the gradient on its bounds,
relu and abs have derivative 0 at 0. What is piecewise constant (round, comparisons) has no derivative; sign has 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..memory import may_overwrite
from ..tape import Tensor, add, op

__all__ = [
    "add", "sub", "mul", "div", "neg", "pow", "square", "reciprocal", "floor_divide", "fmod", "remainder",
    "lerp", "addcmul", "addcdiv",
    "exp", "log", "log1p", "expm1", "sqrt", "rsqrt", "sin", "cos", "erf", "abs", "sign",
    "maximum", "minimum", "clamp", "where", "cast", "floor", "ceil", "round", "trunc",
    "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "logical_not",
    "isnan", "isinf", "isfinite",
    "tanh", "sigmoid", "softplus", "log_sigmoid", "relu", "leaky_relu", "elu", "selu", "gelu", "silu",
]  # fmt: skip


def _real(x: Any) -> Any:
    """The array x, as float32 if it held integers or booleans (NumPy would make it float64)."""
    return x if x.dtype.kind == "f" else x.astype("float32")


# ---------------------------------------------------------------- arithmetic


@op
def sub(k, x, y):
    """x - y, broadcast."""
    return x - y


@op
def mul(k, x, y):
    """x * y, broadcast."""
    return x * y


@op
def div(k, x, y, *, rounding_mode=None):
    """x / y, broadcast; integers give float32. `rounding_mode` 'floor' or 'trunc' rounds it (derivative 0)."""
    array = x if hasattr(x, "dtype") else y
    if rounding_mode is None:
        out = k.xp.true_divide(x, y)
        return out if array.dtype.kind == "f" else out.astype("float32")
    if rounding_mode == "floor":
        return k.xp.floor_divide(x, y)
    if rounding_mode == "trunc":
        return k.xp.trunc(k.xp.true_divide(x, y)) if array.dtype.kind == "f" else (x - k.xp.fmod(x, y)) // y
    raise ValueError(f"div: rounding_mode={rounding_mode!r} is not known; use None, 'floor' or 'trunc'")


@op
def neg(k, x):
    """-x."""
    return -x


@op
def pow(k, x, y):
    """x ** y, broadcast; base or exponent may be a number.

    The exponent's derivative is log(x) * out, and 0 at x = 0 <= y.
    """
    if not hasattr(y, "dtype") and y in (3, 4):  # three times as fast as NumPy's power
        return x * x * x if y == 3 else (x * x) * (x * x)
    return x**y


@op
def square(k, x):
    """x * x."""
    return x * x


@op
def reciprocal(k, x):
    """1 / x; integers give float32."""
    return 1 / _real(x)


@op
def floor_divide(k, x, y):
    """The quotient x / y rounded towards minus infinity, broadcast; no gradient."""
    return k.xp.floor_divide(x, y)


@op
def fmod(k, x, y):
    """The remainder x - y * trunc(x / y), with the sign of x; no gradient for the divisor y."""
    return k.xp.fmod(x, y)


@op
def remainder(k, x, y):
    """The remainder x - y * floor(x / y), with the sign of y, as Python's %; no gradient for the divisor y."""
    return k.xp.remainder(x, y)


def _pow_base(g: Tensor, x: Tensor, y: Any) -> Tensor:
    if not isinstance(y, Tensor):
        if y == 1:
            return g
        return g * 0.0 if y == 0 else g * (x * 2 if y == 2 else x ** (y - 1) * y)
    # 0 ** 0 is 1 whatever the base: without the mask its derivative would be 0 * 0 ** -1 = NaN.
    singular = logical_and(eq(x, 0), eq(y, 0))
    return g * (y * x ** (where(singular, 1, y) - 1))


def _pow_exponent(g: Tensor, out: Tensor, x: Any, y: Tensor) -> Tensor:
    if not isinstance(x, Tensor):
        return g * out * (math.log(x) if x > 0 else 0.0 if x == 0 else math.nan)
    constant = logical_and(eq(x, 0), ge(y, 0))
    return g * (out * log(where(constant, 1, cast(x, g.dtype))))


sub.vjp("x")(lambda g: g)
sub.vjp("y")(lambda g: -g)
mul.vjp("x")(lambda g, y: g * y)
mul.vjp("y")(lambda g, x: g * x)
div.vjp("x")(lambda g, y, rounding_mode: g / y if rounding_mode is None else g * 0.0)
div.vjp("y")(lambda g, x, y, rounding_mode: -g * (x / y / y) if rounding_mode is None else g * 0.0)
neg.vjp("x")(lambda g: -g)
pow.vjp("x")(_pow_base)
pow.vjp("y")(_pow_exponent)
square.vjp("x")(lambda g, x: g * (x * 2))
reciprocal.vjp("x")(lambda g, out: -g * square(out))
fmod.vjp("x")(lambda g: g)
remainder.vjp("x")(lambda g: g)


def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """input + weight * (end - input), broadcast: input at weight 0, end at weight 1."""
    return input + (end - input) * weight


def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """input + value * tensor1 * tensor2, broadcast."""
    return input + tensor1 * tensor2 * value


def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """input + value * tensor1 / tensor2, broadcast."""
    return input + tensor1 / tensor2 * value


# ---------------------------------------------------------------- elementary functions


@op
def exp(k, x):
    """e^x; integers give float32, as in all the functions below."""
    return k.xp.exp(_real(x))


@op
def log(k, x):
    """The natural logarithm of x: -inf at 0, NaN below."""
    return k.xp.log(_real(x))


@op
def log1p(k, x):
    """log(1 + x), accurate near 0."""
    return k.xp.log1p(_real(x))


@op
def expm1(k, x):
    """e^x - 1, accurate near 0."""
    return k.xp.expm1(_real(x))


@op
def sqrt(k, x):
    """The square root of x: NaN below 0; its derivative 1 / (2 sqrt(x)) is infinite at 0."""
    return k.xp.sqrt(_real(x))


@op
def rsqrt(k, x):
    """1 / sqrt(x)."""
    return 1 / k.xp.sqrt(_real(x))


@op
def sin(k, x):
    """sin(x), x in radians."""
    return k.xp.sin(_real(x))


@op
def cos(k, x):
    """cos(x), x in radians."""
    return k.xp.cos(_real(x))


@op
def erf(k, x):
    """2 / sqrt(pi) * integral of exp(-t^2) from 0 to x."""
    return k.erf(_real(x))


@op
def abs(k, x):
    """|x|, with derivative 0 at 0."""
    return k.xp.absolute(x)


@op
def sign(k, x):
    """-1, 0 or 1 by the sign of x, NaN for NaN; its derivative is 0 everywhere, as in torch."""
    return k.xp.sign(x)


sign.vjp("x")(lambda g: mul(g, 0.0))


exp.vjp("x")(lambda g, out: g * out)
log.vjp("x")(lambda g, x: g / x)
log1p.vjp("x")(lambda g, x: g / (x + 1))
expm1.vjp("x")(lambda g, out: g * (out + 1))
sqrt.vjp("x")(lambda g, out: g * 0.5 / out)
rsqrt.vjp("x")(lambda g, out: g * (out * square(out)) * -0.5)
sin.vjp("x")(lambda g, x: g * cos(x))
cos.vjp("x")(lambda g, x: -g * sin(x))
erf.vjp("x")(lambda g, x: g * (exp(-square(x)) * (2 / math.sqrt(math.pi))))
abs.vjp("x")(lambda g, x: g * sign(x))


# ---------------------------------------------------------------- comparisons and rounding: no gradient


@op
def eq(k, x, y):
    """x == y, broadcast: a bool tensor."""
    return k.xp.equal(x, y)


@op
def ne(k, x, y):
    """x != y, broadcast: a bool tensor."""
    return k.xp.not_equal(x, y)


@op
def lt(k, x, y):
    """x < y, broadcast: a bool tensor."""
    return k.xp.less(x, y)


@op
def le(k, x, y):
    """x <= y, broadcast: a bool tensor."""
    return k.xp.less_equal(x, y)


@op
def gt(k, x, y):
    """x > y, broadcast: a bool tensor."""
    return k.xp.greater(x, y)


@op
def ge(k, x, y):
    """x >= y, broadcast: a bool tensor."""
    return k.xp.greater_equal(x, y)


@op
def logical_and(k, x, y):
    """True where x and y are both non-zero, broadcast."""
    return k.xp.logical_and(x, y)


@op
def logical_or(k, x, y):
    """True where x or y is non-zero, broadcast."""
    return k.xp.logical_or(x, y)


@op
def logical_xor(k, x, y):
    """True where exactly one of x and y is non-zero, broadcast."""
    return k.xp.logical_xor(x, y)


@op
def logical_not(k, x):
    """True where x is zero."""
    return k.xp.logical_not(x)


@op
def isnan(k, x):
    """True where x is NaN."""
    return k.xp.isnan(x)


@op
def isinf(k, x):
    """True where x is plus or minus infinity."""
    return k.xp.isinf(x)


@op
def isfinite(k, x):
    """True where x is neither NaN nor infinite."""
    return k.xp.isfinite(x)


@op
def floor(k, x):
    """The largest integer not above x, in x's dtype; no gradient."""
    return k.xp.floor(x) if x.dtype.kind == "f" else x.copy()


@op
def ceil(k, x):
    """The smallest integer not below x, in x's dtype; no gradient."""
    return k.xp.ceil(x) if x.dtype.kind == "f" else x.copy()


@op
def trunc(k, x):
    """x without its fraction, in x's dtype; no gradient."""
    return k.xp.trunc(x) if x.dtype.kind == "f" else x.copy()


@op
def round(k, x, *, decimals=0):
    """x rounded to `decimals` decimals (0: to integers, still in x's dtype), halves to even; no gradient."""
    if x.dtype.kind != "f":
        return x.copy()
    return k.xp.rint(x) if decimals == 0 else k.xp.rint(x * 10.0**decimals) / 10.0**decimals


# ---------------------------------------------------------------- choosing


@op
def _where(k, x, y, *, condition):
    """x where `condition` (a bool array) is true, else y."""
    return k.xp.where(condition, x, y)


_where.vjp("x")(lambda g, condition: _where(g, 0.0, condition=condition))
_where.vjp("y")(lambda g, condition: _where(0.0, g, condition=condition))


def where(condition: Tensor, input: Any, other: Any) -> Tensor:
    """input[i] where condition[i] is true, else other[i], all three broadcast; input and other are tensors or numbers.

    Raises TypeError unless condition holds booleans. What was not chosen gets gradient 0, also where it is NaN. But an
    infinite derivative behind it still makes NaN of that 0: give log or sqrt a safe argument by an inner `where`.
    """
    if not isinstance(condition, Tensor) or condition.array.dtype.kind != "b":
        kind = condition.array.dtype if isinstance(condition, Tensor) else type(condition).__name__
        raise TypeError(f"where: condition should be a bool tensor, got {kind}; write a comparison, such as x > 0")
    for t in (input, other):
        if isinstance(t, Tensor) and t.device is not condition.device:
            raise RuntimeError(
                f"where: condition {condition.array.shape} is on {condition.device}, a choice {t.array.shape} on "
                f"{t.device}; move one with .to(...)"
            )
    if not isinstance(input, Tensor) and not isinstance(other, Tensor):
        kind = type(input + other)
        dtype = "float32" if issubclass(kind, float | np.floating) else "int64"
        input = Tensor(condition.device.kernels.xp.asarray(input, dtype), None, condition.device)
    return _where(input, other, condition=condition.array)


@op
def maximum(k, x, y):
    """The larger of x and y, broadcast; NaN if either is. A tie shares the gradient half and half."""
    return k.xp.maximum(x, y)


@op
def minimum(k, x, y):
    """The smaller of x and y, broadcast; NaN if either is. A tie shares the gradient half and half."""
    return k.xp.minimum(x, y)


def _winner(g: Tensor, tie: Tensor, loses: Tensor) -> Tensor:
    return where(loses, 0.0, where(tie, g * 0.5, g))


maximum.vjp("x")(lambda g, x, y: _winner(g, eq(x, y), lt(x, y)))
maximum.vjp("y")(lambda g, x, y: _winner(g, eq(x, y), gt(x, y)))
minimum.vjp("x")(lambda g, x, y: _winner(g, eq(x, y), gt(x, y)))
minimum.vjp("y")(lambda g, x, y: _winner(g, eq(x, y), lt(x, y)))


@op
def _clamp(k, x, *, min, max):
    """x moved into [min, max]."""
    if min is not None:
        x = k.xp.maximum(x, min)
    return x if max is None else k.xp.minimum(x, max)


def _inside(x: Tensor, min: float | None, max: float | None) -> Tensor:
    if min is None:
        return le(x, max)
    return ge(x, min) if max is None else logical_and(ge(x, min), le(x, max))


_clamp.vjp("x")(lambda g, x, min, max: where(_inside(x, min, max), g, 0.0))


def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """input moved into [min, max], either of which may be None; max wins if they cross.

    The derivative is 1 inside and on the bounds, 0 outside. A bound may be a tensor, which broadcasts and gets the
    gradient of what it replaced. Raises ValueError if both bounds are None.
    """
    if min is None and max is None:
        raise ValueError("clamp: both bounds are None; give min, max or both")
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        out = input
        if min is not None:
            out = where(lt(out, min), min, out)
        return out if max is None else where(gt(out, max), max, out)
    min, max = (v.item() if isinstance(v, np.generic) else v for v in (min, max))  # a Python number has no dtype
    if input.array.dtype.kind != "f" and (isinstance(min, float) or isinstance(max, float)):
        input = cast(input, "float32")
    return _clamp(input, min=min, max=max)


@op
def _cast(k, x, *, dtype, source):
    """x in the float type `dtype`."""
    return x.astype(dtype)


_cast.vjp("x")(lambda g, dtype, source: _cast(g, dtype=source, source=dtype))


@op
def _cast_discrete(k, x, *, dtype):
    """x in the integer or bool type `dtype`: no gradient."""
    return x.astype(dtype)


def cast(input: Tensor, dtype: Any) -> Tensor:
    """input in another dtype, itself if it has it already. Differentiable between float types, not to integers."""
    dtype, source = np.dtype(dtype), input.array.dtype
    if dtype == source:
        return input
    if dtype.kind != "f":
        return _cast_discrete(input, dtype=dtype)
    return _cast(input, dtype=dtype, source=source)


# ---------------------------------------------------------------- activations


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
