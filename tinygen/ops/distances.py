"""Distances between all rows of two sets, `cdist`, or of one, `pdist`.

    cdist(x, y)[i, j] = |x[i] - y[j]|_p        pdist(x) = |x[i] - x[j]|_p for i < j, row by row

The differences are formed, not expanded to |x|^2 - 2 x y + |y|^2: near points keep their digits, at the price of
memory for every coordinate of every pair. At distance 0 the derivative is 0.
"""

from __future__ import annotations

from ..tape import Tensor
from .indexing import index_select
from .reduce import norm
from .view import unsqueeze

__all__ = ["cdist", "pdist"]


def _check_p(name: str, p: float) -> None:
    if p < 0:
        raise ValueError(f"{name}: p={p} should not be negative")


def cdist(x1: Tensor, x2: Tensor, p: float = 2.0) -> Tensor:
    """The p-norms of all x1[..., i, :] - x2[..., j, :]: (..., P, M) and (..., R, M) to (..., P, R).

    The leading axes broadcast. ValueError where the rows differ in length, or for a negative p.
    """
    _check_p("cdist", p)
    if min(x1.ndim, x2.ndim) < 2 or x1.shape[-1] != x2.shape[-1]:
        raise ValueError(f"cdist: expected (..., P, M) and (..., R, M), got {tuple(x1.shape)} and {tuple(x2.shape)}")
    return norm(unsqueeze(x1, -2) - unsqueeze(x2, -3), p, -1)


def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """The p-norms of input[i] - input[j] for all i < j, row by row: (N, M) to (N (N - 1) / 2,)."""
    _check_p("pdist", p)
    if input.ndim != 2:
        raise ValueError(f"pdist: input should be (N, M), got {tuple(input.shape)}")
    first, second = (Tensor(i, None, input.device) for i in input.device.kernels.xp.triu_indices(input.shape[0], 1))
    return norm(index_select(input, 0, first) - index_select(input, 0, second), p, -1)
