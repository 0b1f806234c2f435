"""Losses that end in one number: the forward pass makes their derivative on the way.

    squared_error    sum (x - t)^2                  bernoulli_loss   -sum (t log s(x) + (1 - t) log(1 - s(x)))
    class_loss       -sum log softmax(x)[label]     bce_with_logits  the same as bernoulli_loss, elementwise

The derivative by x shares nearly all of its work with the value. So the kernel returns both where a gradient by x
alone can be wanted, and the op keeps the derivative as its residual. Its composite is the definition.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...recording import is_grad_enabled
from ...tape import Tensor, op
from ..activation import _sigmoid_backward, sigmoid
from ..gathering import gather
from ..pointwise import _real
from ..reduce import log_softmax

__all__ = ["bce_with_logits", "bernoulli_loss", "class_loss", "squared_error"]


@op
def _bce_with_logits(k, x, target):
    """max(x, 0) - x * target + log(1 + e^-|x|), elementwise."""
    return k.bce_with_logits(_real(x), _real(target))


@op
def _bce_with_logits_backward(k, dy, x, target):
    """dy * (sigmoid(x) - target)."""
    return k.bce_with_logits_backward(dy, x, target)


_bce_with_logits.vjp("x")(lambda g, x, target: _bce_with_logits_backward(g, x, target))
_bce_with_logits.vjp("target")(lambda g, x: -(g * x))
_bce_with_logits_backward.vjp("dy")(lambda g, x, target: _bce_with_logits_backward(g, x, target))
_bce_with_logits_backward.vjp("x")(lambda g, dy, x: _sigmoid_backward(g * dy, sigmoid(x)))
_bce_with_logits_backward.vjp("target")(lambda g, dy: -(g * dy))


def bce_with_logits(input: Tensor, target: Tensor) -> Tensor:
    """-(target log sigmoid(x) + (1 - target) log(1 - sigmoid(x))), elementwise and finite at any logit x.

    input and target of one shape, else ValueError; target in [0, 1]. Differentiable in both.
    """
    if input.array.shape != target.array.shape:
        raise ValueError(
            f"bce_with_logits: input (logits) {input.array.shape} and target {target.array.shape} should have one "
            "shape; use reshape or expand_as"
        )
    return _bce_with_logits(input, target)


def _wanted(x: Tensor, *constants: Tensor) -> bool:
    """Whether a derivative by x alone can be asked for."""
    return is_grad_enabled() and x.node is not None and not any(t.node for t in constants)


def _pull_loss(k: Any, g: Any, residuals: Any) -> Any:
    if residuals is None:
        return NotImplemented
    unscaled = isinstance(g, np.ndarray) and g == 1  # as `backward` starts; nobody waits for a value on a GPU
    return (residuals if unscaled else g * residuals), None


def _squared_error_composite(x: Tensor, target: Tensor, scale: float, derivative: bool = False) -> Tensor:
    return (x - target).square().sum() * scale


@op(composite=_squared_error_composite, residuals=True)
def _squared_error(k, x, target, *, scale, derivative=False):
    """scale * sum of (x - target)^2."""
    return k.squared_error(_real(x), _real(target), scale, derivative)


def _bernoulli_loss_composite(x: Tensor, target: Tensor, scale: float, derivative: bool = False) -> Tensor:
    return _bce_with_logits(x, target).sum() * scale


@op(composite=_bernoulli_loss_composite, residuals=True)
def _bernoulli_loss(k, x, target, *, scale, derivative=False):
    """scale * sum of bce_with_logits(x, target)."""
    return k.bernoulli_loss(_real(x), _real(target), scale, derivative)


def _class_loss_composite(x: Tensor, labels: Tensor, scale: float, derivative: bool = False) -> Tensor:
    return gather(log_softmax(x, 1), 1, labels.unsqueeze(1)).sum() * -scale


@op(composite=_class_loss_composite, residuals=True)
def _class_loss(k, x, *, labels, scale, derivative=False):
    """-scale * sum over i of log_softmax(x)[i, labels[i]]."""
    return k.class_loss(_real(x), labels.array, scale, derivative)


for _loss in (_squared_error, _bernoulli_loss, _class_loss):
    _loss.fused_vjp(_pull_loss)


def _same_shape(name: str, input: Tensor, target: Tensor) -> None:
    if input.array.shape != target.array.shape:
        raise ValueError(
            f"{name}: input {input.array.shape} and target {target.array.shape} should have one shape; use reshape or "
            "expand_as"
        )


def squared_error(input: Tensor, target: Tensor, scale: float = 1.0) -> Tensor:
    """scale * sum of (input - target)^2, a scalar; both of one shape, else ValueError."""
    _same_shape("squared_error", input, target)
    return _squared_error(input, target, scale=float(scale), derivative=_wanted(input, target))[0]


def bernoulli_loss(input: Tensor, target: Tensor, scale: float = 1.0) -> Tensor:
    """scale * sum of bce_with_logits(input, target), a scalar; both of one shape, else ValueError."""
    _same_shape("bernoulli_loss", input, target)
    return _bernoulli_loss(input, target, scale=float(scale), derivative=_wanted(input, target))[0]


def class_loss(input: Tensor, labels: Tensor, scale: float = 1.0) -> Tensor:
    """-scale * sum over i of log_softmax(input)[i, labels[i]], a scalar: cross entropy of logits.

    input (N, classes), labels (N,) integers in [0, classes), which are not checked; ValueError for other shapes.
    """
    if input.array.ndim != 2 or labels.array.shape != input.array.shape[:1]:
        raise ValueError(
            f"class_loss: input should be (N, classes) and labels (N,), got {input.array.shape} and "
            f"{labels.array.shape}"
        )
    return _class_loss(input, labels=labels, scale=float(scale), derivative=_wanted(input))[0]
