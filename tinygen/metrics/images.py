"""How alike two images are: PSNR in dB, and SSIM, which compares means, contrasts and structure of small windows.

Of images alone: the share of their energy at the Nyquist frequency, where the checkerboards of strided layers lie.

    PSNR = 10 log10(peak^2 / mean (x - y)^2)
    SSIM = (2 mx my + C1)(2 sxy + C2) / ((mx^2 + my^2 + C1)(sx^2 + sy^2 + C2)),  C1 = (.01 peak)^2, C2 = (.03 peak)^2

SSIM's moments are weighted by an 11x11 Gaussian window of deviation 1.5 (Wang et al. 2004). Absent: LPIPS, whose
network is trained on ImageNet.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["nyquist_share", "psnr", "ssim"]

WINDOW, DEVIATION, K1, K2 = 11, 1.5, 0.01, 0.03


def psnr(x: np.ndarray, y: np.ndarray, peak: float = 1.0) -> float:
    """10 log10(peak^2 / mean (x - y)^2) in dB; infinite for equal arrays.

    x, y: one shape, pixels in [0, peak]. The mean is over the whole arrays. Raises ValueError where shapes differ.
    """
    x, y = _pair("psnr", x, y)
    error = float(((x - y) ** 2).mean())
    return math.inf if error == 0 else 10 * math.log10(peak**2 / error)


def ssim(x: np.ndarray, y: np.ndarray, peak: float = 1.0) -> float:
    """Mean structural similarity over all windows, channels and images; 1 for equal arrays.

    x, y (..., H, W), one shape, pixels in [0, peak]. Windows lie inside the image, so H and W are at least 11. Raises
    ValueError else. Wang et al. 2004.
    """
    x, y = _pair("ssim", x, y)
    if x.ndim < 2 or min(x.shape[-2:]) < WINDOW:
        raise ValueError(f"ssim: images {x.shape} are smaller than the {WINDOW}x{WINDOW} window; use psnr, or upsample")
    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    mean_x, mean_y = _windowed(x), _windowed(y)
    variance_x = _windowed(x * x) - mean_x**2
    variance_y = _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    light = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return float((light * structure).mean())


def nyquist_share(images: np.ndarray) -> float:
    """The share of images' spectral energy at frequency 1/2 per pixel in either axis; 1 for a checkerboard.

        sum |F(u, v)|^2 where u = H/2 or v = W/2  /  sum |F(u, v)|^2 without (0, 0)

    images (N, C, H, W); of an odd side the last row or column is left out. 0 where every image is constant. Energies
    are added over all images. Odena et al. 2016.
    """
    h, w = (side // 2 * 2 for side in images.shape[-2:])
    cut = np.asarray(images, np.float64)[..., :h, :w]
    energy = (abs(np.fft.fft2(cut)) ** 2).sum(axis=tuple(range(cut.ndim - 2)))
    energy[0, 0] = 0
    total = energy.sum()
    found = energy[h // 2].sum() + energy[:, w // 2].sum() - energy[h // 2, w // 2]
    return float(found / total) if total > 1e-12 * cut.size else 0.0


def _windowed(x: np.ndarray) -> np.ndarray:
    """The Gaussian mean of every window: (..., H, W) to (..., H - 10, W - 10). The window is separable."""
    weights = np.exp(-0.5 * ((np.arange(WINDOW) - WINDOW // 2) / DEVIATION) ** 2)
    weights /= weights.sum()
    height, width = (side - WINDOW + 1 for side in x.shape[-2:])
    rows = sum(w * x[..., i : i + height, :] for i, w in enumerate(weights))
    return sum(w * rows[..., j : j + width] for j, w in enumerate(weights))


def _pair(name: str, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.shape != y.shape:
        raise ValueError(f"{name}: x is {x.shape} and y is {y.shape}; they must have one shape")
    return x, y
