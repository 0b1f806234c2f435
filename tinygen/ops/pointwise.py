"""Functions of one number, element by element: squares, exponentials, roots, sines, rounding, change of dtype.

A differentiable op here is two lines, the function on arrays and its derivative on tensors:

    @op
    def exp(k, x):
        return k.xp.exp(_real(x))
    exp.vjp("x")(lambda g, out: g * out)      # d exp(x) = exp(x) dx; the tape keeps the result, not x

At a kink we do as torch does: abs has derivative 0 at 0. What is piecewise constant (sign, floor, round)
has derivative 0. Arithmetic, comparisons, choices and activations have files of their own.
"""

from __future__ import annotations

import math
import operator
from typing import Any

from ..backends.arrays import native_dtype
from ..tape import Tensor, convert, op

__all__ = [
    "square", "reciprocal", "exp", "log", "log1p", "expm1", "sqrt", "rsqrt", "sin", "cos", "erf", "abs", "sign",
    "floor", "ceil", "round", "trunc", "cast",
]  # fmt: skip


def _real(x: Any) -> Any:
    """The array x, as float32 if it held integers or booleans (NumPy would make it float64)."""
    return x if x.dtype.kind == "f" else x.astype("float32")


@op
def square(k, x):
    """x * x, of booleans as int64."""
    return x.astype("int64") if x.dtype.kind == "b" else x * x


@op
def reciprocal(k, x):
    """1 / x; integers give float32."""
    return 1 / _real(x)


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


square.vjp("x")(lambda g, x: g * (x * 2))
reciprocal.vjp("x")(lambda g, out: -g * square(out))
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
sign.vjp("x")(lambda g: g * 0.0)


@op
def floor(k, x):
    """The largest integer not above x, in x's dtype; derivative 0, as in torch."""
    return k.xp.floor(x) if x.dtype.kind == "f" else x.copy()


@op
def ceil(k, x):
    """The smallest integer not below x, in x's dtype; derivative 0."""
    return k.xp.ceil(x) if x.dtype.kind == "f" else x.copy()


@op
def trunc(k, x):
    """x without its fraction, in x's dtype; derivative 0."""
    return k.xp.trunc(x) if x.dtype.kind == "f" else x.copy()


@op
def round(k, x, *, decimals=0):
    """x rounded to `decimals` decimals (0: to integers, still in x's dtype), halves to even; derivative 0."""
    if x.dtype.kind != "f":
        return x.copy()
    scale = 10.0 ** operator.index(decimals)  # of a NumPy integer it would be a NumPy float, and widen x
    return k.xp.rint(x) if decimals == 0 else k.xp.rint(x * scale) / scale


for _step in (floor, ceil, trunc, round):
    _step.vjp("x")(lambda g: g * 0.0)


@op
def _cast_discrete(k, x, *, dtype):
    """x in the integer or bool type `dtype`: no gradient."""
    return x.astype(dtype)


def cast(input: Tensor, dtype: Any) -> Tensor:
    """input in another dtype, itself if it has it already. Differentiable between float types, not to integers."""
    dtype, source = native_dtype(dtype), input.array.dtype
    if dtype == source:
        return input
    if dtype.kind != "f":
        return _cast_discrete(input, dtype=dtype)
    return convert(input, dtype=dtype, source=source)
