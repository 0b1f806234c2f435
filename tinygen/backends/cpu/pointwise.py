"""Kernels of csrc/cpu/kernels/pointwise.cpp: activations, their gradients, erf, and binary cross entropy.

Absent: what NumPy has itself (exp, log, maximum), which ops ask of `xp`.
"""

from __future__ import annotations

from numpy import ndarray as Array

import tinygen._cpu as _cpu

from ..arrays import check_shape
from .arrays import empty, inputs, result


def _unary(kernel: str, x: Array, out: Array | None = None) -> tuple[Array, Array]:
    """x as a kernel wants it, and an array for the result: `out`, if it was given."""
    given = x
    if out is not None or type(x) is not Array or not x.flags.c_contiguous:
        (x,) = inputs(kernel, x)
    return x, empty(x.shape, x.dtype) if out is None else result(kernel, given, out, given)


def _gradient(kernel: str, g: Array, x: Array, out: Array | None = None) -> tuple[Array, bool, Array, Array]:
    """The gradient g of a result, whether it is one value seen as an array (as a mean passes down), x, and a result."""
    if g.shape != x.shape:
        check_shape(kernel, "g", g, x.shape)
    one, given = False, (g, x)
    plain = type(g) is type(x) is Array and g.dtype is x.dtype
    if out is not None or not (plain and g.flags.c_contiguous and x.flags.c_contiguous):
        one = g.size > 1 and not any(g.strides)
        g, x = inputs(kernel, g[(slice(0, 1),) * g.ndim] if one else g, x)
    return g, one, x, empty(x.shape, x.dtype) if out is None else result(kernel, x, out, *given)


def sigmoid(x: Array) -> Array:
    x, y = _unary("sigmoid", x)
    _cpu.sigmoid(x, y)
    return y


def sigmoid_backward(g: Array, out: Array) -> Array:
    g, one, out, gx = _gradient("sigmoid_backward", g, out)
    _cpu.sigmoid_backward(g, one, out, gx)
    return gx


def tanh(x: Array) -> Array:
    x, y = _unary("tanh", x)
    _cpu.tanh(x, y)
    return y


def tanh_backward(g: Array, out: Array) -> Array:
    g, one, out, gx = _gradient("tanh_backward", g, out)
    _cpu.tanh_backward(g, one, out, gx)
    return gx


def leaky_relu(x: Array, slope: float, out: Array | None = None) -> Array:
    x, y = _unary("leaky_relu", x, out)
    _cpu.leaky_relu(x, y, slope)
    return y


def leaky_relu_backward(g: Array, x: Array, slope: float, out: Array | None = None) -> Array:
    g, one, x, gx = _gradient("leaky_relu_backward", g, x, out)
    _cpu.leaky_relu_backward(g, one, x, gx, slope)
    return gx


def elu(x: Array, alpha: float, scale: float) -> Array:
    x, y = _unary("elu", x)
    _cpu.elu(x, y, alpha, scale)
    return y


def elu_backward(g: Array, x: Array, alpha: float, scale: float) -> Array:
    g, one, x, gx = _gradient("elu_backward", g, x)
    _cpu.elu_backward(g, one, x, gx, alpha, scale)
    return gx


def softplus(x: Array) -> Array:
    x, y = _unary("softplus", x)
    _cpu.softplus(x, y)
    return y


def softplus_backward(g: Array, x: Array) -> Array:
    g, one, x, gx = _gradient("softplus_backward", g, x)
    _cpu.softplus_backward(g, one, x, gx)
    return gx


def silu(x: Array) -> Array:
    x, y = _unary("silu", x)
    _cpu.silu(x, y)
    return y


def silu_backward(g: Array, x: Array) -> Array:
    g, one, x, gx = _gradient("silu_backward", g, x)
    _cpu.silu_backward(g, one, x, gx)
    return gx


def gelu(x: Array, tanh: bool) -> Array:
    x, y = _unary("gelu", x)
    _cpu.gelu(x, y, tanh)
    return y


def gelu_backward(g: Array, x: Array, tanh: bool) -> Array:
    g, one, x, gx = _gradient("gelu_backward", g, x)
    _cpu.gelu_backward(g, one, x, gx, tanh)
    return gx


def erf(x: Array) -> Array:
    x, y = _unary("erf", x)
    _cpu.erf(x, y)
    return y


def bce_with_logits(x: Array, target: Array) -> Array:
    check_shape("bce_with_logits", "target", target, x.shape)
    x, target = inputs("bce_with_logits", x, target)
    y = empty(x.shape, x.dtype)
    _cpu.bce_with_logits(x, target, y)
    return y


def bce_with_logits_backward(g: Array, x: Array, target: Array) -> Array:
    check_shape("bce_with_logits_backward", "target", target, x.shape)
    g, one, x, gx = _gradient("bce_with_logits_backward", g, x)
    target = inputs("bce_with_logits_backward", x, target)[1]
    _cpu.bce_with_logits_backward(g, one, x, target, gx)
    return gx
