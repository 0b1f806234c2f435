"""One index per element: `gather` reads along an axis, `scatter` and `scatter_add` write.

    gather(x, 1, index)[i, j] = x[i, index[i, j]]        scatter_add(0, 1, index, g)[i, index[i, j]] += g[i, j]

These two are each other's adjoint. Where `scatter` finds a place named twice, it keeps one of the values, the last on
the CPU. As in torch, gradients reach all values in src, also those that were written over. The index is a constant.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..tape import Tensor, op
from .creation import fitting
from .indexing import _add_at, _index_array, _take, check_source
from .joining import _slice
from .view import dim_of, expand, flatten, numpy_names, reshape

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


@op
def _overwrite(k, x, y, *, dim, index):
    """x with the elements of y (an array like index, or a number) written at the places that index names."""
    out = k.xp.array(x, order="C")
    out.reshape(-1)[_positions(k.xp, index, dim, x.shape)] = y
    return out


_overwrite.vjp("x")(lambda g, dim, index: _overwrite(g, 0.0, dim=dim, index=index))
_overwrite.vjp("y")(lambda g, dim, index: _gather(g, dim=dim, index=index))


def _checked_gather(name: str, x: Tensor, dim: int, index: Any) -> tuple[int, Any]:
    dim = dim_of(name, dim, x.ndim)
    shape = tuple(x.shape or (1,))
    array = _index_array(name, x, index, shape[dim])
    others = [n > m for i, (n, m) in enumerate(zip(array.shape, shape)) if i != dim]
    if array.size and (max(array.ndim, 1) != len(shape) or any(others)):
        raise ValueError(
            f"{name}: index {tuple(array.shape)} should have as many axes as x {shape}, none longer but axis {dim}"
        )
    return dim, array


@numpy_names
def gather(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """y[i,j,k] = input[i, index[i,j,k], k] for dim = 1, with the shape of index.

    An input without axes counts as one of length 1, and so does an index. IndexError for values outside the axis,
    ValueError where `index` is longer than input along another axis.
    """
    dim, array = _checked_gather("gather", input, dim, index)
    if not array.size:
        return _take(flatten(input), dim=0, index=array)
    return reshape(_gather(_with_axis(input), dim=dim, index=array.reshape(array.shape or 1)), array.shape)


def _with_axis(x: Tensor) -> Tensor:
    return x if x.ndim else reshape(x, 1)


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
    dim, array, src = _checked_source("scatter_add", input, dim, index, src)
    return input + reshape(_scatter(src, dim=dim, index=array, shape=tuple(input.shape or (1,))), input.shape)


def _checked_source(name: str, x: Tensor, dim: int, index: Tensor, src: Tensor) -> tuple[int, Any, Tensor]:
    check_source(name, "src", src, x)
    dim, array = _checked_gather(name, x, dim, index)
    if not array.size:  # nothing is written
        array = array.reshape((0,) * max(x.ndim, 1))
        return dim, array, reshape(_take(flatten(src), dim=0, index=array.reshape(-1)), array.shape)
    if src.ndim != array.ndim or any(n > m for n, m in zip(array.shape, src.shape)):
        raise ValueError(f"{name}: index {tuple(array.shape)} is larger than src {tuple(src.shape)}")
    if tuple(src.shape) != array.shape:
        src = _slice(src, index=tuple([slice(n) for n in array.shape]))
    return dim, array.reshape(array.shape or 1), _with_axis(src)


def scatter(input: Tensor, dim: int, index: Tensor, src: Tensor | float) -> Tensor:
    """input with src (a tensor or a number) written where index says: y[i, index[i,j,k], k] = src[i,j,k] for dim = 1.

    Where a place is named twice, one of the values stays. Errors as `gather`.
    """
    if isinstance(src, Tensor):
        dim, array, src = _checked_source("scatter", input, dim, index, src)
    else:
        dim, array = _checked_gather("scatter", input, dim, index)
        array = array.reshape(array.shape or 1) if array.size else array.reshape((0,) * max(input.ndim, 1))
        src = fitting("scatter", src, input.dtype)
    return reshape(_overwrite(_with_axis(input), src, dim=dim, index=array), input.shape)
