"""Optimizer steps in place, as in torch.optim: SGD, Adam (and AdamW), RMSprop.

Parameters and gradients come in pieces, the state (momentum, running means) in flat arrays: the piece of parameter i
begins at `starts[i]` there. `lr` and `step` are 0-d arrays. Absent: learning rates that change and averages of
weights, which optim keeps.
"""

from __future__ import annotations

import math

import numpy as np

from ..arrays import Array, check_axes, check_floats, check_in_place, check_pieces
from ..geometry import Pieces


def _check(kernel: str, p: Pieces, g: Pieces, *state: Array | None) -> None:
    check_in_place(kernel, *state, *p.arrays)
    check_floats(kernel, p.arrays[0], *state, *g.arrays)
    for a in state:
        if a is not None:
            check_axes(kernel, "state", a, "L")
    lengths = [a.size for a in state if a is not None]
    check_pieces(kernel, [a.size for a in p.arrays], [a.size for a in g.arrays], p.starts, min(lengths, default=None))


def sgd_step(
    p: Pieces, g: Pieces, buffer: Array | None, lr: Array, step: Array,
    momentum: float, dampening: float, weight_decay: float, nesterov: bool,
) -> None:  # fmt: skip
    """p -= lr * d with d = g + weight_decay * p, or with momentum d = buffer = momentum * buffer + (1 - dampening) * d.

    The first step sets buffer = d (no dampening); nesterov looks ahead: d + momentum * buffer. (torch.optim.SGD)
    """
    _check("sgd_step", p, g, buffer)
    for w, d, b in zip(p.arrays, g.arrays, p.parts(buffer), strict=True):
        if weight_decay:
            d = d + weight_decay * w
        if b is not None:
            b[...] = d if int(step) == 1 else momentum * b + (1 - dampening) * d
            d = d + momentum * b if nesterov else b
        w -= float(lr) * d


def adam_step(
    p: Pieces, g: Pieces, m: Array, v: Array, lr: Array, step: Array,
    beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool,
) -> None:  # fmt: skip
    """Running means m of g and v of g^2; p -= lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps).

    Weight decay is added to the gradient (Adam) or, decoupled, shrinks p by 1 - lr * weight_decay (AdamW).
    """
    _check("adam_step", p, g, m, v)
    rate, t = float(lr), int(step)
    for w, d, mean, square in zip(p.arrays, g.arrays, p.parts(m), p.parts(v), strict=True):
        if weight_decay and decoupled:
            w *= 1 - rate * weight_decay
        elif weight_decay:
            d = d + weight_decay * w
        mean += (1 - beta1) * (d - mean)
        square *= beta2
        square += (1 - beta2) * d * d
        w -= (rate / (1 - beta1**t)) * mean / (np.sqrt(square) / math.sqrt(1 - beta2**t) + eps)


def rmsprop_step(
    p: Pieces, g: Pieces, v: Array, buffer: Array | None, mean: Array | None, lr: Array,
    alpha: float, eps: float, weight_decay: float, momentum: float,
) -> None:  # fmt: skip
    """p -= lr * d with d = g / (sqrt(v) + eps), v the running mean of g^2.

    With `mean`, the running mean of g, its square is taken off v (centred); with `buffer`, d gathers there:
    buffer = momentum * buffer + d.
    (torch.optim.RMSprop)
    """
    _check("rmsprop_step", p, g, v, buffer, mean)
    state = p.parts(v), p.parts(buffer), p.parts(mean)
    for w, d, square, b, centre in zip(p.arrays, g.arrays, *state, strict=True):
        if weight_decay:
            d = d + weight_decay * w
        square *= alpha
        square += (1 - alpha) * d * d
        variance = square
        if centre is not None:
            centre += (1 - alpha) * (d - centre)
            variance = square - centre * centre
        d = d / (np.sqrt(variance) + eps)
        if b is not None:
            b *= momentum
            b += d
            d = b
        w -= float(lr) * d
