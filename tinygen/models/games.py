"""The games that a generator G and a discriminator D play: one pair of losses a slide (lectures 0-4).

    minimax          min_G max_D  E log D(x) + E log(1 - D(G(z)))                       Goodfellow 2014
    non_saturating   D as above;  max_G E log D(G(z)), so G learns while D still wins
    least_squares    min_D E (D(x) - 1)^2 + E D(G(z))^2;   min_G E (D(G(z)) - 1)^2      Mao 2017
    wasserstein      min_D E D(G(z)) - E D(x);             min_G -E D(G(z))             Arjovsky 2017
    hinge            min_D E max(0, 1 - D(x)) + E max(0, 1 + D(G(z)));  min_G -E D(G(z))    Lim 2017

D returns numbers a, one an image. In the first two they are logits, D = sigmoid(a), and log D = -softplus(-a) stays
finite. D keeps log(1 - D(G(z))) in the non-saturating game: one slide merges both players into one value function.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import tinygen as tg
from tinygen.nn import functional as F


class Game(NamedTuple):
    """The losses of both players, each to be minimised, and how D's numbers are read."""

    discriminator: Callable  # (D on real, D on fake) -> loss
    generator: Callable  # (D on fake) -> loss
    judge: Callable  # (D on real, D on fake) -> metrics of the game
    floor: float = 0.0  # the least that D's loss can be: there D has won


def minimax(smoothing: float = 0.0) -> Game:
    """The game of the first paper. `smoothing`: real labels are 1 - smoothing (one-sided, Salimans 2016)."""
    if not 0 <= smoothing <= 1:
        raise ValueError(
            f"smoothing must lie in [0, 1], it is {smoothing}; 0.1 is usual"
        )
    real_loss = lambda a: (
        (1 - smoothing) * F.softplus(-a) + smoothing * F.softplus(a)
    )
    discriminator = lambda real, fake: (
        real_loss(real).mean() + F.softplus(fake).mean()
    )
    return Game(
        discriminator,
        lambda fake: -F.softplus(fake).mean(),
        _as_logits,
        _entropy(smoothing),
    )


def non_saturating(smoothing: float = 0.0) -> Game:
    """minimax for D; G maximises E log D(G(z))."""
    return minimax(smoothing)._replace(
        generator=lambda fake: F.softplus(-fake).mean()
    )


def two_sided(smoothing: float = 0.1) -> Game:
    """non_saturating with real labels 1 - smoothing and fake labels `smoothing` (Szegedy 2016)."""
    game = non_saturating(smoothing)
    cross_entropy = lambda a: (
        (1 - smoothing) * F.softplus(a) + smoothing * F.softplus(-a)
    )
    return game._replace(
        discriminator=lambda real, fake: (
            cross_entropy(-real).mean() + cross_entropy(fake).mean()
        ),
        floor=2 * game.floor,
    )


def flipped(game: Game, share: float = 0.05) -> Game:
    """The game in which a share of the labels that D learns from is wrong: a real and a fake change places.

    In the mean over the draws a game of logits is `two_sided(share)`. Raises ValueError unless 0 <= share <= 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(
            f"a share of flipped labels lies in [0, 1], it is {share}; 0.05 is usual"
        )

    def discriminator(real: tg.Tensor, fake: tg.Tensor) -> tg.Tensor:
        wrong = tg.rand(*real.shape, device=real.device) < share
        taken_for_real = tg.where(wrong, fake, real)
        taken_for_fake = tg.where(wrong, real, fake)
        return game.discriminator(taken_for_real, taken_for_fake)

    return game._replace(discriminator=discriminator)


def least_squares() -> Game:
    """Labels 0 and 1; the optimum of D is p / (p + q)."""
    discriminator = lambda real, fake: (
        (real - 1).square().mean() + fake.square().mean()
    )
    return Game(
        discriminator, lambda fake: (fake - 1).square().mean(), _as_labels
    )


def wasserstein() -> Game:
    """D is a critic: with |D(x) - D(y)| <= |x - y| the best value is the Wasserstein-1 distance."""
    return Game(
        lambda real, fake: fake.mean() - real.mean(),
        lambda fake: -fake.mean(),
        lambda real, fake: {"critic_estimate": real.mean() - fake.mean()},
        -math.inf,
    )


def hinge() -> Game:
    """D cares only for images within its margin."""
    discriminator = lambda real, fake: (
        F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    )
    return Game(discriminator, lambda fake: -fake.mean(), _as_margins)


def _as_logits(real: tg.Tensor, fake: tg.Tensor) -> dict[str, tg.Tensor]:
    return _reading(real.sigmoid(), fake.sigmoid(), real > 0, fake < 0)


def _as_labels(real: tg.Tensor, fake: tg.Tensor) -> dict[str, tg.Tensor]:
    return _reading(real, fake, real > 0.5, fake < 0.5)


def _as_margins(real: tg.Tensor, fake: tg.Tensor) -> dict[str, tg.Tensor]:
    return _reading(real, fake, real > 0, fake < 0)


def _reading(
    real: tg.Tensor, fake: tg.Tensor, right: tg.Tensor, rejected: tg.Tensor
) -> dict[str, tg.Tensor]:
    accuracy = 0.5 * (right.float().mean() + rejected.float().mean())
    return {
        "d_real": real.mean(),
        "d_fake": fake.mean(),
        "d_accuracy": accuracy,
    }


def _entropy(p: float) -> float:
    """-p log p - (1 - p) log(1 - p): what cross entropy with smoothed labels cannot go below."""
    return -sum(q * math.log(q) for q in (p, 1 - p) if q > 0)
