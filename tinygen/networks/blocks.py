"""Two players of a game, put together from blocks that are handed in: the same for points and for images.

    kit = of_images((1, 28, 28), (16, 32), latent=100)
    generator(kit), discriminator(kit)                       # DCGAN's two networks
    discriminator(kit._replace(activation=nn.ReLU))          # one block is another one

    noise - linear - [norm - ReLU - dropout - up] ... - outwards                         the generator
    inwards - [down - norm (not the first) - activation] ... - linear - one number       the discriminator

A block is a function: of the number of values or planes it receives, and of how many it gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import tinygen as tg
from tinygen import nn
from tinygen.nn import functional as F

from .convolutional import halved
from .dcgan import dcgan_weights


class Kit(NamedTuple):
    """The blocks. `widths`: of the discriminator's layers; the generator's in reverse."""

    shape: Sequence[int]
    widths: Sequence[int]
    latent: int
    side: tuple[int, ...]  # of the innermost planes; () for points
    low: float  # the range of the data
    high: float
    up: Callable  # (a, b) -> module
    down: Callable  # (a, b) -> module
    pooled: Callable  # (a, b) -> module, as `down` with a maximum
    batch_norm: Callable  # (a) -> module
    norms: Callable  # (a) -> modules, the normalisation in use
    activation: Callable  # () -> module, the discriminator's
    dropout: Callable  # () -> modules, in the generator
    inwards: Callable  # (low, high) -> modules, before the discriminator
    outwards: Callable  # (low, high) -> modules, behind the generator
    weights: Callable  # for `module.apply`


def of_images(shape: Sequence[int], widths: Sequence[int], latent: int) -> Kit:
    """DCGAN's blocks for images in [0, 1], sides that `widths` can halve (Radford 2016)."""
    sides = halved(shape, len(widths))
    if any(a != 2 * b for pair in pairwise(sides) for a, b in zip(*pair)):
        raise ValueError(
            f"images of {shape[1]}x{shape[2]} cannot be halved {len(widths)} times; give fewer widths"
        )
    return Kit(
        shape=shape,
        widths=widths,
        latent=latent,
        side=tuple(sides[-1]),
        low=0.0,
        high=1.0,
        up=partial(nn.ConvTranspose2d, kernel_size=4, stride=2, padding=1),
        down=partial(nn.Conv2d, kernel_size=4, stride=2, padding=1),
        pooled=lambda a, b: nn.Sequential(
            nn.Conv2d(a, b, 3, 1, 1), nn.MaxPool2d(2)
        ),
        batch_norm=nn.BatchNorm2d,
        norms=lambda a: [nn.BatchNorm2d(a)],
        activation=partial(nn.LeakyReLU, 0.2),
        dropout=nothing,
        inwards=to_tanh,
        outwards=from_tanh,
        weights=dcgan_weights,
    )


def of_points(
    shape: Sequence[int], widths: Sequence[int], latent: int, reach: float
) -> Kit:
    """Linear layers for points whose coordinates lie in [-reach, reach], without normalisation."""
    return Kit(
        shape=shape,
        widths=widths,
        latent=latent,
        side=(),
        low=-reach,
        high=reach,
        up=nn.Linear,
        down=nn.Linear,
        pooled=lambda a, b: nn.Sequential(
            nn.Linear(a, 2 * b), nn.MaxPool1d(2)
        ),
        batch_norm=nn.BatchNorm1d,
        norms=nothing,
        activation=partial(nn.LeakyReLU, 0.2),
        dropout=nothing,
        inwards=to_tanh,
        outwards=from_tanh,
        weights=as_they_are,
    )


def generator(kit: Kit) -> nn.Sequential:
    """Noise (N, latent) to (N, *shape)."""
    first = kit.widths[-1]
    layers: list[nn.Module] = [
        nn.Linear(kit.latent, first * math.prod(kit.side)),
        nn.Unflatten(1, (first, *kit.side)),
    ]
    for a, b in pairwise((kit.shape[0], *kit.widths)[::-1]):
        layers += [*kit.norms(a), nn.ReLU(), *kit.dropout(), kit.up(a, b)]
    network = nn.Sequential(*layers, *kit.outwards(kit.low, kit.high))
    network.apply(kit.weights)
    return network


def discriminator(kit: Kit) -> nn.Sequential:
    """(N, *shape) to one number each, (N, 1)."""
    a, *others = kit.widths
    layers = [kit.down(kit.shape[0], a), kit.activation()]
    for b in others:
        layers += [kit.down(a, b), *kit.norms(b), kit.activation()]
        a = b
    network = nn.Sequential(
        *kit.inwards(kit.low, kit.high),
        *layers,
        nn.Flatten(),
        nn.Linear(a * math.prod(kit.side), 1),
    )
    network.apply(kit.weights)
    return network


# ---------------------------------------------------------------------------------- labels


def told_generator(kit: Kit, classes: int) -> Told:
    """A generator of noise (N, latent) and labels (N,)."""
    return Told(
        generator(kit._replace(latent=kit.latent + classes)), classes
    )


def told_discriminator(kit: Kit, classes: int) -> Told:
    """A discriminator of data (N, *shape) and labels (N,)."""
    shape = (kit.shape[0] + classes, *kit.shape[1:])
    return Told(discriminator(kit._replace(shape=shape)), classes)


class Told(nn.Module):
    """A network that is told labels (N,): K numbers behind x (N, D), or K planes behind x (N, C, H, W).

    The one of the label is 1, the others are 0. `known`: 1 for each class it has learned.
    """

    def __init__(self, network: nn.Module, classes: int) -> None:
        super().__init__()
        self.network = network
        self.known: tg.Tensor
        self.register_buffer("known", tg.zeros(classes))

    def forward(self, x: tg.Tensor, labels: tg.Tensor) -> tg.Tensor:
        told = F.one_hot(labels, len(self.known)).to(x.dtype)
        planes = told.reshape(*told.shape, *[1] * (x.ndim - 2))
        planes = planes.expand(*told.shape, *x.shape[2:])
        return self.network(tg.cat([x, planes], 1))


# ---------------------------------------------------------------------------------- ranges


class Scaled(nn.Module):
    """scale * x + shift."""

    def __init__(self, scale: float, shift: float) -> None:
        super().__init__()
        self.scale, self.shift = scale, shift

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return self.scale * x + self.shift


def to_tanh(low: float, high: float) -> list[nn.Module]:
    """[low, high] to [-1, 1]."""
    scale = 2 / (high - low)
    return [Scaled(scale, -1 - scale * low)]


def from_tanh(low: float, high: float) -> list[nn.Module]:
    """Any number through tanh to [low, high]."""
    half = (high - low) / 2
    return [nn.Tanh(), Scaled(half, low + half)]


def to_unit(low: float, high: float) -> list[nn.Module]:
    """[low, high] to [0, 1]."""
    return [Scaled(1 / (high - low), -low / (high - low))]


def from_unit(low: float, high: float) -> list[nn.Module]:
    """[0, 1] to [low, high], without a limit."""
    return [Scaled(high - low, low)]


class AlwaysDropout(nn.Dropout):
    """Dropout that stays in evaluation mode (Isola et al. 2017: the noise of a generator)."""

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return F.dropout(x, self.p, training=True)


def nothing(*sizes: int) -> list[nn.Module]:
    """No block."""
    return []


def as_they_are(module: nn.Module) -> None:
    """Leaves the initial weights."""
