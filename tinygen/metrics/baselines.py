"""What trivial models reach on the data at hand: a model that is no better has learned nothing.

    mean image · PCA · best linear denoiser · largest class · targets against themselves · real against real
    pixel noise · one Gaussian

All are exact and take seconds on MNIST. Images are float arrays (N, C, H, W) in [0, 1]; a fit sees `train` alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from .digits import features
from .frechet import frechet_from_features
from .modes import energy_distance

__all__ = [
    "bernoulli_floor", "gaussian_mean_image", "gaussian_points", "largest_class", "linear_denoiser",
    "mask_moments", "mean_image_bernoulli", "mean_image_mse", "noise_moments", "pca_mse", "pixel_noise",
    "real_against_real", "real_points",
]  # fmt: skip

BLOCK = 2000
RIDGE = 1e-6  # of the mean variance: pixels that never change leave the normal equations singular
Corruption = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def mean_image_mse(train: np.ndarray, test: np.ndarray) -> float:
    """Squared error per pixel of the mean training image on `test`."""
    return _squared_error(_mean(train), test)


def pca_mse(train: np.ndarray, test: np.ndarray, d: int) -> float:
    """Squared error per pixel of `test` projected on the d largest principal components of `train`.

    It is the best that a linear autoencoder of width d reaches. Raises ValueError unless 0 <= d <= C H W.
    """
    mean = _mean(train)
    if not 0 <= d <= len(mean):
        raise ValueError(f"pca_mse: {d} components of images with {len(mean)} values; d must lie in 0..{len(mean)}")
    covariance = sum(rows.T @ rows for rows in _rows(train, mean))
    directions = np.linalg.eigh(covariance)[1][:, len(mean) - d :]
    total = 0.0
    for rows in _rows(test, mean):
        total += ((rows - rows @ directions @ directions.T) ** 2).sum()
    return float(total / test.size)


def mean_image_bernoulli(train: np.ndarray, test: np.ndarray) -> float:
    """-sum over pixels of x log p + (1 - x) log(1 - p), mean over `test`, in nats per image; p: mean training image.

    p stays half an image of N away from 0 and 1: a pixel that is always black in training may not be in the test.
    """
    margin = 0.5 / len(train)
    p = _mean(train).clip(margin, 1 - margin)
    return _cross_entropy(_mean(test), p)  # linear in x: the mean test image suffices


def bernoulli_floor(test: np.ndarray) -> float:
    """-sum over pixels of x log x + (1 - x) log(1 - x), mean over `test`, in nats: no model of grey targets gets below.

    It is 0 for binary images.
    """
    return sum(_cross_entropy(rows, rows) for rows in _rows(test)) / len(test)


def gaussian_mean_image(train: np.ndarray, test: np.ndarray) -> float:
    """Negative log density of `test`, in nats per image, under N(mean training image, s^2 I); s^2 fitted to `train`.

    D/2 log(2 pi s^2) + mean |x - m|^2 / (2 s^2), with one s for all D pixels. Raises ValueError where s is 0.
    """
    mean = _mean(train)
    variance = _squared_error(mean, train)
    if variance == 0:
        raise ValueError(f"gaussian_mean_image: the {len(train)} training images are equal; a Gaussian needs a spread")
    return len(mean) / 2 * (math.log(2 * math.pi * variance) + _squared_error(mean, test) / variance)


def largest_class(train_labels: np.ndarray, test_labels: np.ndarray) -> float:
    """Accuracy on the test labels of always naming the class that is largest in training (the lower one on a tie)."""
    classes, counts = np.unique(train_labels, return_counts=True)
    return float((np.asarray(test_labels) == classes[counts.argmax()]).mean())


def linear_denoiser(
    train: np.ndarray, test: np.ndarray, corrupt: Corruption, moments: Callable | None = None, seed: int = 0
) -> float:
    """Squared error per pixel on `test` of the affine map that best restores `train` from its corruption.

    corrupt(images (n, C, H, W), NumPy generator) returns the corrupted images. The map solves the normal equations
    A (S + ridge) = C, S the covariance of the corrupted, C the one with the clean. `moments`, `noise_moments` for
    instance, gives both from the clean images' mean and covariance; else they are taken from one draw for each image.
    """
    draw = np.random.default_rng(seed)
    mean = _mean(train)
    size = len(mean)
    if moments:
        centre, covariance, cross = moments(mean, _moments((clean, clean) for clean in _rows(train, mean))[1])
    else:
        centre, covariance, cross = _moments(_corrupted(train, mean, corrupt, draw))
    ridge = RIDGE * np.trace(covariance) / size
    weights = np.linalg.solve(covariance + ridge * np.eye(size), cross)
    total = 0.0
    for noisy, clean in _corrupted(test, mean, corrupt, draw):
        total += (((noisy - centre) @ weights - clean) ** 2).sum()
    return float(total / test.size)


def noise_moments(sd: float, mean: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean, covariance, covariance with x) of x + sd n, n ~ N(0, I), from those of x: (D,), (D, D), (D, D)."""
    return mean, covariance + sd**2 * np.eye(len(mean)), covariance


def mask_moments(p: float, mean: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same of m x, each m_i 0 with probability p, else 1: E (m x)_i^2 = (1 - p) E x_i^2."""
    keep = 1 - p
    own = p * keep * (np.diag(covariance) + mean**2)
    return keep * mean, keep**2 * covariance + np.diag(own), keep * covariance


def real_against_real(train: np.ndarray, test: np.ndarray, n: int, seed: int = 0) -> float:
    """The floor of C-FID: the distance of n training images, drawn without replacement, and `test`.

    n: the number of samples that are scored. Raises ValueError where `train` holds fewer or no network knows the shape.
    """
    if n > len(train):
        raise ValueError(f"real_against_real: {n} of {len(train)} training images; score at most {len(train)} samples")
    chosen = np.random.default_rng(seed).choice(len(train), n, replace=False)
    return frechet_from_features(features(test)[0], features(train[chosen])[0])


def pixel_noise(train: np.ndarray, test: np.ndarray, n: int, seed: int = 0) -> float:
    """C-FID of n images without shapes: each pixel from a training image of its own, so every pixel's law is right.

    Raises ValueError where no network knows the shape, or n is too small for a distance.
    """
    rows = train.reshape(len(train), -1)
    chosen = np.random.default_rng(seed).integers(len(train), size=(n, rows.shape[1]))
    noise = rows[chosen, np.arange(rows.shape[1])].reshape(n, *train.shape[1:])
    return frechet_from_features(features(test)[0], features(noise)[0])


def real_points(train: np.ndarray, test: np.ndarray) -> float:
    """The floor of the energy distance: that of training points (N, D) and test points."""
    return energy_distance(train, test)


def gaussian_points(train: np.ndarray, test: np.ndarray, seed: int = 0) -> float:
    """Energy distance of `test` and as many draws of one Gaussian with mean and covariance of the points `train`."""
    draws = np.random.default_rng(seed)
    drawn = draws.multivariate_normal(train.mean(0), np.atleast_2d(np.cov(train, rowvar=False)), len(test))
    return energy_distance(drawn, test)


def _rows(images: np.ndarray, mean: np.ndarray | float = 0.0) -> Iterator[np.ndarray]:
    """Blocks of images as float64 rows (n, C H W), less `mean`: all of MNIST at once would take 376 MB."""
    if len(images) == 0:
        raise ValueError(f"a baseline of no images: expected (N, C, H, W) with N at least 1, got {images.shape}")
    for start in range(0, len(images), BLOCK):
        part = images[start : start + BLOCK]
        yield part.reshape(len(part), -1).astype(np.float64) - mean


def _mean(images: np.ndarray) -> np.ndarray:
    return sum(rows.sum(0) for rows in _rows(images)) / len(images)


def _squared_error(mean: np.ndarray, images: np.ndarray) -> float:
    return float(sum((rows**2).sum() for rows in _rows(images, mean)) / images.size)


def _cross_entropy(x: np.ndarray, p: np.ndarray) -> float:
    """-sum of x log p + (1 - x) log(1 - p); a term whose x is 0 is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(x > 0, x * np.log(p), 0) + np.where(x < 1, (1 - x) * np.log1p(-p), 0)
    return float(-terms.sum())


def _moments(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean of the first, its covariance, its covariance with the second) of blocks of rows; the second is centred."""
    n, first, second, cross = 0, np.zeros(()), np.zeros(()), np.zeros(())
    for noisy, clean in pairs:
        n += len(noisy)
        first = first + noisy.sum(0)
        second = second + noisy.T @ noisy
        cross = cross + noisy.T @ clean  # the clean rows are centred, so the noisy ones need not be
    mean = first / n
    return mean, second / n - np.outer(mean, mean), cross / n


def _corrupted(
    images: np.ndarray, mean: np.ndarray, corrupt: Corruption, draw: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start, clean in zip(range(0, len(images), BLOCK), _rows(images, mean)):
        noisy = np.asarray(corrupt(images[start : start + BLOCK], draw), np.float64)
        yield noisy.reshape(clean.shape), clean
