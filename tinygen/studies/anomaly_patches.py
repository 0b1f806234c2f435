"""Defects by patches: what PCA of small squares of normal images cannot rebuild, without a network (lecture 0).

    x = m + V V^T (x - m) + r,      V (P, K): the leading axes of the training images' squares
    score of a square = |r|^2 / P,  score of a pixel = the mean over the squares that hold it

So it is the baseline of whatever finds defects in textures: it knows the second moments of 8x8 pixels, and nothing of
what lies further away. Absent on purpose: a threshold, and squares that are looked at in the light of others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from . import sparse_coding as sparse

AT_ONCE = 50  # images whose squares are in memory


class Axes(NamedTuple):
    """Squares of side x side pixels: their mean (P,), their principal axes as rows (P, P), variances (P,) falling.

    P = C side^2 numbers, in the order of (C, side, side).
    """

    side: int
    mean: np.ndarray
    rows: np.ndarray
    variances: np.ndarray


def axes(images: np.ndarray, side: int = 8) -> Axes:
    """The principal axes of all squares of images (N, C, H, W).

    Raises ValueError where an image is smaller than a square.
    """
    size = images.shape[1] * side * side
    total, moments, count = np.zeros(size), np.zeros((size, size)), 0
    for squares in _squares(images, side):
        total += squares.sum(0)
        moments += squares.T @ squares
        count += len(squares)
    mean = total / count
    variances, columns = np.linalg.eigh(moments / count - np.outer(mean, mean))
    return Axes(side, mean, columns.T[::-1], variances[::-1].clip(0))


def residuals(fitted: Axes, images: np.ndarray, components: int) -> np.ndarray:
    """(N, H, W): each pixel's mean squared error of the squares that hold it, rebuilt from so many leading axes.

    images (N, C, H, W). Raises ValueError for less than 1 axis, or for all of them, which leave no error.
    """
    if not 1 <= components < len(fitted.mean):
        raise ValueError(
            f"squares of {len(fitted.mean)} numbers are rebuilt from 1 to {len(fitted.mean) - 1} axes; got {components}"
        )
    rest = fitted.rows[components:]
    errors = np.concatenate(
        [
            np.square((squares - fitted.mean) @ rest.T).sum(1)
            for squares in _squares(images, fitted.side)
        ]
    ) / len(fitted.mean)
    places = [n - fitted.side + 1 for n in images.shape[2:]]
    errors = errors.reshape(len(images), *places, 1, 1)
    shape = (*errors.shape[:3], fitted.side, fitted.side)
    return sparse.averaged(np.broadcast_to(errors, shape))


def _squares(images: np.ndarray, side: int) -> Iterator[np.ndarray]:
    """Squares (M, C side^2) in float64 of some images after the other."""
    if images.ndim != 4 or min(images.shape[2:]) < side:
        raise ValueError(
            f"squares of {side}x{side} pixels are cut from images (N, C, H, W) of at least that size; "
            f"got {images.shape}; give a smaller side"
        )
    for first in range(0, len(images), AT_ONCE):
        some = images[first : first + AT_ONCE].astype(np.float64)
        windows = np.lib.stride_tricks.sliding_window_view(
            some, (side, side), axis=(2, 3)
        )
        yield windows.transpose(0, 2, 3, 1, 4, 5).reshape(
            -1, some.shape[1] * side * side
        )
