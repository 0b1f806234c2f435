"""PSNR and SSIM against their formulas, written out window by window."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tinygen import metrics


def test_psnr():
    x = np.zeros((4, 4))
    assert metrics.psnr(x, x + 0.1) == pytest.approx(20)
    assert metrics.psnr(x, x + 25.5, peak=255) == pytest.approx(20)
    assert metrics.psnr(x, x) == math.inf
    with pytest.raises(ValueError, match="one shape"):
        metrics.psnr(x, x[0])


def by_windows(x, y, peak):
    """Wang et al. 2004, sections III.B and III.C: a loop over windows, moments from deviations."""
    i = np.arange(11) - 5
    w = np.exp(-(i[:, None] ** 2 + i**2) / (2 * 1.5**2))
    w /= w.sum()
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    values = []
    for image, other in zip(x.reshape(-1, *x.shape[-2:]), y.reshape(-1, *y.shape[-2:])):
        for r in range(image.shape[0] - 10):
            for c in range(image.shape[1] - 10):
                a, b = image[r : r + 11, c : c + 11], other[r : r + 11, c : c + 11]
                ma, mb = (w * a).sum(), (w * b).sum()
                sa, sb = (w * (a - ma) ** 2).sum(), (w * (b - mb) ** 2).sum()
                sab = (w * (a - ma) * (b - mb)).sum()
                values.append((2 * ma * mb + c1) * (2 * sab + c2) / ((ma**2 + mb**2 + c1) * (sa + sb + c2)))
    return np.mean(values)


@pytest.mark.parametrize("peak", [1, 255])
def test_ssim_against_a_loop_over_windows(peak):
    draw = np.random.default_rng(0)
    x = draw.random((2, 3, 14, 17)) * peak
    y = (0.6 * x + 0.4 * peak * draw.random(x.shape)).round(3)
    assert metrics.ssim(x, y, peak) == pytest.approx(by_windows(x, y, peak), abs=1e-10)
    assert 0.1 < metrics.ssim(x, y, peak) < 0.95
    assert metrics.ssim(x, y, peak) == pytest.approx(metrics.ssim(y, x, peak))


def test_ssim_of_known_pairs():
    x = np.random.default_rng(0).random((28, 28))
    assert metrics.ssim(x, x) == pytest.approx(1)
    flat = np.full((11, 11), 0.2)  # no contrast: (2 ab + c1) / (a^2 + b^2 + c1)
    assert metrics.ssim(flat, 2 * flat) == pytest.approx((0.16 + 1e-4) / (0.2 + 1e-4))
    assert metrics.ssim(x, 1 - x) < 0
    assert isinstance(metrics.ssim(x.astype(np.float32), x), float)


def test_ssim_refuses_images_below_its_window():
    with pytest.raises(ValueError, match="11x11 window"):
        metrics.ssim(np.zeros((3, 1, 8, 8)), np.zeros((3, 1, 8, 8)))
    with pytest.raises(ValueError, match="one shape"):
        metrics.ssim(np.zeros((3, 1, 28, 28)), np.zeros((1, 28, 28)))


def test_a_checkerboard_has_all_its_energy_at_the_nyquist_frequency_and_a_slow_wave_none():
    i, j = np.mgrid[:12, :8]
    board = 0.5 + 0.3 * (-1.0) ** (i + j)
    stripes = 0.5 + 0.3 * (-1.0) ** j
    wave = 0.5 + 0.3 * np.cos(2 * np.pi * i / 6)
    for image, share in ((board, 1), (stripes, 1), (stripes.T, 1), (wave, 0), (board - 0.3 + wave, 2 / 3)):
        assert metrics.nyquist_share(image[None, None]) == pytest.approx(share, abs=1e-12)
    assert metrics.nyquist_share(np.full((2, 1, 8, 8), 0.3)) == 0.0
    assert metrics.nyquist_share(np.stack([board, 2 * wave])[:, None]) == pytest.approx(1 / 3)  # energies add up


@pytest.mark.parametrize("shape", [(3, 1, 8, 6), (2, 3, 9, 7)])
def test_nyquist_energy_is_what_correlates_with_alternating_signs(shape):
    """By Parseval along the other axis: H sum_i (sum_j (-1)^j x_ij)^2, and so for rows; what is in both counts once."""
    x = np.random.default_rng(0).random(shape)
    h, w = shape[2] // 2 * 2, shape[3] // 2 * 2
    even = x[:, :, :h, :w]
    signs = lambda n: (-1.0) ** np.arange(n)
    columns = h * ((even @ signs(w)) ** 2).sum()
    rows = w * ((signs(h) @ even) ** 2).sum()
    both = ((signs(h) @ even @ signs(w)) ** 2).sum()
    total = h * w * ((even - even.mean((2, 3), keepdims=True)) ** 2).sum()
    assert metrics.nyquist_share(x) == pytest.approx((columns + rows - both) / total, rel=1e-12)
