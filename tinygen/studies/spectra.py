"""Radial spectra: how much a texture varies at each fineness, wherever and in whatever direction (lecture 0, N6).

    P(f) = mean over images, channels and frequencies k with |k| near f of |FFT(w (x - m))(k)|^2 / sum of w^2

f is in cycles per pixel, so images of different sizes have curves that can be compared, and white noise of variance
s^2 has P = s^2 at any size. Images are cut into half overlapping squares of one side: of two sizes the smaller one
decides how finely frequencies are told apart for both. w is a Hann window, because a texture does not wrap around: from
its border to the opposite one is a jump, whose power, falling only as 1 / f^2, would cover that of fine detail. m, the
square's mean under w, goes: brightness is no texture.

By Parseval, the sum of P times the share of frequencies is the variance under w. Absent on purpose: directions, and
whatever is no power: `random_phase` draws textures with the same P and without shapes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

AT_ONCE = 1 << 22  # pixels that are transformed at once


class Spectrum(NamedTuple):
    """Annuli of equal width, from 0 to the corner at 1 / sqrt 2: (B,) each.

    frequencies: their middles, in cycles per pixel; power: P; shares: of all frequencies, so their sum is 1.
    """

    frequencies: np.ndarray
    power: np.ndarray
    shares: np.ndarray

    @property
    def variance(self) -> float:
        """The sum over all annuli of share times power: the mean variance of a square under the window."""
        return float((self.shares * self.power).sum())


def radial_spectrum(images: np.ndarray, side: int | None = None) -> Spectrum:
    """The radial spectrum of images (N, C, H, W); `side`: of the squares, by default the smaller of H and W.

    The annuli are 2 / side wide, what a Hann window can tell apart; four pixels make one annulus below the Nyquist
    frequency. Raises ValueError for squares below 4 pixels or larger than an image.
    """
    smaller = min(images.shape[2:])
    side = smaller if side is None else side
    if not 4 <= side <= smaller:
        raise ValueError(
            f"a spectrum is taken of squares of 4 to {smaller} pixels a side, as images {images.shape} have room for; "
            f"got {side}"
        )
    window = hann(side)
    total, count = np.zeros((side, side)), 0
    for squares in _squares(images, side):
        mean = (window * squares).sum((1, 2), keepdims=True) / window.sum()
        total += np.square(abs(np.fft.fft2(window * (squares - mean)))).sum(0)
        count += len(squares)
    power = total / count / np.square(window).sum()
    frequency = np.fft.fftfreq(side)
    radius = np.hypot(frequency[:, None], frequency)
    annulus = np.floor(radius * (side / 2) + 1e-9).astype(int)
    members = np.bincount(annulus.ravel())
    mean_power = np.bincount(annulus.ravel(), power.ravel()) / members
    middles = (np.arange(len(members)) + 0.5) * (2 / side)
    return Spectrum(middles, mean_power, members / side**2)


def spectrum_error(real: np.ndarray, fake: np.ndarray) -> float:
    """sum_b a_b |P_fake - P_real| / sum_b a_b P_real: the power that is missing or too much, by all there is.

    real, fake: images (N, C, H, W), of any two sizes; a_b: an annulus' share of the frequencies, so a_b P_b is its
    part of the variance. 0 for equal curves, 1 for fake images without texture. Raises ValueError where the real ones
    have none.
    """
    side = min(*real.shape[2:], *fake.shape[2:])
    expected, found = radial_spectrum(real, side), radial_spectrum(fake, side)
    if not expected.variance > 0:
        raise ValueError(
            "the real images are flat: their spectrum is 0, and no error can be told in its parts"
        )
    apart = (expected.shares * abs(found.power - expected.power)).sum()
    return float(apart / expected.variance)


def random_phase(
    images: np.ndarray, size: tuple[int, int], draw: np.random.Generator
) -> np.ndarray:
    """Gaussian textures (N, C, *size): each has the power of one image (N, C, H, W) at every frequency, and no shapes.

    m + (w (x - m) / sqrt(sum of w^2)) * n, a convolution with white noise n, the same for all channels; the result
    wraps around (Galerne, Gousseau and Morel 2011). They are the baseline of whatever is judged by its spectrum.
    Raises ValueError for images that are no squares, or larger than `size`.
    """
    side = images.shape[3]
    if images.shape[2] != side or side > min(size):
        raise ValueError(
            f"squares of at most {min(size)} pixels a side make textures of {size[0]}x{size[1]}; got {images.shape}"
        )
    window = hann(side)
    mean = (window * images).sum((2, 3), keepdims=True) / window.sum()
    seed = window * (images - mean) / np.sqrt(np.square(window).sum())
    noise = draw.standard_normal((len(images), 1, *size))
    product = np.fft.rfft2(seed, size) * np.fft.rfft2(noise)
    return mean + np.fft.irfft2(product, size)


def hann(side: int) -> np.ndarray:
    """The window (side, side): sin^2 along both axes, near 0 at the border."""
    line = np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2
    return np.outer(line, line)


def _squares(images: np.ndarray, side: int) -> Iterator[np.ndarray]:
    """(M, side, side) in float64: the squares of all channels of some images after the other.

    Every half side one, and a last one at the far border.
    """
    places = [
        sorted({*range(0, n - side + 1, max(1, side // 2)), n - side})
        for n in images.shape[2:]
    ]
    step = max(1, AT_ONCE // (images[0].size * 4))  # they overlap
    for first in range(0, len(images), step):
        some = images[first : first + step].astype(np.float64)
        windows = np.lib.stride_tricks.sliding_window_view(
            some, (side, side), axis=(2, 3)
        )
        yield windows[:, :, places[0]][:, :, :, places[1]].reshape(
            -1, side, side
        )
