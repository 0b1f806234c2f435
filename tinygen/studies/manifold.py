"""The manifold that a decoder draws: a grid over two units of its code, and walks along one (lectures 3, 4).

    u_i = (i + 1/2) / n,   z_i = Phi^-1(u_i)          Phi the distribution function of N(0, 1)

Phi^-1 of a uniform lattice lays the codes as densely as the prior N(0, I) does: each image stands for an equal share
of the samples (Kingma and Welling 2014). A unit is in use where its mean varies over images; a grid over units that
nothing varies along shows one image many times.

    decode(manifold.grid(20, latent))                 # 400 images, rows from top to bottom
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import tinygen as tg


def quantiles(steps: int) -> np.ndarray:
    """(steps,): Phi^-1((i + 1/2) / steps), ascending and symmetric around 0."""
    from scipy.special import ndtri

    return ndtri((np.arange(steps) + 0.5) / steps)


def grid(
    side: int, latent: int, units: Sequence[int] = (0, 1)
) -> tg.Tensor:
    """(side^2, latent) codes: units[0] grows to the right, units[1] upwards, all others are 0.

    Raises ValueError where there are no two such units.
    """
    if len(set(units)) != 2 or not all(
        0 <= unit < latent for unit in units
    ):
        raise ValueError(
            f"grid: units {tuple(units)} must be two different ones of the {latent} of a code"
        )
    at = quantiles(side)
    codes = np.zeros((side, side, latent), np.float32)
    codes[:, :, units[0]] = at
    codes[:, :, units[1]] = at[::-1, None]
    return tg.tensor(codes.reshape(side * side, latent))


def walk(code: tg.Tensor, unit: int, steps: int) -> tg.Tensor:
    """(steps, latent): `code` (latent,) with one unit moved over its quantiles, the others as they are."""
    codes = np.tile(code.numpy(), (steps, 1))
    codes[:, unit] = quantiles(steps)
    return tg.tensor(codes)


def most_active(means: np.ndarray) -> np.ndarray:
    """(latent,): the units in the order of the variance of their means (N, latent) over images, largest first."""
    return np.argsort(-means.var(0), kind="stable")


def active(means: np.ndarray, threshold: float = 0.01) -> int:
    """The number of units whose mean varies over images: variance above `threshold` (Burda et al. 2016)."""
    return int((means.var(0) > threshold).sum())
