"""Random numbers for data that are drawn: a fixed sequence for each (seed, stream).

    draws = Draws(seed=0, stream=1)
    draws.uniform(100, 2)        # float64 in [0, 1)
    draws.normal(100)            # Box-Muller, float64
    draws.below(8, 100)          # whole numbers 0..7

All come from the words of NumPy's Philox, which never change, and formulas. `Generator`'s methods promise no such
thing.
"""

from __future__ import annotations

import math

import numpy as np


class Draws:
    """A sequence of random numbers. Equal (seed, stream) give equal numbers; other streams are independent."""

    def __init__(self, seed: int, stream: int = 0) -> None:
        key = np.array([seed, stream], np.uint64)
        self._bits = np.random.Philox(key=key, counter=[0, 0, 0, 1])  # the order of batches counts from [0, 0, 0, 0]

    def words(self, count: int) -> np.ndarray:
        """uint64 (count,): every bit is random."""
        return self._bits.random_raw(count)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """float64 in [low, high), 53 random bits each."""
        bits = self.words(math.prod(shape)) >> np.uint64(11)
        return low + (high - low) * bits.astype(np.float64).reshape(shape) * 2.0**-53

    def normal(self, *shape: int) -> np.ndarray:
        """float64 of mean 0 and variance 1: sqrt(-2 log(1 - u)) cos(2 pi v)."""
        u, v = self.uniform(2, *shape)
        return np.sqrt(-2 * np.log1p(-u)) * np.cos(2 * np.pi * v)

    def below(self, n: int, *shape: int) -> np.ndarray:
        """int64 in 0..n-1: floor(n u)."""
        return (self.uniform(*shape) * n).astype(np.int64)

    def order(self, count: int) -> np.ndarray:
        """A permutation of 0..count-1."""
        return np.argsort(self.words(count), kind="stable")
