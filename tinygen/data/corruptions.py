"""Corruptions: functions that are handed to a Step and spoil its images.

    corrupt = masking(0.5)
    corrupted = corrupt(x)           # x (N, C, H, W) in [0,1], a tensor on any device

Random ones draw from the default generator (Philox), so a resumed run sees the same noise, and a GPU the CPU's. All are
made of ops: gradients flow to x. A corruption that hides pixels is `hidden(mask)`; a mask is a function from x to
(N or 1, 1, H, W), 1 where pixels are hidden, for Steps that need to know. Pixels that stay known stay exactly equal.
"""

from __future__ import annotations

from collections.abc import Callable

import tinygen as tg
from tinygen import Tensor

from .pixels import LUMA, DataError

Corruption = Callable[[Tensor], Tensor]
STEEPEST = 4.0  # Sobel's answer to a straight edge from 0 to 1
TINY = 1e-12  # keeps the derivative of the root finite where there is no edge


def gaussian(sd: float) -> Corruption:
    """x + sd n, n standard normal, drawn anew in every call. Not clipped: values may leave [0,1]."""
    if not sd >= 0:
        raise DataError(f"gaussian: sd is a standard deviation, at least 0; it is {sd!r}; 0.3 is usual")
    return lambda x: x + sd * tg.randn_like(x)


def masking(p: float) -> Corruption:
    """x with each value set to 0 with probability p, colour channels apart (Vincent et al. 2010)."""
    if not 0 <= p <= 1:
        raise DataError(f"masking: p is a probability, in [0,1]; it is {p!r}")
    return lambda x: tg.where(tg.rand_like(x) < p, tg.zeros_like(x), x)


def binarised(threshold: float = 0.5) -> Corruption:
    """1 where x is above the threshold, else 0: the black and white image that a Bernoulli likelihood is one of."""
    return lambda x: (x > threshold).to(x.dtype)


# ---- hidden pixels -------------------------------------------------------------------------------------------------


def hidden(mask: Corruption, fill: float = 0.0) -> Corruption:
    """x with `fill` wherever mask(x) is 1."""
    return lambda x: tg.where(mask(x) > 0.5, tg.full_like(x, fill), x)


def concealed(mask: Corruption) -> Corruption:
    """x, black wherever mask(x) is 1, and the mask behind its channels: (N, C + 1, H, W). What inpainting sees."""

    def seen(x: Tensor) -> Tensor:
        where = mask(x).expand(len(x), 1, *x.shape[2:])
        return tg.cat([tg.where(where > 0.5, tg.zeros_like(x), x), where], 1)

    return seen


def hole(size: int) -> Corruption:
    """x with a black square of `size` pixels a side in its centre."""
    return hidden(square(size))


def half() -> Corruption:
    """x with its lower half black."""
    return hidden(lower_half())


def strokes(count: int = 4, width: float = 0.1) -> Corruption:
    """x with `count` black strokes, drawn anew in every call; see `stroke_mask`."""
    return hidden(stroke_mask(count, width))


def square(size: int) -> Corruption:
    """The mask of a central square; where size and side differ by an odd number, it stands half a pixel up and left."""

    def mask(x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if not 1 <= size <= min(height, width):
            raise DataError(f"hole: size must be in 1..{min(height, width)} for images of {height}x{width} pixels; "
                            f"it is {size!r}")
        rows, columns = _centred(x, height, size), _centred(x, width, size)
        return (rows[:, None] & columns[None, :]).to(x.dtype)[None, None]

    return mask


def _centred(x: Tensor, side: int, size: int) -> Tensor:
    """Which of `side` positions belong to the central `size`."""
    start = (side - size) // 2
    places = tg.arange(side, device=x.device)
    return (places >= start) & (places < start + size)


def lower_half() -> Corruption:
    """The mask of rows H/2 and below."""

    def mask(x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        rows = tg.arange(height, device=x.device) >= height // 2
        return rows[None, None, :, None].expand(1, 1, height, width).to(x.dtype)

    return mask


def stroke_mask(count: int = 4, width: float = 0.1) -> Corruption:
    """The mask of random strokes: `count` segments per image, both ends uniform in the image.

    A pixel is hidden when its centre is at most width/2 from a segment; `width` is a share of the larger side.
    """

    def mask(x: Tensor) -> Tensor:
        n, _, height, wide = x.shape
        side = max(height, wide)
        ends = tg.rand(2, 2, n, count, 1, 1, dtype=x.dtype, device=x.device)  # (start or end, y or x, image, stroke)
        y0, x0, y1, x1 = ends[0, 0] * height, ends[0, 1] * wide, ends[1, 0] * height, ends[1, 1] * wide
        y = (tg.arange(height, device=x.device).to(x.dtype) + 0.5)[:, None] - y0
        z = (tg.arange(wide, device=x.device).to(x.dtype) + 0.5)[None, :] - x0
        dy, dx = y1 - y0, x1 - x0
        along = ((y * dy + z * dx) / (dy * dy + dx * dx + TINY)).clamp(0, 1)  # the nearest point of the segment
        distance = (y - along * dy) ** 2 + (z - along * dx) ** 2
        touched = distance <= (0.5 * width * side) ** 2
        return touched.any(dim=1, keepdim=True).to(x.dtype)

    return mask


# ---- fewer pixels, fewer colours, edges ----------------------------------------------------------------------------


def downscaled(factor: int) -> Corruption:
    """The means over squares of factor x factor pixels: (N, C, H/factor, W/factor). Both sides must be divisible."""

    def shrink(x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if factor < 1 or height % factor or width % factor:
            raise DataError(f"downscaled: {height}x{width} pixels are not divisible by the factor {factor!r}; "
                            f"choose a factor that divides both, or load the images with another size")
        return tg.avg_pool2d(x, factor)

    return shrink


def grey() -> Corruption:
    """The luma 0.299 R + 0.587 G + 0.114 B: (N, 1, H, W). Grey images stay as they are."""

    def luma(x: Tensor) -> Tensor:
        if x.shape[1] == 1:
            return x
        if x.shape[1] != 3:
            raise DataError(f"grey: expected 3 colour channels (or 1), got {x.shape[1]}: {tuple(x.shape)}")
        red, green, blue = (weight * x[:, c : c + 1] for c, weight in enumerate(LUMA))
        return red + green + blue

    return luma


def brightness() -> Corruption:
    """The brightest channel, the value of HSV: (N, 1, H, W). Unlike luma it says nothing of a pure colour's hue."""
    return lambda x: x.amax(1, keepdim=True)


def edges() -> Corruption:
    """Sobel's magnitude of the luma, sqrt(gx^2 + gy^2) / 4, at most 1: (N, 1, H, W). Borders are replicated.

    gx is the 3x3 kernel [1 2 1]^T [-1 0 1], gy its transpose: a straight edge from black to white gives 1.
    """
    to_grey = grey()

    def sobel(x: Tensor) -> Tensor:
        x = tg.pad(to_grey(x), (1, 1, 1, 1), mode="replicate")
        down = x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]
        across = x[:, :, :, :-2] + 2 * x[:, :, :, 1:-1] + x[:, :, :, 2:]
        gx = down[:, :, :, 2:] - down[:, :, :, :-2]
        gy = across[:, :, 2:] - across[:, :, :-2]
        return ((gx * gx + gy * gy + TINY).sqrt() / STEEPEST).clamp(max=1.0)

    return sobel


def outlines(threshold: float = 0.5) -> Corruption:
    """1 where `edges` of any channel are steeper than the threshold, else 0: (N, 1, H, W). They tell no colour."""
    if not 0 < threshold < 1:
        raise DataError(f"outlines: threshold must be above 0 and below 1, it is {threshold!r}; 0.5 is usual")
    steepness, steep = edges(), binarised(threshold)

    def outline(x: Tensor) -> Tensor:
        n, channels, *sides = x.shape
        every = steepness(x.reshape(n * channels, 1, *sides)).reshape(n, channels, *sides)
        return steep(every.amax(1, keepdim=True))

    return outline
