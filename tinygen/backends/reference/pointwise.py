"""Activations element by element, their gradients, erf, and binary cross entropy.

A gradient takes g, the gradient of the result, and the argument or the result, whichever it needs. Absent: what NumPy
has itself (exp, log, maximum), which ops ask of `xp`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy import ndarray as Array

from ..arrays import check_floats, check_out, check_shape


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    check_floats("sigmoid", x)
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def sigmoid_backward(g: Array, out: Array) -> Array:
    """g * out * (1 - out)."""
    check_shape("sigmoid_backward", "g", g, out.shape)
    check_floats("sigmoid_backward", g, out)
    return g * out * (1 - out)


def tanh(x: Array) -> Array:
    """tanh(x)."""
    check_floats("tanh", x)
    return np.tanh(x)


def tanh_backward(g: Array, out: Array) -> Array:
    """g * (1 - out^2)."""
    check_shape("tanh_backward", "g", g, out.shape)
    check_floats("tanh_backward", g, out)
    return g * (1 - out * out)


def leaky_relu(x: Array, slope: float, out: Array | None = None) -> Array:
    """x where x > 0, else slope * x; slope 0 gives 0 even at -inf. Written into `out` if that is given."""
    check_floats("leaky_relu", x)
    check_out("leaky_relu", x, out, x)
    return into(out, np.maximum(x, 0) if slope == 0 else np.where(x > 0, x, slope * x))


def leaky_relu_backward(g: Array, x: Array, slope: float, out: Array | None = None) -> Array:
    """g where x > 0, else slope * g; slope 0: 0 where x <= 0, whatever g is, else g. To `out` if that is given."""
    check_shape("leaky_relu_backward", "g", g, x.shape)
    check_floats("leaky_relu_backward", g, x)
    check_out("leaky_relu_backward", x, out, g, x)
    return into(out, np.where(x <= 0, np.zeros_like(g), g) if slope == 0 else np.where(x > 0, g, slope * g))


def into(out: Array | None, values: Array) -> Array:
    """`values`, in the memory of `out` if that is given."""
    if out is None:
        return values
    out[...] = values
    return out


def elu(x: Array, alpha: float, scale: float) -> Array:
    """scale * (x if x > 0 else alpha * expm1(x))."""
    check_floats("elu", x)
    return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def elu_backward(g: Array, x: Array, alpha: float, scale: float) -> Array:
    """g * scale * (1 if x > 0 else alpha * exp(x))."""
    check_shape("elu_backward", "g", g, x.shape)
    check_floats("elu_backward", g, x)
    return g * (scale * np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0))))


def softplus(x: Array) -> Array:
    """log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))."""
    check_floats("softplus", x)
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def softplus_backward(g: Array, x: Array) -> Array:
    """g * sigmoid(x)."""
    check_shape("softplus_backward", "g", g, x.shape)
    check_floats("softplus_backward", g, x)
    return g * sigmoid(x)


def silu(x: Array) -> Array:
    """x * sigmoid(x)."""
    check_floats("silu", x)
    return x * sigmoid(x)


def silu_backward(g: Array, x: Array) -> Array:
    """g * s * (1 + x * (1 - s)), s = sigmoid(x)."""
    check_shape("silu_backward", "g", g, x.shape)
    check_floats("silu_backward", g, x)
    s = sigmoid(x)
    return g * (s * (1 + x * (1 - s)))


# gelu's tanh approximation x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))) is x * sigmoid(a x + b x^3):
_GELU_A = 2 * math.sqrt(2 / math.pi)
_GELU_B = 0.044715 * _GELU_A


def gelu(x: Array, tanh: bool) -> Array:
    """x * Phi(x), Phi the normal distribution function; with `tanh` its approximation x * sigmoid(a x + b x^3)."""
    check_floats("gelu", x)
    if tanh:
        return x * sigmoid(_GELU_A * x + _GELU_B * x * x * x)
    return 0.5 * x * (1 + erf(x * math.sqrt(0.5)))


def gelu_backward(g: Array, x: Array, tanh: bool) -> Array:
    """g * (Phi(x) + x * Phi'(x)), or the same of the tanh approximation."""
    check_shape("gelu_backward", "g", g, x.shape)
    check_floats("gelu_backward", g, x)
    if tanh:
        v = np.clip(x, -20, 20)  # constant beyond, while the cube of a large x overflows
        inner = _GELU_A * v + _GELU_B * v * v * v
        e = np.exp(-np.abs(inner))
        slope = e / ((1 + e) * (1 + e))  # sigmoid', without the cancellation of s * (1 - s)
        return g * (sigmoid(inner) + v * slope * (_GELU_A + 3 * _GELU_B * v * v))
    density = np.exp(-0.5 * x * x) * math.sqrt(0.5 / math.pi)
    return g * (0.5 * (1 + erf(x * math.sqrt(0.5))) + x * density)


def erf(x: Array) -> Array:
    """2 / sqrt(pi) * integral from 0 to x of exp(-t^2) dt."""
    check_floats("erf", x)
    try:
        from scipy import special

        return special.erf(x)
    except ImportError:  # value by value
        return np.vectorize(math.erf, otypes=[x.dtype])(x)


def bce_with_logits(x: Array, target: Array) -> Array:
    """max(x, 0) - x * target + log1p(exp(-|x|)): -log of the probability that sigmoid(x) gives to `target`."""
    check_shape("bce_with_logits", "target", target, x.shape)
    check_floats("bce_with_logits", x, target)
    return np.maximum(x, 0) - x * target + np.log1p(np.exp(-np.abs(x)))


def bce_with_logits_backward(g: Array, x: Array, target: Array) -> Array:
    """g * (sigmoid(x) - target)."""
    check_shape("bce_with_logits_backward", "target", target, x.shape)
    check_shape("bce_with_logits_backward", "g", g, x.shape)
    check_floats("bce_with_logits_backward", g, x, target)
    return g * (sigmoid(x) - target)
