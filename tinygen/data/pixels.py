"""What is done to pixels on their way in: to float, to grey or colour, to another size.

Images are (N, C, H, W): uint8, where value/255 is the pixel, or float32 in [0,1]. Here too: the error that every
reader of data raises.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UserError
from ..free_memory import require

if TYPE_CHECKING:
    from PIL import Image

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, what Pillow uses for RGB to grey


class DataError(UserError, ValueError):
    """Data that cannot be used: says which file or array, why, and what to do."""


def as_float(images: np.ndarray) -> np.ndarray:
    """A new contiguous float32 array in [0,1]: uint8 divided by 255 (so 255 becomes exactly 1), float32 copied."""
    if images.dtype == np.uint8:
        return np.divide(images, np.float32(255), dtype=np.float32, order="C")
    if images.dtype == np.float32:
        return np.array(images, order="C")
    raise DataError(f"as_float: images are {images.dtype}; they must be uint8 (0..255) or float32 in [0,1]")


def in_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """The images with 1 or 3 channels: grey = 0.299 R + 0.587 G + 0.114 B; colour = the grey channel three times."""
    check_channels(channels)
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=1)
    grey = np.empty((len(images), 1, *images.shape[2:]), images.dtype)
    for start in range(0, len(images), 1024):  # in pieces, since the float copy is three to four times the images
        part = slice(start, start + 1024)
        luma = np.einsum("nchw,c->nhw", images[part].astype(np.float32), np.array(LUMA, np.float32))
        if images.dtype == np.uint8:
            luma = np.rint(luma)
        grey[part, 0] = np.clip(luma, 0, 255 if images.dtype == np.uint8 else 1)
    return grey


def check_channels(channels: int) -> None:
    """Raises DataError unless channels is 1 or 3."""
    if channels not in (1, 3):
        raise DataError(f"channels must be 1 (grey) or 3 (colour); it is {channels!r}")


def resized(images: np.ndarray, size: int) -> np.ndarray:
    """The images at (N, C, size, size): shorter side to `size`, then the centre; antialiased bicubic, kept in range."""
    from PIL import Image

    count, channels, height, width = images.shape
    if height == width == size:
        return images
    check_room((count, channels, size, size), images.dtype)
    out = np.empty((count, channels, size, size), images.dtype)
    for n in range(count):
        for c in range(channels):
            plane = Image.fromarray(images[n, c])  # uint8 becomes mode L, float32 mode F
            out[n, c] = np.asarray(cover(plane, size))
    return out if images.dtype == np.uint8 else np.clip(out, 0, 1)  # bicubic overshoots; Pillow clips uint8 itself


def check_room(shape: tuple[int, ...], dtype: Any) -> None:
    """Raises TooLarge where images of this shape are more than there is memory for."""
    needed = math.prod(shape) * np.dtype(dtype).itemsize
    require(needed, f"images {shape} {np.dtype(dtype)}", "give a smaller --size, or --limit")


def cover(image: Image.Image, size: int) -> Image.Image:
    """The centre square of an image, at size x size pixels.

    One bicubic resampling from the central square: what "shorter side to `size`, then crop the centre" gives, without
    a rounded size in between. Pillow widens the filter when it shrinks, so nothing aliases.
    """
    from PIL import Image

    width, height = image.size
    if width == height == size:
        return image
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
