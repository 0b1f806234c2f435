"""Points of the plane: small sets on which a model's mistakes can be seen and counted.

    data = load("ring")                    # 8 Gaussians; also "grid" (25), "two-gaussians", "moons"
    points, labels = data.batches(256, seed=0).at(0, 0)     # float32 (256, 2) and the mode of each
    RING.centres, RING.sd                  # what a count of modes needs

A mixture is p(x) = 1/K sum_k N(x; c_k, sd^2 I). Points are not limited to [0,1]. Each set is fixed: 10,000 training and
10,000 test points, drawn apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .dataset import Dataset
from .draws import Draws
from .pixels import DataError

COUNT = 10_000


@dataclass(frozen=True, eq=False)
class Mixture:
    """Gaussians of equal weight: `centres` (K, D), and the standard deviation `sd` of every coordinate."""

    name: str
    centres: np.ndarray
    sd: float

    def draw(self, count: int, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        """(points float32 (count, D), modes int64 (count,)), each mode with probability 1/K."""
        modes = draws.below(len(self.centres), count)
        noise = draws.normal(count, self.centres.shape[1])
        return (self.centres[modes] + self.sd * noise).astype(np.float32), modes


def _circle(count: int, radius: float) -> np.ndarray:
    angles = 2 * np.pi * np.arange(count) / count
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _square(side: int, step: float) -> np.ndarray:
    line = step * (np.arange(side) - (side - 1) / 2)
    return np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)


# Metz et al. 2017, "Unrolled Generative Adversarial Networks": radius 2, standard deviation .02
RING = Mixture("ring", _circle(8, 2.0), 0.02)
# Lin et al. 2018, "PacGAN": means (-4 + 2i, -4 + 2j), variance .0025
GRID = Mixture("grid", _square(5, 2.0), 0.05)
TWO_GAUSSIANS = Mixture("two-gaussians", np.array([[-2.0, 0.0], [2.0, 0.0]]), 0.5)
MIXTURES = {mixture.name: mixture for mixture in (RING, GRID, TWO_GAUSSIANS)}
NAMES = (*MIXTURES, "moons")
MOONS_NOISE = 0.05


def draw_moons(count: int, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """(points float32 (count, 2), moons int64 (count,)): scikit-learn's two moons with noise .05, standardised.

    Upper moon (cos t, sin t), lower moon (1 - cos t, 1/2 - sin t), t uniform in [0, pi]. Mean and variance of the
    distribution itself are taken out, not those of a sample: training and test points lie in the same plane.
    """
    moons = draws.below(2, count)
    t = draws.uniform(count, high=np.pi)
    upper = np.stack([np.cos(t), np.sin(t)], axis=1)
    points = np.where(moons[:, None] == 0, upper, np.array([1.0, 0.5]) - upper)
    points += MOONS_NOISE * draws.normal(count, 2)
    mean = np.array([0.5, 0.25])
    variance = np.array([0.75, 0.5625 - 1 / np.pi]) + MOONS_NOISE**2
    return ((points - mean) / np.sqrt(variance)).astype(np.float32), moons


@dataclass(frozen=True, repr=False)
class Points(Dataset):
    """Points (N, D) in place of images, any finite float32; `mixture` where they come from one.

    `train_images` and `test_images` hold the points, so that whatever takes a Dataset takes these too.
    """

    items: ClassVar[str] = "points"

    mixture: Mixture | None = None

    def check_items(self, what: str, items: Any) -> None:
        """Raises DataError unless `items` are finite float32 (N, D)."""
        if not isinstance(items, np.ndarray) or items.ndim != 2 or items.dtype != np.float32 or not items.size:
            raise DataError(f"{what} must be a float32 array (N, D) with at least one point; "
                            f"they are {getattr(items, 'dtype', type(items).__name__)} {np.shape(items)}")
        if not np.isfinite(items).all():
            raise DataError(f"{what} hold NaN or infinity")

    def in_channels(self, channels: int) -> Dataset:
        """Points have no channels: raises DataError."""
        raise DataError(f"{self.name} holds points, which have no channels; leave out channels (--channels)")

    def resized(self, size: int) -> Dataset:
        """Points have no pixels: raises DataError."""
        raise DataError(f"{self.name} holds points, which have no pixels; leave out size (--size)")


def load_points(name: str) -> Points:
    """The fixed set of that name: 10,000 training points from stream 0, 10,000 test points from stream 1."""
    mixture = MIXTURES.get(name)
    draw: Callable[..., tuple[np.ndarray, np.ndarray]] = mixture.draw if mixture else draw_moons
    (train, train_labels), (test, test_labels) = (draw(COUNT, Draws(0, stream)) for stream in (0, 1))
    classes = tuple(str(k) for k in range(len(mixture.centres))) if mixture else ("upper", "lower")
    source = f"drawn: {len(mixture.centres)} Gaussians, sd {mixture.sd}" if mixture else "drawn: two moons, noise .05"
    return Points(name, train, train_labels, test, test_labels, classes, source, mixture=mixture)
