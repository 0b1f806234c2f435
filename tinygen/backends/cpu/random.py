"""Kernels of csrc/cpu/kernels/random.cpp: bits, uniform and normal numbers of the generator Philox4x32-10.

Absent: a state; seed, stream and offset are the caller's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray as Array

import tinygen._cpu as _cpu

from ..arrays import check_count, float_dtype
from ..geometry import Shape
from .arrays import empty

_WORD, _TWO_WORDS = (1 << 32) - 1, (1 << 64) - 1


def random_bits(seed: int, stream: int, offset: int, count: int) -> Array:
    check_count("random_bits", (count,))
    bits = empty((count,), np.uint32)
    _cpu.random_bits(int(seed) & _TWO_WORDS, int(stream) & _WORD, int(offset) & _TWO_WORDS, bits)
    return bits


def _random(name: str, seed: int, stream: int, offset: int, shape: Shape, dtype: Any) -> Array:
    out = empty(shape, float_dtype(name, dtype))
    getattr(_cpu, name)(int(seed) & _TWO_WORDS, int(stream) & _WORD, int(offset) & _TWO_WORDS, out)
    return out


def random_uniform(seed: int, stream: int, offset: int, shape: Shape, dtype: Any) -> Array:
    check_count("random_uniform", shape)
    return _random("random_uniform", seed, stream, offset, shape, dtype)


def random_normal(seed: int, stream: int, offset: int, shape: Shape, dtype: Any) -> Array:
    check_count("random_normal", shape)
    return _random("random_normal", seed, stream, offset, shape, dtype)
