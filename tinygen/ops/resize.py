"""Resampling of images: interpolation, and the one linear op that pooling by averages shares with it.

Along each axis an output is a short weighted sum of inputs, y[p] = sum over t of w[p, t] x[i[p, t]]; in two
dimensions rows and columns do this one after the other. `Taps` holds (i, w) for an axis. The adjoint of such a map is
another one, with its matrix transposed, so `resample` is its own VJP and is exact at every order.

Pixel p of the output has its centre at (p + 1/2) scale - 1/2 in the input ("half-pixel centres"), or, with
align_corners, the first and last pixels of both coincide. Bicubic is Keys' kernel (1981): a = -0.75 is torch's and
the default here, a = -0.5 the one that reproduces quadratics, which the lecture's tables use.

Deliberately absent: volumes, antialiasing.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from ..backends.geometry import Taps
from ..tape import Tensor, op

__all__ = ["interpolate", "upsample"]


@op
def resample(k, x, *, rows, cols):
    """y[n,c,p,q] = sum over t, u of rows.weight[p,t] cols.weight[q,u] x[n, c, rows.index[p,t], cols.index[q,u]]."""
    return k.resample(x, rows, cols)


resample.vjp("x")(lambda g, rows, cols: resample(g, rows=rows.transposed, cols=cols.transposed))


@lru_cache(maxsize=64)
def unchanged(size: int) -> Taps:
    """The identity along an axis of `size`."""
    return Taps(np.arange(size)[:, None], np.ones((size, 1)), size)


@lru_cache(maxsize=256)
def mean_taps(size: int, outputs: int) -> Taps:
    """Means over `outputs` adaptive bins: bin p is floor(p size / outputs) up to ceil((p + 1) size / outputs)."""
    start = np.arange(outputs) * size // outputs
    end = -(-np.arange(1, outputs + 1) * size // outputs)
    index = start[:, None] + np.arange(int((end - start).max(initial=1)))
    inside = index < end[:, None]
    return Taps(np.where(inside, index, 0), inside / np.maximum(end - start, 1)[:, None], size)


def _nearest(p: np.ndarray, step: float, mode: str, line: str | None) -> np.ndarray:
    """floor((p + half) step), rounded as torch rounds: the two must agree on which pixel is nearest.

    An image is rounded to single precision at each step, whatever its dtype. A line of float32 is computed as
    (p + 1/2) step - 1/2 with one rounding, to which 1/2 is added; one of float64 in double, then rounded to single.
    """
    half = 0.5 if mode == "nearest-exact" else 0.0
    single = np.float32
    if line == "float64":
        return np.floor(((p + half) * step).astype(single)).astype(np.int64)
    if line is not None and half:
        once = ((p + half) * float(single(step)) - half).astype(single)
        return np.floor(once + single(half)).astype(np.int64)
    return np.floor((p.astype(single) + single(half)) * single(step)).astype(np.int64)


@lru_cache(maxsize=256)
def interpolation_taps(
    size: int, outputs: int, mode: str, align_corners: bool = False, scale: float | None = None, a: float = -0.75,
    line: str | None = None,
) -> Taps:  # fmt: skip
    """The taps of one axis: mode 'nearest', 'nearest-exact', 'linear' or 'cubic'; `scale` is inputs per output.

    `line`: the dtype of an input with no other axis, by which torch rounds otherwise.
    """
    p = np.arange(outputs)
    image = mode == "nearest" and line is None  # as in torch, whatever the scale
    if outputs == size and (image or mode == "linear"):
        return unchanged(size)
    if outputs == 2 * size and image:
        return Taps(p[:, None] // 2, np.ones((outputs, 1)), size)
    if mode.startswith("nearest"):
        index = np.minimum(_nearest(p, size / outputs if scale is None else scale, mode, line), size - 1)
        return Taps(index[:, None], np.ones((outputs, 1)), size)
    if align_corners:
        centre = p * ((size - 1) / (outputs - 1) if outputs > 1 else 0.0)
    else:
        centre = (p + 0.5) * (size / outputs if scale is None else scale) - 0.5
    if mode == "linear":
        centre = np.clip(centre, 0, size - 1)
        first = np.floor(centre).astype(np.int64)
        index = np.stack([first, np.minimum(first + 1, size - 1)], 1)
        part = centre - first
        return Taps(index, np.stack([1 - part, part], 1), size)
    first = np.floor(centre).astype(np.int64)
    index = first[:, None] + np.arange(-1, 3)
    distance = np.abs(centre[:, None] - index)
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return Taps(np.clip(index, 0, size - 1), np.where(distance <= 1, near, far), size)


_MODES = {"nearest": 0, "nearest-exact": 0, "linear": 1, "bilinear": 2, "bicubic": 2, "area": 0}


def interpolate(
    input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None, antialias: bool = False, a: float = -0.75,
) -> Tensor:  # fmt: skip
    """The image resized to `size`, or by `scale_factor` to floor(size * scale_factor); one number, or one per axis.

    input (N, C, L) or (N, C, H, W). Modes: 'nearest', 'nearest-exact', 'area' (adaptive mean), 'linear' (3-D),
    'bilinear' and 'bicubic' (4-D; Keys' kernel with `a`: -0.75 equals torch, -0.5 is the lecture's). With half-pixel
    centres the weights of each output sum to 1; away from the borders linear modes reproduce ramps and a = -0.5
    quadratics. ValueError for a mode that does not suit the input.
    """
    name, axes = "interpolate", input.ndim - 2
    if axes == 3:
        raise NotImplementedError(f"{name}: volumes {tuple(input.shape)} are not supported, only (N, C, H, W)")
    if axes not in (1, 2):
        raise ValueError(f"{name}: input should be (N, C, L) or (N, C, H, W), got {tuple(input.shape)}")
    if mode not in _MODES:
        raise ValueError(f"{name}: mode={mode!r} is not known; use one of {', '.join(map(repr, _MODES))}")
    if _MODES[mode] not in (0, axes):
        raise ValueError(f"{name}: mode={mode!r} needs {_MODES[mode] + 2} dimensions, input is {tuple(input.shape)}")
    if align_corners is not None and _MODES[mode] == 0:
        raise ValueError(f"{name}: align_corners has no meaning with mode={mode!r}; leave it out")
    if antialias:
        raise ValueError(f"{name}: antialias=True is not implemented; blur first, or use mode='area' to shrink")
    if (size is None) == (scale_factor is None):
        raise ValueError(f"{name}: say either size or scale_factor, got size={size} and scale_factor={scale_factor}")
    old = tuple(input.shape[2:])
    given = size if size is not None else scale_factor
    values = tuple(given) if isinstance(given, tuple | list) else (given,) * axes
    if len(values) != axes:
        raise ValueError(f"{name}: {given} should be one number, or {axes} for {tuple(input.shape)}")
    scales: tuple = (None,) * axes
    if size is None and not all(0 < float(f) < math.inf for f in values):
        raise ValueError(f"{name}: scale_factor={scale_factor} should be positive and finite")
    if size is not None:
        new = tuple([int(n) for n in values])
    else:
        new = tuple([math.floor(n * float(f)) for n, f in zip(old, values)])
        if not recompute_scale_factor:
            scales = tuple([1 / float(f) for f in values])
    if min(old) < 1 or min(new) < 1:
        raise ValueError(f"{name}: sizes should be at least 1, got {old} to {new}")
    if mode == "area":
        taps = [mean_taps(n, m) for n, m in zip(old, new)]
    else:
        kind = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
        corners, line = bool(align_corners), str(input.dtype) if axes == 1 else None
        taps = [
            unchanged(n)
            if n == m and s in (None, 1)
            else interpolation_taps(n, m, kind, corners, None if corners else s, a, line)
            for n, m, s in zip(old, new, scales)
        ]
    if axes == 2:
        return resample(input, rows=taps[0], cols=taps[1])
    return resample(input.unsqueeze(2), rows=unchanged(1), cols=taps[0]).squeeze(2)


def upsample(
    input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: Any = None
) -> Tensor:
    """`interpolate` under torch's older name."""
    return interpolate(input, size, scale_factor, mode, align_corners)
