"""What all families of kernels stand on: an array library, a launcher, and how arrays reach a kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array, check_floats, check_out
from ..geometry import Shape
from .launcher import Launcher


class Table:
    """An array library `xp` and a launcher; each family of kernels is a class on top."""

    def __init__(self, name: str, xp: Any, launcher: Launcher) -> None:
        self.name, self.xp, self.launcher = name, xp, launcher

    def _inputs(self, kernel: str, *arrays: Any) -> list[Any]:
        """The arrays (None stays None), C-contiguous and of one float dtype."""
        check_floats(kernel, *arrays)
        ready: list[Any] = []
        for a in arrays:
            if a is not None and (not isinstance(a, self.xp.ndarray) or not a.flags.c_contiguous):
                a = self.xp.ascontiguousarray(self.xp.asarray(a)).reshape(a.shape)
            ready.append(a)
        return ready

    def _empty(self, shape: Shape, dtype: Any) -> Array:
        return self.launcher.empty(shape, dtype)

    def _result(self, kernel: str, x: Array, out: Array | None, *others: Array) -> Array:
        """`out`, if it was given, or else a new array like x."""
        if out is None:
            return self._empty(x.shape, x.dtype)
        check_out(kernel, x, out, *others)
        return out

    def _launch(self, kernel: str, like: Array, blocks: int, *arguments: Any, threads: int = 256) -> None:
        if blocks > 0:
            self.launcher.launch(kernel, like.dtype == np.float64, blocks, threads, arguments)

    def _each(self, kernel: str, count: int, like: Array, *arguments: Any) -> None:
        """A kernel whose threads share out `count` items, the last argument but those given here."""
        blocks = min(-(-count // 256), 32 * self.launcher.processors)
        self._launch(kernel, like, blocks, *arguments, count)

    def _index(self, index: Array) -> Array:
        return self.xp.ascontiguousarray(index.astype(np.int64, copy=False))

    def _rows(self, kernel: str, like: Array, *arguments: Any) -> None:
        """A kernel of rows.cu: 32 threads for a short row, a block for a long one."""
        length = like.shape[-1] if like.ndim else 1
        if like.size:
            rows, team = like.size // length, 32 if length <= 1024 else 256
            self._launch(kernel, like, -(-rows // (256 // team)), *arguments, rows, length, team)
