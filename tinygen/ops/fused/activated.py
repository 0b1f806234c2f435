"""A layer and the activation behind it in one kernel: leaky_relu(layer(x), slope), of slope 0 (ReLU) or more.

The result has the sign of what leaky_relu was applied to, so the derivative needs no more than the result. A linear
layer is a fused op with a composite. A convolution is an op whose derivative is leaky_relu's, then the convolution's
own: all of them ops, so a recorded backward (WGAN-GP) computes nothing twice. `conv_moments` also returns what the
kernel added up for a batch norm behind it.
"""

from __future__ import annotations

from typing import Any

from ...memory import may_overwrite
from ...tape import Op, Tensor, op
from ..activation import _leaky_relu_backward, leaky_relu
from ..conv import arranged, contract, conv, conv_transpose, restored
from ..matmul import linear, linear_forward, rows_of

__all__ = ["conv_layer", "conv_moments", "linear_leaky_relu"]


@op(composite=lambda input, weight, bias, slope: leaky_relu(linear(input, weight, bias), slope))
def _linear_leaky_relu(k, input, weight, bias, *, slope):
    """leaky_relu(input weight^T + bias, slope), slope >= 0: the result has the sign of what it is made of."""
    return linear_forward(k, input, weight, bias, slope)


@_linear_leaky_relu.fused_vjp
def _(k, g, input, weight, bias, out, slope, wanted):
    g = rows_of(k.leaky_relu_backward(g, out, slope, g if may_overwrite(g) else None))
    return (
        k.matmul(g, weight).reshape(input.shape) if 0 in wanted else None,
        k.matmul(g.T, rows_of(input)) if 1 in wanted else None,
        k.sum(g, (0,)) if 2 in wanted else None,
    )


def linear_leaky_relu(input: Tensor, weight: Tensor, bias: Tensor | None, slope: float) -> Tensor:
    """leaky_relu(linear(input, weight, bias), slope), one kernel and one node of the tape unless slope is negative."""
    if slope < 0 or input.array.dtype.kind != "f":
        return leaky_relu(linear(input, weight, bias), slope)
    return _linear_leaky_relu(input, weight, bias, slope=float(slope))


@op(view=True)
def _leaky_relu_over(k, x, *, slope):
    """leaky_relu(x, slope), slope >= 0, written over x."""
    return k.leaky_relu(x, slope, x)


_leaky_relu_over.vjp("x")(lambda g, out, slope: _leaky_relu_backward(g, out, slope=slope))


def leaky_relu_over(input: Tensor, slope: float) -> Tensor:
    """leaky_relu(input, slope) in the memory of input, which nobody else may hold: for layers that have just made it.

    Where the op that made input keeps its result for its derivative, or slope is negative, the result is a new array.
    """
    kept = getattr(input.node, "out", input.node) is not None
    return leaky_relu(input, slope) if kept or slope < 0 else _leaky_relu_over(input, slope=float(slope))


# ---------------------------------------------------------------- convolution


@op
def _conv_leaky_relu(k, x, w, b=None, *, geo, slope):
    """leaky_relu(conv(x, w, b), slope), slope >= 0."""
    return k.conv(x, w, geo, b, slope)


@op
def _conv_transpose_leaky_relu(k, y, w, b=None, *, geo, slope):
    """leaky_relu(conv_transpose(y, w, b), slope), slope >= 0."""
    return k.conv_transpose(y, w, geo, b, slope)


@op(residuals=True)
def _conv_moments(k, x, w, b=None, *, geo, slope=1.0):
    """(leaky_relu(conv(x, w, b), slope), sums over its channels)."""
    return k.conv_moments(x, w, geo, b, slope)


@op(residuals=True)
def _conv_transpose_moments(k, y, w, b=None, *, geo, slope=1.0):
    """(leaky_relu(conv_transpose(y, w, b), slope), sums over its channels)."""
    return k.conv_transpose_moments(y, w, geo, b, slope)


def _before_activation(g: Tensor, out: Tensor, slope: float) -> Tensor:
    return g if slope == 1 else _leaky_relu_backward(g, out, slope=slope)


_activated = {conv: _conv_leaky_relu, conv_transpose: _conv_transpose_leaky_relu}
_summed = {conv: _conv_moments, conv_transpose: _conv_transpose_moments}
for _fused in (_activated, _summed):
    for _inner, _op in _fused.items():
        _op.outer_vjp(_inner)(_before_activation)


def conv_layer(
    op: Op, axes: int, input: Tensor, weight: Tensor, bias: Tensor | None, groups: int, *law: Any, slope: float = 1.0
) -> Tensor:
    """leaky_relu(conv or conv_transpose, slope) by one kernel; op, axes and the rest as in `conv.contract`."""
    if slope == 1:
        return contract(op, axes, input, weight, bias, groups, *law)
    if slope < 0:  # the derivative could not be told from the result
        return leaky_relu(contract(op, axes, input, weight, bias, groups, *law), slope)
    x, w, geo = arranged(op, axes, input, weight, bias, groups, law)
    return restored(_activated[op](x, w, bias, geo=geo, slope=float(slope)), axes, input.array.ndim)


def conv_moments(
    op: Op, axes: int, input: Tensor, weight: Tensor, bias: Tensor | None, groups: int, *law: Any, slope: float = 1.0
) -> tuple[Tensor, Any]:
    """(conv_layer of the same arguments, sums over its channels): the second is for batch_norm of exactly the first.

    The sums are None where the kernel makes none, where slope is negative, and for a single image, whose channels a
    batch norm would take for another axis.
    """
    if slope < 0 or getattr(input, "ndim", 0) == axes + 1:
        return conv_layer(op, axes, input, weight, bias, groups, *law, slope=slope), None
    x, w, geo = arranged(op, axes, input, weight, bias, groups, law)
    y, moments = _summed[op](x, w, bias, geo=geo, slope=float(slope))
    return restored(y, axes, input.array.ndim), moments
