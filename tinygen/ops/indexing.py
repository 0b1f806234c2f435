"""Elements chosen by position: `x[index]`, `select`, `index_select`, `index_add`.

Reading by an index array copies numbers, some of them twice; so the adjoint adds up where the same place was read:

    _take(x)[i] = x[index[i]]        _untake(g)[j] = sum over i with index[i] = j of g[i]

Index tensors are constants: the public functions pass their raw arrays on as static attributes. Integers and slices
alone give views; arrays and masks give copies.
"""

from __future__ import annotations

import math
import operator
from types import EllipsisType, NoneType
from typing import Any

import numpy as np

from ..tape import Tensor, op
from .joining import _slice
from .view import _reshape, dim_of, numpy_names

__all__ = ["getitem", "select", "index_select", "index_add"]


@op
def _take(k, x, *, dim, index):
    """x[:, ..., index, ...] with an integer array of any shape in the place of axis `dim`."""
    return k.xp.take(x, index, dim)


@op
def _untake(k, y, *, dim, index, length):
    """The adjoint of _take: y added up at the places it was read from, along an axis of `length`."""
    xp = k.xp
    rows = xp.moveaxis(y, tuple(range(dim, dim + index.ndim)), tuple(range(index.ndim)))
    rows = xp.ascontiguousarray(rows.reshape(index.size, *rows.shape[index.ndim :]))
    flat = index.reshape(-1)
    out = _add_at(k, rows, xp.where(flat < 0, flat + length, flat), length)
    return xp.ascontiguousarray(xp.moveaxis(out, 0, dim))


_take.vjp("x")(lambda g, x_shape, dim, index: _untake(g, dim=dim, index=index, length=x_shape[dim]))
_untake.vjp("y")(lambda g, dim, index: _take(g, dim=dim, index=index))


_FEW = 64  # as many can be added up in single precision: the error stays below that of the law of reductions


def _add_at(k: Any, values: Any, index: Any, length: int) -> Any:
    """The kernel scatter_add, which adds floats; integers are added by NumPy or CuPy.

    Where many meet at one place, in double: in single a million equal numbers are 2 % off.
    """
    if values.dtype.kind == "f":
        wide = values.dtype.itemsize < 4 or (values.dtype.itemsize < 8 and len(index) > _FEW)
        total = k.scatter_add(values.astype(np.float64) if wide else values, index, length)
        return total.astype(values.dtype, copy=False)
    out = k.xp.zeros((length, *values.shape[1:]), values.dtype)
    k.xp.add.at(out, index, values)
    return out


@op
def _index(k, x, *, index):
    """x[index] for a tuple of integer arrays, masks and whole slices."""
    return k.xp.ascontiguousarray(x[index])


@op
def _unindex(k, y, *, shape, index):
    """The adjoint of _index: zeros of `shape`, y added up at [index]."""
    xp = k.xp
    if all(type(i) is slice or i.dtype.kind == "b" for i in index):  # a mask reads no place twice
        out = xp.zeros(shape, y.dtype)
        out[index] = y
        return out
    size = math.prod(shape)
    positions = xp.arange(size).reshape(shape)[index]
    return _add_at(k, xp.ascontiguousarray(y).reshape(-1), positions.reshape(-1), size).reshape(shape)


_index.vjp("x")(lambda g, x_shape, index: _unindex(g, shape=x_shape, index=index))
_unindex.vjp("y")(lambda g, index: _index(g, index=index))


@op
def _put(k, x, value, *, index):
    """x with `value`, broadcast, at [index]; where a place is named twice, one of the values."""
    out = x.copy()
    basic, advanced = separate(index, x.ndim)
    basic = (*basic, ...)
    target = out[basic]
    target[advanced] = value
    return out


_put.vjp("x")(lambda g, index: _put(g, 0, index=index))
_put.vjp("value")(lambda g, index: getitem(g, index))


_BASIC = frozenset({int, slice, NoneType, EllipsisType})


def raw_index(x: Tensor, index: Any) -> tuple:
    """An index as NumPy takes it: a tuple of integers, slices, None, Ellipsis and raw arrays on x's device."""
    items = index if type(index) is tuple else (index,)
    if _BASIC.issuperset([type(i) for i in items]):
        return items
    return tuple([i if type(i) in _BASIC else _as_index(x, i) for i in items])


def _as_index(x: Tensor, item: Any) -> Any:
    xp = x.device.kernels.xp
    array = item.array if isinstance(item, Tensor) else np.asarray(item)
    if array.size == 0 and not isinstance(item, Tensor):
        array = array.astype(np.int64)
    if array.dtype.kind not in "iub":
        raise IndexError(
            f"getitem: an index should hold integers or booleans, got {array.dtype}; convert it with .long()"
        )
    if array.dtype == np.uint8 and not isinstance(item, np.generic):
        raise IndexError(
            f"getitem: an index of uint8 {array.shape} may mean a mask or positions; convert it with .bool() or .long()"
        )
    if array.ndim == 0 and array.dtype.kind != "b":
        return int(array)
    return xp.asarray(array)


def _whole(index: Any) -> bool:
    return type(index) is slice and index == slice(None)


def getitem(input: Tensor, index: Any) -> Tensor:
    """input[index] with integers, slices, None, Ellipsis (a view of input), integer arrays and boolean masks (a copy).

    As in torch, integers and slices apply first. The index arrays then broadcast together. Their axes take the place
    of the first array, or come first where a slice separates the arrays. Gradients of elements read several times add
    up.
    """
    items = raw_index(input, index)
    try:
        if _BASIC.issuperset([type(i) for i in items]):
            return _slice(input, index=items if Ellipsis in items else (*items, ...))
        basic, advanced = separate(items, input.ndim)
        if not all(map(_whole, basic)):
            input = _slice(input, index=(*basic, ...))
        arrays = [i for i, a in enumerate(advanced) if type(a) is not slice]
        if len(arrays) == 1 and advanced[arrays[0]].dtype.kind != "b":
            return _take(input, dim=arrays[0], index=advanced[arrays[0]])
        return _index(input, index=advanced)
    except IndexError as error:
        raise IndexError(f"getitem: {error} (input is {tuple(input.shape)})") from None


def separate(items: tuple, ndim: int) -> tuple[tuple, tuple]:
    """An index in two steps: first integers, slices and new axes, then arrays and masks on the axes that are left."""
    masks = [i.ndim for i in items if type(i) not in _BASIC and i.dtype.kind == "b"]
    used = sum(i is not None and i is not Ellipsis for i in items) - len(masks) + sum(masks)
    dots = sum(i is Ellipsis for i in items)
    if used > ndim or dots > 1:
        raise IndexError(f"{used} indices for {ndim} dimensions" if used > ndim else "more than one Ellipsis")
    rest = (slice(None),) * (ndim - used)
    items = items if dots else (*items, ...)
    basic: tuple = ()
    advanced: tuple = ()
    for item in items:
        if item is Ellipsis:
            basic, advanced = basic + rest, advanced + rest
        elif type(item) in _BASIC:
            basic += (item,)
            advanced += () if type(item) is int else (slice(None),)
        elif item.dtype.kind == "b":  # a mask covers as many axes as it has; one without axes acts on a new one
            basic += (slice(None),) * item.ndim or (None,)
            advanced += (item.reshape(item.shape or (1,)),)
        else:
            basic += (slice(None),)
            advanced += (item,)
    return basic, advanced


def select(input: Tensor, dim: int, index: int) -> Tensor:
    """The view input[index] along axis `dim`, without that axis."""
    dim = dim_of("select", dim, input.ndim)
    return getitem(input, (slice(None),) * dim + (operator.index(index),))


def _index_array(name: str, x: Tensor, index: Any, length: int | None = None) -> Any:
    """An index tensor (array, list) as a raw int64 array on x's device; with `length`, checked to lie below it.

    The check reads the data, so it is made on the CPU alone: on a GPU it would wait for everything launched before.
    """
    xp = x.device.kernels.xp
    array = xp.asarray(index.array if isinstance(index, Tensor) else index)
    if array.size == 0:
        return array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: the index should hold integers, got {array.dtype}; convert it with .long()")
    if length is not None and xp is np and (array.min() < 0 or array.max() >= length):
        raise IndexError(f"{name}: index values {array.min()} to {array.max()} do not lie in 0 to {length - 1}")
    return array.astype(np.int64, copy=False)


@numpy_names
def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The elements index[0], index[1], ... of axis `dim`, in that order; index is 1-D. IndexError outside the axis."""
    dim = dim_of("index_select", dim, input.ndim)
    array = _index_array("index_select", input, index, input.shape[dim] if input.ndim else 1).reshape(-1)
    if not input.ndim:
        if array.size != 1:
            raise ValueError(f"index_select: input has no axes, so index should have one element, got {array.size}")
        return _reshape(input, shape=())
    return _take(input, dim=dim, index=array)


def check_source(name: str, what: str, source: Tensor, input: Tensor) -> None:
    """TypeError unless input keeps its dtype with this source: one of that dtype, or integers beside floats."""
    if source.dtype != input.dtype and (input.dtype.kind != "f" or source.dtype.kind == "f"):
        remedy = f"convert {what} with .to({str(input.dtype)!r})"
        raise TypeError(f"{name}: {what} is {source.dtype}, input {input.dtype}; {remedy}")


def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    """input with alpha * source[i] added to element index[i] of axis `dim`: the adjoint of `index_select` in source."""
    dim = dim_of("index_add", dim, input.ndim)
    check_source("index_add", "source", source, input)
    if not input.ndim:
        flat = _reshape(source, shape=(source.array.size,))
        return _reshape(index_add(_reshape(input, shape=(1,)), 0, index, flat, alpha=alpha), shape=())
    length = input.shape[dim]
    array = _index_array("index_add", input, index, length).reshape(-1)
    expected = (*input.shape[:dim], len(array), *input.shape[dim + 1 :])
    if tuple(source.shape) != expected:
        raise ValueError(
            f"index_add: source should be {expected} for input {tuple(input.shape)}, got {tuple(source.shape)}"
        )
    added = _untake(source, dim=dim, index=array, length=length)
    return input + (added if alpha == 1 else added * alpha)
