"""Kernels of csrc/cpu/kernels/optimizer.cpp: SGD, Adam (and AdamW) and RMSprop, in place on flat arrays.

The gradient comes in pieces, one for each parameter. Absent: the formulas, which reference/optimizer.py writes out.
"""

from __future__ import annotations

from numpy import ndarray as Array

import tinygen._cpu as _cpu

from ..arrays import check_in_place
from ..geometry import Pieces
from .arrays import inputs


def sgd_step(
    p: Array, g: Pieces, buffer: Array | None, lr: Array, step: Array,
    momentum: float, dampening: float, weight_decay: float, nesterov: bool,
) -> None:  # fmt: skip
    check_in_place("sgd_step", p, buffer)
    p, buffer, *pieces = inputs("sgd_step", p, buffer, *g.arrays)
    _cpu.sgd_step(p, pieces, g.starts, buffer, float(lr), int(step) == 1, momentum, dampening, weight_decay, nesterov)


def adam_step(
    p: Array, g: Pieces, m: Array, v: Array, lr: Array, step: Array,
    beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool,
) -> None:  # fmt: skip
    check_in_place("adam_step", p, m, v)
    p, m, v, *pieces = inputs("adam_step", p, m, v, *g.arrays)
    _cpu.adam_step(p, pieces, g.starts, m, v, float(lr), float(step), beta1, beta2, eps, weight_decay, decoupled)


def rmsprop_step(
    p: Array, g: Pieces, v: Array, buffer: Array | None, mean: Array | None, lr: Array,
    alpha: float, eps: float, weight_decay: float, momentum: float,
) -> None:  # fmt: skip
    check_in_place("rmsprop_step", p, v, buffer, mean)
    p, v, buffer, mean, *pieces = inputs("rmsprop_step", p, v, buffer, mean, *g.arrays)
    _cpu.rmsprop_step(p, pieces, g.starts, v, buffer, mean, float(lr), alpha, eps, weight_decay, momentum)
