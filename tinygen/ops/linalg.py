"""Linear algebra of (stacks of) matrices, under torch.linalg's names: norms, systems of equations, decompositions.

    solve      X = A^-1 B         dB = A^-T g                 dA = -dB X^T
    slogdet    log |det A|        dA = g A^-T
    cholesky   A = L L^T          dA = L^-T sym(half-lower(L^T g)) L^-1
    eigh       A = V w V^T        dA = V (diag(gw) + (V^T gV) / (w_j - w_i)) V^T
    svd        A = U S V^T        the same with U and V, each skew (Townsend 2016)

The derivatives are ops, so they have derivatives too. Vectors that belong to equal eigenvalues or singular values are
not determined, nor is a vector's sign: a loss may only ask for what does not depend on them. LAPACK computes, on a GPU
cuSOLVER. Deliberately absent: complex numbers, least squares, matrix functions.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..tape import Tensor, op
from . import reduce
from .diagonals import tril
from .matmul import matmul
from .pointwise import _real, abs, cast
from .view import dim_of, movedim, numpy_names, squeeze, transpose, unsqueeze

__all__ = ["cholesky", "eigh", "inv", "norm", "slogdet", "solve", "svd", "svdvals"]


class SignLogdet(NamedTuple):
    """What `slogdet` returns: the sign of the determinant, and the logarithm of its absolute value."""

    sign: Tensor
    logabsdet: Tensor


class Eigh(NamedTuple):
    """What `eigh` returns: the eigenvalues in ascending order, and the eigenvectors as columns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class SVD(NamedTuple):
    """What `svd` returns: the singular vectors as columns of U and rows of Vh, the values in descending order."""

    U: Tensor
    S: Tensor
    Vh: Tensor


def _matrices(name: str, A: Tensor, square: bool = True) -> Tensor:
    if A.ndim < 2 or (square and A.shape[-1] != A.shape[-2]):
        raise ValueError(f"{name}: A should be (..., {'n, n' if square else 'm, n'}), got {tuple(A.shape)}")
    return A


def _t(x: Tensor) -> Tensor:
    return transpose(x, -1, -2)


def _eye(like: Tensor, n: int) -> Tensor:
    return Tensor(like.device.kernels.xp.eye(n, dtype=like.dtype), None, like.device)


# ---------------------------------------------------------------- systems of equations


@op
def _solve(k, a, b):
    """a^-1 b for matrices b; the leading axes broadcast."""
    a, b = _real(a), _real(b)
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    wide = [k.xp.broadcast_to(t, (*lead, *t.shape[-2:])) for t in (a, b)]
    return k.xp.linalg.solve(*wide)


@op
def _inv(k, a):
    """The inverse."""
    return k.xp.linalg.inv(_real(a))


@op
def _slogdet(k, a):
    """(sign, log |det|)."""
    return tuple([k.xp.asarray(t) for t in k.xp.linalg.slogdet(_real(a))])


_solve.vjp("a")(lambda g, out, a: -matmul(_solve(_t(a), g), _t(out)))
_solve.vjp("b")(lambda g, a: _solve(_t(a), g))
_inv.vjp("a")(lambda g, out: -matmul(matmul(_t(out), g), _t(out)))
_slogdet.vjp("a")(lambda g, a: None if g[1] is None else g[1][..., None, None] * _t(_inv(a)))


def solve(A: Tensor, B: Tensor) -> Tensor:
    """The X with A X = B: A (..., n, n), B (..., n, k), or (..., n) of as many vectors as there are matrices.

    ValueError for a singular A and for shapes that do not fit.
    """
    _matrices("solve", A)
    vectors = B.ndim == 1 or tuple(B.shape) == tuple(A.shape[:-1])
    right = unsqueeze(B, -1) if vectors else B
    if right.ndim < 2 or right.shape[-2] != A.shape[-1]:
        raise ValueError(f"solve: B {tuple(B.shape)} should have as many rows as A {tuple(A.shape)}")
    X = _solve(A, right)
    return squeeze(X, -1) if vectors else X


def inv(A: Tensor) -> Tensor:
    """The inverse of A (..., n, n); ValueError for a singular one. `solve(A, B)` is more accurate than inv(A) B."""
    return _inv(_matrices("inv", A))


def slogdet(A: Tensor) -> SignLogdet:
    """(sign, logabsdet) with det A = sign e^logabsdet, for A (..., n, n): no overflow where det would have one."""
    return SignLogdet(*_slogdet(_matrices("slogdet", A)))


# ---------------------------------------------------------------- decompositions


@op
def _cholesky(k, a):
    """The lower L with L L^T = a."""
    return k.xp.linalg.cholesky(_real(a))


def _cholesky_vjp(g: Tensor, out: Tensor) -> Tensor:
    inner = tril(matmul(_t(out), g)) * (1 - _eye(g, g.shape[-1]) * 0.5)
    half = _solve(_t(out), _t(_solve(_t(out), inner)))  # L^-T inner^T L^-1, without the inverse
    return (half + _t(half)) * 0.5


_cholesky.vjp("a")(_cholesky_vjp)


def cholesky(A: Tensor, *, upper: bool = False) -> Tensor:
    """The lower triangular L with L L^T = A, or with `upper` the upper U with U^T U = A.

    A (..., n, n) is symmetric and positive definite, else ValueError; only that triangle of it is read.
    """
    _matrices("cholesky", A)
    return _t(_cholesky(_t(A))) if upper else _cholesky(A)


@op
def _eigh(k, a, *, uplo):
    """(eigenvalues, eigenvectors) of the symmetric a."""
    return tuple([k.xp.asarray(t) for t in k.xp.linalg.eigh(_real(a), uplo)])


@_eigh.vjp("a")
def _(g, out):
    w, v = out
    eye = _eye(w, w.shape[-1])
    inner = eye * 0.0
    if g[1] is not None:
        gaps = unsqueeze(w, -2) - unsqueeze(w, -1) + eye
        inner = inner + matmul(_t(v), g[1]) * (1 - eye) / gaps
    if g[0] is not None:
        inner = inner + unsqueeze(g[0], -1) * eye
    return matmul(matmul(v, inner), _t(v))


def eigh(A: Tensor, UPLO: str = "L") -> Eigh:
    """(eigenvalues, eigenvectors) of a symmetric A (..., n, n): A V = V diag(w), w ascending, V orthogonal.

    The lower triangle is read, with UPLO='U' the upper one.
    """
    if UPLO not in ("L", "U"):
        raise ValueError(f"eigh: UPLO={UPLO!r} should be 'L' or 'U'")
    return Eigh(*_eigh(_matrices("eigh", A), uplo=UPLO))


@op
def _svd(k, a, *, full):
    """(U, S, V^T)."""
    return tuple([k.xp.asarray(t) for t in k.xp.linalg.svd(_real(a), full_matrices=full)])


@_svd.vjp("a")
def _(g, out, a, full):
    (gu, gs, gvh), (m, n) = g, a.shape[-2:]
    if full and m != n and (gu is not None or gvh is not None):
        raise RuntimeError("svd: with full_matrices=True only S has derivatives; pass full_matrices=False")
    u, s, vh = _svd(a, full=False) if full and m != n else out
    k = s.shape[-1]
    eye, row, column = _eye(s, k), unsqueeze(s, -2), unsqueeze(s, -1)
    gaps = (row - column) * (row + column) + eye
    inner, outside = eye * 0.0, None
    if gs is not None:
        inner = inner + unsqueeze(gs, -1) * eye
    if gu is not None:
        turn = matmul(_t(u), gu)
        inner = inner + (turn - _t(turn)) / gaps * row
        outside = matmul((gu - matmul(u, turn)) / row, vh) if m > k else None
    if gvh is not None:
        turn = matmul(vh, _t(gvh))
        inner = inner + column * ((turn - _t(turn)) / gaps)
        outside = matmul(u, (gvh - matmul(_t(turn), vh)) / column) if n > k else outside
    inside = matmul(matmul(u, inner), vh)
    return inside if outside is None else inside + outside


def svd(A: Tensor, full_matrices: bool = True) -> SVD:
    """(U, S, Vh) with A = U diag(S) Vh for A (..., m, n): S (..., min(m, n)) descending, U and V orthogonal.

    U is (..., m, m) and Vh (..., n, n), or without full_matrices (..., m, k) and (..., k, n), k = min(m, n).
    RuntimeError for gradients through full matrices that A does not determine.
    """
    return SVD(*_svd(_matrices("svd", A, square=False), full=bool(full_matrices)))


def svdvals(A: Tensor) -> Tensor:
    """The singular values of A (..., m, n), descending."""
    return svd(A, full_matrices=False).S


# ---------------------------------------------------------------- norms


def _largest(x: Tensor, dim: Any, keepdim: bool) -> Tensor:
    """The largest of these numbers, none below 0, over `dim`; 0 over nothing."""
    return (reduce.amax if x.array.size else reduce.sum)(x, dim, keepdim)


def _matrix_norm(A: Tensor, order: Any, keepdim: bool) -> Tensor:
    """The norm of matrices, which are the last two axes."""
    if order == "fro":
        return reduce.norm(A, 2, (-2, -1), keepdim)
    if order == "nuc" or order in (2, -2):
        values = svdvals(A)
        values = unsqueeze(values, -1) if keepdim else values
        dim = -2 if keepdim else -1
        if order == "nuc":
            return reduce.sum(values, dim, keepdim)
        return (_largest if order == 2 else reduce.amin)(values, dim, keepdim)
    if order not in (1, -1, math.inf, -math.inf):
        raise ValueError(f"norm: ord={order!r} is none of a matrix: 'fro', 'nuc', 1, -1, 2, -2, inf, -inf")
    rows = order in (math.inf, -math.inf)
    sums = reduce.sum(abs(A), -1 if rows else -2, True)
    found = (_largest if order > 0 else reduce.amin)(sums, (-2, -1), True)
    return found if keepdim else squeeze(found, (-2, -1))


@numpy_names
def norm(A: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The norm of vectors or matrices.

    Without `dim`: the 2-norm of all entries or, with `ord`, that of a vector or a matrix. An axis as `dim` makes it
    that of vectors, two axes that of matrices. Vectors: ord p is (sum of |x|^p)^(1/p), also inf, -inf and 0. Matrices:
    'fro', 'nuc' (the sum of the singular values), 2 and -2 (their extremes), 1, -1, inf, -inf (extremes of the sums of
    absolute columns or rows). ValueError for another ord.
    """
    x = A if dtype is None else cast(A, dtype)
    one_axis = x.ndim == 1 if dim is None else isinstance(dim, int | np.integer) or len(dim) == 1
    if ord is None or one_axis:
        if isinstance(ord, str):
            raise ValueError(f"norm: ord={ord!r} is of matrices; give two axes as dim, got {dim}")
        return reduce.norm(x, 2 if ord is None else ord, dim, keepdim)
    axes = (0, 1) if dim is None and x.ndim == 2 else () if dim is None else tuple(dim)
    if len(axes) != 2 or dim_of("norm", axes[0], x.ndim) == dim_of("norm", axes[1], x.ndim):
        raise ValueError(f"norm: with ord={ord!r} dim should name one axis, or two, of {tuple(x.shape)}; got {dim}")
    found = _matrix_norm(movedim(x, axes, (-2, -1)), ord, keepdim)
    return movedim(found, (-2, -1), axes) if keepdim else found
