"""Denoisers without a network: y^ from z = y + s n, n standard normal, and the neighbours of each pixel (lecture 0).

    y^(p) = c_0,  argmin_c sum_q w(q - p) (z(q) - sum_m c_m (q - p)^m)^2            local polynomials
    y^(p) = sum_q w(q - p) e(q) z(q) / sum_q w(q - p) e(q),
            e(q) = exp(-(z(q) - z(p))^2 / 2 r^2)                                    bilateral filter
    Y^ = conj(R) S / (|R|^2 S + s^2) Z, S the spectrum of y and R that of a blur     Wiener filter

Images are arrays (N, H, W). A window is an array (k, k) of weights w >= 0, k odd, its centre above zero; neighbours
outside the image have no weight. How far windows may grow at each pixel is found by intersecting confidence intervals.

Absent: non-local means and BM3D; scikit-image has the first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


def gaussian_kernel(sd: float) -> np.ndarray:
    """(2r + 1, 2r + 1), of sum 1: a Gaussian of deviation `sd` pixels, cut at r = 3 sd."""
    radius = math.ceil(3 * sd)
    along = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sd) ** 2)
    kernel = np.outer(along, along)
    return kernel / kernel.sum()


def sector(reach: float, direction: int, of: int = 8) -> np.ndarray:
    """A window of ones: the centre, and pixels up to `reach` away within half a turn / `of` of a direction.

    Direction 0 points right, 1 the next towards the bottom.
    """
    radius = math.floor(reach)
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    angle = np.arctan2(y, x) - 2 * np.pi * direction / of
    turn = np.angle(np.exp(1j * angle))  # in (-pi, pi]
    inside = (np.hypot(y, x) <= reach) & (abs(turn) <= np.pi / of + 1e-9)
    inside[radius, radius] = True
    return inside.astype(float)


def filtered(images: np.ndarray, kernels: np.ndarray) -> np.ndarray:
    """sum_q kernels[p, q - p] images[q]: each pixel with a kernel of its own, (H, W, k, k)."""
    size = kernels.shape[-1]
    views = _neighbours(images, size)
    return sum(
        kernels[..., i, j] * views[..., i, j]
        for i in range(size)
        for j in range(size)
    )


def polynomial_kernels(
    shape: tuple[int, int], window: np.ndarray, degree: int
) -> np.ndarray:
    """(H, W, k, k): the kernel that is least squares of a polynomial of that degree around each pixel.

    e_0^T (P^T W P)^+ P^T W, P the monomials of the offsets to the neighbours inside the image.
    """
    radius = len(window) // 2
    along = np.arange(-radius, radius + 1) / max(radius, 1)
    y, x = np.meshgrid(along, along, indexing="ij")
    powers = [(a, b) for a in range(degree + 1) for b in range(degree + 1 - a)]
    monomials = np.stack([y**a * x**b for a, b in powers])
    inside = _neighbours(np.ones((1, *shape)), len(window))[0]
    weights = inside * window
    moments = np.einsum(
        "hwij,mij,nij->hwmn", weights, monomials, monomials, optimize=True
    )
    first = np.linalg.pinv(moments, rcond=1e-10, hermitian=True)[:, :, 0]
    return np.einsum("hwm,mij->hwij", first, monomials) * weights


def local_polynomial(
    images: np.ndarray, window: np.ndarray, degree: int
) -> np.ndarray:
    """The constant term of a polynomial fitted around each pixel; degree 0 is the weighted mean of the window.

    Reproduces polynomials of that degree, at the borders too.
    """
    return filtered(
        images, polynomial_kernels(images.shape[1:], window, degree)
    )


class Adaptive(NamedTuple):
    """Estimates (N, H, W), their variances, and which of the windows each pixel has: 0 is the smallest."""

    estimate: np.ndarray
    variance: np.ndarray
    scale: np.ndarray


def largest_fitting(
    images: np.ndarray,
    windows: Sequence[np.ndarray],
    degree: int,
    sd: float,
    width: float = 1.5,
) -> Adaptive:
    """Local polynomials with the largest window whose confidence interval meets those of all smaller ones.

    Windows in rising size; intervals are estimate +- width times its deviation under noise of `sd` (Goldenshluger and
    Nemirovski 1997; Katkovnik 1999).
    """
    shape = images.shape
    low = np.full(shape, -np.inf)
    high = np.full(shape, np.inf)
    fits = np.ones(shape, bool)
    best = np.zeros(shape)
    variance = np.zeros(shape)
    scale = np.zeros(shape, int)
    for at, window in enumerate(windows):
        kernels = polynomial_kernels(shape[1:], window, degree)
        estimate = filtered(images, kernels)
        deviation = sd * np.sqrt((kernels**2).sum((2, 3)))
        low = np.maximum(low, estimate - width * deviation)
        high = np.minimum(high, estimate + width * deviation)
        fits &= low <= high
        best = np.where(fits, estimate, best)
        variance = np.where(fits, deviation**2, variance)
        scale = np.where(fits, at, scale)
    return Adaptive(best, variance, scale)


def adaptive_neighbourhoods(
    images: np.ndarray,
    reaches: Sequence[float],
    degree: int,
    sd: float,
    width: float = 1.5,
    directions: int = 8,
) -> Adaptive:
    """Sectors that grow in each direction as far as they fit; their estimates weighted by 1 / variance.

    The lecture's adaptively defined neighbourhoods (Katkovnik, Foi, Egiazarian and Astola 2005). `scale` is the mean
    over the directions.
    """
    found = []
    for direction in range(directions):
        windows = [sector(reach, direction, directions) for reach in reaches]
        found.append(largest_fitting(images, windows, degree, sd, width))
    estimates, variances, scales = map(np.stack, zip(*found))
    weights = 1 / variances
    total = weights.sum(0)
    return Adaptive((weights * estimates).sum(0) / total, 1 / total, scales.mean(0))


def bilateral(
    images: np.ndarray, window: np.ndarray, range_sd: float
) -> np.ndarray:
    """Means over neighbours that are near and of like value (Tomasi and Manduchi 1998).

    An infinite `range_sd` leaves the plain mean with the window's weights.
    """
    views = _neighbours(images, len(window))
    inside = _neighbours(np.ones_like(images[:1]), len(window))
    total = np.zeros(images.shape)
    weights = np.zeros(images.shape)
    for i, j in np.ndindex(window.shape):
        neighbour = views[..., i, j]
        squares = (neighbour - images) ** 2
        alike = np.exp(-squares / (2 * range_sd**2))
        weight = window[i, j] * inside[..., i, j] * alike
        total += weight * neighbour
        weights += weight
    return total / weights


def spectrum(images: np.ndarray) -> np.ndarray:
    """(H, W): mean |F(y)|^2 / HW of images without their mean image; white noise of deviation s has s^2 throughout."""
    centred = images - images.mean(0)
    return (abs(np.fft.fft2(centred)) ** 2).mean(0) / centred[0].size


def wiener(
    images: np.ndarray,
    mean: np.ndarray,
    power: np.ndarray,
    sd: float,
    kernel: np.ndarray | None = None,
) -> np.ndarray:
    """The best filter that is the same at all pixels, for images of a mean image and a `spectrum` (H, W) (Wiener 1949).

    kernel: of the blur before the noise, if there is one. Images are taken to be periodic.
    """
    response = np.ones(power.shape)
    blurred_mean = mean
    if kernel is not None:
        response = frequency_response(kernel, power.shape)
        blurred_mean = np.fft.ifft2(response * np.fft.fft2(mean)).real
    gain = response.conj() * power / (abs(response) ** 2 * power + sd**2)
    return mean + np.fft.ifft2(gain * np.fft.fft2(images - blurred_mean)).real


def frequency_response(kernel: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(H, W): by what a correlation with the kernel multiplies each frequency of a periodic image."""
    height, width = shape
    plane = np.zeros(shape)
    radius = len(kernel) // 2
    for i, j in np.ndindex(kernel.shape):
        row, column = radius - i, radius - j
        plane[row % height, column % width] += kernel[i, j]
    return np.fft.fft2(plane)


def linear(
    items: np.ndarray, mean: np.ndarray, covariance: np.ndarray, sd: float
) -> np.ndarray:
    """(N, P): the best linear estimate m + C (C + s^2 I)^-1 (z - m) of items with that mean and covariance.

    The Wiener filter where nothing is stationary; a linear denoising autoencoder learns it.
    """
    noisy = covariance + sd**2 * np.eye(len(covariance))
    return mean + (items - mean) @ np.linalg.solve(noisy, covariance)


def _neighbours(images: np.ndarray, size: int) -> np.ndarray:
    """(N, H, W, size, size): a view of each pixel's neighbours, zero outside the image."""
    radius = size // 2
    padded = np.pad(images, ((0, 0), (radius, radius), (radius, radius)))
    return np.lib.stride_tricks.sliding_window_view(
        padded, (size, size), axis=(1, 2)
    )
