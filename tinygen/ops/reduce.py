"""Reductions along axes: sums, means, extremes, norms; softmax and cumulative sums, which keep the shape.

`dim` is an axis, a tuple of axes or None for all; `keepdim` leaves the reduced axes with length one. The derivative of
a reduction is the same picture everywhere: put the reduced axes back with length one, let broadcasting spread g.

    sum.vjp:  dx[i, j] = g[i]                  mean.vjp:  dx[i, j] = g[i] / n

Extremes at ties as in torch: `amax(x)` and `max(x)` share the gradient evenly among the maxima (or NaNs);
`max(x, dim)` returns (values, indices) and gives all of it to the first. `norm` has derivative 0 where it is 0.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..tape import Tensor, expand, identity, op
from .choosing import maximum, minimum, where
from .comparison import eq, isnan, logical_and, logical_or
from .joining import cat, narrow
from .pointwise import _real, cast, exp, sign
from .view import dim_of, dims_of, numpy_names

__all__ = [
    "sum", "mean", "var", "std", "prod", "norm", "max", "min", "amax", "amin", "argmax", "argmin", "any", "all",
    "logsumexp", "softmax", "log_softmax", "cumsum", "cumprod",
]  # fmt: skip


def _axes(name: str, dim: Any, ndim: int) -> tuple[int, ...]:
    """The axes that `dim` means, non-negative and in order; None and () mean all."""
    if dim is None or (isinstance(dim, tuple | list) and not dim):
        return tuple(range(ndim))
    axes = tuple(sorted(dims_of(name, dim, ndim)))
    if len(set(axes)) < len(axes):
        raise ValueError(f"{name}: dim={dim} names an axis twice")
    return axes if ndim else ()


def _count(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    return math.prod([shape[a] for a in axes])


def _kept(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple([1 if i in axes else n for i, n in enumerate(shape)])


def _restore(t: Tensor, shape: tuple[int, ...], axes: tuple[int, ...], keepdim: bool) -> Tensor:
    """A reduced tensor so that it broadcasts against `shape`: with its reduced axes back, of length one."""
    if keepdim or axes == tuple(range(len(axes))):  # leading axes come back by broadcasting
        return t
    return t.reshape(_kept(shape, axes))


def _wide(x: Any) -> Any:
    """The dtype in which to add or multiply entries of the array x one after another."""
    return np.float64 if x.dtype.kind == "f" else np.int64


def _result(x: Any, y: Any) -> Any:
    """y, which was added up in `_wide(x)`, in the dtype of the result."""
    return y.astype(x.dtype) if x.dtype.kind == "f" else y


def _at_least_single(x: Any) -> Any:
    """x, of half precision in single: squares and exponentials of it have a wider range than it has."""
    return x if x.dtype.itemsize >= 4 else x.astype(np.float32)


# ---------------------------------------------------------------- sums and moments


def _total(k: Any, x: Any, axes: tuple[int, ...], keepdim: bool, scale: float = 1.0) -> Any:
    """scale * the sum of an array of floats over `axes`, added up in double (half precision in single)."""
    y = k.sum(x, axes, scale)
    return y.reshape(_kept(x.shape, axes)) if keepdim else y


@op
def _sum(k, x, *, axes, keepdim):
    """The sum over `axes`."""
    return _total(k, x, axes, keepdim) if x.dtype.kind == "f" else x.sum(axes, np.int64, keepdims=keepdim)


@op
def _mean(k, x, *, axes, keepdim):
    """The sum over `axes` by the number of its terms."""
    n = _count(x.shape, axes)
    return _total(k, _real(x), axes, keepdim, 1 / n if n else math.nan)


@op
def _var(k, x, *, axes, keepdim, correction):
    """sum of (x - mean)^2 / (n - correction) over `axes`."""
    dtype, x = _real(x).dtype, _at_least_single(_real(x))
    n = _count(x.shape, axes)
    centred = x - _total(k, x, axes, True, 1 / n) if n else x
    total = _total(k, centred * centred, axes, keepdim, 1 / (n - correction) if n > correction else 1.0)
    result = total if n > correction else k.xp.where(total > 0, math.inf, math.nan)
    with np.errstate(over="ignore"):  # half precision ends at 65504
        return result.astype(dtype, copy=False)


def _var_vjp(g: Tensor, x: Tensor, axes: tuple, keepdim: bool, correction: float) -> Tensor:
    degrees = _count(x.shape, axes) - correction
    centred = x - _mean(x, axes=axes, keepdim=True)
    return centred * (_restore(g, x.shape, axes, keepdim) * (2 / degrees if degrees > 0 else math.nan))


def _mean_vjp(g: Tensor, x_shape: tuple, axes: tuple, keepdim: bool) -> Tensor:
    return expand(_restore(g / (_count(x_shape, axes) or 1), x_shape, axes, keepdim), shape=x_shape)


_sum.vjp("x")(lambda g, x_shape, axes, keepdim: expand(_restore(g, x_shape, axes, keepdim), shape=x_shape))
_mean.vjp("x")(_mean_vjp)
_var.vjp("x")(_var_vjp)


@numpy_names
def sum(input: Tensor, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    """The sum over `dim` (an axis, a tuple, None: all); integers and booleans add up as int64. `dtype` casts first."""
    x = input if dtype is None else cast(input, dtype)
    return _sum(x, axes=_axes("sum", dim, x.array.ndim), keepdim=keepdim)


@numpy_names
def mean(input: Tensor, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    """The average over `dim`; NaN over nothing, float32 for integers. `dtype` casts first; TypeError for integers."""
    if dtype is not None and np.dtype(dtype).kind != "f":
        raise TypeError(f"mean: dtype={np.dtype(dtype)} cannot hold an average; give a floating-point dtype")
    x = input if dtype is None else cast(input, dtype)
    return _mean(x, axes=_axes("mean", dim, x.array.ndim), keepdim=keepdim)


@numpy_names
def var(
    input: Tensor, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
) -> Tensor:
    """sum of (x - mean)^2 / (n - correction) over `dim`; correction 1 (unbiased, the default) or 0 (unbiased=False).

    Two passes, so a large mean costs no accuracy. NaN where n <= correction. `var(x, False)` is torch's short form.
    """
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    degrees = (1 if unbiased else 0) if correction is None else correction
    return _var(input, axes=_axes("var", dim, input.array.ndim), keepdim=keepdim, correction=degrees)


@numpy_names
def std(
    input: Tensor, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
) -> Tensor:
    """sqrt(var(...)), the standard deviation over `dim`; derivative 0 where it is 0."""
    x = cast(input, "float32") if input.array.dtype == np.float16 else input  # the squares may be beyond half precision
    root = _root(var(x, dim, unbiased, keepdim, correction=correction))
    return root if x is input else cast(root, input.dtype)


def _root(x: Tensor, power: float = 0.5) -> Tensor:
    """x ** power for x >= 0, with derivative 0, not infinity, at 0."""
    zero = eq(x, 0)
    return where(zero, 0.0, where(zero, 1.0, x) ** power)


# ---------------------------------------------------------------- products


def _prod_composite(x: Tensor, axes: tuple, keepdim: bool) -> Tensor:
    """Multiplying halves: no division, so exact where factors are zero, and so is every derivative."""
    rest = tuple([i for i in range(x.ndim) if i not in axes])
    out_shape = tuple([x.shape[i] for i in rest])
    y = x.permute(axes + rest).reshape((_count(x.shape, axes), *out_shape))
    odd = None  # the product of the factors left over by halving
    while y.shape[0] > 1:
        half = y.shape[0] // 2
        if y.shape[0] % 2:
            odd = y[-1] if odd is None else odd * y[-1]
        y = y[:half] * y[half : 2 * half]
    product = y[0] if y.shape[0] else y.sum(0) + 1
    product = product if odd is None else product * odd
    return product.reshape(_kept(x.shape, axes)) if keepdim else product


@op(composite=_prod_composite)
def _prod(k, x, *, axes, keepdim):
    """The product over `axes`."""
    return _result(x, x.prod(axes, _wide(x), keepdims=keepdim))


@numpy_names
def prod(input: Tensor, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    """The product over `dim`, 1 over nothing, int64 for integers; derivatives of every order are right at zeros too.

    `dtype` casts first.
    """
    x = input if dtype is None else cast(input, dtype)
    return _prod(x, axes=_axes("prod", dim, x.array.ndim), keepdim=keepdim)


def _cumprod_composite(x: Tensor, dim: int) -> Tensor:
    """Every entry times the one `step` before it, for step 1, 2, 4 ...: products alone, so exact at zeros."""
    y, n, step = x, x.shape[dim], 1
    while step < n:
        y = cat([narrow(y, dim, 0, step), narrow(y, dim, step, n - step) * narrow(y, dim, 0, n - step)], dim)
        step *= 2
    return y


@op(composite=_cumprod_composite)
def _cumprod(k, x, *, dim):
    """y[i] = x[0] * ... * x[i] along `dim`."""
    return _result(x, k.xp.cumprod(x, dim, _wide(x)))


@numpy_names
def cumprod(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """y[i] = x[0] * ... * x[i] along `dim`, same shape; `dtype` casts first. Exact at zeros to every order."""
    x = input if dtype is None else cast(input, dtype)
    dim = dim_of("cumprod", dim, x.array.ndim)
    return _cumprod(x, dim=dim) if x.array.ndim else identity(x)


@op
def _cumsum(k, x, *, dim, reverse):
    """y[i] = the sum of x[j] over j <= i, or, reversed, over j >= i: each is the adjoint of the other."""
    if reverse:
        return k.xp.flip(_result(x, k.xp.cumsum(k.xp.flip(x, dim), dim, _wide(x))), dim)
    return _result(x, k.xp.cumsum(x, dim, _wide(x)))


_cumsum.vjp("x")(lambda g, dim, reverse: _cumsum(g, dim=dim, reverse=not reverse))


@numpy_names
def cumsum(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """y[i] = x[0] + ... + x[i] along `dim`, same shape; `dtype` casts first."""
    x = input if dtype is None else cast(input, dtype)
    dim = dim_of("cumsum", dim, x.array.ndim)
    return _cumsum(x, dim=dim, reverse=False) if x.array.ndim else identity(x)


# ---------------------------------------------------------------- norms


@op
def _norm(k, x, *, axes, keepdim):
    """sqrt(sum of x^2) over `axes`."""
    dtype, x = _real(x).dtype, _at_least_single(_real(x))
    return k.xp.sqrt(_total(k, x * x, axes, keepdim)).astype(dtype, copy=False)


def _norm_vjp(g: Tensor, out: Tensor, x: Tensor, axes: tuple, keepdim: bool) -> Tensor:
    zero = eq(out, 0)
    scale = where(zero, 0.0, g / where(zero, 1.0, out))
    return x * _restore(scale, x.shape, axes, keepdim)


_norm.vjp("x")(_norm_vjp)


@numpy_names
def norm(input: Tensor, p: float | str = 2, dim: Any = None, keepdim: bool = False) -> Tensor:
    """(sum of |x|^p)^(1/p) over `dim`; p = inf: max |x|, -inf: min |x|, 0: the number of non-zeros, 'fro': 2.

    The norm of the entries, also over two axes. Its derivative is 0 where the norm is 0 (for p < 2 wherever x is 0).
    Raises ValueError for another p in words.
    """
    if p == "fro":
        p = 2
    if isinstance(p, str):
        raise ValueError(f"norm: p={p!r} is not known; use a number, inf or 'fro'")
    axes = _axes("norm", dim, input.array.ndim)
    if p == 2:
        return _norm(input, axes=axes, keepdim=keepdim)
    x = input if input.array.dtype.kind == "f" else cast(input, "float32")
    if p == 1:
        return _sum(x.abs(), axes=axes, keepdim=keepdim)
    if math.isinf(p):
        return (amax if p > 0 else amin)(x.abs(), axes, keepdim)
    zero = eq(x, 0)
    if p == 0:
        return _sum(where(zero, sign(x), 1.0), axes=axes, keepdim=keepdim)  # sign: a derivative, of 0
    if x.dtype == np.float16:  # the powers may be beyond half precision
        return cast(norm(cast(x, "float32"), p, axes, keepdim), x.dtype)
    if p < 2:  # |x|^(p-1) or its derivative is infinite at 0
        powers = where(zero, 0.0 if p > 0 else math.inf, where(zero, 1.0, x).abs() ** p)
    else:
        powers = x**p if p % 2 == 0 else x.abs() ** p
    return _root(_sum(powers, axes=axes, keepdim=keepdim), 1 / p)


# ---------------------------------------------------------------- extremes


class ValuesIndices(NamedTuple):
    """What `max` and `min` along an axis return: the extremes and where they were."""

    values: Tensor
    indices: Tensor


@op
def _amax(k, x, *, axes, keepdim):
    """The largest entry over `axes`; NaN if there is one."""
    return x.max(axes, keepdims=keepdim)


@op
def _amin(k, x, *, axes, keepdim):
    """The smallest entry over `axes`; NaN if there is one."""
    return x.min(axes, keepdims=keepdim)


def _extreme_vjp(g: Tensor, out: Tensor, x: Tensor, axes: tuple, keepdim: bool) -> Tensor:
    top = _restore(out, x.shape, axes, keepdim)
    winners = cast(logical_or(eq(x, top), logical_and(isnan(x), isnan(top))), g.dtype)
    return winners * _restore(g, x.shape, axes, keepdim) / _sum(winners, axes=axes, keepdim=True)


_amax.vjp("x")(_extreme_vjp)
_amin.vjp("x")(_extreme_vjp)


@op
def _argmax(k, x, *, dim):
    """The first position of the maximum along `dim` (None: in the flattened tensor), int64."""
    return k.xp.asarray(x.argmax(dim), np.int64)


@op
def _argmin(k, x, *, dim):
    """The first position of the minimum along `dim` (None: in the flattened tensor), int64."""
    return k.xp.asarray(x.argmin(dim), np.int64)


@op
def _any(k, x, *, axes, keepdim):
    """True where an entry over `axes` is non-zero."""
    return x.any(axes, keepdims=keepdim)


@op
def _all(k, x, *, axes, keepdim):
    """True where every entry over `axes` is non-zero."""
    return x.all(axes, keepdims=keepdim)


def _nonempty(name: str, x: Tensor, axes: tuple[int, ...]) -> None:
    if _count(x.array.shape, axes) == 0:
        raise ValueError(
            f"{name}: a tensor of shape {tuple(x.array.shape)} has no entries along dim {axes}, so no extreme; make "
            "sure that it is not empty"
        )


@numpy_names
def amax(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The largest entry over `dim`, NaN if there is one; ties share the gradient evenly. ValueError over nothing."""
    axes = _axes("amax", dim, input.array.ndim)
    _nonempty("amax", input, axes)
    return _amax(input, axes=axes, keepdim=keepdim)


@numpy_names
def amin(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The smallest entry over `dim`, NaN if there is one; ties share the gradient evenly. ValueError over nothing."""
    axes = _axes("amin", dim, input.array.ndim)
    _nonempty("amin", input, axes)
    return _amin(input, axes=axes, keepdim=keepdim)


def _select(name: str, positions: Any, x: Tensor, dim: Any, keepdim: bool) -> ValuesIndices:
    axis = dim_of(name, dim, x.array.ndim)
    if x.array.ndim == 0:
        return ValuesIndices(identity(x), positions(x, dim=None))
    _nonempty(name, x, (axis,))
    indices = positions(x, dim=axis).unsqueeze(axis)
    values = x.gather(axis, indices)
    return ValuesIndices(values, indices) if keepdim else ValuesIndices(values.squeeze(axis), indices.squeeze(axis))


@numpy_names
def max(input: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """The largest entry; with an axis `dim` the pair (values, indices) along it; with a tensor, `maximum` of both.

    Ties: without `dim` they share the gradient evenly, with `dim` the first one has it all. NaN counts as the largest.
    """
    if isinstance(dim, Tensor):
        return maximum(input, dim)
    return amax(input, None, keepdim) if dim is None else _select("max", _argmax, input, dim, keepdim)


@numpy_names
def min(input: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """The smallest entry; with an axis `dim` the pair (values, indices) along it; with a tensor, `minimum` of both.

    Ties: without `dim` they share the gradient evenly, with `dim` the first one has it all. NaN counts as the smallest.
    """
    if isinstance(dim, Tensor):
        return minimum(input, dim)
    return amin(input, None, keepdim) if dim is None else _select("min", _argmin, input, dim, keepdim)


def _position(name: str, positions: Any, x: Tensor, dim: Any, keepdim: bool) -> Tensor:
    axes = _axes(name, dim, x.array.ndim)
    _nonempty(name, x, axes)
    out = positions(x, dim=None if dim is None or not axes else axes[0])
    return out.reshape(_kept(x.array.shape, axes)) if keepdim else out


@numpy_names
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The position of the (first) maximum along `dim`, or in the flattened tensor: int64, no gradient."""
    return _position("argmax", _argmax, input, dim, keepdim)


@numpy_names
def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The position of the (first) minimum along `dim`, or in the flattened tensor: int64, no gradient."""
    return _position("argmin", _argmin, input, dim, keepdim)


@numpy_names
def any(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """True where some entry over `dim` is non-zero; False over nothing."""
    return _any(input, axes=_axes("any", dim, input.array.ndim), keepdim=keepdim)


@numpy_names
def all(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """True where every entry over `dim` is non-zero; True over nothing."""
    return _all(input, axes=_axes("all", dim, input.array.ndim), keepdim=keepdim)


# ---------------------------------------------------------------- exponentials, without overflow


@op
def _logsumexp(k, x, *, axes, keepdim):
    """log(sum of e^x) over `axes`."""
    x = _real(x)
    if _count(x.shape, axes) == 0:
        shape = _kept(x.shape, axes) if keepdim else [n for i, n in enumerate(x.shape) if i not in axes]
        return k.xp.full(shape, -math.inf, x.dtype)
    top = x.max(axes, keepdims=True)
    top = k.xp.where(k.xp.isinf(top), 0, top).astype(x.dtype)  # x - top is NaN at an infinite top
    with np.errstate(divide="ignore"):  # log(0) = -inf is the right answer where every entry is -inf
        total = _total(k, k.xp.exp(_at_least_single(x - top)), axes, True)
        out = (k.xp.log(total) + top).astype(x.dtype, copy=False)
    return out if keepdim else out.squeeze(axes)


def _logsumexp_vjp(g: Tensor, out: Tensor, x: Tensor, axes: tuple, keepdim: bool) -> Tensor:
    finite = where(eq(out, -math.inf), 0.0, out)  # e^(-inf - -inf) would be NaN
    return _restore(g, x.shape, axes, keepdim) * exp(x - _restore(finite, x.shape, axes, keepdim))


_logsumexp.vjp("x")(_logsumexp_vjp)


@numpy_names
def logsumexp(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """log(sum of e^x) over `dim`, without overflow; -inf over nothing or over -inf alone, with gradient 0."""
    return _logsumexp(input, axes=_axes("logsumexp", dim, input.array.ndim), keepdim=keepdim)


def _along(k: Any, kernel: Any, x: Any, dim: int) -> Any:
    """A kernel of the last axis, applied along `dim`."""
    x = _real(x)
    if x.ndim == 0:
        return kernel(x.reshape(1)).reshape(())
    if dim == x.ndim - 1:
        return kernel(x)
    return k.xp.ascontiguousarray(k.xp.moveaxis(kernel(k.xp.ascontiguousarray(k.xp.moveaxis(x, dim, -1))), -1, dim))


@op
def _softmax(k, x, *, dim):
    """e^x / sum(e^x) along `dim`."""
    return _along(k, k.softmax, x, dim)


@op
def _log_softmax(k, x, *, dim):
    """x - log(sum(e^x)) along `dim`."""
    return _along(k, k.log_softmax, x, dim)


_softmax.vjp("x")(lambda g, out, dim: out * (g - (g * out).sum(dim, keepdim=True)))
_log_softmax.vjp("x")(lambda g, out, dim: g - exp(out) * g.sum(dim, keepdim=True))


@numpy_names
def softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """y[i] = e^x[i] / sum over j of e^x[j] along `dim`, without overflow; -inf gives 0. `dtype` casts first."""
    x = input if dtype is None else cast(input, dtype)
    return _softmax(x, dim=dim_of("softmax", dim, x.array.ndim))


@numpy_names
def log_softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """y[i] = x[i] - log(sum over j of e^x[j]) along `dim`, accurate where softmax is tiny. `dtype` casts first."""
    x = input if dtype is None else cast(input, dtype)
    return _log_softmax(x, dim=dim_of("log_softmax", dim, x.array.ndim))
