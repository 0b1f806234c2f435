"""The shapes that kernels work on, resolved once and never derived again.

`Geometry` describes one convolution completely: with it, the three contractions of

    T(x, w, y) = sum over n, p, k, c, t of  x[n, c, stride*p + dilation*t - pad] * w[k, c, t] * y[n, k, p]

(x is zero outside its array) need no further arithmetic on sizes. All three shapes are stored, so output padding, ragged
strides and asymmetric padding are no special cases: only the padding *before* the first element appears, what follows the
last element is implied by `y_shape`.

`Taps` describes a linear map along one axis by a few weighted taps per output: interpolation, average pooling, adaptive
pooling and reflecting pads are all such maps, and the adjoint of each is another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

Shape = tuple[int, ...]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """One 2-D convolution: x (N, C, H, W), w (K, C / groups, R, S), y (N, K, P, Q); 1-D convolutions have H = R = P = 1."""

    x_shape: Shape
    w_shape: Shape
    y_shape: Shape
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    pad: Pair = (0, 0)  # before the first row and the first column; may be negative (a crop)
    groups: int = 1

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:  # kernels cache tables per geometry: hash the seven fields once
        return hash((self.x_shape, self.w_shape, self.y_shape, self.stride, self.dilation, self.pad, self.groups))

    @property
    def flops(self) -> int:
        """Nominal floating-point operations of each of the three contractions: two per tap, taps on padding included."""
        n, k, p, q = self.y_shape
        return 2 * n * k * p * q * self.w_shape[1] * self.w_shape[2] * self.w_shape[3]


@dataclass(frozen=True, eq=False)
class Taps:
    """A sparse linear map along one axis: y[p] = sum over t of weight[p, t] * x[index[p, t]].

    `index` is an int64 array (outputs, taps), `weight` a float64 array of the same shape; a tap that is not used has weight 0
    and a valid index (or, for maximum pooling, index -1). `size` is the length of the input axis.
    """

    index: np.ndarray
    weight: np.ndarray
    size: int

    @cached_property
    def transposed(self) -> Taps:
        """The adjoint map, as taps: from the output axis back to the input axis."""
        outputs, _ = self.index.shape
        position, tap = np.nonzero(self.weight)
        source = self.index[position, tap]
        order = np.argsort(source, kind="stable")
        position, tap, source = position[order], tap[order], source[order]
        counts = np.bincount(source, minlength=self.size)
        index = np.zeros((self.size, max(1, int(counts.max(initial=0)))), np.int64)
        weight = np.zeros(index.shape)
        column = np.arange(len(source)) - np.repeat(np.cumsum(counts) - counts, counts)
        index[source, column] = position
        weight[source, column] = self.weight[position, tap]
        return Taps(index, weight, outputs)

    def matrix(self) -> np.ndarray:
        """The same map as a dense float64 matrix (outputs, size), for tests and explanations."""
        dense = np.zeros((self.index.shape[0], self.size))
        np.add.at(dense, (np.arange(self.index.shape[0])[:, None], self.index), self.weight)
        return dense
