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
