"""Random numbers by counting: Philox4x32-10 (Salmon et al. 2011) gives bits, uniform and normal numbers.

Word i of a stream depends on (seed, stream, i) alone, so any part of the sequence is computed by itself.
Absent: a state; the caller counts.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy import ndarray as Array

from ..arrays import check_count, float_dtype
from ..geometry import Shape

_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def _philox(key: tuple[int, int], counter: list[Array]) -> list[Array]:
    """The four output words of Philox4x32-10 for counters given as four uint64 arrays that hold 32-bit values."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high, low = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1 = (low >> _SHIFT) ^ c1 ^ np.uint64(k0), low & _LOW
        c2, c3 = (high >> _SHIFT) ^ c3 ^ np.uint64(k1), high & _LOW
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return [c0, c1, c2, c3]


def random_bits(seed: int, stream: int, offset: int, count: int) -> Array:
    """`count` 32-bit words from block `offset` on, four to a block; any part of the sequence costs only itself."""
    check_count("random_bits", (count,))
    block = np.arange((count + 3) // 4, dtype=np.uint64) + np.uint64(offset)
    counter = [block & _LOW, block >> _SHIFT, np.full_like(block, stream), np.zeros_like(block)]
    words = _philox((seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF), counter)
    return np.stack(words, 1).astype(np.uint32).reshape(-1)[:count].copy()


def random_uniform(seed: int, stream: int, offset: int, shape: Shape, dtype: Any) -> Array:
    """Uniform numbers in [0, 1): one word makes a float32 with 24 random bits, two make a float64 with 53."""
    check_count("random_uniform", shape)
    count, dtype = math.prod(shape), float_dtype("random_uniform", dtype)
    if dtype == np.float32:
        bits = random_bits(seed, stream, offset, count) >> 8
        return bits.astype(np.float32).reshape(shape) * np.float32(2.0**-24)
    words = random_bits(seed, stream, offset, 2 * count).astype(np.float64)
    high, low = np.floor(words[0::2] / 32), np.floor(words[1::2] / 64)
    return ((high * 2.0**26 + low) * 2.0**-53).reshape(shape)


def random_normal(seed: int, stream: int, offset: int, shape: Shape, dtype: Any) -> Array:
    """Standard normal numbers by Box-Muller from pairs of uniforms of one dtype; computed in float64, then rounded.

    The angle is a fraction v of a turn: quarter turns are split off exactly, so cos(2 pi / 4) is 0 on every backend.
    """
    check_count("random_normal", shape)
    count, dtype = math.prod(shape), float_dtype("random_normal", dtype)
    u, v = random_uniform(seed, stream, offset, ((count + 1) // 2, 2), dtype).astype(np.float64).T
    radius = np.sqrt(-2 * np.log1p(-u))
    quarter = np.rint(4 * v)
    angle = 2 * np.pi * (v - quarter / 4)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = quarter.astype(np.int64) % 4
    pairs = np.stack([np.choose(turn, (cos, -sin, -cos, sin)), np.choose(turn, (sin, cos, -sin, -cos))], 1)
    return (radius[:, None] * pairs).reshape(-1)[:count].astype(dtype).reshape(shape)
