"""Kernels of csrc/cuda/random.cu: Philox's bits, uniforms and normals."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array, check_count, float_dtype
from ..geometry import Shape
from .launcher import Launcher
from .table import Table


class Random(Table):
    """Philox numbers from a seed, a stream and an offset."""

    def __init__(self, name: str, xp: Any, launcher: Launcher) -> None:
        super().__init__(name, xp, launcher)
        self.replayed = launcher.upload(np.zeros(1, np.int64))  # blocks of random numbers that graph replays have used

    def _random(self, kernel: str, seed: int, stream: int, offset: int, out: Array, per_block: int) -> Array:
        seed, offset = (int(np.uint64(int(v) % 2**64).view(np.int64)) for v in (seed, offset))
        blocks = -(-out.size // per_block)
        self._each(kernel, blocks, out, seed, int(stream) % 2**32, offset, self.replayed, out, out.size)
        return out

    def random_bits(self, seed: int, stream: int, offset: int, count: int) -> Array:
        check_count("random_bits", (count,))
        return self._random("random_bits", seed, stream, offset, self._empty((count,), np.uint32), 4)

    def _numbers(self, kernel: str, seed: int, stream: int, offset: int, shape: Shape, dtype: Any) -> Array:
        dtype = float_dtype(kernel, dtype)
        return self._random(kernel, seed, stream, offset, self._empty(shape, dtype), 16 // dtype.itemsize)

    def random_uniform(self, seed: int, stream: int, offset: int, shape: Shape, dtype: Any) -> Array:
        check_count("random_uniform", shape)
        return self._numbers("random_uniform", seed, stream, offset, shape, dtype)

    def random_normal(self, seed: int, stream: int, offset: int, shape: Shape, dtype: Any) -> Array:
        check_count("random_normal", shape)
        return self._numbers("random_normal", seed, stream, offset, shape, dtype)
