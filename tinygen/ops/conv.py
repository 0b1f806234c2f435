"""Convolution and transposed convolution: three contractions of one trilinear form, closed under differentiation.

    T(x, w, y) = sum over n, p, k, c, t of  x[n, c, stride*p + dilation*t - pad] * w[k, c, t] * y[n, k, p]

`conv` = dT/dy, `conv_transpose` = dT/dx, `conv_weight` = dT/dw. Each is linear in its two arguments, and differentiating it
with respect to one of them gives another of the three: hence the six one-line VJPs, and derivatives of every order.

In the lecture's words (lecture 4; at stride 1, `*` the true convolution, which flips): dx = dy * flip(w) read as "correlate dy
with the flipped kernel", dw = dy * flip(x). As everywhere in the field the layer itself is a correlation. `conv_matrix` writes
the layer as the lecture's sparse matrix A_w; its transpose is the transposed convolution with the same array w.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends.geometry import Geometry, Pair
from ..tape import Tensor, op

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


def _per_axis(name: str, what: str, value: Any, axes: int, smallest: int = 1) -> tuple[int, ...]:
    values = (value,) * axes if isinstance(value, int) else tuple(value)
    if len(values) != axes or any(v < smallest for v in values):
        raise ValueError(f"{name}: {what}={value} should be one integer, or {axes}, of at least {smallest}")
    return values


def _padding(name: str, padding: Any, axes: int, size: tuple, kernel: tuple, stride: tuple, dilation: tuple) -> list[Pair]:
    """(before, after) per axis, from an integer, one per axis, a pair per axis, 'valid' or 'same'."""
    if padding == "valid":
        return [(0, 0)] * axes
    if padding == "same":  # ceil(size / stride) outputs, the odd element of padding at the end
        pads = []
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
            total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
            pads.append((total // 2, total - total // 2))
        return pads
    if isinstance(padding, str):
        raise ValueError(f"{name}: padding={padding!r} is not known; use an integer, a tuple, 'same' or 'valid'")
    values = (padding,) * axes if isinstance(padding, int) else tuple(padding)
    if len(values) != axes:
        raise ValueError(f"{name}: padding={padding} should be one integer, {axes} integers or {axes} (before, after) pairs")
    return [(v, v) if isinstance(v, int) else (int(v[0]), int(v[1])) for v in values]


def _check(name: str, x: Tensor, weight: Tensor, bias: Tensor | None, axes: int, groups: int, transposed: bool) -> None:
    """The errors of all convolutions: ranks, channels, groups, bias."""
    image = "(N, C, H, W) or (C, H, W)" if axes == 2 else "(N, C, L) or (C, L)"
    if not isinstance(x, Tensor) or not isinstance(weight, Tensor):
        raise TypeError(f"{name}: expected tensors, got {type(x).__name__} and {type(weight).__name__}")
    if x.ndim not in (axes + 1, axes + 2):
        raise ValueError(f"{name}: input should be {image}, got {x.ndim} dimensions: {_by(x)}; add one with unsqueeze")
    if weight.ndim != axes + 2:
        raise ValueError(f"{name}: weight should have {axes + 2} dimensions, got {_by(weight)}")
    channels = x.shape[-axes - 1]
    expected = weight.shape[0] if transposed else weight.shape[1] * groups
    if channels != expected:
        raise ValueError(
            f"{name}: weight expects {expected} input channels ({_by(weight)}, groups={groups}), input has {channels}: {_by(x)}"
        )
    if weight.shape[0] % groups:
        raise ValueError(f"{name}: groups={groups} does not divide the {weight.shape[0]} filters of weight {_by(weight)}")
    outputs = weight.shape[1] * groups if transposed else weight.shape[0]
    if bias is not None and tuple(bias.shape) != (outputs,):
        raise ValueError(f"{name}: bias should have shape ({outputs},), one per output channel, got {tuple(bias.shape)}")


def _by(t: Tensor) -> str:
    return "x".join(map(str, t.shape))


def _forward(name: str, axes: int, x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Tensor:  # fmt: skip
    _check(name, x, weight, bias, axes, groups, False)
    batched = x if x.ndim == axes + 2 else x.unsqueeze(0)
    size, kernel = tuple(batched.shape[2:]), tuple(weight.shape[2:])
    s, d = _per_axis(name, "stride", stride, axes), _per_axis(name, "dilation", dilation, axes)
    pads = _padding(name, padding, axes, size, kernel, s, d)
    spans = [n + a + b - e * (k - 1) for n, (a, b), e, k in zip(size, pads, d, kernel, strict=True)]
    if min(spans) < 1:
        raise ValueError(f"{name}: kernel {_by(weight)} (dilation {d}) is larger than the padded input {_by(x)} (padding {pads})")
    out = tuple((span - 1) // step + 1 for span, step in zip(spans, s, strict=True))
    geo = _geometry(axes, batched.shape, weight.shape, (batched.shape[0], weight.shape[0], *out), s, d, pads, groups)
    y = _call(conv, axes, batched, weight, bias, geo)
    return y if batched is x else y.squeeze(0)


def _transposed(name: str, axes: int, x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, output_padding: Any, groups: int, dilation: Any, output_size: Any) -> Tensor:  # fmt: skip
    _check(name, x, weight, bias, axes, groups, True)
    batched = x if x.ndim == axes + 2 else x.unsqueeze(0)
    size, kernel = tuple(batched.shape[2:]), tuple(weight.shape[2:])
    s, d = _per_axis(name, "stride", stride, axes), _per_axis(name, "dilation", dilation, axes)
    if padding == "same":
        raise ValueError(f"{name}: padding='same' is ambiguous here; give padding as integers and output_size=")
    pads = _padding(name, padding, axes, size, kernel, s, d)
    smallest = [(n - 1) * a - b - c + e * (k - 1) + 1 for n, a, (b, c), e, k in zip(size, s, pads, d, kernel, strict=True)]
    slack = [max(a, e) - 1 for a, e in zip(s, d, strict=True)]
    if output_size is not None:
        out = (output_size,) * axes if isinstance(output_size, int) else tuple(output_size)[-axes:]
        extra = tuple(o - n for o, n in zip(out, smallest, strict=True))
    else:
        extra = _per_axis(name, "output_padding", output_padding, axes, 0)
        out = tuple(n + e for n, e in zip(smallest, extra, strict=True))
    if any(e < 0 or e > most for e, most in zip(extra, slack, strict=True)) or min(out) < 1:
        legal = " x ".join(f"{n}..{n + most}" for n, most in zip(smallest, slack, strict=True))
        raise ValueError(
            f"{name}: an output of {'x'.join(map(str, out))} cannot come from input {_by(x)} with weight {_by(weight)}, stride {s}, "
            f"padding {padding}, dilation {d}; legal sizes are {legal} (output_padding < stride or dilation)"
        )
    y_shape = (batched.shape[0], weight.shape[1] * groups, *out)
    geo = _geometry(axes, y_shape, weight.shape, batched.shape, s, d, pads, groups)
    y = _call(conv_transpose, axes, batched, weight, bias, geo)
    return y if batched is x else y.squeeze(0)


def _geometry(axes: int, x: tuple, w: tuple, y: tuple, s: tuple, d: tuple, pads: list[Pair], groups: int) -> Geometry:
    """One axis is two with a height of one."""
    before = tuple(p[0] for p in pads)
    if axes == 1:
        x, w, y = ((*shape[:2], 1, *shape[2:]) for shape in (x, w, y))
        s, d, before = (1, *s), (1, *d), (0, *before)
    return Geometry(tuple(x), tuple(w), tuple(y), s, d, before, groups)  # type: ignore[arg-type]


def _call(contraction: Any, axes: int, x: Tensor, weight: Tensor, bias: Tensor | None, geo: Geometry) -> Tensor:
    inputs = (x, weight) if axes == 2 else (x.unsqueeze(2), weight.unsqueeze(2))
    y = contraction(*inputs, geo=geo) if bias is None else contraction(*inputs, bias, geo=geo)
    return y if axes == 2 else y.squeeze(2)


def conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Tensor:
    """y[n,k,p] = bias[k] + sum over c, t of input[n,c,s*p+d*t-pad] weight[k,c,t] (a correlation: no flip).

    input (N, C, H, W) or (C, H, W), weight (K, C / groups, R, S), bias (K,); output (N, K, P, Q) with
    P = (H + pads - dilation * (R - 1) - 1) // stride + 1. `padding`: an integer, one per axis, a (before, after) pair per axis,
    'valid' or 'same' (ceil(H / stride) outputs). Raises ValueError for shapes that do not fit. Lecture 4.
    """
    return _forward("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv1d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Tensor:
    """`conv2d` along one axis: input (N, C, L) or (C, L), weight (K, C / groups, R), output (N, K, P)."""
    return _forward("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv_transpose2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
    groups: int = 1, dilation: Any = 1, output_size: Any = None,
) -> Tensor:  # fmt: skip
    """The adjoint of `conv2d` with the same weight array: output[n,c,s*p+d*t-pad] += input[n,k,p] weight[k,c,t], plus bias[c].

    input (N, K, P, Q), weight (K, C / groups, R, S), bias (C,); output (N, C, H, W) with H = stride * (P - 1) + dilation *
    (R - 1) + 1 - pads + output_padding. A strided convolution maps several input sizes to one; `output_padding`, or the size
    itself as `output_size`, says which one to return to. Raises ValueError with the legal range. Lectures 0, 1 and 4.
    """
    return _transposed("conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation, output_size)


def conv_transpose1d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
    groups: int = 1, dilation: Any = 1, output_size: Any = None,
) -> Tensor:  # fmt: skip
    """`conv_transpose2d` along one axis: input (N, K, P), weight (K, C / groups, R), output (N, C, L)."""
    return _transposed("conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation, output_size)


def conv_matrix(w: Any, size: Any, stride: Any = 1, padding: Any = "same", dilation: Any = 1) -> np.ndarray:
    """The lecture's A_w: the dense matrix with conv(x, w) = A_w x for a single-channel x of `size`, flattened.

    w is a 1-D or 2-D kernel (array or tensor), size an integer or one per axis. A stride keeps every s-th row of each axis (in
    2-D it divides the number of rows by s^2). The transpose of the result is `conv_transpose` with the same w. With w =
    [1, 2, 1] and size 4: [[2,1,0,0],[1,2,1,0],[0,1,2,1],[0,0,1,2]] (lecture 4, whose slide misplaces the last 1 of row 3).
    """
    kernel = np.asarray(w.array if isinstance(w, Tensor) else w, np.float64)
    axes = kernel.ndim
    if axes not in (1, 2):
        raise ValueError(f"conv_matrix: w should be a 1-D or 2-D kernel, got {axes} dimensions")
    sizes = _per_axis("conv_matrix", "size", size, axes)
    count = int(np.prod(sizes))
    basis = Tensor(np.eye(count).reshape(count, 1, *sizes))  # one image per column of the matrix
    convolve = conv2d if axes == 2 else conv1d
    columns = convolve(basis, Tensor(kernel[None, None]), None, stride, padding, dilation)
    return columns.array.reshape(count, -1).T.copy()
