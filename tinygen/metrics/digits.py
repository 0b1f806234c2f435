"""How good samples of digits are: two small networks, trained once and frozen, look at them.

    C-FID = Fréchet distance of the samples' and the real images' features     (frechet.py)
    scores(samples, real)  -> cfid, conf95, class_kl, digits                     28x28 like MNIST, or 8x8 digits

Weights are shipped and their checksum is verified: scores from other weights cannot be compared. Inception features
mean nothing on digits. Absent: any score without a reference set.

28x28: 64 features; .990 of MNIST's test images. C-FID of 10,000 training images against them: .7.
8x8: 32 features, 9 of them always 0; .990 of the 297 test digits. C-FID of n training digits against them: 10.6 at
n = 300, 8.5 at 500, 4.1 at 1,500. Trained on the 1,500: seed 0 for weights and for batches of 50, 100 epochs, Adam
from 1e-3 linearly to 0, dropout .25 before the features. The last iterate, rounded to float16.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..ops.conv import conv2d
from ..ops.pool import max_pool2d
from ..recording import no_grad
from ..tape import Tensor
from .frechet import frechet_from_features

__all__ = [
    "CNN_FILE", "DIGITS_FILE", "class_histogram_kl", "classes_covered", "confident", "features", "frozen_weights",
    "gan_test", "mnist_features", "mnist_scores", "scorable", "scores",
]  # fmt: skip

CNN_FILE = Path(__file__).parent / "mnist_cnn.npz"
DIGITS_FILE = Path(__file__).parent / "digits_cnn.npz"
CONFIDENT = 0.95
PRESENT = 0.01  # a class is present when at least this share of the samples is taken for it
Weights = Mapping[str, Tensor]


def _convolution(x: Tensor, net: Weights, layer: str) -> Tensor:
    return conv2d(x, net[layer + ".weight"], net[layer + ".bias"], padding=1).relu()


def _mnist_trunk(x: Tensor, net: Weights) -> Tensor:
    x = max_pool2d(_convolution(x, net, "c1"), 2)
    return max_pool2d(_convolution(x, net, "c2"), 2)


def _digits_trunk(x: Tensor, net: Weights) -> Tensor:
    x = _convolution(x, net, "c1")
    return max_pool2d(_convolution(x, net, "c2"), 2)


class Frozen(NamedTuple):
    """A network: its file, the file's SHA-256, the variable that names another copy, and its layers of convolution."""

    file: Path
    sha: str
    variable: str
    trunk: Callable[[Tensor, Weights], Tensor]


NETWORKS = {
    (1, 28, 28): Frozen(
        CNN_FILE, "480d115404e15d76d8f9c78930a260271aa38a0e5257c9328ccb8b9af091bd52", "TINYGEN_MNIST_CNN", _mnist_trunk
    ),
    (1, 8, 8): Frozen(
        DIGITS_FILE, "e9cfedd66ef8ffa547b110ee1d193b39eed358843f78fcf02b46ef93fa5c2d42", "TINYGEN_DIGITS_CNN",
        _digits_trunk,
    ),
}  # fmt: skip


def scorable(shape: Sequence[int]) -> bool:
    """Whether a frozen network knows images of this shape (C, H, W)."""
    return tuple(shape) in NETWORKS


def features(images: np.ndarray, weights: str | os.PathLike | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(features (N, D), class probabilities (N, 10)) of images (N, 1, 28, 28) or (N, 1, 8, 8) in [0, 1]; D is 64 or 32.

    28x28: 3x3 conv to 16, ReLU, pool 2, 3x3 conv to 32, ReLU, pool 2, linear to 64, ReLU (the features), linear to 10.
    8x8: the same without the first pool, and with 32 features.

    `weights`: another copy of the file (default: TINYGEN_MNIST_CNN or TINYGEN_DIGITS_CNN, then the one shipped); its
    checksum must agree. Raises ValueError for another shape or other weights.
    """
    if not scorable(images.shape[1:]):
        known = " or ".join(f"N{''.join(f'x{side}' for side in shape)}" for shape in NETWORKS)
        raise ValueError(f"features: no frozen network for {_times(images.shape)}; expects grey images {known}")
    frozen = NETWORKS[images.shape[1:]]
    net = _load(os.fspath(weights or os.environ.get(frozen.variable) or frozen.file), frozen.sha)
    found, probabilities = [], []
    with no_grad():
        for start in range(0, len(images), 500):
            x = Tensor(np.ascontiguousarray(images[start : start + 500], np.float32))
            x = frozen.trunk(x, net)
            h = (x.reshape(len(x), -1) @ net["f1.weight"].T + net["f1.bias"]).relu()
            found.append(h.array)
            probabilities.append((h @ net["f2.weight"].T + net["f2.bias"]).softmax(-1).array)
    return np.concatenate(found), np.concatenate(probabilities)


def frozen_weights(shape: Sequence[int]) -> dict[str, np.ndarray]:
    """The arrays of the frozen network that knows images of this shape (C, H, W): "c1.weight" and others, float32.

    Raises ValueError for another shape.
    """
    if not scorable(shape):
        raise ValueError(f"frozen_weights: no frozen network for {_times(shape)}; one knows 1x28x28, one 1x8x8")
    frozen = next(one for known, one in NETWORKS.items() if known == tuple(shape))
    net = _load(os.fspath(os.environ.get(frozen.variable) or frozen.file), frozen.sha)
    return {name: tensor.numpy().copy() for name, tensor in net.items()}


def mnist_features(images: np.ndarray, weights: str | os.PathLike | None = None) -> tuple[np.ndarray, np.ndarray]:
    """`features` of MNIST-shaped images (N, 1, 28, 28) alone; ValueError for any other shape."""
    if images.ndim != 4 or images.shape[1:] != (1, 28, 28):
        raise ValueError(f"mnist_features: expects grey images Nx1x28x28, got {_times(images.shape)}")
    return features(images, weights)


def scores(samples: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """Sample quality beside real images, both (N, 1, 28, 28) or both (N, 1, 8, 8), in [0, 1]:

    cfid · conf95 (share of samples the network is at least 95 % sure of) · class_kl (nats, against the real images'
    classes) · digits (classes that at least 1 % of the samples are taken for). Raises ValueError for other shapes, and
    below 2 x features images on either side.
    """
    if samples.shape[1:] != real.shape[1:]:
        raise ValueError(f"scores: samples are {_times(samples.shape)}, real images {_times(real.shape)}; one shape")
    real_features, real_probabilities = features(real)
    sample_features, probabilities = features(samples)
    labels = probabilities.argmax(1)
    return {
        "cfid": frechet_from_features(real_features, sample_features),
        "conf95": confident(probabilities),
        "class_kl": class_histogram_kl(labels, real_probabilities.argmax(1)),
        "digits": float(_present(labels)),
    }


def mnist_scores(samples: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """`scores` of MNIST-shaped images (N, 1, 28, 28) alone; ValueError for any other shape."""
    for images in (samples, real):
        if images.shape[1:] != (1, 28, 28):
            raise ValueError(f"mnist_scores: expects grey images Nx1x28x28, got {_times(images.shape)}")
    return scores(samples, real)


def classes_covered(samples: np.ndarray) -> int:
    """The number of classes, of 10, that at least 1 % of the samples are taken for. 500 samples suffice.

    samples (N, 1, 28, 28) or (N, 1, 8, 8) in [0, 1].
    """
    return _present(features(samples)[1].argmax(1))


def gan_test(samples: np.ndarray, labels: np.ndarray) -> tuple[float, dict[int, float]]:
    """(the share of samples that the network takes for their label, {label: the same share of its samples alone}).

    samples (N, 1, 28, 28) or (N, 1, 8, 8) in [0, 1], labels (N,) of 0..9. Of real images it is the network's accuracy.
    Shmelkov et al. 2018. Raises ValueError where there are not as many labels as samples.
    """
    if len(labels) != len(samples):
        raise ValueError(f"gan_test: {len(samples)} samples and {len(labels)} labels; give one for each")
    right = features(samples)[1].argmax(1) == labels
    return float(right.mean()), {int(k): float(right[labels == k].mean()) for k in np.unique(labels)}


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


def _present(labels: np.ndarray) -> int:
    return int((np.bincount(labels, minlength=10) >= PRESENT * len(labels)).sum())


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


@cache
def _load(path: str, expected: str) -> Weights:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise FileNotFoundError(f"the weights of the frozen network are not at {path}: {error.strerror}") from error
    sha = hashlib.sha256(content).hexdigest()
    if sha != expected:
        raise ValueError(
            f"{path}: SHA-256 is {sha[:12]}..., not {expected[:12]}...; scores from other weights cannot be compared"
        )
    with np.load(io.BytesIO(content)) as arrays:
        return {name: Tensor(arrays[name].astype(np.float32)) for name in arrays}
