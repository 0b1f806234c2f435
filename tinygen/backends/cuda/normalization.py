"""Kernels of csrc/cuda/channel_norm.cu and rows.cu: batch norm, layer norm, softmax."""

from __future__ import annotations

import math

from ..arrays import Array, check_axes, check_channels, check_row_gradient, check_rows, check_shape
from .table import Table


class Normalization(Table):
    """Statistics over channels and along rows."""

    def _parts(self, n: int, channels: int, s: int) -> int:
        """Into how many pieces a channel is cut: enough blocks to keep the GPU busy, 1024 items or more in each."""
        return max(1, min(-(-4 * self.launcher.processors // max(1, channels)), n * s // 1024, 256))

    def channel_norm(
        self, x: Array, weight: Array, bias: Array, eps: float, slope: float = 1.0, moments: Array | None = None
    ) -> tuple[Array, Array, Array]:
        check_channels("channel_norm", x, weight=weight, bias=bias)
        x, weight, bias = self._inputs("channel_norm", x, weight, bias)
        n, channels, s = x.shape
        parts = self._parts(n, channels, s)
        y, mean, rstd = (self._empty(shape, x.dtype) for shape in (x.shape, weight.shape, weight.shape))
        sizes, blocks = (n, channels, s, parts), channels * parts
        if n * s == 0:
            return y, self.xp.full_like(mean, math.nan), self.xp.full_like(rstd, math.nan)
        if moments is None:
            pieces, statistics = parts, self._empty((channels, parts, 4), x.dtype)
            self._launch("channel_statistics", x, blocks, x, statistics, *sizes)
        else:
            pieces, statistics = moments.shape[1], moments
            if pieces > 32:  # too many for each block to go through
                of_tiles, statistics = statistics, self._empty((channels, 4), x.dtype)
                self._launch("channel_combine", x, channels, of_tiles, statistics, n * s, pieces)
                pieces = 1
        settings = float(eps), float(slope), pieces
        self._launch("channel_normalize", x, blocks, x, weight, bias, statistics, y, mean, rstd, *settings, *sizes)
        return y, mean, rstd

    def channel_norm_backward(
        self, g: Array, x: Array, weight: Array, bias: Array, mean: Array, rstd: Array, slope: float = 1.0,
        out: Array | None = None,
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        check_channels("channel_norm_backward", x, weight=weight, bias=bias, mean=mean, rstd=rstd)
        check_shape("channel_norm_backward", "g", g, x.shape)
        given = g, x
        arrays = g, x, weight, bias, mean, rstd = self._inputs("channel_norm_backward", g, x, weight, bias, mean, rstd)
        n, channels, s = x.shape
        parts = self._parts(n, channels, s)
        gx = self._result("channel_norm_backward", x, out, *given)
        gweight, gbias = self._empty(weight.shape, x.dtype), self._empty(weight.shape, x.dtype)
        sums, sizes = self._empty((channels, parts, 2), x.dtype), (n, channels, s, parts)
        if n * s == 0:
            return gx, self.xp.zeros_like(weight), self.xp.zeros_like(weight)
        blocks, settings = channels * parts, (float(slope), *sizes)
        self._launch("channel_gradient_sums", x, blocks, *arrays, sums, *settings)
        self._launch("channel_norm_gradient", x, blocks, *arrays, sums, gx, gweight, gbias, *settings)
        return gx, gweight, gbias

    def row_norm(self, x: Array, eps: float) -> tuple[Array, Array]:
        check_axes("row_norm", "x", x, "M D")
        (x,) = self._inputs("row_norm", x)
        y, rstd = self._empty(x.shape, x.dtype), self._empty(x.shape[:1], x.dtype)
        self._rows("row_norm", x, x, y, rstd, float(eps))
        return y, rstd

    def row_norm_backward(self, g: Array, y: Array, rstd: Array) -> Array:
        check_row_gradient(g, y, rstd)
        g, y, rstd = self._inputs("row_norm_backward", g, y, rstd)
        gx = self._empty(y.shape, y.dtype)
        self._rows("row_norm_backward", y, g, y, rstd, gx)
        return gx

    def softmax(self, x: Array) -> Array:
        check_rows("softmax", x)
        (x,) = self._inputs("softmax", x)
        y = self._empty(x.shape, x.dtype)
        self._rows("softmax", x, x, y)
        return y

    def log_softmax(self, x: Array) -> Array:
        check_rows("log_softmax", x)
        (x,) = self._inputs("log_softmax", x)
        y = self._empty(x.shape, x.dtype)
        self._rows("log_softmax", x, x, y)
        return y
