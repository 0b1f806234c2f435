"""Kernels of csrc/cuda/optimizer.cu: SGD, Adam and RMSprop, in place. Parameters and gradients come in pieces."""

from __future__ import annotations

from typing import Any

from ..arrays import Array, check_axes, check_in_place, check_pieces
from ..geometry import Pieces
from .table import Table


class Optimizer(Table):
    """One step of each rule."""

    def _update(self, kernel: str, p: Pieces, g: Pieces, *state: Any) -> None:
        """Launches `kernel` for eight pieces at a time. `state` begins with the flat arrays, as long as the pieces."""
        params = p.arrays
        for a in state:
            if getattr(a, "ndim", 0):  # not a number or a 0-d setting
                check_axes(kernel, "state", a, "L")
        check_in_place(kernel, *params)
        params, gradients = (self._inputs(kernel, params[0], *pieces)[1:] for pieces in (params, g.arrays))
        sizes, length = [a.size for a in params], min((a.size for a in state if getattr(a, "ndim", 0)), default=None)
        check_pieces(kernel, sizes, [a.size for a in gradients], p.starts, length)
        every = list(zip(params, gradients, p.starts, sizes, strict=True))
        for i in range(0, len(every), 8):
            eight = every[i : i + 8]
            blocks = min(-(-max(size for *_, size in eight) // 256), 32 * self.launcher.processors)
            missing = [None, None, 0, 0] * (8 - len(eight))
            self._launch(kernel, params[0], blocks, *[x for piece in eight for x in piece], *missing, *state)

    def sgd_step(
        self, p: Pieces, g: Pieces, buffer: Array | None, lr: Array, step: Array,
        momentum: float, dampening: float, weight_decay: float, nesterov: bool,
    ) -> None:  # fmt: skip
        check_in_place("sgd_step", buffer)
        _, buffer = self._inputs("sgd_step", p.arrays[0], buffer)
        settings = float(momentum), float(dampening), float(weight_decay), int(nesterov)
        self._update("sgd_step", p, g, buffer, lr, step, *settings)

    def adam_step(
        self, p: Pieces, g: Pieces, m: Array, v: Array, lr: Array, step: Array,
        beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool,
    ) -> None:  # fmt: skip
        check_in_place("adam_step", m, v)
        _, m, v = self._inputs("adam_step", p.arrays[0], m, v)
        settings = float(beta1), float(beta2), float(eps), float(weight_decay), int(decoupled)
        self._update("adam_step", p, g, m, v, lr, step, *settings)

    def rmsprop_step(
        self, p: Pieces, g: Pieces, v: Array, buffer: Array | None, mean: Array | None, lr: Array,
        alpha: float, eps: float, weight_decay: float, momentum: float,
    ) -> None:  # fmt: skip
        check_in_place("rmsprop_step", v, buffer, mean)
        _, v, buffer, mean = self._inputs("rmsprop_step", p.arrays[0], v, buffer, mean)
        settings = float(alpha), float(eps), float(weight_decay), float(momentum)
        self._update("rmsprop_step", p, g, v, buffer, mean, lr, *settings)
