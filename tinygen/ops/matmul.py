"""Products of vectors and matrices: matmul, linear, einsum.

For c = a b the two VJPs are again products, dL/da = g b^T and dL/db = a^T g, and those of a b^T and a^T b too: with
these three, derivatives of every order. `linear` is the layer y = x W^T + b as one op, because an MLP spends its life
there. `einsum` says any sum of products in index notation; its VJP exchanges the output's indices with those of the
argument:

    y_o = sum over the rest of a_s b_t   =>   (dL/da)_s = sum over the rest of g_o b_t

Deliberately absent: decompositions and solvers, which are in linalg.py.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from ..tape import Tensor, op
from .diagonals import diagonal
from .view import _reshape, _transpose, unsqueeze

__all__ = ["matmul", "mm", "bmm", "mv", "dot", "outer", "einsum", "linear", "addmm", "trace", "t"]


def _product(k: Any, a: Any, b: Any) -> Any:
    """The kernel's product of floats; NumPy's or CuPy's of integers."""
    return k.matmul(a, b) if a.dtype.kind == "f" else k.xp.matmul(a, b)


@op
def _matmul(k, x, y):
    """z[..., i, j] = sum over k of x[..., i, k] y[..., k, j]; the leading axes broadcast."""
    return _product(k, x, y)


@op
def _matmul_nt(k, x, y):
    """z = x y^T: z[..., i, j] = sum over k of x[..., i, k] y[..., j, k]."""
    return _product(k, x, y.swapaxes(-1, -2))


@op
def _matmul_tn(k, x, y):
    """z = x^T y: z[..., i, j] = sum over k of x[..., k, i] y[..., k, j]."""
    return _product(k, x.swapaxes(-1, -2), y)


_matmul.vjp("x")(lambda g, y: _matmul_nt(g, y))
_matmul.vjp("y")(lambda g, x: _matmul_tn(x, g))
_matmul_nt.vjp("x")(lambda g, y: _matmul(g, y))
_matmul_nt.vjp("y")(lambda g, x: _matmul_tn(g, x))
_matmul_tn.vjp("x")(lambda g, y: _matmul_nt(y, g))
_matmul_tn.vjp("y")(lambda g, x: _matmul(x, g))


def matmul(input: Tensor, other: Tensor) -> Tensor:
    """z[..., i, j] = sum over k of input[..., i, k] other[..., k, j]: products of matrices; the leading axes broadcast.

    A 1-D input is a row and a 1-D other a column, which the result lacks; two of them give their inner product.
    ValueError where the inner sizes differ or the leading axes do not broadcast.
    """
    a, b = input.shape, other.shape
    if len(a) == len(b) == 2 and a[1] == b[0]:
        return _matmul(input, other)
    if not (len(a) and len(b)):
        raise ValueError(
            f"matmul: both arguments need at least one axis, got {tuple(a)} and {tuple(b)}; use * for scalars"
        )
    if a[-1] != b[-2 if len(b) > 1 else 0]:
        raise ValueError(
            f"matmul: input {tuple(a)} has {a[-1]} columns, other {tuple(b)} has {b[-2 if len(b) > 1 else 0]} rows"
        )
    if len(a) == 1:
        z = matmul(_reshape(input, shape=(1, *a)), other)
        return _reshape(z, shape=(*z.shape[:-2], *z.shape[-1:]) if len(b) > 1 else ())
    if len(b) == 1:
        z = matmul(input, _reshape(other, shape=(*b, 1)))
        return _reshape(z, shape=tuple(a[:-1]))
    if len(b) == 2:  # one large product, and a gradient of other that needs no sum over the leading axes
        rows = _reshape(input, shape=(math.prod(a[:-1]), a[-1]))
        return _reshape(_matmul(rows, other), shape=(*a[:-1], b[-1]))
    if any(n != m and 1 not in (n, m) for n, m in zip(a[-3::-1], b[-3::-1])):
        raise ValueError(f"matmul: the leading axes of input {tuple(a)} and other {tuple(b)} do not broadcast")
    return _matmul(input, other)


def _check(name: str, x: Tensor, y: Tensor, axes: tuple[int, int]) -> None:
    if (x.ndim, y.ndim) != axes:
        raise ValueError(
            f"{name}: expected {axes[0]} and {axes[1]} axes, got {tuple(x.shape)} and {tuple(y.shape)}; use matmul"
        )


def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of two matrices; ValueError for anything else."""
    _check("mm", input, mat2, (2, 2))
    return matmul(input, mat2)


def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """z[n] = input[n] mat2[n]: (N, I, K) and (N, K, J) to (N, I, J); nothing broadcasts."""
    _check("bmm", input, mat2, (3, 3))
    if input.shape[0] != mat2.shape[0]:
        raise ValueError(
            f"bmm: expected as many matrices on both sides, got {tuple(input.shape)} and {tuple(mat2.shape)}"
        )
    return matmul(input, mat2)


def mv(input: Tensor, vec: Tensor) -> Tensor:
    """z[i] = sum over k of input[i, k] vec[k]."""
    _check("mv", input, vec, (2, 1))
    return matmul(input, vec)


def dot(input: Tensor, other: Tensor) -> Tensor:
    """sum over i of input[i] other[i] of two vectors, a scalar."""
    _check("dot", input, other, (1, 1))
    return matmul(input, other)


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """z[i, j] = input[i] vec2[j]."""
    _check("outer", input, vec2, (1, 1))
    return unsqueeze(input, 1) * unsqueeze(vec2, 0)


def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta * input + alpha * (mat1 mat2); input broadcasts."""
    product = mm(mat1, mat2)
    return (input if beta == 1 else input * beta) + (product if alpha == 1 else product * alpha)


def trace(input: Tensor) -> Tensor:
    """The sum of a matrix' diagonal."""
    if input.ndim != 2:
        raise ValueError(f"trace: expected a matrix, got {tuple(input.shape)}")
    return diagonal(input).sum()


def t(input: Tensor) -> Tensor:
    """The transpose of a matrix (a view); vectors and scalars are returned as they are."""
    if input.ndim > 2:
        raise ValueError(f"t: expected at most 2 axes, got {tuple(input.shape)}; use transpose(dim0, dim1)")
    return _transpose(input, dim0=0, dim1=1) if input.ndim == 2 else input


# ---------------------------------------------------------------- the layer


def rows_of(a: Any) -> Any:
    """An array (..., n) as a matrix of n columns."""
    return a if a.ndim == 2 else a.reshape(math.prod(a.shape[:-1]), a.shape[-1])


def linear_forward(k: Any, input: Any, weight: Any, bias: Any, slope: float = 1.0) -> Any:
    """What `linear` computes, on arrays, followed by leaky_relu of that slope (1: nothing)."""
    if weight.ndim != 2 or not input.ndim or input.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"linear: weight {weight.shape} should be (outputs, inputs), and input {input.shape} end in as many inputs"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(
            f"linear: bias should be {weight.shape[:1]}, one per output of weight {weight.shape}, got {bias.shape}"
        )
    rows = rows_of(input)
    if rows.dtype.kind == "f":
        y = k.linear(rows, weight, bias, slope)
    else:
        y = k.xp.matmul(rows, weight.T)
        if bias is not None:
            y += bias  # y is this op's own
    return y if input.ndim == 2 else y.reshape(*input.shape[:-1], weight.shape[0])


@op
def linear(k, input, weight, bias=None):
    """y[..., o] = sum over i of input[..., i] weight[o, i] + bias[o].

    input (..., in), weight (out, in), bias (out,) or None; result (..., out). ValueError where the sizes disagree.
    """
    return linear_forward(k, input, weight, bias)


linear.vjp("input")(lambda g, weight: matmul(g, weight))
linear.vjp("bias")(lambda g: g)  # the engine sums over the leading axes


@linear.vjp("weight")
def _(g, input):
    if g.ndim != 2:
        rows = math.prod(g.shape[:-1])
        g, input = _reshape(g, shape=(rows, g.shape[-1])), _reshape(input, shape=(rows, input.shape[-1]))
    return _matmul_tn(g, input)


# ---------------------------------------------------------------- einsum


@op
def _einsum(k, *tensors, equation):
    """The sum of products that an equation without ellipsis, 'ij,jk->ik', describes."""
    sources, target = equation[:-1], equation[-1]
    if len(tensors) == 2 and tensors[0].dtype == tensors[1].dtype:
        plan = _contraction(*equation, tensors[0].shape, tensors[1].shape)
        if plan is not None:
            return _contract(k, *tensors, *plan)
    result = k.xp.einsum(f"{','.join(sources)}->{target}", *tensors, optimize=len(tensors) > 2)
    if len(tensors) == 1:
        return result.copy()  # it may be a view of the one factor
    return k.xp.ascontiguousarray(result) if result.ndim else result


@lru_cache(maxsize=1024)
def _contraction(a: str, b: str, target: str, a_shape: tuple, b_shape: tuple) -> tuple | None:
    """How a sum over two factors is a batched matrix product, or None where it is none.

    Indices in both factors and the result are batch axes, those in both factors alone are summed over.
    """
    sizes = dict(zip(a, a_shape))
    if len(set(a)) != len(a) or len(set(b)) != len(b) or any(sizes.get(c, n) != n for c, n in zip(b, b_shape)):
        return None
    if set(a) ^ set(b) and not (set(a) ^ set(b)) <= set(target):  # an index of one factor alone that is summed over
        return None
    sizes.update(zip(b, b_shape))
    batch = [c for c in target if c in a and c in b]
    summed = [c for c in a if c in b and c not in target]
    if not summed:
        return None  # a product without a sum: einsum does it in one pass
    rows, columns = [c for c in target if c not in b], [c for c in target if c not in a]
    size = lambda letters: math.prod([sizes[c] for c in letters])
    lead = tuple([sizes[c] for c in batch])
    made = [*batch, *rows, *columns]
    return (
        tuple([a.index(c) for c in (*batch, *rows, *summed)]),
        (*lead, size(rows), size(summed)),
        tuple([b.index(c) for c in (*batch, *summed, *columns)]),
        (*lead, size(summed), size(columns)),
        tuple([sizes[c] for c in made]),
        tuple([made.index(c) for c in target]),
    )


def _contract(
    k: Any, a: Any, b: Any, a_axes: Any, a_shape: Any, b_axes: Any, b_shape: Any, shape: Any, axes: Any
) -> Any:
    product = _product(k, a.transpose(a_axes).reshape(a_shape), b.transpose(b_axes).reshape(b_shape))
    return k.xp.ascontiguousarray(product.reshape(shape).transpose(axes)) if axes else product.reshape(shape)


@_einsum.vjp("tensors")
def _(g, tensors, equation):
    *sources, target = equation
    gradients = []
    for i, source in enumerate(sources):
        others = [t for j, t in enumerate(tensors) if j != i]
        letters = [s for j, s in enumerate(sources) if j != i]
        known = {c: n for s, t in zip([target, *letters], [g, *others]) for c, n in zip(s, t.shape) if n != 1}
        wanted, free = "", iter(_unused("".join(equation)))
        for c, n in zip(source, tensors[i].shape):
            if c in wanted:  # an index named twice reads the diagonal, so its gradient lies on the diagonal
                twin = next(free)
                others.append(_constant(g, "eye", n))
                letters.append(c + twin)
                wanted += twin
                continue
            if c not in known:  # summed over in this factor alone
                others.append(_constant(g, "ones", n))
                letters.append(c)
            wanted += c
        gradients.append(_einsum(g, *others, equation=(target, *letters, wanted)))
    return gradients


def _constant(like: Tensor, kind: str, n: int) -> Tensor:
    return Tensor(getattr(like.device.kernels.xp, kind)(n, dtype=like.dtype), None, like.device)


def _unused(letters: str) -> list[str]:
    return [c for c in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in letters]


def einsum(equation: str, *operands: Any) -> Tensor:
    """The sum of products that `equation` describes: 'ik,kj->ij' multiplies matrices, 'ii->' is the trace.

    Indices missing from the output are summed over; '...' stands for axes that broadcast; without '->' the output
    has, in alphabetical order, the indices that occur once. ValueError where the indices do not fit the tensors.
    """
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    *sources, target = _parse(equation, tuple([tuple(t.shape) for t in operands]))
    reduced = [_summed(t, i, sources, target) for i, t in enumerate(operands)]
    return _einsum(*[t for t, _ in reduced], equation=(*[letters for _, letters in reduced], target))


def _summed(t: Tensor, at: int, sources: list[str], target: str) -> tuple[Tensor, str]:
    """A factor summed over the indices that occur in it alone, and the indices that are left."""
    letters = sources[at]
    others = "".join(sources[:at] + sources[at + 1 :]) + target
    alone = [i for i, c in enumerate(letters) if c not in others and letters.count(c) == 1]
    if not alone:
        return t, letters
    return t.sum(tuple(alone)), "".join([c for i, c in enumerate(letters) if i not in alone])


@lru_cache(maxsize=1024)
def _parse(equation: str, shapes: tuple[tuple[int, ...], ...]) -> tuple[str, ...]:
    """The indices of each factor and of the output, checked, the ellipsis spelled out."""
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    sources = left.split(",")
    if len(sources) != len(shapes):
        raise ValueError(f"einsum: '{equation}' names {len(sources)} factors, got {len(shapes)}")
    dots = _unused(text)
    most = 0
    for i, (source, shape) in enumerate(zip(sources, shapes)):
        hidden = len(shape) - len(source.replace("...", ""))
        if hidden < 0 or (hidden > 0 and "..." not in source):
            raise ValueError(f"einsum: '{source}' in '{equation}' does not name the {len(shape)} axes of {shape}")
        most = max(most, hidden if "..." in source else 0)
        sources[i] = source.replace(
            "...", "".join(dots[:hidden][::-1])
        )  # numbered from the right, as broadcasting does
    if arrow:
        target = right.replace("...", "".join(dots[:most][::-1]))
    else:
        letters = "".join(sources)
        named = sorted(c for c in set(letters) if letters.count(c) == 1 and c not in dots[:most])
        target = "".join(dots[:most][::-1]) + "".join(named)
    if any(not c.isalpha() for s in (*sources, target) for c in s):
        raise ValueError(f"einsum: '{equation}' should consist of letters, ',', '->' and '...'")
    if len(set(target)) != len(target) or not set(target) <= set("".join(sources)):
        raise ValueError(f"einsum: each index of the output '{right}' should occur once, and in a factor of '{left}'")
    sizes: dict[str, int] = {}
    for source, shape in zip(sources, shapes):
        for c, n in zip(source, shape):
            known = sizes.setdefault(c, n)
            if known != n and 1 not in (known, n):
                raise ValueError(f"einsum: index '{c}' of '{equation}' is {known} and {n} in the shapes {shapes}")
            sizes[c] = max(known, n) if 0 not in (known, n) else 0
    return (*sources, target)
