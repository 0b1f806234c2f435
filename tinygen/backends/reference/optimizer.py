"""Optimizer steps in place on flat arrays, as in torch.optim: SGD, Adam (and AdamW), RMSprop.

The gradient comes in pieces, one for each parameter; `lr` and `step` are 0-d arrays. Absent: learning rates that
change and averages of weights, which optim keeps.
"""

from __future__ import annotations

import math

import numpy as np
from numpy import ndarray as Array

from ..geometry import Pieces


def sgd_step(
    p: Array, g: Pieces, buffer: Array | None, lr: Array, step: Array,
    momentum: float, dampening: float, weight_decay: float, nesterov: bool,
) -> None:  # fmt: skip
    """p -= lr * d with d = g + weight_decay * p, or with momentum d = buffer = momentum * buffer + (1 - dampening) * d.

    The first step sets buffer = d (no dampening); nesterov looks ahead: d + momentum * buffer. (torch.optim.SGD)
    """
    d = g.joined(p)
    if weight_decay:
        d += weight_decay * p
    if buffer is not None:
        buffer[...] = d if int(step) == 1 else momentum * buffer + (1 - dampening) * d
        d = d + momentum * buffer if nesterov else buffer
    p -= float(lr) * d


def adam_step(
    p: Array, g: Pieces, m: Array, v: Array, lr: Array, step: Array,
    beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool,
) -> None:  # fmt: skip
    """Running means m of g and v of g^2; p -= lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps).

    Weight decay is added to the gradient (Adam) or, decoupled, shrinks p by 1 - lr * weight_decay (AdamW).
    """
    rate, t, d = float(lr), int(step), g.joined(p)
    if weight_decay and decoupled:
        p *= 1 - rate * weight_decay
    elif weight_decay:
        d += weight_decay * p
    m += (1 - beta1) * (d - m)
    v *= beta2
    v += (1 - beta2) * (d * d)
    p -= (rate / (1 - beta1**t)) * m / (np.sqrt(v) / math.sqrt(1 - beta2**t) + eps)


def rmsprop_step(
    p: Array, g: Pieces, v: Array, buffer: Array | None, mean: Array | None, lr: Array,
    alpha: float, eps: float, weight_decay: float, momentum: float,
) -> None:  # fmt: skip
    """p -= lr * d with d = g / (sqrt(v) + eps), v the running mean of g^2.

    With `mean`, the running mean of g, its square is taken off v (centred); with `buffer`, d gathers there:
    buffer = momentum * buffer + d.
    (torch.optim.RMSprop)
    """
    d = g.joined(p)
    if weight_decay:
        d += weight_decay * p
    v *= alpha
    v += (1 - alpha) * (d * d)
    variance = v
    if mean is not None:
        mean += (1 - alpha) * (d - mean)
        variance = v - mean * mean
    d /= np.sqrt(variance) + eps
    if buffer is not None:
        buffer *= momentum
        buffer += d
        d = buffer
    p -= float(lr) * d
