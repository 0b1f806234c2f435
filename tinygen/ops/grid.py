"""Images read at arbitrary points: `grid_sample`, and `affine_grid`, the points of a turned and shifted image.

    y[n, c, p, q] = sum over taps a, b of wy[n, a, p, q] wx[n, b, p, q] x[n, c, row a, column b]

One tap an axis is the nearest pixel, two are bilinear, four bicubic (Keys 1981, a = -0.75). A grid holds (x, y) from
-1 to 1. With align_corners -1 and 1 are the centres of the first and last pixels, without it the image's edges. Which
pixels are read is piecewise constant; the weights are ops, so a grid has derivatives of every order.

Jaderberg et al. 2015. Deliberately absent: volumes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..tape import Tensor
from .arithmetic import fmod
from .choosing import where
from .comparison import eq, ge, gt, lt
from .joining import stack
from .matmul import matmul
from .pool import _take_plane
from .view import reshape, transpose, unsqueeze

__all__ = ["affine_grid", "grid_sample"]

_TAPS = {"nearest": range(1), "bilinear": range(2), "bicubic": range(-1, 3)}


def _reflected(x: Tensor, size: int, corners: bool) -> Tensor:
    """x mirrored at the borders until it lies between them."""
    low, span = (0.0, size - 1.0) if corners else (-0.5, float(size))
    if span == 0:
        return x * 0.0
    x = where(Tensor(x.device.kernels.xp.isfinite(x.array), None, x.device), x, np.nan)
    far = where(lt(x, low), low - x, x - low)
    rest = fmod(far, span)
    turned = eq(fmod(Tensor(far.device.kernels.xp.floor(far.array / span), None, x.device), 2.0), 1.0)
    return where(turned, span - rest, rest) + low


def _bounded(x: Tensor, size: int, padding: str, corners: bool) -> Tensor:
    """Pixel coordinates as a border treats them, NaN at 0; on the border their derivative is 0, as in torch."""
    if padding == "zeros":
        return x
    x = _reflected(x, size, corners) if padding == "reflection" else x
    return where(gt(x, 0), where(ge(x, size - 1), size - 1.0, x), 0.0)


def _cubic(t: Tensor, a: float = -0.75) -> list[Tensor]:
    """The weights of the pixels at -1, 0, 1 and 2, for a point at t between 0 and 1."""
    near = lambda d: ((a + 2) * d - (a + 3)) * d * d + 1
    far = lambda d: ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


def _axis(x: Tensor, size: int, mode: str, padding: str, corners: bool) -> tuple[Any, Any, Any]:
    """(index, weight, finite) of grid coordinates x (N, S) along an axis.

    index and weight, an array and a tensor (N, taps, S), of the taps; finite (N, S), false where x is no place at all.
    """
    xp = x.device.kernels.xp
    x = (x + 1) * ((size - 1) / 2) if corners else ((x + 1) * size - 1) / 2
    if mode != "bicubic":
        x = _bounded(x, size, padding, corners)
    first = xp.rint(x.array) if mode == "nearest" else xp.floor(x.array)
    places = first[:, None] + xp.arange(_TAPS[mode].start, _TAPS[mode].stop, dtype=first.dtype)[:, None]
    if mode == "bicubic":
        places = _bounded(Tensor(places, None, x.device), size, padding, corners).array
    inside = (places >= 0) & (places <= size - 1)  # false for NaN
    finite = xp.isfinite(first)
    t = where(Tensor(finite, None, x.device), x - Tensor(xp.where(finite, first, 0), None, x.device), 0.0)
    weights = {"nearest": lambda: [t * 0.0 + 1.0], "bilinear": lambda: [1 - t, t], "bicubic": lambda: _cubic(t)}
    weight = where(Tensor(inside, None, x.device), stack(weights[mode](), 1), 0.0)
    return xp.where(inside, places, 0).astype(np.int64), weight, finite


def grid_sample(
    input: Tensor, grid: Tensor, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: bool | None = None
) -> Tensor:
    """input (N, C, H, W) read at the points (x, y) of grid (N, P, Q, 2): (N, C, P, Q).

    Modes 'nearest', 'bilinear', 'bicubic'. Beyond the image lie 'zeros', the 'border' pixels or the mirrored image
    ('reflection'). ValueError for other shapes or words. Memory: C numbers per tap and point.
    """
    name = "grid_sample"
    if input.ndim == 5:
        raise NotImplementedError(f"{name}: volumes {tuple(input.shape)} are not supported, only images (N, C, H, W)")
    fits = input.ndim == 4 == grid.ndim and grid.shape[0] == input.shape[0] and grid.shape[3] == 2
    if not fits or min(input.shape[1:]) < 1:
        shapes = f"{tuple(input.shape)} and {tuple(grid.shape)}"
        raise ValueError(f"{name}: expected an input (N, C, H, W) and a grid (N, P, Q, 2), got {shapes}")
    if mode not in _TAPS or padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError(
            f"{name}: mode={mode!r} should be 'nearest', 'bilinear' or 'bicubic', and padding_mode={padding_mode!r} "
            "'zeros', 'border' or 'reflection'"
        )
    n, c, h, w = input.shape
    p, q = grid.shape[1:3]
    points, corners, xp = reshape(grid, (n, p * q, 2)), bool(align_corners), input.device.kernels.xp
    columns, wx, known = _axis(points[:, :, 0], w, mode, padding_mode, corners)
    rows, wy, known_too = _axis(points[:, :, 1], h, mode, padding_mode, corners)
    taps = (n, 1, len(_TAPS[mode]) ** 2, p * q)
    index = (rows[:, :, None] * w + columns[:, None]).reshape(taps)
    index = xp.ascontiguousarray(xp.broadcast_to(index, (n, c, *taps[2:])))
    weight = reshape(unsqueeze(wy, 2) * unsqueeze(wx, 1), taps)
    read = _take_plane(input, index=Tensor(index, None, input.device))
    y = (read * weight).sum(2)
    if mode != "nearest":  # a point that is nowhere reads NaN, as in torch, and gives no pixel a gradient
        y = where(Tensor((known & known_too)[:, None], None, input.device), y, np.nan)
    return reshape(y, (n, c, p, q))


def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """The grid (N, H, W, 2) with grid[n, i, j] = theta[n] (x_j, y_i, 1), for theta (N, 2, 3) and size (N, C, H, W).

    `grid_sample` then draws the image turned, scaled and shifted by theta. ValueError for other shapes.
    """
    if len(size) == 5:
        raise NotImplementedError(f"affine_grid: volumes {tuple(size)} are not supported, only images (N, C, H, W)")
    if len(size) != 4 or tuple(theta.shape) != (size[0], 2, 3) or min(size) < 1:
        raise ValueError(
            f"affine_grid: expected theta (N, 2, 3) and size (N, C, H, W), got {tuple(theta.shape)} and {tuple(size)}"
        )
    axes, xp = [], theta.device.kernels.xp
    for n in size[:1:-1]:  # W, then H
        centres = (2 * xp.arange(n) + 1) / n - 1
        axes.append(xp.linspace(-1, 1, n) * (n > 1) if align_corners else centres)
    grid = xp.stack([*xp.meshgrid(*axes), xp.ones((size[2], size[3]))], -1).reshape(-1, 3)
    points = Tensor(grid.astype(theta.dtype), None, theta.device)
    return reshape(matmul(points, transpose(theta, 1, 2)), (size[0], size[2], size[3], 2))
