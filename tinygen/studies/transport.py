"""The Wasserstein distance on the line, which sorting computes (lectures 0, 2, 4).

    W(p, q) = inf_gamma E |x - y| = integral |F_p(t) - F_q(t)| dt       the order of the points is kept
            = max_f E_p f - E_q f,  |f'| <= 1,  reached by f' = sign(F_q - F_p)

So a critic that keeps its slopes within 1 can say no more than W. Two points at 0 and theta: W = |theta|, which has a
slope to follow, while JS = log 2 and KL is infinite for every theta that is not 0. Absent: more than one dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tinygen as tg

from .divergences import kl_of_outcomes
from .games import equally_likely


class Mixture(NamedTuple):
    """Gaussians on the line: shares that sum to 1, means and standard deviations."""

    shares: Sequence[float]
    means: Sequence[float]
    sigmas: Sequence[float]

    def points(self, count: int) -> tg.Tensor:
        """About `count` points (n, 1): for each Gaussian its share of them, equally likely ones."""
        parts = zip(self.shares, self.means, self.sigmas, strict=True)
        return tg.cat(
            [
                mean + sigma * equally_likely(round(count * share))
                for share, mean, sigma in parts
            ]
        )


class Diracs(NamedTuple):
    """What lies between all mass at 0 and all mass at theta."""

    wasserstein: float
    js: float
    kl: float


def wasserstein(x: tg.Tensor, y: tg.Tensor) -> float:
    """W between equally many points of the line, (n,) or (n, 1): the mean of |x_(i) - y_(i)|, both sorted.

    Raises ValueError for unequal numbers or for points with more than one coordinate.
    """
    _check(x, y)
    a, b = (tg.sort(v.flatten().double()).values for v in (x, y))
    return (a - b).abs().mean().item()


def potential(
    x: tg.Tensor, y: tg.Tensor, grid: tg.Tensor
) -> tg.Tensor:
    """The best critic of x against y on a grid (n,), up to a constant: f' = sign(F_y - F_x), f = 0 at its start."""
    _check(x, y)
    below = [
        (v.flatten() <= grid[:-1, None]).to(grid.dtype).mean(1)
        for v in (x, y)
    ]
    slopes = (below[1] - below[0]).sign()
    steps = slopes * (grid[1:] - grid[:-1])
    return tg.cat([tg.zeros(1, dtype=grid.dtype), steps.cumsum(0)])


def diracs(theta: float) -> Diracs:
    """The distances of all mass at 0 and all mass at theta."""
    places = tg.tensor([0.0, theta], dtype=tg.float64)
    p = (places == 0).double()
    p, q = p / p.sum(), (places == theta).double()
    q = q / q.sum()
    m = 0.5 * (p + q)
    js = 0.5 * (kl_of_outcomes(p, m) + kl_of_outcomes(q, m))
    distance = wasserstein(places[:1], places[1:])
    return Diracs(distance, js.item(), kl_of_outcomes(p, q).item())


def _check(x: tg.Tensor, y: tg.Tensor) -> None:
    if x.shape != y.shape or x.numel() != len(x):
        raise ValueError(
            f"the distance of two sets of numbers needs equally many, (n,) or (n, 1) each; "
            f"got {tuple(x.shape)} and {tuple(y.shape)}: draw as many of both"
        )
