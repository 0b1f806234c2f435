"""The shapes that kernels work on, resolved once and never derived again.

`Geometry` describes one convolution completely: with it, the three contractions of

    T(x, w, y) = sum over n, p, k, c, t of  x[n, c, stride*p + dilation*t - pad] * w[k, c, t] * y[n, k, p]

(x is zero outside its array) need no further arithmetic on sizes. All three shapes are stored, so output padding,
ragged strides and asymmetric padding are no special cases: only the padding *before* the first element appears, what
follows the last element is implied by `y_shape`.

`Taps` describes a linear map along one axis by a few weighted taps per output: interpolation, average pooling, adaptive
pooling and reflecting pads are all such maps, and the adjoint of each is another one.

`Pieces` is a flat array in parts: an optimizer's parameters, or their gradients. `extents` merges the axes of a sum.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np

from .arrays import check_sum

Shape = tuple[int, ...]
Pair = tuple[int, int]
_MOST_POSITIONS = 1 << 40  # that one axis may reach


@dataclass(frozen=True)
class Geometry:
    """One 2-D convolution: x (N, C, H, W), w (K, C / groups, R, S), y (N, K, P, Q); in 1-D, H = R = P = 1."""

    x_shape: Shape
    w_shape: Shape
    y_shape: Shape
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    pad: Pair = (0, 0)  # before the first row and the first column; may be negative (a crop)
    groups: int = 1

    def __post_init__(self) -> None:
        x, w, y, groups = self.x_shape, self.w_shape, self.y_shape, self.groups
        fits = len(x) == len(w) == len(y) == 4 and min(*x, *w, *y) >= 0 and groups >= 1
        if not fits or x[0] != y[0] or w[0] != y[1] or w[1] * groups != x[1] or w[0] % groups:
            raise ValueError(f"Geometry: x {x}, w {w} and y {y} with {groups} groups do not fit together")
        for p, t, s, d, pad in zip(y[2:], w[2:], self.stride, self.dilation, self.pad, strict=True):
            if s < 1 or d < 1 or s * p + d * t + abs(pad) >= _MOST_POSITIONS:
                raise ValueError(f"Geometry: stride {s}, dilation {d} and pad {pad} are beyond what an index holds")

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:  # kernels cache tables per geometry: hash the seven fields once
        return hash((self.x_shape, self.w_shape, self.y_shape, self.stride, self.dilation, self.pad, self.groups))

    @cached_property
    def prepared(self) -> dict[str, Any]:
        """{backend: what it derived from this geometry}, so that a call needs no second look-up by value."""
        return {}

    @cached_property
    def is_dense(self) -> bool:
        """Whether each image gives one output, read through the whole image: the contractions are matrix products."""
        whole = self.w_shape[1:] == self.x_shape[1:] and self.y_shape[2:] == (1, 1) and self.pad == (0, 0)
        return whole and all(d == 1 or size == 1 for d, size in zip(self.dilation, self.w_shape[2:], strict=True))

    @property
    def flops(self) -> int:
        """Nominal floating-point operations of each contraction: two per tap, taps on padding included."""
        n, k, p, q = self.y_shape
        return 2 * n * k * p * q * self.w_shape[1] * self.w_shape[2] * self.w_shape[3]

    @classmethod
    def of_convolution(
        cls, name: str, x_shape: Shape, w_shape: Shape, groups: int, stride: Any, padding: Any, dilation: Any
    ) -> Geometry:
        """The convolution of x (N, C, size...) with w (K, C / groups, kernel...), one or two axes; raises ValueError.

        Output size per axis: (size + before + after - dilation * (kernel - 1) - 1) // stride + 1.
        """
        axes, size, kernel = len(w_shape) - 2, x_shape[2:], w_shape[2:]
        s, d = per_axis(name, "stride", stride, axes), per_axis(name, "dilation", dilation, axes)
        per_axis(name, "a weight's kernel", kernel, axes)
        pads = padding_pairs(name, padding, kernel, d)
        spans = [n + a + b - e * (k - 1) for n, (a, b), e, k in zip(size, pads, d, kernel, strict=True)]
        if min(spans) < 1:
            raise ValueError(
                f"{name}: kernel {by(kernel)} with dilation {by(d)} is larger than the input {by(size)} with padding "
                f"{pads}; use a smaller kernel or more padding"
            )
        y_shape = (x_shape[0], w_shape[0], *((span - 1) // step + 1 for span, step in zip(spans, s, strict=True)))
        return cls._of_axes(x_shape, w_shape, y_shape, s, d, pads, groups)

    @classmethod
    def of_transposed(
        cls, name: str, y_shape: Shape, w_shape: Shape, groups: int, stride: Any, padding: Any, dilation: Any,
        output_padding: Any, output_size: Any,
    ) -> Geometry:  # fmt: skip
        """The convolution whose adjoint maps y (N, K, size...) with w (K, C / groups, kernel...) to x.

        Sizes of x per axis: from stride * (size - 1) + dilation * (kernel - 1) + 1 - before - after, plus
        output_padding, which is less than the stride or the dilation; `output_size` names one of them. Raises
        ValueError with the legal range.
        """
        axes, size, kernel = len(w_shape) - 2, y_shape[2:], w_shape[2:]
        s, d = per_axis(name, "stride", stride, axes), per_axis(name, "dilation", dilation, axes)
        per_axis(name, "a weight's kernel", kernel, axes)
        if padding == "same":
            raise ValueError(f"{name}: padding='same' leaves the size open; give integers and output_size=")
        pads = padding_pairs(name, padding, kernel, d)
        every = zip(size, s, pads, d, kernel, strict=True)
        smallest = [(n - 1) * a - b - c + e * (k - 1) + 1 for n, a, (b, c), e, k in every]
        slack = [max(a, e) - 1 for a, e in zip(s, d, strict=True)]
        if output_size is None:
            extra = per_axis(name, "output_padding", output_padding, axes, 0)
            wanted = tuple(n + e for n, e in zip(smallest, extra, strict=True))
        else:
            wanted = integers(output_size, axes)[-axes:]
        possible = [max(n, 1) <= o <= n + e for n, o, e in zip(smallest, wanted, slack, strict=True)]
        if len(possible) != axes or not all(possible):
            legal = " x ".join(f"{max(n, 1)}..{n + e}" for n, e in zip(smallest, slack, strict=True))
            raise ValueError(
                f"{name}: input {by(size)} cannot give an output of {by(wanted)} with kernel {by(kernel)}, "
                f"stride {by(s)}, padding {pads}, dilation {by(d)}; legal sizes are {legal} "
                "(output_padding is less than stride or dilation)"
            )
        return cls._of_axes((y_shape[0], w_shape[1] * groups, *wanted), w_shape, y_shape, s, d, pads, groups)

    @classmethod
    def _of_axes(
        cls, x: Shape, w: Shape, y: Shape, stride: Shape, dilation: Shape, pads: list[Pair], groups: int
    ) -> Geometry:
        before = tuple(p[0] for p in pads)
        if len(stride) == 1:  # one axis is two with a height of one
            x, w, y = ((*shape[:2], 1, *shape[2:]) for shape in (x, w, y))
            stride, dilation, before = (1, *stride), (1, *dilation), (0, *before)
        return cls(tuple(x), tuple(w), tuple(y), stride, dilation, before, groups)  # type: ignore[arg-type]


def by(shape: Sequence[int]) -> str:
    """A shape as people write it: 4x3x28x28."""
    return "x".join(map(str, shape)) or "scalar"


def integers(value: Any, count: int) -> Shape:
    """Python integers: `count` times the one given, or those of a sequence; NumPy's are taken; TypeError for others."""
    try:
        return (operator.index(value),) * count
    except (TypeError, ValueError):
        return tuple([operator.index(v) for v in value])


def check_dtypes(name: str, input: Any, weight: Any) -> None:
    """Raises TypeError unless an input and a weight have one dtype: a convolution converts neither."""
    if input != weight:
        raise TypeError(f"{name}: mixed dtypes, input {input} and weight {weight}; convert with input.to(weight.dtype)")
    if input.kind != "f":
        raise TypeError(f"{name}: expected float32 or float64, got {input}; convert the tensor with .float()")


def per_axis(name: str, what: str, value: Any, axes: int, smallest: int = 1) -> Shape:
    """`value` once per axis, from one integer or one per axis; raises ValueError."""
    try:
        values = integers(value, axes)
    except TypeError:
        values = ()
    if len(values) != axes or any(v < smallest for v in values):
        each = "one integer" if axes == 1 else f"one integer, or {axes},"
        raise ValueError(f"{name}: {what}={value} should be {each} of at least {smallest}")
    return values


def padding_pairs(name: str, padding: Any, kernel: Shape, dilation: Shape) -> list[Pair]:
    """(before, after) per axis, from an integer, one per axis, a pair per axis, 'valid' or 'same'."""
    axes = len(kernel)
    if padding == "valid":
        return [(0, 0)] * axes
    if padding == "same":  # as many outputs as inputs at stride 1, of which a stride keeps every s-th: ceil(size / s)
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    if isinstance(padding, str):
        raise ValueError(f"{name}: padding={padding!r} is not known; use an integer, a tuple, 'same' or 'valid'")
    values = tuple(padding) if np.ndim(padding) else (padding,) * axes
    if len(values) != axes or any(np.asarray(v).dtype.kind not in "iub" for v in values):
        raise ValueError(f"{name}: padding={padding} should be one integer, {axes} integers or {axes} pairs")
    pairs = [integers(v, 2) for v in values]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"{name}: padding={padding} should hold integers, or pairs (before, after)")
    if any(np.ndim(v) == 0 and v < 0 for v in values):  # a pair may: it says on which side to crop
        raise ValueError(f"{name}: padding={padding} should not be negative; crop the input by slices, or by pairs")
    return [(before, after) for before, after in pairs]


@dataclass(frozen=True, eq=False)
class Taps:
    """A sparse linear map along one axis: y[p] = sum over t of weight[p, t] * x[index[p, t]].

    `index` is an int64 array (outputs, taps), `weight` a float64 array of the same shape; a tap that is not used has
    weight 0 and a valid index (or, for maximum pooling, index -1). `size` is the length of the input axis.
    ValueError for other shapes, IndexError for an index that is not in [-1, size).
    """

    index: np.ndarray
    weight: np.ndarray
    size: int

    def __post_init__(self) -> None:
        if self.index.ndim != 2 or self.index.shape != self.weight.shape:
            raise ValueError(f"Taps: index {self.index.shape} and weight {self.weight.shape} should be (outputs, taps)")
        if self.index.size and (self.index.min() < -1 or self.index.max() >= self.size):
            raise IndexError(f"Taps: index should lie in [-1, {self.size}), got {self.index.min()}..{self.index.max()}")

    @cached_property
    def inside(self) -> bool:
        """Whether every tap with a weight looks inside the axis."""
        return not bool(((self.index < 0) & (self.weight != 0)).any())

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


class Pieces(NamedTuple):
    """A flat array given in parts: arrays[i], of any shape, stands for its elements from starts[i] on.

    The starts ascend, and no part overlaps the next; elements in between are padding.
    """

    arrays: list[Any]
    starts: list[int]

    def parts(self, flat: Any) -> list[Any]:
        """The views of a flat array where the parts lie, each in its part's shape; Nones for None."""
        if flat is None:
            return [None] * len(self.arrays)
        every = zip(self.arrays, self.starts, strict=True)
        return [flat[start : start + a.size].reshape(a.shape) for a, start in every]

    def joined(self, like: Any) -> Any:
        """The flat array, of the length and dtype of `like`; 0 where no part lies."""
        flat = like.copy()
        flat.fill(0)
        for array, start in zip(self.arrays, self.starts, strict=True):
            flat[start : start + array.size] = array.reshape(-1)
        return flat


@lru_cache(maxsize=4096)
def extents(shape: Shape, axes: tuple[int, ...]) -> tuple[list[int], Shape]:
    """The lengths of reduced and kept axes in turn, a reduced one (perhaps of length 1) first; and the kept shape.

    ValueError for axes that do not ascend, or that are not there.
    """
    check_sum(len(shape), axes)
    lengths = [1]
    for i, n in enumerate(shape):
        if n != 1:
            if (i in axes) == bool(len(lengths) % 2):
                lengths[-1] *= n
            else:
                lengths.append(n)
    if len(lengths) == 1:
        lengths = [1, 1, *lengths]  # one long row, not many short ones
    return lengths + [1] * (4 - len(lengths)), tuple([n for i, n in enumerate(shape) if i not in axes])
