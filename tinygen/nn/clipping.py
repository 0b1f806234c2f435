"""Limits on gradients between `backward()` and `step()`; also under torch's names `nn.utils.clip_grad_norm_` and so on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..tape import Tensor

__all__ = ["clip_grad_norm_", "clip_grad_value_"]


def _with_gradients(parameters: Any) -> list[Tensor]:
    tensors = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p for p in tensors if p.grad is not None]


def clip_grad_norm_(
    parameters: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """The norm of all gradients together (0-d), which are scaled in place so that it is at most `max_norm`.

    The factor is min(1, max_norm / (norm + 1e-6)). norm_type is a positive number or inf. With `error_if_nonfinite` a NaN or
    infinite norm raises RuntimeError (that waits for the device).
    """
    params = _with_gradients(parameters)
    if not params:
        return Tensor(np.zeros((), np.float32))
    device, xp = params[0].device, params[0].device.kernels.xp
    if math.isinf(norm_type):
        total = xp.stack([abs(p.grad.array).max() for p in params]).max()
    elif norm_type == 2:
        flat = [p.grad.array.reshape(-1) for p in params]
        total = xp.sqrt(sum(xp.vdot(g, g) for g in flat))
    else:
        total = sum((abs(p.grad.array) ** norm_type).sum() for p in params) ** (1 / norm_type)
    total = xp.asarray(total)
    if error_if_nonfinite and not bool(xp.isfinite(total)):
        raise RuntimeError(f"clip_grad_norm_: the norm of the gradients is {float(total)}")
    factor = xp.minimum(max_norm / (total + 1e-6), 1.0)
    for p in params:
        p.grad.array *= factor.astype(p.grad.array.dtype)
        p.grad._version[0] += 1
    return Tensor(total, None, device)


def clip_grad_value_(parameters: Any, clip_value: float) -> None:
    """Clamps every element of every gradient to [-clip_value, clip_value], in place."""
    for p in _with_gradients(parameters):
        p.device.kernels.xp.clip(p.grad.array, -clip_value, clip_value, out=p.grad.array)
        p.grad._version[0] += 1
