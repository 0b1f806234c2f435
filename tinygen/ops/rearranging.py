"""Numbers in another order, or several times: `flip`, `roll`, `repeat`, `pixel_shuffle`.

A permutation goes back by its inverse: `flip` by itself, `roll` by the opposite shift, `pixel_shuffle` by
`pixel_unshuffle`. A repetition goes back by a sum, which `expand` and `_take` bring along. All results are copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..tape import Tensor, op
from ..tape import expand as _expand
from .indexing import _take
from .view import _reshape, clone, dim_of, dims_of, flatten, numpy_names, sizes_of, transpose

__all__ = ["flip", "rot90", "roll", "tile", "repeat", "repeat_interleave", "pixel_shuffle", "pixel_unshuffle"]


@op
def _flip(k, x, *, dims):
    """x read backwards along `dims`."""
    return k.xp.flip(x, dims).copy()


_flip.vjp("x")(lambda g, dims: _flip(g, dims=dims))


@numpy_names
def flip(input: Tensor, dims: Any, *more: int) -> Tensor:
    """input read backwards along the axes `dims` (a copy)."""
    axes = tuple([dim_of("flip", d, input.ndim) for d in sizes_of("flip", (dims, *more))])
    if len(set(axes)) != len(axes):
        raise ValueError(f"flip: dims={dims} names an axis twice")
    return _flip(input, dims=axes) if input.ndim else clone(input)


def rot90(input: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """input turned k times by 90 degrees from axis dims[0] towards axis dims[1] (a copy)."""
    if len(dims) != 2 or dim_of("rot90", dims[0], input.ndim) == dim_of("rot90", dims[1], input.ndim):
        raise ValueError(f"rot90: dims={dims} should name two axes of {tuple(input.shape)}")
    first, second = dims
    if k % 4 == 2:
        return flip(input, dims)
    if k % 4 == 0:
        return clone(input)
    return flip(transpose(input, first, second), first if k % 4 == 1 else second)


@op
def _roll(k, x, *, shifts, dims):
    """x shifted around its axes."""
    return k.xp.roll(x, shifts, dims)


_roll.vjp("x")(lambda g, shifts, dims: _roll(g, shifts=tuple([-s for s in shifts]), dims=dims))


@numpy_names
def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """y[(i + shift) mod n] = input[i] along each axis of `dims`; without dims, of the flattened input."""
    steps = sizes_of("roll", (shifts,) if isinstance(shifts, tuple | list) else ((shifts,),))
    if dims is None:
        if len(steps) != 1:
            raise ValueError(f"roll: {len(steps)} shifts without dims; say one axis for each shift")
        return _reshape(_roll(flatten(input), shifts=steps, dims=(0,)), shape=tuple(input.shape))
    axes = tuple(dims_of("roll", dims, input.ndim))
    if len(axes) != len(steps):
        raise ValueError(f"roll: shifts={shifts} and dims={dims} should be equally many")
    return _roll(input, shifts=steps, dims=axes)


def repeat(input: Tensor, repeats: Any, *more: int) -> Tensor:
    """input repeats[i] times along axis i (a copy); with more repeats than axes, input gets new leading axes."""
    times = sizes_of("repeat", (repeats, *more))
    lead = len(times) - input.ndim
    if lead < 0 or min(times, default=0) < 0:
        raise ValueError(f"repeat: repeats {times} should be at least 0, and one for each axis of {tuple(input.shape)}")
    shape = (1,) * lead + tuple(input.shape)
    paired = _reshape(input, shape=tuple([m for n in shape for m in (1, n)]))
    wide = _expand(paired, shape=tuple([m for t, n in zip(times, shape) for m in (t, n)]))
    return clone(_reshape(wide, shape=tuple([t * n for t, n in zip(times, shape)])))


def tile(input: Tensor, dims: Any, *more: int) -> Tensor:
    """`repeat` with a 1 for each leading axis that dims leaves out, as numpy.tile."""
    times = sizes_of("tile", (dims, *more))
    return repeat(input, (1,) * (input.ndim - len(times)) + times)


@numpy_names
def repeat_interleave(input: Tensor, repeats: Any, dim: int | None = None) -> Tensor:
    """Each element of axis `dim` `repeats` times in a row; without dim, of the flattened input.

    repeats is one count, or one per element of the axis.
    """
    if dim is None:
        input, dim = flatten(input), 0
    dim = dim_of("repeat_interleave", dim, input.ndim)
    times = np.asarray(repeats.numpy() if isinstance(repeats, Tensor) else repeats)
    if (
        times.ndim > 1
        or times.dtype.kind not in "iu"
        or times.min(initial=0) < 0
        or times.size not in (1, input.shape[dim])
    ):
        raise ValueError(
            f"repeat_interleave: repeats should be one count, or one per element of axis {dim} of {tuple(input.shape)}"
        )
    index = np.repeat(np.arange(input.shape[dim]), times.item() if times.size == 1 else times)
    return _take(input, dim=dim, index=input.device.kernels.xp.asarray(index))


@op
def _pixel_shuffle(k, x, *, factor):
    """Channels to space: y[..., c, h r + i, w r + j] = x[..., c r^2 + i r + j, h, w]."""
    *lead, c, h, w = x.shape
    r = factor
    x = x.reshape(*lead, c // (r * r), r, r, h, w)
    n = len(lead)
    return x.transpose(*range(n), n, n + 3, n + 1, n + 4, n + 2).reshape(*lead, c // (r * r), h * r, w * r)


@op
def _pixel_unshuffle(k, x, *, factor):
    """Space to channels: the inverse of _pixel_shuffle, and its adjoint, for it is a permutation."""
    *lead, c, h, w = x.shape
    r = factor
    x = x.reshape(*lead, c, h // r, r, w // r, r)
    n = len(lead)
    return x.transpose(*range(n), n, n + 2, n + 4, n + 1, n + 3).reshape(*lead, c * r * r, h // r, w // r)


_pixel_shuffle.vjp("x")(lambda g, factor: _pixel_unshuffle(g, factor=factor))
_pixel_unshuffle.vjp("x")(lambda g, factor: _pixel_shuffle(g, factor=factor))


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """y[n, c, h r + i, w r + j] = input[n, c r^2 + i r + j, h, w]: (N, C r^2, H, W) to (N, C, H r, W r).

    Shi et al. 2016.
    """
    r = upscale_factor
    if r < 1 or input.ndim < 3 or input.shape[-3] % (r * r):
        raise ValueError(f"pixel_shuffle: input should be (..., C * {r}^2, H, W), got {tuple(input.shape)}")
    return _pixel_shuffle(input, factor=r)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """The inverse of `pixel_shuffle`: (N, C, H r, W r) to (N, C r^2, H, W)."""
    r = downscale_factor
    if r < 1 or input.ndim < 3 or input.shape[-2] % r or input.shape[-1] % r:
        raise ValueError(f"pixel_unshuffle: input should be (..., C, H * {r}, W * {r}), got {tuple(input.shape)}")
    return _pixel_unshuffle(input, factor=r)
