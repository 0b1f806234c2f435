"""Elements chosen by a condition: `masked_fill`, `masked_select`, `nonzero`.

    masked_fill(x, mask, v) = v where mask, else x        its gradient: 0 where mask, else g

A mask is a boolean tensor that broadcasts to the shape of x. It is a constant.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..tape import Tensor, op
from .indexing import getitem
from .joining import stack

__all__ = ["masked_fill", "masked_select", "nonzero"]


@op
def _masked_fill(k, x, *, mask, value):
    """value where mask, x elsewhere."""
    return k.xp.where(mask, x.dtype.type(value), x)


_masked_fill.vjp("x")(lambda g, mask: _masked_fill(g, mask=mask, value=0))


def masked_fill(input: Tensor, mask: Tensor, value: float) -> Tensor:
    """value where mask is true, input elsewhere; the mask broadcasts to input's shape, else ValueError."""
    array = input.device.kernels.xp.asarray(mask.array if isinstance(mask, Tensor) else mask)
    if array.dtype != bool:
        raise TypeError(f"masked_fill: the mask should be boolean, got {array.dtype}; convert it with .bool()")
    _check_mask("masked_fill", array, input)
    return _masked_fill(input, mask=array, value=value.item() if isinstance(value, Tensor) else value)


def _check_mask(name: str, mask: Any, x: Tensor) -> None:
    lead = x.ndim - mask.ndim
    if lead < 0 or any(n not in (1, m) for n, m in zip(mask.shape, x.shape[lead:])):
        raise ValueError(f"{name}: mask {tuple(mask.shape)} does not broadcast to x {tuple(x.shape)}")


def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements of input where the mask (broadcast to input's shape) is true, in row-major order, 1-D."""
    array = input.device.kernels.xp.asarray(mask.array if isinstance(mask, Tensor) else mask)
    _check_mask("masked_select", array, input)
    whole = input.device.kernels.xp.broadcast_to(array, tuple(input.shape))
    return getitem(input, Tensor(whole, None, input.device))


def nonzero(input: Tensor, as_tuple: bool = False) -> Any:
    """The places where input is not zero, in row-major order: (count, ndim) int64.

    With as_tuple, one 1-D tensor per axis.
    """
    places = [Tensor(p.astype(np.int64, copy=False), None, input.device) for p in input.array.nonzero()]
    if as_tuple:
        return tuple(places)
    return stack(places, 1)
