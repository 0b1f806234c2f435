"""Tensors cut into pieces and joined: slices, `split`, `cat`, `stack`.

Each op is the adjoint of another. A slice goes back by `_place`, which writes into zeros; `split` by `cat`; `stack` by
`unbind`:

    _slice(x)[i] = x[a + i]        _place(g)[a + i] = g[i], else 0

Pieces are views of their input; what is joined is a copy.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np

from ..memory import share
from ..tape import Tensor, op
from .view import _reshape, dim_of, numpy_names, sizes_of

__all__ = ["cat", "concat", "concatenate", "stack", "split", "chunk", "unbind", "narrow"]


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


@numpy_names
def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """The view input[start : start + length] along axis `dim`; ValueError where that leaves the axis."""
    dim = dim_of("narrow", dim, input.ndim)
    size = input.shape[dim]
    first = start + size if start < 0 else start
    if length < 0 or not 0 <= first <= size - length:
        raise ValueError(f"narrow: elements {start} to {start + length} leave axis {dim} of {tuple(input.shape)}")
    return _slice(input, index=(slice(None),) * dim + (slice(first, first + length), ...))


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


@numpy_names
def split(input: Tensor, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Views of input cut along `dim`: every `split_size` elements (the last may be shorter), or into given sizes."""
    dim = dim_of("split", dim, input.ndim)
    size = input.shape[dim]
    if np.ndim(split_size_or_sections) == 0:
        step = operator.index(split_size_or_sections)  # type: ignore[arg-type]
        if step < 1:
            raise ValueError(f"split: split_size={step} should be at least 1")
        ends = (*range(step, size, step), size)
    else:
        sections = sizes_of("split", (split_size_or_sections,))
        ends = tuple(np.cumsum(sections).tolist())
        if not ends or ends[-1] != size or min(sections) < 0:
            raise ValueError(
                f"split: sections {sections} do not add up to the {size} of axis {dim} in {tuple(input.shape)}"
            )
    pieces = _split(input, ends=ends, dim=dim)
    for piece in pieces:
        share(input, piece)
    return pieces


@numpy_names
def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` views of ceil(size / chunks) elements each along `dim`."""
    if chunks < 1:
        raise ValueError(f"chunk: chunks={chunks} should be at least 1")
    dim = dim_of("chunk", dim, input.ndim)
    return split(input, max(1, -(-input.shape[dim] // operator.index(chunks))), dim)


@numpy_names
def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The views input[0], input[1], ... along `dim`."""
    dim = dim_of("unbind", dim, input.ndim)
    if input.shape[dim] == 0:
        return ()
    shape = (*input.shape[:dim], *input.shape[dim + 1 :])
    return tuple([_reshape(piece, shape=shape) for piece in split(input, 1, dim)])


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


@numpy_names
def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors one after the other along axis `dim`; their other axes agree, else ValueError.

    As in torch, tensors of shape (0,) are left out.
    """
    tensors = tuple(tensors)
    if not tensors:
        raise ValueError("cat: expected at least one tensor")
    for t in tensors:
        if not isinstance(t, Tensor):
            raise TypeError(f"cat: expected tensors, got {type(t).__name__} among them; wrap it in tensor(...)")
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
    """The tensors along a new axis `dim`."""
    return _joined(k, k.xp.stack, tensors, dim)


_stack.vjp("tensors")(lambda g, dim: list(unbind(g, dim)))


@numpy_names
def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape joined along a new axis `dim`; ValueError where the shapes differ."""
    tensors = tuple(tensors)
    if not tensors:
        raise ValueError("stack: expected at least one tensor")
    for t in tensors:
        if not isinstance(t, Tensor):
            raise TypeError(f"stack: expected tensors, got {type(t).__name__} among them; wrap it in tensor(...)")
    shapes = {tuple(t.shape) for t in tensors}
    if len(shapes) > 1:
        raise ValueError(f"stack: the shapes {sorted(shapes)} differ; use cat to join along an existing axis")
    return _stack(*tensors, dim=dim_of("stack", dim, tensors[0].ndim + 1))
