"""What the game of G and D is worth, where densities are known (lectures 0, 2, 3, 4).

    V(G, D)  = E_p log D(x) + E_q log(1 - D(x))      p the data's density, q the generator's
    D*(x)    = p(x) / (p(x) + q(x))                  the maximum over D, at each x by itself
    V(G, D*) = 2 JS(p, q) - 2 log 2                  at least -log 4; there q = p, and D* = 1/2 everywhere

One slide asks for the minimum of a log y + b log(1 - y): it is the maximum, at y = a / (a + b). D comes as logits a,
D = sigmoid(a); densities come as logarithms (n,) on a grid of width dx, and for finitely many outcomes dx = 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import tinygen as tg
from tinygen.nn import functional as F

from .divergences import js


def optimal_discriminator(
    log_p: tg.Tensor, log_q: tg.Tensor
) -> tg.Tensor:
    """D* = p / (p + q), of the shape of the densities."""
    return tg.sigmoid(log_p - log_q)


def value(
    logits: tg.Tensor,
    log_p: tg.Tensor,
    log_q: tg.Tensor,
    width: float = 1.0,
) -> tg.Tensor:
    """V(G, D) in nats, of D's logits (n,) on the grid: sum_i p_i log D_i + q_i log(1 - D_i) dx."""
    on_real = log_p.exp() * F.softplus(-logits)
    on_fake = log_q.exp() * F.softplus(logits)
    return -(on_real + on_fake).sum() * width


def value_at_optimum(
    log_p: tg.Tensor, log_q: tg.Tensor, width: float = 1.0
) -> tg.Tensor:
    """V(G, D*) = 2 JS(p, q) - 2 log 2, in nats: between -log 4 and 0."""
    return 2 * js(log_p, log_q, width) - 2 * math.log(2)


def central(
    log_p: tg.Tensor,
    log_q: tg.Tensor,
    width: float,
    mass: float = 0.99,
) -> tg.Tensor:
    """The points of the grid between the tails of (p + q) / 2, (n,) of booleans: `mass` lies there.

    Beyond, D sees nothing from either side, and may say anything.
    """
    below = (0.5 * (log_p.exp() + log_q.exp()) * width).cumsum(0)
    tail = (1 - mass) / 2
    return (below > tail) & (below < 1 - tail)


def equally_likely(count: int) -> tg.Tensor:
    """Points z_i of N(0, 1), (count, 1): the medians of `count` intervals of equal probability.

    Means over them are integrals: no draw adds its noise.
    """
    normal = NormalDist()
    points = [normal.inv_cdf((i + 0.5) / count) for i in range(count)]
    return tg.tensor(points)[:, None]


def slope(objective: Callable, logit: float) -> float:
    """d objective / d a at one logit: how strongly an image is corrected that D gives sigmoid(logit)."""
    a = tg.tensor([logit], dtype=tg.float64, requires_grad=True)
    (found,) = tg.grad(objective(a), [a])
    return found.item()  # type: ignore[union-attr]


def gradient_norms(
    losses: Sequence[tg.Tensor], parameters: Sequence[tg.Tensor]
) -> list[float]:
    """The norm of each loss's gradient in the parameters. Losses of one forward see the same networks and noise."""
    norms = []
    for loss in losses:
        slopes = tg.grad(loss, parameters, retain_graph=True)
        squares = [g.square().sum() for g in slopes if g is not None]
        norms.append(tg.stack(squares).sum().sqrt().item())
    return norms
