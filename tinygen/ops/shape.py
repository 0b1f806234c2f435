"""Shapes, indices and order: ops that move numbers and compute none.

Each is linear in x, so its VJP is its adjoint: moving every number back to where it came from. Where a number was
dropped the adjoint writes a zero, where it was copied the adjoint adds up. So most ops here come in pairs that are
each other's adjoint, and derivatives of any order cost no further code:

    reshape <-> reshape    transpose <-> transpose    slice <-> place (write into zeros)    flip, tril <-> themselves
    take    <-> untake     gather    <-> scatter      index <-> unindex                     pixel_shuffle <-> unshuffle

Integer and boolean index tensors are constants: the public functions pass their raw arrays on as static attributes.
Reshapes, transposes, slices and expansions share memory with their input, as in NumPy and torch; everything else is a
copy.

Deliberately absent: in-place versions (tensor.py has those that may be), strides, named dimensions.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from types import EllipsisType, NoneType
from typing import Any, NamedTuple

import numpy as np

from ..tape import Tensor, op
from ..tape import expand as _expand

__all__ = [
    "reshape", "view", "transpose", "swapaxes", "swapdims", "permute", "movedim", "flatten", "unflatten", "squeeze",
    "unsqueeze", "expand", "expand_as", "broadcast_to", "clone", "contiguous",
    "cat", "concat", "concatenate", "stack", "split", "chunk", "unbind", "narrow", "select",
    "getitem", "gather", "take_along_dim", "scatter", "scatter_add", "index_select", "index_add", "masked_fill",
    "masked_select", "nonzero", "embedding", "one_hot",
    "pad", "flip", "roll", "tile", "repeat", "repeat_interleave", "pixel_shuffle", "pixel_unshuffle",
    "tril", "triu", "diagonal", "diag", "sort", "argsort", "topk", "meshgrid",
]  # fmt: skip


# ---------------------------------------------------------------- arguments


def sizes_of(name: str, sizes: tuple) -> tuple[int, ...]:
    """The integers of `f(2, 3)`, `f((2, 3))` or `f([2, 3])` as a tuple."""
    if len(sizes) == 1 and isinstance(sizes[0], tuple | list):
        sizes = tuple(sizes[0])
    try:
        return tuple([operator.index(n) for n in sizes])
    except TypeError:
        raise TypeError(f"{name}: expected integers, got {sizes}") from None


def dim_of(name: str, dim: int, ndim: int) -> int:
    """`dim` counted from the front; IndexError outside [-ndim, ndim - 1]."""
    reach = max(ndim, 1)
    if not -reach <= dim < reach:
        raise IndexError(
            f"{name}: dimension {dim} is out of range for {ndim} dimensions (legal: {-reach} to {reach - 1})"
        )
    return dim % reach


def _whole(index: Any) -> bool:
    return type(index) is slice and index == slice(None)


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


# ---------------------------------------------------------------- views


@op(view=True)
def _reshape(k, x, *, shape):
    """The same numbers in row-major order under another shape."""
    return x.reshape(shape)


_reshape.vjp("x")(lambda g, x_shape: _reshape(g, shape=x_shape))


def reshape(input: Tensor, shape: Any, *more: int) -> Tensor:
    """input's numbers in row-major order with another shape; one entry may be -1. Shares input's memory where it can.

    ValueError if the number of elements does not fit.
    """
    sizes = sizes_of("reshape", (shape, *more))
    try:
        return _reshape(input, shape=sizes)
    except ValueError:
        raise ValueError(
            f"reshape: {tuple(input.shape)} has {math.prod(input.shape)} elements, which do not fill {sizes}; "
            "let -1 stand for the size that follows from the others"
        ) from None


def view(input: Tensor, size: Any, *more: int) -> Tensor:
    """`reshape` that promises to share memory: ValueError where only a copy could have that shape."""
    result = reshape(input, size, *more)
    if result.array.size and not input.device.kernels.xp.may_share_memory(result.array, input.array):
        raise ValueError(
            f"view: {tuple(input.shape)} is not contiguous, only a copy of it can be {tuple(result.shape)}; use reshape"
        )
    return result


@op(view=True)
def _transpose(k, x, *, dim0, dim1):
    """x with two axes exchanged."""
    return x.swapaxes(dim0, dim1)


_transpose.vjp("x")(lambda g, dim0, dim1: _transpose(g, dim0=dim0, dim1=dim1))


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """input with axes dim0 and dim1 exchanged; IndexError for an axis that input does not have."""
    ndim = input.ndim
    if not (-ndim <= dim0 < ndim and -ndim <= dim1 < ndim):
        dim_of("transpose", dim0, ndim), dim_of("transpose", dim1, ndim)
        return input  # 0-d: axis 0 with itself
    return _transpose(input, dim0=dim0, dim1=dim1)


swapaxes = swapdims = transpose


@op(view=True)
def _permute(k, x, *, dims):
    """x with its axes in the order `dims`."""
    return x.transpose(dims)


_permute.vjp("x")(lambda g, dims: _permute(g, dims=tuple([dims.index(i) for i in range(len(dims))])))


def permute(input: Tensor, dims: Any, *more: int) -> Tensor:
    """input's axes in another order, y.shape[i] = input.shape[dims[i]]; ValueError unless each axis is named once."""
    order = tuple([dim_of("permute", d, input.ndim) for d in sizes_of("permute", (dims, *more))])
    if sorted(order) != list(range(input.ndim)):
        raise ValueError(f"permute: {dims} should name each of the {input.ndim} axes of {tuple(input.shape)} once")
    return _permute(input, dims=order)


def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """input with the axes `source` at the places `destination`, the others in their old order."""
    sources = [dim_of("movedim", d, input.ndim) for d in ((source,) if isinstance(source, int) else source)]
    places = [
        dim_of("movedim", d, input.ndim) for d in ((destination,) if isinstance(destination, int) else destination)
    ]
    if len(sources) != len(places) or len(set(sources)) != len(sources) or len(set(places)) != len(places):
        raise ValueError(
            f"movedim: source {source} and destination {destination} should each name as many axes, once each"
        )
    order = [d for d in range(input.ndim) if d not in sources]
    for place, axis in sorted(zip(places, sources)):
        order.insert(place, axis)
    return permute(input, order)


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """input with the axes start_dim to end_dim (inclusive) merged into one; a 0-d input becomes (1,)."""
    shape = tuple(input.shape)
    first, last = dim_of("flatten", start_dim, len(shape)), dim_of("flatten", end_dim, len(shape))
    if first > last:
        raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim} in {shape}")
    if first == last and shape:
        return input
    return _reshape(input, shape=(*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]))


def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """input with axis `dim` split into axes of the given sizes (one may be -1)."""
    dim, shape = dim_of("unflatten", dim, input.ndim), tuple(input.shape)
    sizes = list(sizes_of("unflatten", (sizes,)))
    known = math.prod(n for n in sizes if n != -1)
    if sizes.count(-1) == 1 and known and shape[dim] % known == 0:
        sizes[sizes.index(-1)] = shape[dim] // known
    if math.prod(sizes) != shape[dim] or min(sizes, default=1) < 0:
        raise ValueError(f"unflatten: {tuple(sizes)} does not multiply to the {shape[dim]} of axis {dim} in {shape}")
    return _reshape(input, shape=(*shape[:dim], *sizes, *shape[dim + 1 :]))


def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """input without its axes of size 1, or without those of them named in `dim`."""
    shape = tuple(input.shape)
    named = (
        range(len(shape))
        if dim is None
        else [dim_of("squeeze", d, len(shape)) for d in ((dim,) if isinstance(dim, int) else dim)]
    )
    kept = tuple([n for i, n in enumerate(shape) if n != 1 or i not in named])
    return input if kept == shape else _reshape(input, shape=kept)


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """input with a new axis of size 1 at place `dim` of the result."""
    shape = input.shape
    dim = dim_of("unsqueeze", dim, len(shape) + 1)
    return _reshape(input, shape=(*shape[:dim], 1, *shape[dim:]))


def expand(input: Tensor, size: Any, *more: int) -> Tensor:
    """input broadcast to `size` without a copy (a read-only view); -1 keeps a size. Its adjoint is a sum.

    ValueError where an axis of input is neither 1 nor the size asked for.
    """
    wanted, shape = sizes_of("expand", (size, *more)), tuple(input.shape)
    lead = len(wanted) - len(shape)
    resolved = tuple([shape[i - lead] if n == -1 and i >= lead else n for i, n in enumerate(wanted)])
    if lead < 0 or any(n < 0 for n in resolved) or any(o not in (1, n) for o, n in zip(shape, resolved[lead:])):
        raise ValueError(
            f"expand: {shape} cannot be broadcast to {wanted}; only axes of size 1 and new leading axes expand"
        )
    return input if resolved == shape else _expand(input, shape=resolved)


def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """input broadcast to the shape of `other`."""
    return expand(input, tuple(other.shape))


def broadcast_to(input: Tensor, size: Sequence[int]) -> Tensor:
    """input broadcast to `size`: `expand` under NumPy's name."""
    return expand(input, tuple(size))


@op
def clone(k, x):
    """A copy of x in memory of its own, row-major; the gradient passes through."""
    return x.copy()


clone.vjp("x")(lambda g: g)


def contiguous(input: Tensor) -> Tensor:
    """input itself where its memory is row-major without gaps, else a copy that is."""
    return input if input.array.flags.c_contiguous else clone(input)


# ---------------------------------------------------------------- basic slices, and writing into a larger array


@op(view=True)
def _slice(k, x, *, index):
    """x[index] for integers, slices, None and Ellipsis."""
    return x[index]


@op
def _place(k, x, *, shape, index, value=0):
    """An array of `shape`, x at [index] and `value` everywhere else: the adjoint of _slice, and constant padding."""
    out = k.xp.full(shape, value, x.dtype)
    out[index] = x
    return out


_slice.vjp("x")(lambda g, x_shape, index: _place(g, shape=x_shape, index=index))
_place.vjp("x")(lambda g, index: _slice(g, index=index))


def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """The view input[start : start + length] along axis `dim`; ValueError where that leaves the axis."""
    dim = dim_of("narrow", dim, input.ndim)
    size = input.shape[dim]
    first = start + size if start < 0 else start
    if length < 0 or not 0 <= first <= size - length:
        raise ValueError(f"narrow: elements {start} to {start + length} leave axis {dim} of {tuple(input.shape)}")
    return _slice(input, index=(slice(None),) * dim + (slice(first, first + length), ...))


def select(input: Tensor, dim: int, index: int) -> Tensor:
    """The view input[index] along axis `dim`, without that axis."""
    dim = dim_of("select", dim, input.ndim)
    return getitem(input, (slice(None),) * dim + (operator.index(index),))


@op
def _split(k, x, *, ends, dim):
    """The pieces of x between consecutive `ends` along `dim`, as views."""
    before = (slice(None),) * dim
    return tuple([x[before + (slice(a, b),)] for a, b in zip((0, *ends[:-1]), ends)])


@_split.vjp("x")
def _(g, x_shape, ends, dim):
    shapes = [(*x_shape[:dim], b - a, *x_shape[dim + 1 :]) for a, b in zip((0, *ends[:-1]), ends)]
    some = next(piece for piece in g if piece is not None)
    xp = some.device.kernels.xp
    zeros = [Tensor(xp.zeros(s, some.dtype), None, some.device) if p is None else p for p, s in zip(g, shapes)]
    return _cat(*zeros, dim=dim)


def split(input: Tensor, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Views of input cut along `dim`: every `split_size` elements (the last may be shorter), or into given sizes."""
    dim = dim_of("split", dim, input.ndim)
    size = input.shape[dim]
    if isinstance(split_size_or_sections, int):
        if split_size_or_sections < 1:
            raise ValueError(f"split: split_size={split_size_or_sections} should be at least 1")
        ends = tuple(range(split_size_or_sections, size, split_size_or_sections)) + (size,)
    else:
        sections = sizes_of("split", (split_size_or_sections,))
        ends = tuple(np.cumsum(sections).tolist())
        if not ends or ends[-1] != size or min(sections) < 0:
            raise ValueError(
                f"split: sections {sections} do not add up to the {size} of axis {dim} in {tuple(input.shape)}"
            )
    pieces = _split(input, ends=ends, dim=dim)
    for piece in pieces:
        piece._version = input._version  # a piece is a view: changing it in place changes input
    return pieces


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` views of ceil(size / chunks) elements each along `dim`."""
    if chunks < 1:
        raise ValueError(f"chunk: chunks={chunks} should be at least 1")
    dim = dim_of("chunk", dim, input.ndim)
    return split(input, max(1, -(-input.shape[dim] // chunks)), dim)


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The views input[0], input[1], ... along `dim`."""
    dim = dim_of("unbind", dim, input.ndim)
    if input.shape[dim] == 0:
        return ()
    shape = (*input.shape[:dim], *input.shape[dim + 1 :])
    return tuple([_reshape(piece, shape=shape) for piece in split(input, 1, dim)])


# ---------------------------------------------------------------- joining


def _joined(k, join, arrays, dim):
    """join(arrays, dim); on a GPU eight at a time: of more CuPy copies the addresses over, which a graph forbids."""
    if k.xp is not np and len(arrays) > 8:
        arrays = [join(arrays[i : i + 8], dim) for i in range(0, len(arrays), 8)]
        return _joined(k, k.xp.concatenate, arrays, dim)
    return join(arrays, dim)


@op
def _cat(k, *tensors, dim):
    """The tensors one after the other along axis `dim`."""
    return _joined(k, k.xp.concatenate, tensors, dim)


@_cat.vjp("tensors")
def _(g, tensors_shape, dim):
    before, pieces, start = (slice(None),) * dim, [], 0
    for shape in tensors_shape:
        pieces.append(_slice(g, index=before + (slice(start, start + shape[dim]), ...)))
        start += shape[dim]
    return pieces


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors one after the other along axis `dim`; their other axes agree, else ValueError.

    As in torch, tensors of shape (0,) are left out.
    """
    tensors = tuple(tensors)
    if not tensors:
        raise ValueError("cat: expected at least one tensor")
    full = [t for t in tensors if tuple(t.shape) != (0,)] or tensors[:1]
    ndim = full[0].ndim
    if ndim == 0:
        raise ValueError("cat: tensors without axes cannot be concatenated; use stack")
    dim = dim_of("cat", dim, ndim)
    first = tuple(full[0].shape)
    for t in full[1:]:
        shape = tuple(t.shape)
        if len(shape) != ndim or shape[:dim] + shape[dim + 1 :] != first[:dim] + first[dim + 1 :]:
            raise ValueError(f"cat: {shape} does not continue {first} along axis {dim}; all other axes should agree")
    return _cat(*full, dim=dim)


concat = concatenate = cat


@op
def _stack(k, *tensors, dim):
    """The tensors side by side along a new axis `dim`."""
    return _joined(k, k.xp.stack, tensors, dim)


_stack.vjp("tensors")(lambda g, dim: list(unbind(g, dim)))


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape side by side along a new axis `dim`; ValueError where the shapes differ."""
    tensors = tuple(tensors)
    if not tensors:
        raise ValueError("stack: expected at least one tensor")
    shapes = {tuple(t.shape) for t in tensors}
    if len(shapes) > 1:
        raise ValueError(f"stack: the shapes {sorted(shapes)} differ; use cat to join along an existing axis")
    return _stack(*tensors, dim=dim_of("stack", dim, tensors[0].ndim + 1))


# ---------------------------------------------------------------- indexing with arrays


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


def _add_at(k: Any, values: Any, index: Any, length: int) -> Any:
    """The kernel scatter_add, which adds floats; integers are added by NumPy or CuPy."""
    if values.dtype.kind == "f":
        return k.scatter_add(values, index, length)
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
    if array.ndim == 0 and array.dtype.kind != "b":
        return int(array)
    return xp.asarray(array)


def getitem(input: Tensor, index: Any) -> Tensor:
    """input[index] with integers, slices, None, Ellipsis (a view of input), integer arrays and boolean masks (a copy).

    As in torch, integers and slices apply first; the index arrays then broadcast together, and their axes take the
    place of the first array, or come first where a slice separates the arrays. Gradients of elements read several
    times add up.
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


def _positions(xp: Any, index: Any, dim: int, shape: tuple) -> Any:
    """For each element of `index`: where in `shape`, row-major, its own place is with coordinate `dim` replaced by
    it."""
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
    """`gather` with negative indices allowed and all other axes broadcast; without `dim`, from the flattened input."""
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

    A tensor's values should go to different places each (here they add up, torch keeps one). Errors as `gather`.
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


def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The elements index[0], index[1], ... of axis `dim`, in that order; index is 1-D. IndexError outside the axis."""
    dim = dim_of("index_select", dim, input.ndim)
    array = _index_array("index_select", input, index, input.shape[dim]).reshape(-1)
    return _take(input, dim=dim, index=array)


def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    """input with alpha * source[i] added to element index[i] of axis `dim`: the adjoint of `index_select` in source."""
    dim = dim_of("index_add", dim, input.ndim)
    length = input.shape[dim]
    array = _index_array("index_add", input, index, length).reshape(-1)
    expected = (*input.shape[:dim], len(array), *input.shape[dim + 1 :])
    if tuple(source.shape) != expected:
        raise ValueError(
            f"index_add: source should be {expected} for input {tuple(input.shape)}, got {tuple(source.shape)}"
        )
    added = _untake(source, dim=dim, index=array, length=length)
    return input + (added if alpha == 1 else added * alpha)


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
    """The places where input is not zero, in row-major order: (count, ndim) int64, or, as_tuple, one 1-D tensor per
    axis."""
    places = [Tensor(p.astype(np.int64, copy=False), None, input.device) for p in input.array.nonzero()]
    if as_tuple:
        return tuple(places)
    return stack(places, 1)


@op
def _embedding(k, weight, *, index, padding_idx):
    """weight[index]."""
    return k.xp.take(weight, index, 0)


@_embedding.vjp("weight")
def _(g, weight_shape, index, padding_idx):
    if padding_idx is not None:
        g = _masked_fill(g, mask=(index == padding_idx)[..., None], value=0)
    return _untake(g, dim=0, index=index, length=weight_shape[0])


def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """weight[input]: the rows of weight (words, width) that the integers of input (...) name, (..., width).

    The row `padding_idx` receives no gradient. IndexError for an integer outside the rows.
    """
    if weight.ndim != 2:
        raise ValueError(f"embedding: weight should be (words, width), got {tuple(weight.shape)}")
    index = _index_array("embedding", weight, input, weight.shape[0])
    if padding_idx is not None:
        padding_idx = dim_of("embedding", padding_idx, weight.shape[0])
    return _embedding(weight, index=index, padding_idx=padding_idx)


def one_hot(input: Tensor, num_classes: int = -1) -> Tensor:
    """y[..., c] = 1 where input[...] = c, else 0: int64, (*input.shape, num_classes), by default max(input) + 1
    classes."""
    if num_classes == -1:
        if math.prod(input.shape) == 0:
            raise ValueError(f"one_hot: input {tuple(input.shape)} is empty; say num_classes")
        num_classes = int(input.array.max()) + 1
    index = _index_array("one_hot", input, input, num_classes)
    classes = input.device.kernels.xp.arange(num_classes)
    return Tensor((index[..., None] == classes).astype(np.int64), None, input.device)


# ---------------------------------------------------------------- padding, mirrors and copies


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """input with elements added at its borders; pad = (before, after) of the last axis, then of the last but one ...

    Modes: 'constant' (`value`, 0 by default; negative amounts crop), 'reflect' (c b | a b c | b a), 'replicate'
    (a a | a b c | c c), 'circular' (b c | a b c | a b). ValueError where the border cannot be filled.
    """
    amounts = sizes_of("pad", (pad,))
    if len(amounts) % 2 or len(amounts) > 2 * input.ndim:
        raise ValueError(
            f"pad: pad={pad} should hold (before, after) for at most the {input.ndim} axes of {tuple(input.shape)}"
        )
    if mode == "constant":
        return _pad_constant(input, amounts, 0 if value is None else value)
    if mode not in ("reflect", "replicate", "circular"):
        raise ValueError(f"pad: mode={mode!r} is not known; use 'constant', 'reflect', 'replicate' or 'circular'")
    if value:
        raise ValueError(f"pad: value={value} has no meaning with mode={mode!r}")
    for i in range(0, len(amounts), 2):
        dim = input.ndim - 1 - i // 2
        before, after = amounts[i : i + 2]
        crops = (min(before, 0), min(after, 0))
        if any(crops):
            input = _pad_constant(input, (0, 0) * (i // 2) + crops, 0)
        input = _pad_border(input, dim, max(before, 0), max(after, 0), mode)
    return input


def _pad_constant(x: Tensor, amounts: tuple, value: float) -> Tensor:
    shape = list(x.shape)
    source, target = [slice(None)] * len(shape), [slice(None)] * len(shape)
    for i in range(0, len(amounts), 2):
        dim = len(shape) - 1 - i // 2
        before, after = amounts[i : i + 2]
        n = shape[dim]
        if n + before + after < 0:
            raise ValueError(
                f"pad: ({before}, {after}) crops more than the {n} elements of axis {dim} in {tuple(x.shape)}"
            )
        source[dim] = slice(max(-before, 0), n + min(after, 0))
        target[dim] = slice(max(before, 0), n + before + after - max(after, 0))
        shape[dim] = n + before + after
    if not all(map(_whole, source)) and any(a < 0 for a in amounts):
        x = _slice(x, index=tuple(source))
    if tuple(x.shape) == tuple(shape):
        return x
    return _place(x, shape=tuple(shape), index=tuple(target), value=value)


def _pad_border(x: Tensor, dim: int, before: int, after: int, mode: str) -> Tensor:
    """One axis of `pad`, from slices of x itself."""
    n = x.shape[dim]
    most = {"reflect": n - 1, "circular": n, "replicate": math.inf if n else 0}[mode]
    if max(before, after) > most:
        raise ValueError(
            f"pad: mode='{mode}' adds at most {most} elements on a side of an axis of {n}, not ({before}, {after}): "
            f"axis {dim} of {tuple(x.shape)}"
        )
    if mode == "reflect":
        left, right = flip(narrow(x, dim, 1, before), dim), flip(narrow(x, dim, n - 1 - after, after), dim)
    elif mode == "circular":
        left, right = narrow(x, dim, n - before, before), narrow(x, dim, 0, after)
    else:
        sizes = list(x.shape)
        sizes[dim] = -1
        left, right = narrow(x, dim, 0, min(1, n)), narrow(x, dim, n - min(1, n), min(1, n))
        left, right = expand(left, _with(sizes, dim, before)), expand(right, _with(sizes, dim, after))
    return _cat(*[t for t, m in ((left, before), (x, 1), (right, after)) if m], dim=dim)


def _with(sizes: list[int], dim: int, n: int) -> tuple[int, ...]:
    return (*sizes[:dim], n, *sizes[dim + 1 :])


@op
def _flip(k, x, *, dims):
    """x read backwards along `dims`."""
    return k.xp.flip(x, dims).copy()


_flip.vjp("x")(lambda g, dims: _flip(g, dims=dims))


def flip(input: Tensor, dims: Any, *more: int) -> Tensor:
    """input read backwards along the axes `dims` (a copy)."""
    axes = tuple([dim_of("flip", d, input.ndim) for d in sizes_of("flip", (dims, *more))])
    if len(set(axes)) != len(axes):
        raise ValueError(f"flip: dims={dims} names an axis twice")
    return _flip(input, dims=axes) if input.ndim else clone(input)


@op
def _roll(k, x, *, shifts, dims):
    """x shifted around its axes."""
    return k.xp.roll(x, shifts, dims)


_roll.vjp("x")(lambda g, shifts, dims: _roll(g, shifts=tuple([-s for s in shifts]), dims=dims))


def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """y[(i + shift) mod n] = input[i] along each axis of `dims`; without dims, of the flattened input."""
    steps = sizes_of("roll", (shifts,) if isinstance(shifts, tuple | list) else ((shifts,),))
    if dims is None:
        if len(steps) != 1:
            raise ValueError(f"roll: {len(steps)} shifts without dims; say one axis for each shift")
        return _reshape(_roll(flatten(input), shifts=steps, dims=(0,)), shape=tuple(input.shape))
    axes = tuple([dim_of("roll", d, input.ndim) for d in ((dims,) if isinstance(dims, int) else dims)])
    if len(axes) != len(steps):
        raise ValueError(f"roll: shifts={shifts} and dims={dims} should be equally many")
    return _roll(input, shifts=steps, dims=axes)


def repeat(input: Tensor, repeats: Any, *more: int) -> Tensor:
    """input laid repeats[i] times along axis i (a copy); with more repeats than axes, input gets new leading axes."""
    times = sizes_of("repeat", (repeats, *more))
    lead = len(times) - input.ndim
    if lead < 0 or min(times, default=0) < 0:
        raise ValueError(f"repeat: repeats {times} should be at least 0, and one for each axis of {tuple(input.shape)}")
    shape = (1,) * lead + tuple(input.shape)
    paired = _reshape(input, shape=tuple([m for n in shape for m in (1, n)]))
    wide = _expand(paired, shape=tuple([m for t, n in zip(times, shape) for m in (t, n)]))
    return clone(_reshape(wide, shape=tuple([t * n for t, n in zip(times, shape)])))


def tile(input: Tensor, dims: Any, *more: int) -> Tensor:
    """`repeat` that lets the leading axes be left out, as numpy.tile."""
    times = sizes_of("tile", (dims, *more))
    return repeat(input, (1,) * (input.ndim - len(times)) + times)


def repeat_interleave(input: Tensor, repeats: Any, dim: int | None = None) -> Tensor:
    """Each element of axis `dim` `repeats` times in a row (one number, or one per element); without dim, input is
    flat."""
    if dim is None:
        input, dim = flatten(input), 0
    dim = dim_of("repeat_interleave", dim, input.ndim)
    times = np.asarray(repeats.numpy() if isinstance(repeats, Tensor) else repeats)
    if (
        times.ndim > 1
        or times.dtype.kind not in "iu"
        or times.min(initial=0) < 0
        or times.size not in (1, input.shape[dim])
    ):
        raise ValueError(
            f"repeat_interleave: repeats should be one count, or one per element of axis {dim} of {tuple(input.shape)}"
        )
    index = np.repeat(np.arange(input.shape[dim]), times.item() if times.size == 1 else times)
    return _take(input, dim=dim, index=input.device.kernels.xp.asarray(index))


@op
def _pixel_shuffle(k, x, *, factor):
    """Channels to space: y[..., c, h r + i, w r + j] = x[..., c r^2 + i r + j, h, w]."""
    *lead, c, h, w = x.shape
    r = factor
    x = x.reshape(*lead, c // (r * r), r, r, h, w)
    n = len(lead)
    return x.transpose(*range(n), n, n + 3, n + 1, n + 4, n + 2).reshape(*lead, c // (r * r), h * r, w * r)


@op
def _pixel_unshuffle(k, x, *, factor):
    """Space to channels: the inverse of _pixel_shuffle, and its adjoint, for it is a permutation."""
    *lead, c, h, w = x.shape
    r = factor
    x = x.reshape(*lead, c, h // r, r, w // r, r)
    n = len(lead)
    return x.transpose(*range(n), n, n + 2, n + 4, n + 1, n + 3).reshape(*lead, c * r * r, h // r, w // r)


_pixel_shuffle.vjp("x")(lambda g, factor: _pixel_unshuffle(g, factor=factor))
_pixel_unshuffle.vjp("x")(lambda g, factor: _pixel_shuffle(g, factor=factor))


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """y[n, c, h r + i, w r + j] = input[n, c r^2 + i r + j, h, w]: (N, C r^2, H, W) to (N, C, H r, W r). Shi et al.
    2016."""
    r = upscale_factor
    if r < 1 or input.ndim < 3 or input.shape[-3] % (r * r):
        raise ValueError(f"pixel_shuffle: input should be (..., C * {r}^2, H, W), got {tuple(input.shape)}")
    return _pixel_shuffle(input, factor=r)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """The inverse of `pixel_shuffle`: (N, C, H r, W r) to (N, C r^2, H, W)."""
    r = downscale_factor
    if r < 1 or input.ndim < 3 or input.shape[-2] % r or input.shape[-1] % r:
        raise ValueError(f"pixel_unshuffle: input should be (..., C, H * {r}, W * {r}), got {tuple(input.shape)}")
    return _pixel_unshuffle(input, factor=r)


# ---------------------------------------------------------------- matrices


@op
def _tril(k, x, *, diagonal):
    """x where column - row <= diagonal, else 0."""
    return k.xp.tril(x, diagonal)


@op
def _triu(k, x, *, diagonal):
    """x where column - row >= diagonal, else 0."""
    return k.xp.triu(x, diagonal)


_tril.vjp("x")(lambda g, diagonal: _tril(g, diagonal=diagonal))
_triu.vjp("x")(lambda g, diagonal: _triu(g, diagonal=diagonal))


def _matrices(name: str, x: Tensor) -> Tensor:
    if x.ndim < 2:
        raise ValueError(f"{name}: x should have at least 2 axes, got {tuple(x.shape)}")
    return x


def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangle of the last two axes: input where column - row <= diagonal, else 0."""
    return _tril(_matrices("tril", input), diagonal=diagonal)


def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle of the last two axes: input where column - row >= diagonal, else 0."""
    return _triu(_matrices("triu", input), diagonal=diagonal)


@op
def _diagonal(k, x, *, offset, dims):
    """y[..., i] = x[..., i, i + offset] over the two axes `dims`."""
    return k.xp.diagonal(x, offset, *dims).copy()


@op
def _from_diagonal(k, y, *, offset, dims, shape):
    """Zeros of `shape` with y on that diagonal: the adjoint of _diagonal."""
    out = k.xp.zeros(shape, y.dtype)
    rows = k.xp.arange(y.shape[-1]) + max(-offset, 0)
    k.xp.moveaxis(out, dims, (-2, -1))[..., rows, rows + offset] = y
    return out


_diagonal.vjp("x")(lambda g, x_shape, offset, dims: _from_diagonal(g, offset=offset, dims=dims, shape=x_shape))
_from_diagonal.vjp("y")(lambda g, offset, dims: _diagonal(g, offset=offset, dims=dims))


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """y[..., i] = input[i, i + offset] of the axes dim1 and dim2 (a copy); the other axes come first."""
    dims = (dim_of("diagonal", dim1, _matrices("diagonal", input).ndim), dim_of("diagonal", dim2, input.ndim))
    if dims[0] == dims[1]:
        raise ValueError(f"diagonal: dim1={dim1} and dim2={dim2} are the same axis of {tuple(input.shape)}")
    return _diagonal(input, offset=offset, dims=dims)


def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """The matrix with a 1-D input on a diagonal, or the diagonal of a matrix input."""
    if input.ndim == 1:
        n = input.shape[0] + abs(diagonal)
        return _from_diagonal(input, offset=diagonal, dims=(0, 1), shape=(n, n))
    if input.ndim != 2:
        raise ValueError(f"diag: input should have 1 or 2 axes, got {tuple(input.shape)}")
    return _diagonal(input, offset=diagonal, dims=(0, 1))


# ---------------------------------------------------------------- order


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


def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> Sorted:
    """(values, indices): input in ascending order along `dim`. Equal elements keep their order; NaN counts as the
    largest.

    The gradient of each value goes to the one element it came from, also among equals.
    """
    dim = dim_of("sort", dim, input.ndim)
    if input.ndim == 0:
        return Sorted(clone(input), Tensor(input.device.kernels.xp.zeros((), np.int64), None, input.device))
    order = _order(input, dim, descending)
    return Sorted(_gather(input, dim=dim, index=order), Tensor(order, None, input.device))


def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The indices (int64) that put input in order along `dim`."""
    dim = dim_of("argsort", dim, input.ndim)
    order = _order(input, dim, descending) if input.ndim else input.device.kernels.xp.zeros((), np.int64)
    return Tensor(order, None, input.device)


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


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Grids of coordinates from 1-D tensors: the i-th is tensors[i] spread over all other axes (views).

    'ij' orders the axes like the arguments, 'xy' exchanges the first two, as a plot does.
    """
    if len(tensors) == 1 and isinstance(tensors[0], list | tuple):
        tensors = tuple(tensors[0])
    if indexing not in ("ij", "xy") or any(t.ndim > 1 for t in tensors):
        raise ValueError(f"meshgrid: expected 1-D tensors and indexing 'ij' or 'xy', got {indexing!r}")
    shape = tuple([math.prod(t.shape) for t in tensors])
    grids = []
    for i, t in enumerate(tensors):
        along = tuple([n if j == i else 1 for j, n in enumerate(shape)])
        grid = expand(_reshape(t, shape=along), shape)
        grids.append(transpose(grid, 0, 1) if indexing == "xy" and len(shape) > 1 else grid)
    return tuple(grids)
