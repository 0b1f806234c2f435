"""Kernels of csrc/cuda/pointwise.cu: activations, their gradients, and binary cross entropy."""

from __future__ import annotations

from typing import Any

from ..arrays import Array, check_shape
from .table import Table


class Pointwise(Table):
    """Activations and their gradients, on arrays of any shape."""

    def _unary(self, kernel: str, x: Array, *settings: Any) -> Array:
        (x,) = self._inputs(kernel.removesuffix("_forward"), x)
        y = self._empty(x.shape, x.dtype)
        self._each(kernel, y.size, x, x, y, *settings)
        return y

    def _gradient(
        self, kernel: str, g: Array, *operands: Array, settings: tuple[Any, ...] = (), out: Array | None = None
    ) -> Array:
        check_shape(kernel, "g", g, operands[0].shape)
        given = (g, *operands)
        one = g.size > 1 and not any(g.strides)  # one value seen as an array: what a sum or a mean passes down
        if one:
            g = g[(slice(0, 1),) * g.ndim]
        g, *operands = self._inputs(kernel, g, *operands)  # type: ignore[assignment]
        gx = self._result(kernel, operands[0], out, *given)
        self._each(kernel, gx.size, g, g, 0 if one else 1, *operands, gx, *settings)
        return gx

    def sigmoid(self, x: Array) -> Array:
        return self._unary("sigmoid", x)

    def sigmoid_backward(self, g: Array, out: Array) -> Array:
        return self._gradient("sigmoid_backward", g, out)

    def tanh(self, x: Array) -> Array:
        return self._unary("tanh_forward", x)

    def tanh_backward(self, g: Array, out: Array) -> Array:
        return self._gradient("tanh_backward", g, out)

    def leaky_relu(self, x: Array, slope: float, out: Array | None = None) -> Array:
        given = x
        (x,) = self._inputs("leaky_relu", x)
        y = self._result("leaky_relu", x, out, given)
        self._each("leaky_relu", y.size, x, x, y, float(slope))
        return y

    def leaky_relu_backward(self, g: Array, x: Array, slope: float, out: Array | None = None) -> Array:
        return self._gradient("leaky_relu_backward", g, x, settings=(float(slope),), out=out)

    def elu(self, x: Array, alpha: float, scale: float) -> Array:
        return self._unary("elu", x, float(alpha), float(scale))

    def elu_backward(self, g: Array, x: Array, alpha: float, scale: float) -> Array:
        return self._gradient("elu_backward", g, x, settings=(float(alpha), float(scale)))

    def softplus(self, x: Array) -> Array:
        return self._unary("softplus", x)

    def softplus_backward(self, g: Array, x: Array) -> Array:
        return self._gradient("softplus_backward", g, x)

    def silu(self, x: Array) -> Array:
        return self._unary("silu", x)

    def silu_backward(self, g: Array, x: Array) -> Array:
        return self._gradient("silu_backward", g, x)

    def gelu(self, x: Array, tanh: bool) -> Array:
        return self._unary("gelu", x, int(tanh))

    def gelu_backward(self, g: Array, x: Array, tanh: bool) -> Array:
        return self._gradient("gelu_backward", g, x, settings=(int(tanh),))

    def erf(self, x: Array) -> Array:
        return self._unary("erf_forward", x)

    def bce_with_logits(self, x: Array, target: Array) -> Array:
        check_shape("bce_with_logits", "target", target, x.shape)
        x, target = self._inputs("bce_with_logits", x, target)
        y = self._empty(x.shape, x.dtype)
        self._each("bce_with_logits", y.size, x, x, target, y)
        return y

    def bce_with_logits_backward(self, g: Array, x: Array, target: Array) -> Array:
        check_shape("bce_with_logits_backward", "target", target, x.shape)
        return self._gradient("bce_with_logits_backward", g, x, target)
