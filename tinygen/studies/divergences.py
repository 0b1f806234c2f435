"""Divergences of two densities, and the Gaussian that is nearest by each (lectures 2, 4).

    KL(p || q) = sum_i p_i log(p_i / q_i) dx                          p, q on a grid of width dx
    JS(p, q)   = 1/2 KL(p || m) + 1/2 KL(q || m),   m = (p + q) / 2   at most log 2

Maximum likelihood minimises the forward KL(p || q), p the data: -E_p log q = H(p) + KL(p || q). It pays where p is
and q is not, so the model covers every mode and what lies between them (over-generalisation). The reverse KL(q || p)
pays where q is and p is not: the model picks a mode. JS lies between.

Densities come as logarithms (n,), so that a tail is never log 0. Absent: more than one dimension on a grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tinygen as tg
from tinygen import optim


class Fit(NamedTuple):
    """A Gaussian that was fitted, and the divergence that is left, in nats."""

    mean: float
    sigma: float
    value: float

    def log_density(self, x: tg.Tensor) -> tg.Tensor:
        """log N(x; mean, sigma^2), of the shape of x."""
        return log_normal(x, self.mean, math.log(self.sigma))


def log_normal(
    x: tg.Tensor,
    mean: tg.Tensor | float,
    log_sigma: tg.Tensor | float,
) -> tg.Tensor:
    """log N(x; mean, sigma^2) of each x."""
    inverse = (
        tg.exp(-log_sigma)
        if isinstance(log_sigma, tg.Tensor)
        else math.exp(-log_sigma)
    )
    deviation = (x - mean) * inverse
    return (
        -0.5 * deviation.square()
        - log_sigma
        - 0.5 * math.log(2 * math.pi)
    )


def log_mixture(
    x: tg.Tensor,
    shares: Sequence[float],
    means: Sequence[float],
    sigmas: Sequence[float],
) -> tg.Tensor:
    """log sum_k share_k N(x; mean_k, sigma_k^2) of each x (n,). Raises ValueError unless the shares sum to 1."""
    if abs(sum(shares) - 1) > 1e-9:
        raise ValueError(
            f"log_mixture: the shares {tuple(shares)} sum to {sum(shares):g}; they must sum to 1"
        )
    parts = [
        log_normal(x, mean, math.log(sigma)) + math.log(share)
        for share, mean, sigma in zip(
            shares, means, sigmas, strict=True
        )
    ]
    return tg.logsumexp(tg.stack(parts), 0)


def kl(log_p: tg.Tensor, log_q: tg.Tensor, width: float) -> tg.Tensor:
    """KL(p || q) in nats: never negative, 0 where both are equal, not symmetric."""
    return (log_p.exp() * (log_p - log_q)).sum() * width


def reverse_kl(
    log_p: tg.Tensor, log_q: tg.Tensor, width: float
) -> tg.Tensor:
    """KL(q || p) in nats."""
    return kl(log_q, log_p, width)


def js(log_p: tg.Tensor, log_q: tg.Tensor, width: float) -> tg.Tensor:
    """JS(p, q) in nats: symmetric, between 0 and log 2. What a GAN minimises: V = 2 JS - 2 log 2."""
    log_m = tg.logsumexp(tg.stack([log_p, log_q]), 0) - math.log(2)
    return 0.5 * (kl(log_p, log_m, width) + kl(log_q, log_m, width))


def kl_of_outcomes(p: tg.Tensor, q: tg.Tensor) -> tg.Tensor:
    """KL(p || q) in nats of probabilities (K,): 0 log 0 = 0; infinite where p has mass and q has none."""
    seen = p > 0
    if (q[seen] == 0).any().item():
        return tg.tensor(math.inf, dtype=p.dtype)
    return (p[seen] * (p[seen] / q[seen]).log()).sum()


def gaussian_kl(
    mean: tg.Tensor,
    covariance: tg.Tensor,
    other: tg.Tensor,
    other_covariance: tg.Tensor,
) -> tg.Tensor:
    """KL(N(mean, covariance) || N(other, other_covariance)) in nats.

    = 1/2 (tr(T^-1 S) + (n - m)^T T^-1 (n - m) - d + log |T| / |S|), of means m, n (d,) and covariances S, T (d, d).
    """
    way = other - mean
    trace = (
        tg.linalg.solve(other_covariance, covariance).diagonal().sum()
    )
    distance = way @ tg.linalg.solve(other_covariance, way)
    volumes = (
        tg.linalg.slogdet(other_covariance).logabsdet
        - tg.linalg.slogdet(covariance).logabsdet
    )
    return 0.5 * (trace + distance - len(mean) + volumes)


def moments(
    log_p: tg.Tensor, x: tg.Tensor, width: float
) -> tuple[float, float]:
    """(mean, standard deviation) of a density: where the forward KL of a Gaussian is least."""
    p = log_p.exp() * width
    mean = (p * x).sum()
    return mean.item(), (p * (x - mean).square()).sum().sqrt().item()


def nearest_gaussian(
    divergence: Callable,
    log_p: tg.Tensor,
    x: tg.Tensor,
    starts: Sequence[tuple[float, float]],
) -> Fit:
    """The Gaussian q that makes divergence(log_p, log_q, width) least, by the slopes in its mean and log sigma.

    `x`: a grid (n,) at equal distances. `starts`: (mean, sigma) to descend from; the best end is returned, since a
    target of two modes has a minimum of the reverse KL at each.
    """
    return min(
        (_descend(divergence, log_p, x, *start) for start in starts),
        key=lambda fit: fit.value,
    )


def _descend(
    divergence: Callable,
    log_p: tg.Tensor,
    x: tg.Tensor,
    mean: float,
    sigma: float,
) -> Fit:
    first, last, width = x[0].item(), x[-1].item(), (x[1] - x[0]).item()
    at = [
        tg.tensor(value, dtype=x.dtype, requires_grad=True)
        for value in (mean, math.log(sigma))
    ]
    # A Gaussian that leaves the grid, or falls between its points, would have no mass to pay for.
    bounds = [
        (first, last),
        (math.log(2 * width), math.log((last - first) / 6)),
    ]
    optimizer = optim.LBFGS(
        at,
        max_iter=200,
        tolerance_grad=1e-10,
        tolerance_change=1e-15,
        bounds=bounds,
    )

    def closure() -> tg.Tensor:
        optimizer.zero_grad()
        loss = divergence(log_p, log_normal(x, *at), width)
        loss.backward()
        return loss

    optimizer.step(closure)
    return Fit(at[0].item(), math.exp(at[1].item()), closure().item())


def outside(
    log_p: tg.Tensor,
    log_q: tg.Tensor,
    width: float,
    share: float = 0.99,
) -> float:
    """The mass of q outside the smallest set that holds `share` of p: how far q over-generalises."""
    p, q = log_p.exp() * width, log_q.exp() * width
    order = tg.argsort(p, descending=True)
    beyond = p[order].cumsum(0) > share
    return (q[order] * beyond.to(q.dtype)).sum().item()
