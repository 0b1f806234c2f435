"""Order along an axis: `sort`, `argsort`, `topk`.

The order itself is a constant; the values are gathered by it. So the gradient of each value goes to the one element it
came from. Equal elements keep their order, and NaN counts as the largest, as in torch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..tape import Tensor
from .gathering import _gather
from .view import clone, dim_of, numpy_names

__all__ = ["sort", "argsort", "topk"]


class Sorted(NamedTuple):
    """What `sort` and `topk` return: the values, and where in x they stood (int64)."""

    values: Tensor
    indices: Tensor


def _order(x: Tensor, dim: int, descending: bool) -> Any:
    """The stable order of x along dim as an array of indices; NaN counts as larger than everything, as in torch."""
    xp, a = x.device.kernels.xp, x.array
    if not descending:
        return xp.argsort(a, axis=dim, kind="stable").astype(np.int64, copy=False)
    backwards = xp.flip(xp.argsort(xp.flip(a, dim), axis=dim, kind="stable"), dim)
    return (a.shape[dim] - 1 - backwards).astype(np.int64, copy=False)


@numpy_names
def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> Sorted:
    """(values, indices): input in ascending order along `dim`; equals keep their order, NaN counts as the largest.

    The gradient of each value goes to the one element it came from, also among equals.
    """
    dim = dim_of("sort", dim, input.ndim)
    if input.ndim == 0:
        return Sorted(clone(input), Tensor(input.device.kernels.xp.zeros((), np.int64), None, input.device))
    order = _order(input, dim, descending)
    return Sorted(_gather(input, dim=dim, index=order), Tensor(order, None, input.device))


@numpy_names
def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The indices (int64) that put input in order along `dim`."""
    dim = dim_of("argsort", dim, input.ndim)
    order = _order(input, dim, descending) if input.ndim else input.device.kernels.xp.zeros((), np.int64)
    return Tensor(order, None, input.device)


@numpy_names
def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Sorted:
    """(values, indices) of the k largest (or smallest) elements along `dim`, in order; of equals the first is first."""
    dim = dim_of("topk", dim, input.ndim)
    size = input.shape[dim] if input.ndim else 1
    if not 0 <= k <= size:
        raise ValueError(f"topk: k={k} should be 0 to the {size} elements of axis {dim} in {tuple(input.shape)}")
    if input.ndim == 0:
        return sort(input)
    order = _order(input, dim, largest)[(slice(None),) * dim + (slice(k),)]
    order = input.device.kernels.xp.ascontiguousarray(order)
    return Sorted(_gather(input, dim=dim, index=order), Tensor(order, None, input.device))
