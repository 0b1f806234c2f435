"""Comparisons and logic: bool tensors, broadcast as in NumPy. They are piecewise constant, so none has a gradient.

    x > 0                     # gt(x, 0)
    (x > 0) & (x < 1)         # bitwise_and: of booleans it is logical
    tensor([6]) & 3           # 2: of integers it goes bit by bit

Deliberately absent: comparisons up to a tolerance (`numpy.allclose` serves).
"""

from __future__ import annotations

from typing import Any

from ..tape import op

__all__ = [
    "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "logical_not",
    "isnan", "isinf", "isfinite", "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not", "bitwise_left_shift",
    "bitwise_right_shift",
]  # fmt: skip


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


def _bits(name: str, kinds: str, *operands: Any) -> None:
    """Raises TypeError for an operand without bits, or if none is of these kinds."""
    found = "".join([x.dtype.kind if hasattr(x, "dtype") else type(x).__name__[0] for x in operands])
    if "f" in found or not set(kinds) & set(found):
        what = "integers or booleans" if "b" in kinds else "integers"
        given = " and ".join([str(getattr(x, "dtype", type(x).__name__)) for x in operands])
        raise TypeError(f"{name}: expected {what}, got {given}; compare (x > 0) or convert with .long() first")


@op
def bitwise_and(k, x, y):
    """x & y, bit by bit, broadcast: integers, or booleans."""
    _bits("bitwise_and", "iub", x, y)
    return k.xp.bitwise_and(x, y)


@op
def bitwise_or(k, x, y):
    """x | y, bit by bit, broadcast: integers, or booleans."""
    _bits("bitwise_or", "iub", x, y)
    return k.xp.bitwise_or(x, y)


@op
def bitwise_xor(k, x, y):
    """x ^ y, bit by bit, broadcast: integers, or booleans."""
    _bits("bitwise_xor", "iub", x, y)
    return k.xp.bitwise_xor(x, y)


@op
def bitwise_not(k, x):
    """~x: -x - 1 for signed integers, not x for booleans."""
    _bits("bitwise_not", "iub", x)
    return k.xp.invert(x)


@op
def bitwise_left_shift(k, x, y):
    """x << y = x * 2^y, without the bits that leave the integer, broadcast."""
    _bits("bitwise_left_shift", "iu", x, y)
    return k.xp.left_shift(x, y)


@op
def bitwise_right_shift(k, x, y):
    """x >> y = floor(x / 2^y), broadcast: integers."""
    _bits("bitwise_right_shift", "iu", x, y)
    return k.xp.right_shift(x, y)
