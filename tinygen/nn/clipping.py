"""Limits on gradients, applied between `backward()` and `step()`; `nn.utils` and `optim` have them too."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from ..tape import Tensor

__all__ = ["clip_grad_norm_", "clip_grad_value_"]


def _gradients(parameters: Any) -> list[Tensor]:
    tensors = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p.grad for p in tensors if p.grad is not None]


def clip_grad_norm_(
    parameters: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """The norm of all gradients together (0-d), which are scaled in place so that it is at most `max_norm`.

    The factor is min(1, max_norm / (norm + 1e-6)). norm_type is a positive number or inf. With `error_if_nonfinite` a
    NaN or infinite norm raises RuntimeError (that waits for the device).
    """
    gradients = _gradients(parameters)
    if not gradients:
        return Tensor(np.zeros((), np.float32))
    device, arrays = gradients[0].device, [g.array for g in gradients]
    xp = device.kernels.xp
    if math.isinf(norm_type):
        total = functools.reduce(xp.maximum, [abs(g).max() for g in arrays])
    else:  # not xp.vdot, which adds up in single precision
        power = (lambda g: g * g) if norm_type == 2 else lambda g: abs(g) ** norm_type
        total = sum(device.kernels.sum(power(g).reshape(-1), (0,)) for g in arrays) ** (1 / norm_type)
    total = xp.asarray(total)
    if error_if_nonfinite and not bool(xp.isfinite(total)):
        raise RuntimeError(f"clip_grad_norm_: the norm of the gradients is {float(total)}")
    factor = xp.minimum(max_norm / (total + 1e-6), 1.0)
    for g in gradients:
        g.array *= factor.astype(g.array.dtype)
        g._version[0] += 1
    return Tensor(total, None, device)


def clip_grad_value_(parameters: Any, clip_value: float) -> None:
    """Clamps every element of every gradient to [-clip_value, clip_value], in place."""
    for g in _gradients(parameters):
        g.device.kernels.xp.clip(g.array, -clip_value, clip_value, out=g.array)
        g._version[0] += 1
