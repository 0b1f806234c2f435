"""BiGAN's encoder and its discriminator of pairs (Donahue et al. 2017, lecture 0).

    E   image - DCGAN's convolutions - linear - batch norm - code
    D   image - convolutions, LeakyReLU 0.2 -.
                                              [both] - linear - LeakyReLU 0.2 - logit
        code - linear - LeakyReLU 0.2 -------'

Codes are to be N(0, I). The norm without a scale gives each of their numbers mean 0 and variance 1 from the first step
on; what is left to the game is how they hang together. D has no batch norm: real and made pairs come in batches of
their own, whose means would tell them apart. What its last layer sees are the features f(D(s, z)) by which lecture 0
compares an image with its reconstruction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import tinygen as tg
from tinygen import nn

from .convolutional import halved
from .dcgan import dcgan_weights
from .mlp import ToTanh


def halving(
    shape: Sequence[int], channels: Sequence[int], norm: Callable | None = None
) -> list[nn.Module]:
    """DCGAN's layers from images in [0, 1] to maps: k4 s2 p1 and LeakyReLU 0.2, `norm(planes)` but on the first."""
    halved(shape, len(channels))
    layers: list[nn.Module] = [
        ToTanh(),
        nn.Conv2d(shape[0], channels[0], 4, 2, 1),
        nn.LeakyReLU(0.2),
    ]
    for a, b in pairwise(channels):
        layers.append(nn.Conv2d(a, b, 4, 2, 1, bias=norm is None))
        layers += [norm(b)] if norm else []
        layers.append(nn.LeakyReLU(0.2))
    return layers


class DCEncoder(nn.Sequential):
    """Images (N, C, H, W) in [0, 1] to codes (N, latent): of a batch in training, mean 0 and variance 1."""

    def __init__(
        self, shape: Sequence[int], channels: Sequence[int], latent: int
    ) -> None:
        h, w = halved(shape, len(channels))[-1]
        super().__init__(
            *halving(shape, channels, nn.BatchNorm2d),
            nn.Flatten(),
            nn.Linear(channels[-1] * h * w, latent, bias=False),
            nn.BatchNorm1d(latent, affine=False),
        )
        self.apply(dcgan_weights)


class JointDiscriminator(nn.Module):
    """Images (N, C, H, W) in [0, 1] and codes (N, latent) to one logit each (N, 1): is it (s, E(s)), not (G(z), z)?"""

    def __init__(
        self,
        shape: Sequence[int],
        channels: Sequence[int],
        latent: int,
        hidden: int,
    ) -> None:
        super().__init__()
        h, w = halved(shape, len(channels))[-1]
        self.of_image = nn.Sequential(*halving(shape, channels), nn.Flatten())
        self.of_code = nn.Sequential(
            nn.Linear(latent, hidden), nn.LeakyReLU(0.2)
        )
        self.of_both = nn.Sequential(
            nn.Linear(channels[-1] * h * w + hidden, hidden), nn.LeakyReLU(0.2)
        )
        self.logit = nn.Linear(hidden, 1)
        self.apply(dcgan_weights)

    def features(self, images: tg.Tensor, codes: tg.Tensor) -> tg.Tensor:
        """What the last layer sees, (N, hidden)."""
        parts = [self.of_image(images), self.of_code(codes)]
        return self.of_both(tg.cat(parts, 1))

    def forward(self, images: tg.Tensor, codes: tg.Tensor) -> tg.Tensor:
        return self.logit(self.features(images, codes))
