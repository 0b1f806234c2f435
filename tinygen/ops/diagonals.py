"""Triangles and diagonals of matrices: `tril`, `triu`, `diagonal`, `diag`.

    tril(x)[i, j] = x[i, j] where j <= i, else 0        diagonal(x)[i] = x[i, i]

A triangle is its own adjoint; a diagonal is read by `_diagonal`, a view, and written back by `_from_diagonal`.
"""

from __future__ import annotations

import operator

from ..tape import Tensor, op
from .view import clone, dim_of

__all__ = ["tril", "triu", "diagonal", "diag"]


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
    return _tril(_matrices("tril", input), diagonal=operator.index(diagonal))


def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle of the last two axes: input where column - row >= diagonal, else 0."""
    return _triu(_matrices("triu", input), diagonal=operator.index(diagonal))


@op(view=True)
def _diagonal(k, x, *, offset, dims):
    """y[..., i] = x[..., i, i + offset] over the two axes `dims`."""
    view = k.xp.diagonal(x, offset, *dims)
    if getattr(x.flags, "writeable", True) and not getattr(view.flags, "writeable", True):
        view.flags.writeable = True  # NumPy hands it out read-only
    return view


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
    """y[..., i] = input[i, i + offset] of the axes dim1 and dim2, a view; the other axes come first."""
    dims = (dim_of("diagonal", dim1, _matrices("diagonal", input).ndim), dim_of("diagonal", dim2, input.ndim))
    if dims[0] == dims[1]:
        raise ValueError(f"diagonal: dim1={dim1} and dim2={dim2} are the same axis of {tuple(input.shape)}")
    return _diagonal(input, offset=operator.index(offset), dims=dims)


def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """The matrix with a 1-D input on a diagonal, or the diagonal of a matrix input (a copy)."""
    diagonal = operator.index(diagonal)
    if input.ndim == 1:
        n = input.shape[0] + abs(diagonal)
        return _from_diagonal(input, offset=diagonal, dims=(0, 1), shape=(n, n))
    if input.ndim != 2:
        raise ValueError(f"diag: input should have 1 or 2 axes, got {tuple(input.shape)}")
    return clone(_diagonal(input, offset=diagonal, dims=(0, 1)))
