"""Images as columns of patches: `unfold` and `fold`, each the adjoint of the other.

    unfold(x)[n, (c, t, u), (p, q)] = x[n, c, s p + d t - pad, s q + d u - pad]        0 outside the image
    fold(y)[n, c, i, j] = the sum of y[n, (c, t, u), (p, q)] over all patches that hold the pixel (i, j)

A convolution is a matrix product with unfold(x), known as im2col; the kernels of conv.py do without that memory.
Deliberately absent: volumes and sequences.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..backends.geometry import per_axis
from ..tape import Tensor, op

__all__ = ["fold", "unfold"]


def _patches(padded: Any, law: tuple, positions: tuple[int, int]) -> Iterator[tuple[int, int, Any]]:
    """(t, u, the pixels that the patches have at t, u) of a padded image, as views."""
    (kernel, dilation, _, stride), (p, q) = law, positions
    for t in range(kernel[0]):
        rows = slice(t * dilation[0], t * dilation[0] + stride[0] * (p - 1) + 1, stride[0])
        for u in range(kernel[1]):
            columns = slice(u * dilation[1], u * dilation[1] + stride[1] * (q - 1) + 1, stride[1])
            yield t, u, padded[:, :, rows, columns]


def _positions(size: tuple[int, ...], law: tuple) -> tuple[int, ...]:
    """How many patches there are along each axis."""
    every = zip(size, *law)
    return tuple([(n + 2 * pad - dilation * (k - 1) - 1) // stride + 1 for n, k, dilation, pad, stride in every])


@op
def _unfold(k, x, *, law):
    """The patches of x (N, C, H, W) as columns (N, C R S, P Q); law: kernel, dilation, padding, stride."""
    kernel, _, (top, left), _ = law
    n, c, h, w = x.shape
    p, q = _positions((h, w), law)
    padded = k.xp.zeros((n, c, h + 2 * top, w + 2 * left), x.dtype)
    padded[:, :, top : top + h, left : left + w] = x
    columns = k.xp.empty((n, c, *kernel, p, q), x.dtype)
    for t, u, pixels in _patches(padded, law, (p, q)):
        columns[:, :, t, u] = pixels
    return columns.reshape(n, c * kernel[0] * kernel[1], p * q)


@op
def _fold(k, y, *, law, size):
    """The adjoint of _unfold: columns added up to an image of `size`."""
    kernel, _, (top, left), _ = law
    (h, w), n, c = size, y.shape[0], y.shape[1] // (kernel[0] * kernel[1])
    p, q = _positions(size, law)
    columns = y.reshape(n, c, *kernel, p, q)
    padded = k.xp.zeros((n, c, h + 2 * top, w + 2 * left), y.dtype)
    for t, u, pixels in _patches(padded, law, (p, q)):
        pixels += columns[:, :, t, u]
    return padded[:, :, top : top + h, left : left + w].copy()


_unfold.vjp("x")(lambda g, x_shape, law: _fold(g, law=law, size=x_shape[2:]))
_fold.vjp("y")(lambda g, law: _unfold(g, law=law))


def _law(name: str, kernel: Any, dilation: Any, padding: Any, stride: Any) -> tuple:
    named = (("kernel_size", kernel, 1), ("dilation", dilation, 1), ("padding", padding, 0), ("stride", stride, 1))
    return tuple([per_axis(name, what, value, 2, smallest) for what, value, smallest in named])


def unfold(input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """The patches of input (N, C, H, W) as columns (N, C R S, P Q), or of (C, H, W) as (C R S, P Q).

    A column holds one patch, channel by channel. Options: an integer, or one per axis. ValueError where no patch fits.
    """
    law = _law("unfold", kernel_size, dilation, padding, stride)
    if input.ndim not in (3, 4) or min(input.shape[-3:]) < 1:
        raise ValueError(f"unfold: input should be (N, C, H, W) or (C, H, W), got {tuple(input.shape)}")
    if min(_positions(input.shape[-2:], law)) < 1:
        raise ValueError(f"unfold: no patch of {law[0]} (dilation {law[1]}) fits into the padded {tuple(input.shape)}")
    return _unfold(input, law=law) if input.ndim == 4 else _unfold(input.unsqueeze(0), law=law).squeeze(0)


def fold(
    input: Tensor, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """Columns (N, C R S, P Q) added up where their patches lie: (N, C, H, W) with (H, W) = output_size.

    The adjoint of `unfold`, not its inverse: a pixel in three patches comes out threefold. ValueError for a number of
    columns or rows that these options do not give.
    """
    law, size = _law("fold", kernel_size, dilation, padding, stride), per_axis("fold", "output_size", output_size, 2)
    positions, area = _positions(size, law), law[0][0] * law[0][1]
    count = positions[0] * positions[1] if min(positions) > 0 else 0
    if input.ndim not in (2, 3) or input.shape[-2] % area or not count or input.shape[-1] != count:
        raise ValueError(
            f"fold: input should be (N, C * {area}, {count}), the patches of an image {size}, got {tuple(input.shape)}"
        )
    if input.ndim == 3:
        return _fold(input, law=law, size=size)
    return _fold(input.unsqueeze(0), law=law, size=size).squeeze(0)
