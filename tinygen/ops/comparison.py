"""Comparisons and logic: bool tensors, broadcast as in NumPy. They are piecewise constant, so none has a gradient.

    x > 0                     # gt(x, 0)
    (x > 0) & (x < 1)         # logical_and(gt(x, 0), lt(x, 1))

Deliberately absent: comparisons up to a tolerance (`numpy.allclose` serves), and bitwise logic of integers.
"""

from __future__ import annotations

from ..tape import op

__all__ = [
    "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "logical_not",
    "isnan", "isinf", "isfinite",
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
