"""Kernels of csrc/cuda/optimizer.cu: SGD, Adam and RMSprop, in place on flat arrays."""

from __future__ import annotations

from ..arrays import Array, check_in_place
from ..geometry import Pieces
from .table import Table


class Optimizer(Table):
    """One step of each rule."""

    def _joined(self, kernel: str, g: Pieces, p: Array) -> Array:
        """The pieces side by side as p is, eight to a launch; a single one that is all of p stays where it is."""
        arrays = self._inputs(kernel, p, *g.arrays)[1:]
        if len(arrays) == 1 and arrays[0].size == p.size:
            return arrays[0]
        ends = [0, *(start + a.size for a, start in zip(arrays, g.starts, strict=True))]
        if any(start < end for start, end in zip([*g.starts, p.size], ends, strict=True)):
            raise ValueError(f"{kernel}: g: the pieces should lie side by side within p")
        flat = self.xp.zeros(p.shape, p.dtype)
        for i in range(0, len(arrays), 8):
            eight = [x for a, start in zip(arrays[i : i + 8], g.starts[i : i + 8]) for x in (a, start, a.size)]
            blocks = min(-(-max(a.size for a in arrays[i : i + 8]) // 256), 32 * self.launcher.processors)
            self._launch("join_pieces", p, blocks, flat, *eight, *[None, 0, 0] * (8 - len(eight) // 3))
        return flat

    def sgd_step(
        self, p: Array, g: Pieces, buffer: Array | None, lr: Array, step: Array,
        momentum: float, dampening: float, weight_decay: float, nesterov: bool,
    ) -> None:  # fmt: skip
        check_in_place("sgd_step", p, buffer)
        p, buffer = self._inputs("sgd_step", p, buffer)
        settings = float(momentum), float(dampening), float(weight_decay), int(nesterov)
        self._each("sgd_step", p.size, p, p, self._joined("sgd_step", g, p), buffer, lr, step, *settings)

    def adam_step(
        self, p: Array, g: Pieces, m: Array, v: Array, lr: Array, step: Array,
        beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool,
    ) -> None:  # fmt: skip
        check_in_place("adam_step", p, m, v)
        p, m, v = self._inputs("adam_step", p, m, v)
        settings = float(beta1), float(beta2), float(eps), float(weight_decay), int(decoupled)
        self._each("adam_step", p.size, p, p, self._joined("adam_step", g, p), m, v, lr, step, *settings)

    def rmsprop_step(
        self, p: Array, g: Pieces, v: Array, buffer: Array | None, mean: Array | None, lr: Array,
        alpha: float, eps: float, weight_decay: float, momentum: float,
    ) -> None:  # fmt: skip
        check_in_place("rmsprop_step", p, v, buffer, mean)
        p, v, buffer, mean = self._inputs("rmsprop_step", p, v, buffer, mean)
        settings = float(alpha), float(eps), float(weight_decay), float(momentum)
        self._each("rmsprop_step", p.size, p, p, self._joined("rmsprop_step", g, p), v, buffer, mean, lr, *settings)
