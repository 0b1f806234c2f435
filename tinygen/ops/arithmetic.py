"""Arithmetic: sums, products, quotients, powers and remainders. Shapes broadcast as in NumPy; a number is a constant.

    d(x y) = y dx + x dy        d(x / y) = dx / y - x / y^2 dy        d(x ** y) = y x^(y-1) dx + log(x) x^y dy

`floor_divide` has no gradient. `add` is an op of the tape's own; with `alpha` it has its name here.
Absent: operators and in-place forms (`x + y`, `add_`); tensor.py makes them of these.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..tape import Tensor, op
from ..tape import add as _add
from .choosing import where
from .comparison import eq, ge, logical_and
from .pointwise import cast, log

__all__ = [
    "add", "sub", "mul", "div", "neg", "pow", "floor_divide", "fmod", "remainder", "lerp", "addcmul", "addcdiv",
]  # fmt: skip

OPERATORS = {  # of two operands: the function's name, Python's name
    **{name: name for name in ("add", "sub", "mul", "pow", "matmul")},
    **{f"bitwise_{name}": name for name in ("and", "or", "xor")},
    **{"div": "truediv", "remainder": "mod", "floor_divide": "floordiv"},
    **{"bitwise_left_shift": "lshift", "bitwise_right_shift": "rshift"},
}


@op
def _sub(k, x, y):
    """x - y, broadcast."""
    return x - y


def add(input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """input + alpha * other, broadcast. TypeError for a fractional alpha among integers."""
    return _add(input, other if alpha == 1 else _scaled("add", input, other, alpha))


def sub(input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """input - alpha * other, broadcast. TypeError for a fractional alpha among integers."""
    return _sub(input, other if alpha == 1 else _scaled("sub", input, other, alpha))


def _scaled(name: str, input: Any, other: Any, alpha: float) -> Any:
    kinds = [t.dtype.kind if hasattr(t, "dtype") else type(t).__name__[0] for t in (input, other)]
    if isinstance(alpha, float) and "f" not in kinds:
        raise TypeError(f"{name}: alpha={alpha} is no integer, input and other are; convert them with .float()")
    return other * alpha


@op
def mul(k, x, y):
    """x * y, broadcast."""
    return x * y


@op
def div(k, x, y, *, rounding_mode=None):
    """x / y, broadcast; integers give float32. `rounding_mode` 'floor' or 'trunc' rounds it (derivative 0)."""
    array = x if hasattr(x, "dtype") else y
    if rounding_mode is not None:
        _nonzero("div", x, y)
    if rounding_mode is None:
        out = k.xp.true_divide(x, y)
        return out if array.dtype.kind == "f" else out.astype("float32")
    if rounding_mode == "floor":
        return k.xp.floor_divide(x, y)
    if rounding_mode == "trunc":
        return k.xp.trunc(k.xp.true_divide(x, y)) if array.dtype.kind == "f" else (x - k.xp.fmod(x, y)) // y
    raise ValueError(f"div: rounding_mode={rounding_mode!r} is not known; use None, 'floor' or 'trunc'")


def _nonzero(name: str, x: Any, y: Any) -> None:
    """ZeroDivisionError where integers are divided by 0: no integer stands for infinity or NaN."""
    if (x if hasattr(x, "dtype") else y).dtype.kind == "f":
        return
    zero = not y.all() if isinstance(y, np.ndarray) else type(y) is int and y == 0  # a GPU's array is not waited for
    if zero:
        raise ZeroDivisionError(f"{name}: integers cannot be divided by 0; convert them with .float()")


@op
def neg(k, x):
    """-x."""
    return -x


@op
def pow(k, x, y):
    """x ** y, broadcast; base or exponent may be a number.

    The exponent's derivative is log(x) * out, and 0 at x = 0 <= y.
    """
    if type(y) is int and x.dtype.kind == "b":
        x = x.astype("int64")
    if not hasattr(y, "dtype") and y in (3, 4):  # three times as fast as NumPy's power
        return x * x * x if y == 3 else (x * x) * (x * x)
    return x**y


@op
def floor_divide(k, x, y):
    """The quotient x / y rounded towards minus infinity, broadcast; no gradient."""
    _nonzero("floor_divide", x, y)
    return k.xp.floor_divide(x, y)


@op
def fmod(k, x, y):
    """The remainder x - y * trunc(x / y), with the sign of x; d/dy = -trunc(x / y)."""
    _nonzero("fmod", x, y)
    return k.xp.fmod(x, y)


@op
def remainder(k, x, y):
    """The remainder x - y * floor(x / y), with the sign of y, as Python's %; d/dy = -floor(x / y)."""
    _nonzero("remainder", x, y)
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


_sub.vjp("x")(lambda g: g)
_sub.vjp("y")(lambda g: -g)
mul.vjp("x")(lambda g, y: g * y)
mul.vjp("y")(lambda g, x: g * x)
div.vjp("x")(lambda g, y, rounding_mode: g / y if rounding_mode is None else g * 0.0)
div.vjp("y")(lambda g, x, y, rounding_mode: -g * (x / y / y) if rounding_mode is None else g * 0.0)
neg.vjp("x")(lambda g: -g)
pow.vjp("x")(_pow_base)
pow.vjp("y")(_pow_exponent)
fmod.vjp("x")(lambda g: g)
fmod.vjp("y")(lambda g, x, y: -g * div(x, y, rounding_mode="trunc"))
remainder.vjp("x")(lambda g: g)
remainder.vjp("y")(lambda g, x, y: -g * div(x, y, rounding_mode="floor"))


def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """input + weight * (end - input), broadcast: input at weight 0, end at weight 1."""
    return input + (end - input) * weight


def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """input + value * tensor1 * tensor2, broadcast."""
    return input + tensor1 * tensor2 * value


def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """input + value * tensor1 / tensor2, broadcast."""
    return input + tensor1 / tensor2 * value
