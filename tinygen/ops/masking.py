"""Elements chosen by a condition: `masked_fill`, `masked_select`, `nonzero`.

    masked_fill(x, mask, v) = v where mask, else x        its gradients: 0 where mask, else g; and, of v, the others

A mask is a boolean tensor. It is a constant. In `masked_fill` mask and x broadcast against each other, as in torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..tape import Tensor
from .choosing import _where
from .creation import fitting
from .indexing import getitem
from .joining import stack
from .pointwise import cast

__all__ = ["masked_fill", "masked_select", "nonzero"]


def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """value (a number or a 0-d tensor) where mask is true, input elsewhere, in input's dtype; the shapes broadcast.

    Raises ValueError for shapes that do not broadcast and for a value that the dtype cannot hold, TypeError for a mask
    that is not boolean.
    """
    array = _mask("masked_fill", mask, input)
    try:
        np.broadcast_shapes(array.shape, input.array.shape)
    except ValueError:
        shapes = f"mask {tuple(array.shape)} and input {tuple(input.shape)}"
        raise ValueError(f"masked_fill: {shapes} do not broadcast; make their axes equal or 1") from None
    if not isinstance(value, Tensor):
        return _where(fitting("masked_fill", value, input.dtype), input, condition=array)
    if value.ndim:
        raise ValueError(f"masked_fill: value should be a number or a 0-d tensor, got {tuple(value.shape)}; use where")
    return _where(cast(value, input.dtype), input, condition=array)


def _mask(name: str, mask: Any, x: Tensor) -> Any:
    array = x.device.kernels.xp.asarray(mask.array if isinstance(mask, Tensor) else mask)
    if array.dtype != bool:
        raise TypeError(f"{name}: the mask should be boolean, got {array.dtype}; convert it with .bool()")
    return array


def _check_mask(name: str, mask: Any, x: Tensor) -> None:
    lead = x.ndim - mask.ndim
    if lead < 0 or any(n not in (1, m) for n, m in zip(mask.shape, x.shape[lead:])):
        raise ValueError(f"{name}: mask {tuple(mask.shape)} does not broadcast to x {tuple(x.shape)}")


def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements of input where the mask (broadcast to input's shape) is true, in row-major order, 1-D."""
    array = _mask("masked_select", mask, input)
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
