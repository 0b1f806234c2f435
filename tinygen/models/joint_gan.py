"""A GAN on pairs of data and labels: the label trick (ganhacks 12, lecture 3; the game of Mirza 2014).

    real (x, y),   fake (G(z, y'), y') with y' drawn uniformly:   min_G max_D  V((x, y), (G(z, y'), y'))

A label is a one-hot plane for each class, joined to x: K numbers behind a point, K planes behind an image. So D sees
x and y together, and the update is GANStep's. Noise and label enter G as one vector, (N, latent + classes).
"""

from __future__ import annotations

import tinygen as tg
from tinygen import nn
from tinygen.nn import functional as F

from .games import Game
from .gan import GANStep


class JointGANStep(GANStep):
    """GANStep on (x, label) joined. Batches are (x, labels); D receives shape[0] + classes planes."""

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        game: Game,
        *,
        classes: int,
        latent: int,
        lr: float = 2e-4,
    ) -> None:
        pairs = Pairs(generator, classes)
        super().__init__(pairs, discriminator, game, latent=latent, lr=lr)
        self.classes = classes

    def __call__(self, batch: tuple) -> dict[str, tg.Tensor]:
        x, labels = batch
        return super().__call__((joined(x, F.one_hot(labels, self.classes)),))

    def sample(self, n: int) -> tg.Tensor:
        """n images or points of labels drawn uniformly, without the labels."""
        return super().sample(n)[:, : -self.classes]


class Pairs(nn.Module):
    """Noise (N, latent) to G(z, y) joined to y, each label y drawn uniformly."""

    def __init__(self, network: nn.Module, classes: int) -> None:
        super().__init__()
        self.network, self.classes = network, classes

    def forward(self, z: tg.Tensor) -> tg.Tensor:
        labels = tg.randint(0, self.classes, (len(z),), device=z.device)
        told = F.one_hot(labels, self.classes)
        return joined(self.network(joined(z, told)), told)


def joined(x: tg.Tensor, told: tg.Tensor) -> tg.Tensor:
    """x (N, C, ...) and one-hot labels (N, K) as planes behind it: (N, C + K, ...)."""
    planes = told.to(x.dtype).reshape(*told.shape, *[1] * (x.ndim - 2))
    return tg.cat([x, planes.expand(*told.shape, *x.shape[2:])], 1)
