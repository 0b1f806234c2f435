"""One index per element: `gather` reads along an axis, `scatter` and `scatter_add` write.

    gather(x, 1, index)[i, j] = x[i, index[i, j]]        scatter_add(0, 1, index, g)[i, index[i, j]] += g[i, j]

The two are each other's adjoint. The index is a constant.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..tape import Tensor, op
from .indexing import _add_at, _index_array
from .joining import _slice
from .masking import masked_fill
from .view import clone, dim_of, expand, flatten

__all__ = ["gather", "take_along_dim", "scatter", "scatter_add"]


def _positions(xp: Any, index: Any, dim: int, shape: tuple) -> Any:
    """Row-major positions in `shape` of each element's own place, with coordinate `dim` replaced by the element."""
    positions = index * math.prod(shape[dim + 1 :])
    for axis, n in enumerate(index.shape):
        if axis != dim:
            along = [1] * index.ndim
            along[axis] = n
            positions = positions + (xp.arange(n) * math.prod(shape[axis + 1 :])).reshape(along)
    return positions


@op
def _gather(k, x, *, dim, index):
    """y[i, j, ...] = x[i, ..., index[i, j, ...], ...]."""
    crop = tuple([slice(None) if axis == dim else slice(n) for axis, n in enumerate(index.shape)])
    return k.xp.take_along_axis(x[crop], index, dim)


@op
def _scatter(k, y, *, dim, index, shape):
    """The adjoint of _gather: zeros of `shape`, y added up at the places that index names."""
    size = math.prod(shape)
    positions = _positions(k.xp, index, dim, shape).reshape(-1)
    return _add_at(k, k.xp.ascontiguousarray(y).reshape(-1), positions, size).reshape(shape)


_gather.vjp("x")(lambda g, x_shape, dim, index: _scatter(g, dim=dim, index=index, shape=x_shape))
_scatter.vjp("y")(lambda g, dim, index: _gather(g, dim=dim, index=index))


def _checked_gather(name: str, x: Tensor, dim: int, index: Any) -> tuple[int, Any]:
    dim = dim_of(name, dim, x.ndim)
    shape = tuple(x.shape)
    array = _index_array(name, x, index, shape[dim] if shape else 1)
    if array.ndim != len(shape) or any(n > m for i, (n, m) in enumerate(zip(array.shape, shape)) if i != dim):
        raise ValueError(
            f"{name}: index {tuple(array.shape)} should have as many axes as x {shape}, none longer but axis {dim}"
        )
    return dim, array


def gather(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """y[i,j,k] = input[i, index[i,j,k], k] for dim = 1, with the shape of index.

    IndexError for values outside the axis, ValueError where `index` is longer than input along another axis.
    """
    dim, array = _checked_gather("gather", input, dim, index)
    return _gather(input, dim=dim, index=array) if input.ndim else clone(input)


def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """`gather` that takes negative indices and broadcasts all other axes; without `dim`, of the flattened input."""
    if dim is None:
        return gather(flatten(input), 0, flatten(indices))
    dim = dim_of("take_along_dim", dim, input.ndim)
    array = _index_array("take_along_dim", input, indices)
    if array.ndim != input.ndim:
        raise ValueError(
            f"take_along_dim: indices {tuple(array.shape)} should have as many axes as input {tuple(input.shape)}"
        )
    sizes = np.broadcast_shapes(*[(*s[:dim], 1, *s[dim + 1 :]) for s in (tuple(input.shape), array.shape)])
    xp, length = input.device.kernels.xp, input.shape[dim]
    array = xp.broadcast_to(array, (*sizes[:dim], array.shape[dim], *sizes[dim + 1 :]))
    array = _index_array("take_along_dim", input, xp.where(array < 0, array + length, array), length)
    return _gather(expand(input, (*sizes[:dim], input.shape[dim], *sizes[dim + 1 :])), dim=dim, index=array)


def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """input with src added where index says: y[i, index[i,j,k], k] += src[i,j,k] for dim = 1.

    In src it is the adjoint of `gather`. Elements of src beyond the shape of index are not used. Errors as `gather`.
    """
    return input + _scattered("scatter_add", input, dim, index, src)[0]


def _scattered(name: str, x: Tensor, dim: int, index: Tensor, src: Tensor) -> tuple[Tensor, int, Any]:
    dim, array = _checked_gather(name, x, dim, index)
    if src.ndim != array.ndim or any(n > m for n, m in zip(array.shape, src.shape)):
        raise ValueError(f"{name}: index {tuple(array.shape)} is larger than src {tuple(src.shape)}")
    if tuple(src.shape) != array.shape:
        src = _slice(src, index=tuple([slice(n) for n in array.shape]))
    return _scatter(src, dim=dim, index=array, shape=tuple(x.shape)), dim, array


def scatter(input: Tensor, dim: int, index: Tensor, src: Tensor | float) -> Tensor:
    """input with src (a tensor or a number) written where index says: y[i, index[i,j,k], k] = src[i,j,k] for dim = 1.

    Each place should be named once: here several values of a tensor add up, torch keeps one. Errors as `gather`.
    """
    if isinstance(src, Tensor):
        values, dim, array = _scattered("scatter", input, dim, index, src)
    else:
        dim, array = _checked_gather("scatter", input, dim, index)
    xp = input.device.kernels.xp
    mask = xp.zeros(math.prod(input.shape), bool)
    mask[_positions(xp, array, dim, tuple(input.shape)).reshape(-1)] = True
    mask = mask.reshape(input.shape)
    return masked_fill(input, mask, 0) + values if isinstance(src, Tensor) else masked_fill(input, mask, src)
