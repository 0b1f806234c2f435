"""The same numbers under another shape: views that share memory with their input, as in NumPy and torch.

Every op here is its own adjoint up to its arguments: a reshape goes back by a reshape, a transpose by a transpose, and
an expansion by a sum. So derivatives of any order cost no further code.

    x.reshape(2, -1).transpose(0, 1)        # no copy
    x.clone()                               # the one copy of this file; `contiguous` copies only where it must

Here too: `sizes_of` and `dim_of`, by which all ops read their shapes and axes. Deliberately absent: strides, named
dimensions.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Sequence
from functools import wraps
from typing import Any

import numpy as np

from ..backends.geometry import integers
from ..tape import Tensor, op
from ..tape import expand as _expand

__all__ = [
    "reshape", "view", "transpose", "swapaxes", "swapdims", "permute", "movedim", "flatten", "unflatten", "squeeze",
    "unsqueeze", "expand", "expand_as", "broadcast_to", "clone", "contiguous", "meshgrid",
]  # fmt: skip


def sizes_of(name: str, sizes: tuple) -> tuple[int, ...]:
    """The integers of `f(2, 3)`, `f((2, 3))` or `f([2, 3])` as a tuple."""
    if len(sizes) == 1 and isinstance(sizes[0], tuple | list):
        sizes = tuple(sizes[0])
    try:
        return tuple([operator.index(n) for n in sizes])
    except (TypeError, ValueError):
        if len(sizes) == 1 and np.ndim(sizes[0]) == 1:  # an array of them
            return sizes_of(name, (tuple(sizes[0]),))
        raise TypeError(f"{name}: expected integers, got {sizes}") from None


def numpy_names(function: Any) -> Any:
    """Decorator: NumPy's names serve too, and what it leaves at None is left out; so np.mean(t) calls t.mean."""
    parameters = inspect.signature(function).parameters
    names = {"axis": "dim" if "dim" in parameters else "dims", "keepdims": "keepdim", "ddof": "correction"}
    names = {theirs: ours for theirs, ours in names.items() if ours in parameters}

    @wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        if not options:
            return function(*args)
        for unused in [n for n in ("out", "dtype") if n in options and options[n] is None]:
            del options[unused]
        for name in names.keys() & options.keys():
            option = names[name]
            if option in options:
                raise TypeError(f"{function.__name__}: {name} and {option} are one option; give one of them")
            options[option] = options.pop(name)
        return function(*args, **options)

    return call


def dim_of(name: str, dim: int, ndim: int) -> int:
    """`dim` counted from the front; IndexError outside [-ndim, ndim - 1]."""
    if type(dim) is int and -ndim <= dim < ndim:
        return dim % ndim
    reach = max(ndim, 1)
    if not hasattr(dim, "__index__"):
        raise TypeError(f"{name}: dim={dim!r} should be an integer")
    if not -reach <= dim < reach:
        raise IndexError(
            f"{name}: dimension {dim} is out of range for {ndim} dimensions (legal: {-reach} to {reach - 1})"
        )
    return operator.index(dim) % reach


def dims_of(name: str, dims: Any, ndim: int) -> list[int]:
    """One axis, or a sequence of axes, counted from the front."""
    if type(dims) is int:
        return [dim_of(name, dims, ndim)]
    try:
        named = integers(dims, 1)
    except TypeError:
        raise TypeError(f"{name}: dim={dims!r} should be an integer, or several") from None
    return [dim_of(name, d, ndim) for d in named]


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
    sources, places = dims_of("movedim", source, input.ndim), dims_of("movedim", destination, input.ndim)
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


@numpy_names
def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """input without its axes of size 1, or without those of them named in `dim`."""
    shape = tuple(input.shape)
    named = range(len(shape)) if dim is None else dims_of("squeeze", dim, len(shape))
    kept = tuple([n for i, n in enumerate(shape) if n != 1 or i not in named])
    return input if kept == shape else _reshape(input, shape=kept)


@numpy_names
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


@op
def clone(k, x):
    """A copy of x in memory of its own, row-major; the gradient passes through."""
    return x.copy()


clone.vjp("x")(lambda g: g)


def contiguous(input: Tensor) -> Tensor:
    """input itself where its memory is row-major without gaps, else a copy that is."""
    return input if input.array.flags.c_contiguous else clone(input)
