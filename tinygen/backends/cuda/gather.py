"""Index tables for the CUDA kernels: convolution, its two adjoints and the matrix product as one gather form.

    c[m, j] = sum over k of  a[m * a_row + a_k[k]] * b[b_k[k] + b_j[j]]     where the tap (k, j) lies inside the image

csrc/cuda/gather.h says what m, k and j are in each case. Tables are NumPy arrays of int32, made once per geometry; an
entry of b is {offset, word}. A word holds a row and a column in two bit fields: word(k) + word(j) is the position
that a tap meets, each field counted from its highest bit, so that two bit operations tell whether it lies inside. The k
of a phase are filled up to a multiple of 32 with taps that lie outside wherever they are used: a tile of k is whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from ..geometry import Geometry, Pair

_LARGEST = 2**31 - 1
_WHOLE = 32  # every tile's depth divides it
_TOO_LARGE = "the CUDA kernels count with 32 bits: an array of more than 2^31 numbers; use a smaller batch"


@dataclass(frozen=True, eq=False)
class Gather:
    """Tables and sizes of one product; the names are those of `struct Gather` in csrc/cuda/gather.h."""

    a_row: int
    a_k: np.ndarray
    b_k: np.ndarray
    b_j: np.ndarray
    c_row: int
    c_j: np.ndarray
    phases: np.ndarray  # rows (first k, number of k, first j, number of j)
    rows: int
    limit: int
    signs: int
    groups: int
    a_group: int
    b_group: int
    c_group: int
    b_k_fast: bool  # neighbouring k are neighbours in b, rather than neighbouring j
    a_m_fast: bool = False

    def __post_init__(self) -> None:
        reach = [int(abs(t.astype(np.int64)).max(initial=0)) for t in (self.a_k, self.b_k[:, 0], self.b_j[:, 0])]
        if max((self.rows - 1) * abs(self.a_row) + reach[0], reach[1] + reach[2]) > _LARGEST:
            raise ValueError(_TOO_LARGE)

    @property
    def columns(self) -> int:
        """The most columns that a phase has."""
        return int(self.phases[:, 3].max(initial=0))

    @property
    def count(self) -> int:
        """The most k that a phase has."""
        return int(self.phases[:, 1].max(initial=0))


def _int32(*columns: np.ndarray | int) -> np.ndarray:
    """One column as (n,), several as (n, columns); ValueError where 31 bits do not hold an offset."""
    flat = [np.asarray(c, np.int64).reshape(-1) for c in np.broadcast_arrays(*columns)]
    if any(c.size and max(c.max(), -c.min()) > _LARGEST for c in flat[:1]):
        raise ValueError(_TOO_LARGE)
    wrapped = [(c & 0xFFFFFFFF).astype(np.uint32).view(np.int32) for c in flat]
    return wrapped[0].copy() if len(wrapped) == 1 else np.stack(wrapped, 1)


class _Words:
    """Packs positions of an image of `size`; the first part carries the middle of both fields.

    `smallest` and `largest` bound the positions that a tap meets, `first` and `last` those that j alone says.
    """

    def __init__(self, size: Pair, smallest: Pair, largest: Pair, first: Pair, last: Pair) -> None:
        bits, below = [], (size[0] - first[0], 0)  # `below` takes every j under the image
        for n, low, high, end, more in zip(size, smallest, largest, last, below, strict=True):
            # A field holds position + 2^(bits - 1), before and after taking n off.
            reach = max(n - low, -low, high + 1, n, 1, end + more + 1)
            bits.append(int(reach).bit_length() + 1)
        if sum(bits) > 32:
            raise ValueError(f"the CUDA convolution packs positions into 32 bits; an image of {size} is too large")
        self.shift = bits[1]
        self.middle = self.pack(1 << bits[0] - 1, 1 << bits[1] - 1)
        self.limit = int(self.pack(*size))
        self.signs = int(self.middle)
        self.outside = self.pack(*below)

    def pack(self, row: np.ndarray | int, column: np.ndarray | int) -> np.ndarray:
        return np.asarray(row, np.int64) * (1 << self.shift) + column


def _filled(a_k: np.ndarray, b_k: np.ndarray, outside: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
    """The tables of a phase with as many taps outside behind its own as make their number a multiple of 32."""
    more = np.zeros(-len(a_k) % _WHOLE, np.int32)
    return np.concatenate([a_k, more]), np.concatenate([b_k, _int32(more, outside)])


def convolution(geo: Geometry, weight: bool) -> Gather:
    """The tables of conv (j: output pixels, k: taps) or, with the two exchanged, of conv_weight."""
    (n, c, h, w), (k, cg, r, s), (_, _, p, q) = geo.x_shape, geo.w_shape, geo.y_shape
    image, i, j = (a.reshape(-1) for a in np.indices((n, p, q)))
    row, column = geo.stride[0] * i - geo.pad[0], geo.stride[1] * j - geo.pad[1]
    channel, t, u = (a.reshape(-1) for a in np.indices((cg, r, s)))
    down, right = geo.dilation[0] * t, geo.dilation[1] * u
    last = tuple(
        st * (m - 1) - before + d * (taps - 1)
        for st, m, before, d, taps in zip(geo.stride, (p, q), geo.pad, geo.dilation, (r, s), strict=True)
    )
    reach = geo.dilation[0] * (r - 1), geo.dilation[1] * (s - 1)
    start, end = (-geo.pad[0], -geo.pad[1]), (last[0] - reach[0], last[1] - reach[1])
    words = _Words((h, w), start, last, *(((0, 0), reach) if weight else (start, end)))  # type: ignore[arg-type]
    pixels = _int32(image * (c * h * w) + row * w + column, words.pack(row, column) + words.middle)
    taps = _int32(channel * (h * w) + down * w + right, words.pack(down, right))
    of_pixel = _int32(image * (k * p * q) + i * q + j)
    of_tap = np.arange(cg * r * s, dtype=np.int32)
    kg, size, outputs = k // geo.groups, cg * r * s, n * p * q
    if weight:
        a_k, b_k = _filled(of_pixel, pixels, words.outside + words.middle)
        return Gather(
            a_row=p * q, a_k=a_k, b_k=b_k, b_j=taps, c_row=size, c_j=of_tap,
            phases=np.array([[0, outputs, 0, size]], np.int32), rows=kg, limit=words.limit, signs=words.signs,
            groups=geo.groups, a_group=kg * p * q, b_group=cg * h * w, c_group=kg * size, b_k_fast=q >= s,
        )  # fmt: skip
    a_k, b_k = _filled(of_tap, taps, words.outside)
    return Gather(
        a_row=size, a_k=a_k, b_k=b_k, b_j=pixels, c_row=p * q, c_j=of_pixel,
        phases=np.array([[0, size, 0, outputs]], np.int32), rows=kg, limit=words.limit, signs=words.signs,
        groups=geo.groups, a_group=kg * size, b_group=cg * h * w, c_group=kg * p * q, b_k_fast=q < s,
    )  # fmt: skip


def _phase(geo: Geometry, axis: int, f: int) -> tuple[int, int, np.ndarray, np.ndarray]:
    """(first, count, taps, shifts): x at first + stride * j meets y at j + shifts[i] through taps[i]."""
    size, taps = geo.x_shape[2 + axis], np.arange(geo.w_shape[2 + axis])
    stride, dilation, pad = geo.stride[axis], geo.dilation[axis], geo.pad[axis]
    first = (f - pad) % stride
    reaching = taps[(dilation * taps - f) % stride == 0]
    return first, max(0, -(-(size - first) // stride)), reaching, (first + pad - dilation * reaching) // stride


def transposed(geo: Geometry) -> Gather:
    """The tables of conv_transpose: one product for each phase of the stride, so that no zero is multiplied."""
    (n, c, h, w), (k, cg, r, s), (_, _, p, q) = geo.x_shape, geo.w_shape, geo.y_shape
    kg = k // geo.groups
    parts = [[_phase(geo, axis, f) for f in range(geo.stride[axis])] for axis in (0, 1)]
    shifts = [[x for part in axis for x in part[3]] or [0] for axis in parts]
    counts = [max(part[1] for part in axis) for axis in parts]
    words = _Words(
        (p, q), (min(shifts[0]), min(shifts[1])), (max(shifts[0]) + counts[0] - 1, max(shifts[1]) + counts[1] - 1),
        (0, 0), (counts[0] - 1, counts[1] - 1),
    )  # fmt: skip
    a_k: list[np.ndarray] = []
    b_k: list[np.ndarray] = []
    b_j, c_j, phases = [], [], []
    k_first = j_first = 0
    for (top, rows, t, down), (left, columns, u, right) in product(*parts):
        if n * rows * columns == 0:
            continue
        filters, ti, ui = (a.reshape(-1) for a in np.indices((kg, len(t), len(u))))
        image, i, j = (a.reshape(-1) for a in np.indices((n, rows, columns)))
        of_w = _int32(filters * (cg * r * s) + t[ti] * s + u[ui])
        of_y = _int32(filters * (p * q) + down[ti] * q + right[ui], words.pack(down[ti], right[ui]))
        for table, filled in zip((a_k, b_k), _filled(of_w, of_y, words.outside), strict=True):
            table.append(filled)
        b_j.append(_int32(image * (k * p * q) + i * q + j, words.pack(i, j) + words.middle))
        c_j.append(_int32(image * (c * h * w) + (top + geo.stride[0] * i) * w + left + geo.stride[1] * j))
        phases.append((k_first, len(filters), j_first, len(image)))
        k_first, j_first = k_first + len(a_k[-1]), j_first + len(image)
    empty, pairs = np.zeros(0, np.int32), np.zeros((0, 2), np.int32)
    return Gather(
        a_row=r * s, a_k=np.concatenate([empty, *a_k]), b_k=np.concatenate([pairs, *b_k]),
        b_j=np.concatenate([pairs, *b_j]), c_row=h * w, c_j=np.concatenate([empty, *c_j]),
        phases=np.array(phases, np.int32).reshape(-1, 4), rows=cg, limit=words.limit, signs=words.signs,
        groups=geo.groups, a_group=kg * cg * r * s, b_group=kg * p * q, c_group=cg * h * w, b_k_fast=False,
    )  # fmt: skip


def matrices(m: int, k: int, n: int, batch: int, a: tuple[int, int, int], b: tuple[int, int, int]) -> Gather:
    """The tables of c (batch, m, n) = a @ b; `a` and `b` are the distances, in numbers, along batch, row and column."""
    ks, ns, signs = np.arange(k), np.arange(n), 1 << 31
    a_k, b_k = _filled(_int32(ks * a[2]), _int32(ks * b[1], 0), 1)  # an image of one pixel: 0 lies inside, 1 outside
    return Gather(
        a_row=a[1], a_k=a_k, b_k=b_k, b_j=_int32(ns * b[2], signs), c_row=n,
        c_j=_int32(ns), phases=np.array([[0, k, 0, n]], np.int32), rows=m, limit=1, signs=signs, groups=batch,
        a_group=a[0], b_group=b[0], c_group=m * n, b_k_fast=b[1] == 1 and b[2] != 1, a_m_fast=a[1] == 1 and a[2] != 1,
    )  # fmt: skip
