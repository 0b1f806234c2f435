"""Kernels of csrc/cuda/sums.cu: sums over axes and losses, in pieces that are gathered in a fixed order."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, check_labels, check_shape
from ..geometry import extents
from .table import Table


class Sums(Table):
    """sum and the losses."""

    def _finish(self, pieces: Array, y: Array, scale: float) -> Array:
        """y = scale * the sum of each row of `pieces` (outputs, parts)."""
        outputs, parts = y.size, pieces.size // max(1, y.size)
        team = 256 if parts > 64 else 32
        self._launch("sum_pieces", y, -(-outputs // (256 // team)), pieces, y, float(scale), outputs, parts, team)
        return y

    def sum(self, x: Array, axes: tuple[int, ...], scale: float = 1.0) -> Array:
        if x.dtype.itemsize < 4:  # half precision is added up in single
            return self.sum(x.astype(np.float32), axes, scale).astype(x.dtype)
        lengths, shape = extents(x.shape, axes)
        (x,) = self._inputs("sum", x)
        if x.size == 0:
            return self.xp.full(shape, scale * 0.0, x.dtype)
        if len(lengths) > 4:  # more than two separate runs of reduced axes
            return self.sum(self.sum(x, axes[-1:]), axes[:-1], scale)
        r0, k0, r1, k1 = lengths
        if r1 == k1 == 1:  # columns of a matrix, which neighbouring threads should read side by side
            r0, k0, r1, k1 = 1, 1, r0, k0
        y = self._empty(shape, x.dtype)
        items, busy = r0 * r1, 4 * self.launcher.processors
        if k1 == 1:
            team = 32 if items <= 1024 else 256
            parts = max(1, min(busy // k0, items // 4096))
            pieces = self._empty((y.size, parts), np.float64)
            blocks = -(-k0 * parts // (256 // team))
            self._launch("sum_rows", x, blocks, x, pieces, r0, k0, r1, parts, team)
        else:
            tiles = -(-k0 * k1 // 256)
            parts = max(1, min(busy // tiles, items // 32))
            pieces = self._empty((y.size, parts), np.float64)
            self._launch("sum_columns", x, tiles * parts, x, pieces, r0, k0, r1, k1, parts)
        return self._finish(pieces, y, scale)

    def _loss(self, kernel: str, x: Array, target: Array, scale: float, slope: bool) -> tuple[Array, Array | None]:
        x, target = self._inputs(kernel, x, target)
        y, derivative = self._empty((), x.dtype), self._empty(x.shape, x.dtype) if slope else None
        blocks = max(1, min(-(-x.size // 1024), 4 * self.launcher.processors))
        pieces = self._empty((blocks,), np.float64)
        self._launch(kernel, x, blocks, x, target, derivative, pieces, float(scale), x.size)
        return self._finish(pieces, y, scale), derivative

    def squared_error(self, x: Array, target: Array, scale: float, slope: bool) -> tuple[Array, Array | None]:
        check_shape("squared_error", "target", target, x.shape)
        return self._loss("squared_error", x, target, scale, slope)

    def bernoulli_loss(self, x: Array, target: Array, scale: float, slope: bool) -> tuple[Array, Array | None]:
        check_shape("bernoulli_loss", "target", target, x.shape)
        return self._loss("bernoulli_loss", x, target, scale, slope)

    def class_loss(self, x: Array, labels: Array, scale: float, slope: bool) -> tuple[Array, Array | None]:
        check_labels(x, labels)
        (x,) = self._inputs("class_loss", x)
        y, derivative = self._empty((), x.dtype), self._empty(x.shape, x.dtype) if slope else None
        pieces = self._empty(x.shape[:1], np.float64)
        self._rows("class_loss", x, x, self._index(labels), derivative, pieces, float(scale))
        return self._finish(pieces, y, scale), derivative
