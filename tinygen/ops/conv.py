"""Convolution and transposed convolution: three contractions of one trilinear form.

    T(x, w, y) = sum over n, p, k, c, t of  x[n,c,stride*p+dilation*t-pad] * w[k,c,t] * y[n,k,p]

`conv` = dT/dy, `conv_transpose` = dT/dx, `conv_weight` = dT/dw. Each is linear in its two
arguments, and differentiating it by one of them gives another of the three: hence the six one-line
VJPs, and derivatives of every order. In the lecture's words (lecture 4; stride 1, `*` a convolution
that flips): dx = dy * flip(w), dw = dy * flip(x). As everywhere the layer itself is a correlation.
`conv_matrix` writes it as the lecture's sparse matrix A_w, whose transpose is `conv_transpose`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..backends.geometry import Geometry, by, check_dtypes, per_axis
from ..tape import Op, Tensor, op

__all__ = ["conv1d", "conv2d", "conv_matrix", "conv_transpose1d", "conv_transpose2d"]


@op
def conv(k, x, w, b=None, *, geo):
    """y[n,k,p] = b[k] + sum over c, t of x[n,c,s*p+d*t-pad] w[k,c,t]."""
    return k.conv(x, w, geo, b)


@op
def conv_transpose(k, y, w, b=None, *, geo):
    """x[n,c,i] = b[c] + sum over k and all (p, t) with s*p+d*t-pad = i of y[n,k,p] w[k,c,t]."""
    return k.conv_transpose(y, w, geo, b)


@op
def conv_weight(k, x, y, *, geo):
    """w[k,c,t] = sum over n, p of x[n,c,s*p+d*t-pad] y[n,k,p]."""
    return k.conv_weight(x, y, geo)


conv.vjp("x")(lambda g, w, geo: conv_transpose(g, w, geo=geo))
conv.vjp("w")(lambda g, x, geo: conv_weight(x, g, geo=geo))
conv.vjp("b")(lambda g: g.sum((0, 2, 3)))
conv_transpose.vjp("y")(lambda g, w, geo: conv(g, w, geo=geo))
conv_transpose.vjp("w")(lambda g, y, geo: conv_weight(g, y, geo=geo))
conv_transpose.vjp("b")(lambda g: g.sum((0, 2, 3)))
conv_weight.vjp("x")(lambda g, y, geo: conv_transpose(y, g, geo=geo))
conv_weight.vjp("y")(lambda g, x, geo: conv(x, g, geo=geo))


@lru_cache(maxsize=4096)  # a layer asks once per size of its input
def _geometry(op: Op, axes: int, x: Any, w: Any, b: Any, groups: int, *law: Any) -> Geometry:
    """The contraction of arrays of these shapes; ValueError for ranks, channels, groups, bias."""
    name, transposed = f"{op.name}{axes}d", op is conv_transpose
    (groups,) = per_axis(name, "groups", groups, 1)
    if len(x) not in (axes + 1, axes + 2) or len(w) != axes + 2:
        image = "(N, C, H, W) or (C, H, W)" if axes == 2 else "(N, C, L) or (C, L)"
        wants = f"{name}: input should be {image} and weight have {axes + 2} dimensions"
        raise ValueError(f"{wants}, got {by(x)} and {by(w)}; add a dimension with unsqueeze")
    inner, outer = w[1] * groups, w[0]
    expected, outputs = (outer, inner) if transposed else (inner, outer)
    if x[-axes - 1] != expected:
        wants = f"weight expects {expected} input channels ({by(w)}, groups={groups})"
        raise ValueError(f"{name}: {wants}, input has {x[-axes - 1]}: {by(x)}")
    if outer % groups:
        why = f"groups={groups} does not divide the {outer} filters of {by(w)}"
        raise ValueError(f"{name}: {why}; choose a divisor of {outer}")
    if b is not None and b != (outputs,):
        raise ValueError(f"{name}: bias should have shape ({outputs},), got {b}")
    shapes = Geometry.of_transposed if transposed else Geometry.of_convolution
    return shapes(name, x if len(x) == axes + 2 else (1, *x), w, groups, *law)


def arranged(op: Op, axes: int, x: Any, w: Any, b: Any, groups: int, law: tuple) -> tuple:
    """(x, w, geo): a batch of 2-D images, 2-D kernels, and the geometry of their contraction."""
    if not isinstance(x, Tensor) or not isinstance(w, Tensor):
        given = f"{type(x).__name__} and {type(w).__name__}; wrap them in tensor(...)"
        raise TypeError(f"{op.name}{axes}d: expected tensors, got {given}")
    dtype = x.array.dtype
    if dtype is not w.array.dtype or dtype.kind != "f":
        check_dtypes(f"{op.name}{axes}d", dtype, w.array.dtype)
    shapes = x.array.shape, w.array.shape, None if b is None else b.shape
    try:
        geo = _geometry(op, axes, *shapes, groups, *law)
    except TypeError:  # a list cannot be looked up
        geo = _geometry.__wrapped__(op, axes, *shapes, groups, *law)
    if x.array.ndim == axes + 1:
        x = x.unsqueeze(0)
    if axes == 1:
        x, w = x.unsqueeze(2), w.unsqueeze(2)
    return x, w, geo


def restored(y: Tensor, axes: int, ndim: int) -> Tensor:
    """A result in the form of the input, which had this many axes of images, and of all."""
    if axes == 1:
        y = y.squeeze(2)
    return y if ndim == axes + 2 else y.squeeze(0)


def contract(op: Op, axes: int, x: Any, w: Any, b: Any, groups: int, *law: Any) -> Tensor:
    """The contraction for images of one axis or two, with a batch axis or not."""
    images, kernels, geo = arranged(op, axes, x, w, b, groups, law)
    y = op(images, kernels, b, geo=geo)
    return y if images is x else restored(y, axes, x.array.ndim)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """y[n,k,p] = bias[k] + sum over c, t of input[n,c,s*p+d*t-pad] weight[k,c,t]; no flip.

    input (N, C, H, W) or (C, H, W), weight (K, C / groups, R, S), bias (K,); output (N, K, P, Q)
    with P = (H + pads - dilation * (R - 1) - 1) // stride + 1. `padding`: an integer, one per axis,
    a (before, after) pair per axis, 'valid' or 'same' (ceil(H / stride) outputs). Raises ValueError
    for shapes that do not fit. Lecture 4.
    """
    return contract(conv, 2, input, weight, bias, groups, stride, padding, dilation)


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """`conv2d` along one axis: input (N, C, L) or (C, L), weight (K, C / groups, R)."""
    return contract(conv, 1, input, weight, bias, groups, stride, padding, dilation)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    output_size: Any = None,
) -> Tensor:
    """The adjoint of `conv2d`: output[n,c,s*p+d*t-pad] += input[n,k,p] weight[k,c,t], plus bias[c].

    input (N, K, P, Q), weight (K, C / groups, R, S) as in `conv2d`, bias (C,); output (N, C, H, W)
    with H = stride * (P - 1) + dilation * (R - 1) + 1 - pads + output_padding. A strided
    convolution maps several input sizes to one; `output_padding`, or the size itself as
    `output_size`, says which one to return to. Raises ValueError with the legal range. Lecture 4.
    """
    law = (stride, padding, dilation, output_padding, output_size)
    return contract(conv_transpose, 2, input, weight, bias, groups, *law)


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    output_size: Any = None,
) -> Tensor:
    """`conv_transpose2d` along one axis: input (N, K, P), weight (K, C / groups, R)."""
    law = (stride, padding, dilation, output_padding, output_size)
    return contract(conv_transpose, 1, input, weight, bias, groups, *law)


def conv_matrix(
    w: Any, size: Any, stride: Any = 1, padding: Any = "same", dilation: Any = 1
) -> np.ndarray:
    """The lecture's A_w: the dense matrix with conv(x, w) = A_w x for one channel, flattened.

    w is a 1-D or 2-D kernel (array or tensor), size an integer or one per axis. A stride s keeps
    every s-th row per axis. The transpose of the result is `conv_transpose` with the same w. With
    w = [1, 2, 1] and size 4: [[2,1,0,0],[1,2,1,0],[0,1,2,1],[0,0,1,2]] (lecture 4, whose slide
    misplaces the last 1 of row 3).
    """
    kernel = np.asarray(w.to("cpu").array if isinstance(w, Tensor) else w, np.float64)
    if kernel.ndim not in (1, 2):
        raise ValueError(f"conv_matrix: w should be a 1-D or 2-D kernel, got {kernel.ndim}-D")
    sizes = per_axis("conv_matrix", "size", size, kernel.ndim)
    basis = Tensor(np.eye(int(np.prod(sizes))).reshape(-1, 1, *sizes))  # an image per column
    convolve = conv2d if kernel.ndim == 2 else conv1d
    columns = convolve(basis, Tensor(kernel[None, None]), None, stride, padding, dilation)
    return columns.flatten(1).array.T.copy()
