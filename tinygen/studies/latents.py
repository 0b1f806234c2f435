"""The space of codes: lines through it, its picture in the plane, and what it knows of classes (lectures 0, 1, 4).

    z_t = (1 - t) z_1 + t z_2                                                      line
    z_t = (sin((1 - t) w) z_1 + sin(t w) z_2) / sin w,   cos w = <z_1, z_2> / |z_1||z_2|   great circle

Noise of a GAN has a nearly constant norm; a line passes closer to the origin, a great circle keeps it. Codes are
(N, D) tensors.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import tinygen as tg


def encoded(
    encode: Callable,
    images: np.ndarray,
    size: int = 1000,
    watch: Callable = iter,
) -> np.ndarray:
    """(N, D): the codes of images (N, C, H, W), computed in pieces.

    `watch` goes through the pieces, such as `training.track`, which shows a bar.
    """
    starts = range(0, len(images), size)
    codes = [
        encode(tg.tensor(images[start : start + size])).numpy()
        for start in watch(starts)
    ]
    return np.concatenate(codes)


def decoded(decode: Callable, codes: np.ndarray) -> np.ndarray:
    """(N, C, H, W): the images of codes (N, D), computed in pieces."""
    return encoded(decode, codes)


def fitted_gaussian(
    codes: np.ndarray, n: int, draw: np.random.Generator
) -> np.ndarray:
    """(n, D): draws from the Gaussian with the mean and the covariance of codes (N, D), float32."""
    mean = codes.mean(0, dtype=np.float64)
    covariance = np.atleast_2d(np.cov(codes, rowvar=False))
    found = draw.multivariate_normal(mean, covariance, n, method="eigh")
    return found.astype(np.float32)


def quantised(codes: np.ndarray, known: np.ndarray, bits: int) -> np.ndarray:
    """Codes (N, D) rounded to 2^bits levels, equally spaced between the ends of each number in `known` (M, D).

    Numbers outside these ends become the nearest end.
    """
    low, high = known.min(0), known.max(0)
    width = np.maximum((high - low) / (2**bits - 1), np.finfo(np.float32).tiny)
    levels = np.rint((codes.clip(low, high) - low) / width)
    return (low + levels * width).astype(codes.dtype)


def line(first: tg.Tensor, last: tg.Tensor, steps: int) -> tg.Tensor:
    """(steps, D): codes on the line from `first` to `last`, both (D,), which are its ends exactly."""
    share = np.linspace(0, 1, steps)
    return _mixed(1 - share, first, share, last)


def great_circle(first: tg.Tensor, last: tg.Tensor, steps: int) -> tg.Tensor:
    """(steps, D): codes on the arc from `first` to `last`, its ends exactly (Shoemake 1985).

    Parallel codes, of equal or opposite direction, are joined by a line.
    """
    cosine = (first @ last / (first.norm() * last.norm())).clamp(-1, 1).item()
    angle = np.arccos(cosine)
    if np.sin(angle) < 1e-6:
        return line(first, last, steps)
    share = np.linspace(0, 1, steps)
    return _mixed(
        np.sin((1 - share) * angle) / np.sin(angle),
        first,
        np.sin(share * angle) / np.sin(angle),
        last,
    )


def in_the_plane(codes: np.ndarray) -> np.ndarray:
    """(N, 2): the codes along their two directions of largest variance; codes of two numbers as they are."""
    if codes.shape[1] == 2:
        return codes
    centred = codes - codes.mean(0)
    return centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T


def one_nearest_neighbour(
    codes: np.ndarray,
    labels: np.ndarray,
    queries: np.ndarray,
    answers: np.ndarray,
) -> float:
    """The share of `queries` (M, D) whose nearest of `codes` (N, D) has their label."""
    right = 0
    centre = codes.mean(0)  # |x|^2 - 2xy loses digits far from the origin
    codes, queries = codes - centre, queries - centre
    squares = (codes**2).sum(1)
    for start in range(0, len(queries), 500):
        part = slice(start, start + 500)
        nearest = (squares - 2 * queries[part] @ codes.T).argmin(1)
        right += int((labels[nearest] == answers[part]).sum())
    return right / len(queries)


def _mixed(
    a: np.ndarray, first: tg.Tensor, b: np.ndarray, last: tg.Tensor
) -> tg.Tensor:
    """(steps, D): a_t first + b_t last, in the codes' dtype and on their device."""
    column = lambda weights: tg.tensor(
        weights[:, None], dtype=first.dtype, device=first.device
    )
    return column(a) * first + column(b) * last
