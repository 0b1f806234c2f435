"""How good samples are: measures that are defined here once and frozen, so that numbers can be compared.

C-FID is the Fréchet distance ||m1 - m2||^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2) between the means and covariances
of 64 features of one frozen network trained on MNIST (weights shipped, checksum verified). Inception features mean
nothing on digits. The matrix root is taken by `eigvalsh` in float64: `sqrtm` of a nearly singular product returns
complex numbers.

Every distance depends strongly on the number of samples: report n beside it; fewer than 2 x dimensions is refused.
Arrays in, Python floats out. Absent on purpose: Inception, and any score without a reference set.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

from .ops.conv import conv2d
from .ops.pool import max_pool2d
from .tape import Tensor, no_grad

__all__ = [
    "class_histogram_kl", "confident", "frechet_distance", "frechet_from_features", "mnist_features", "mnist_scores",
    "precision_recall", "psnr",
]  # fmt: skip

CNN_FILE = Path(__file__).parent / "recipes" / "mnist_cnn.npz"
CNN_SHA = "480d115404e15d76d8f9c78930a260271aa38a0e5257c9328ccb8b9af091bd52"
CONFIDENT = 0.95
PRESENT = 0.01  # a class is present when at least this share of the samples is taken for it


def frechet_distance(mean1: np.ndarray, cov1: np.ndarray, mean2: np.ndarray, cov2: np.ndarray) -> float:
    """||m1 - m2||^2 + tr S1 + tr S2 - 2 sum sqrt(eigenvalues of S1^1/2 S2 S1^1/2): squared 2-Wasserstein of two
    Gaussians.

    mean (D,), cov (D, D). Raises ValueError where shapes differ. Dowson and Landau 1982.
    """
    mean1, cov1, mean2, cov2 = (np.asarray(a, np.float64) for a in (mean1, cov1, mean2, cov2))
    if not mean1.shape == mean2.shape == cov1.shape[:1] == cov2.shape[:1] or cov1.shape != cov2.shape:
        raise ValueError(
            f"frechet_distance: means {mean1.shape} and {mean2.shape}, covariances {cov1.shape} and {cov2.shape}; both "
            "sets must have the same number of features"
        )
    values, vectors = np.linalg.eigh(cov1)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(
        np.linalg.eigvalsh(root @ cov2 @ root).clip(0)
    ).sum()  # eigvalsh reads one triangle: symmetric by force
    distance = ((mean1 - mean2) ** 2).sum() + np.trace(cov1) + np.trace(cov2) - 2 * cross
    return float(max(distance, 0.0))


def frechet_from_features(real: np.ndarray, fake: np.ndarray) -> float:
    """The Fréchet distance of two sets of features (N, D) and (M, D); ValueError when N or M is below 2 D."""
    moments = []
    for name, features in (("real", real), ("fake", fake)):
        n, dimensions = features.shape
        if n < 2 * dimensions:
            raise ValueError(
                f"frechet: {n} {name} samples for {dimensions} features; a covariance needs at least {2 * dimensions}"
            )
        features = features.astype(np.float64)
        moments += [features.mean(0), np.cov(features, rowvar=False).reshape(dimensions, dimensions)]
    return frechet_distance(*moments)


def class_histogram_kl(fake: np.ndarray, real: np.ndarray, classes: int = 10) -> float:
    """KL(p || q) = sum p log(p / q) in nats, p and q the class frequencies of integer labels `fake` and `real`."""
    p = np.bincount(fake, minlength=classes) / len(fake)
    q = np.bincount(real, minlength=classes) / len(real)
    if (q[p > 0] == 0).any():
        return math.inf
    return float((p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum())


def confident(probabilities: np.ndarray, threshold: float = CONFIDENT) -> float:
    """The share of rows (N, classes) whose largest probability is at least `threshold`."""
    return float((probabilities.max(1) >= threshold).mean())


def precision_recall(real: np.ndarray, fake: np.ndarray, k: int = 3) -> tuple[float, float]:
    """(precision, recall): the share of fake features inside the real manifold, and of real ones inside the fake
    manifold.

    A manifold is the union of balls around its points that reach to their k-th nearest neighbour. Kynkäänniemi et al.
    2019.
    """
    from sklearn.neighbors import NearestNeighbors

    def inside(points: np.ndarray, centres: np.ndarray) -> float:
        radii = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(centres).kneighbors(centres)[0][:, k]
        covered = []
        for start in range(0, len(points), 500):
            part = points[start : start + 500]
            squared = (part**2).sum(1)[:, None] - 2 * part @ centres.T + (centres**2).sum(1)
            covered.append((squared <= radii**2).any(1))
        return float(np.concatenate(covered).mean())

    for name, features in (("real", real), ("fake", fake)):
        if len(features) <= k:
            raise ValueError(
                f"precision_recall: {len(features)} {name} features, but the {k}-th neighbour of each is needed"
            )
    real, fake = real.astype(np.float64), fake.astype(np.float64)
    return inside(fake, real), inside(real, fake)


def psnr(x: np.ndarray, y: np.ndarray, peak: float = 1.0) -> float:
    """10 log10(peak^2 / mean (x - y)^2) in dB; infinite for equal arrays."""
    error = float(((np.asarray(x, np.float64) - np.asarray(y, np.float64)) ** 2).mean())
    return math.inf if error == 0 else 10 * math.log10(peak**2 / error)


@cache
def _network(path: str) -> Mapping[str, Tensor]:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise FileNotFoundError(f"the weights of the frozen network are not at {path}: {error.strerror}") from error
    sha = hashlib.sha256(content).hexdigest()
    if sha != CNN_SHA:
        raise ValueError(
            f"{path}: SHA-256 is {sha[:12]}..., not {CNN_SHA[:12]}...; scores from other weights cannot be compared"
        )
    with np.load(io.BytesIO(content)) as arrays:
        return {name: Tensor(arrays[name]) for name in arrays}


def mnist_features(images: np.ndarray, weights: str | os.PathLike | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(features (N, 64), class probabilities (N, 10)) of grey images (N, 1, 28, 28) in [0, 1] by the frozen network:
    3x3 conv to 16, ReLU, pool 2, 3x3 conv to 32, ReLU, pool 2, linear to 64, ReLU (the features), linear to 10.

    `weights`: another copy of the file (default: TINYGEN_MNIST_CNN, then the one shipped); its checksum must agree.
    """
    if images.ndim != 4 or images.shape[1:] != (1, 28, 28):
        raise ValueError(f"mnist_features: expects grey images Nx1x28x28, got {'x'.join(map(str, images.shape))}")
    net = _network(os.fspath(weights or os.environ.get("TINYGEN_MNIST_CNN") or CNN_FILE))
    features, probabilities = [], []
    with no_grad():
        for start in range(0, len(images), 500):
            x = Tensor(np.ascontiguousarray(images[start : start + 500], np.float32))
            for layer in ("c1", "c2"):
                x = max_pool2d(conv2d(x, net[layer + ".weight"], net[layer + ".bias"], padding=1).relu(), 2)
            h = (x.reshape(len(x), -1) @ net["f1.weight"].T + net["f1.bias"]).relu()
            features.append(h.array)
            probabilities.append((h @ net["f2.weight"].T + net["f2.bias"]).softmax(-1).array)
    return np.concatenate(features), np.concatenate(probabilities)


def mnist_scores(samples: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """Sample quality on MNIST-shaped images, both (N, 1, 28, 28) in [0, 1]:

    cfid · conf95 (share of samples the network is at least 95 % sure of) · class_kl (nats, against the real images'
    classes) · digits (classes that at least 1 % of the samples are taken for).
    """
    real_features, real_probabilities = mnist_features(real)
    features, probabilities = mnist_features(samples)
    labels = probabilities.argmax(1)
    return {
        "cfid": frechet_from_features(real_features, features),
        "conf95": confident(probabilities),
        "class_kl": class_histogram_kl(labels, real_probabilities.argmax(1)),
        "digits": float((np.bincount(labels, minlength=10) >= PRESENT * len(labels)).sum()),
    }
