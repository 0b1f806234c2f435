"""Kernels of csrc/cpu/kernels/optimizer.cpp: SGD, Adam (and AdamW) and RMSprop, in place.

Parameters and gradients come in pieces, the state in flat arrays. The binding checks the parameters: they are many,
and a step of a small network is short. Absent: the formulas, which reference/optimizer.py writes out.
"""

from __future__ import annotations

from numpy import ndarray as Array

import tinygen._cpu as _cpu

from ..arrays import check_in_place
from ..geometry import Pieces
from .arrays import inputs


def sgd_step(
    p: Pieces, g: Pieces, buffer: Array | None, lr: Array, step: Array,
    momentum: float, dampening: float, weight_decay: float, nesterov: bool,
) -> None:  # fmt: skip
    check_in_place("sgd_step", buffer)
    _, buffer, *pieces = inputs("sgd_step", p.arrays[0], buffer, *g.arrays)
    settings = momentum, dampening, weight_decay, nesterov
    _cpu.sgd_step(p.arrays, pieces, p.starts, buffer, float(lr), int(step) == 1, *settings)


def adam_step(
    p: Pieces, g: Pieces, m: Array, v: Array, lr: Array, step: Array,
    beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool,
) -> None:  # fmt: skip
    check_in_place("adam_step", m, v)
    _, m, v, *pieces = inputs("adam_step", p.arrays[0], m, v, *g.arrays)
    settings = beta1, beta2, eps, weight_decay, decoupled
    _cpu.adam_step(p.arrays, pieces, p.starts, m, v, float(lr), float(step), *settings)


def rmsprop_step(
    p: Pieces, g: Pieces, v: Array, buffer: Array | None, mean: Array | None, lr: Array,
    alpha: float, eps: float, weight_decay: float, momentum: float,
) -> None:  # fmt: skip
    check_in_place("rmsprop_step", v, buffer, mean)
    _, v, buffer, mean, *pieces = inputs("rmsprop_step", p.arrays[0], v, buffer, mean, *g.arrays)
    settings = alpha, eps, weight_decay, momentum
    _cpu.rmsprop_step(p.arrays, pieces, p.starts, v, buffer, mean, float(lr), *settings)
