"""One of several values, element by element: `where`, `maximum`, `minimum`, `clamp`. Shapes broadcast as in NumPy.

    where(c, x, y) = x where c, else y        its gradients: g where c, else 0; and 0 where c, else g

At a kink we do as torch does: maximum and minimum share a tie half and half, clamp passes the gradient on its bounds.
Absent: extremes along an axis (`max`, `amin`), which are in reduce.py, and fills by a mask, in masking.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..tape import Tensor, op
from .comparison import eq, ge, gt, isnan, le, logical_and, logical_or, lt
from .creation import fitting
from .pointwise import cast

_WHOLE = (int, np.integer)  # a whole number; a fractional one makes floats of integers

__all__ = ["maximum", "minimum", "clamp", "where"]


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
    if isinstance(input, _WHOLE):
        input = _fitting_beside(other, input)
    elif isinstance(other, _WHOLE):
        other = _fitting_beside(input, other)
    return _where(input, other, condition=condition.array)


def _fitting_beside(tensor: Any, number: Any) -> Any:
    """The number; OverflowError unless the integers of the tensor beside it can hold it."""
    return fitting("where", number, tensor.dtype) if tensor.dtype.kind in "iu" else number


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


def _replaces(beyond: Tensor, bound: Any) -> Tensor:
    return logical_or(beyond, isnan(bound)) if isinstance(bound, Tensor) else beyond


def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """input moved into [min, max], either of which may be None; max wins if they cross. NaN in any gives NaN.

    The derivative is 1 inside and on the bounds, 0 outside. A bound may be a tensor, which broadcasts and gets the
    gradient of what it replaced. Raises ValueError if both bounds are None.
    """
    if min is None and max is None:
        raise ValueError("clamp: both bounds are None; give min, max or both")
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        out = input
        if min is not None:
            out = where(_replaces(lt(out, min), min), min, out)
        return out if max is None else where(_replaces(gt(out, max), max), max, out)
    # A Python number has no dtype.
    min, max = (v.item() if isinstance(v, np.generic | np.ndarray) else v for v in (min, max))
    if input.array.dtype.kind != "f" and (isinstance(min, float) or isinstance(max, float)):
        input = cast(input, "float32")
    return _clamp(input, min=min, max=max)
