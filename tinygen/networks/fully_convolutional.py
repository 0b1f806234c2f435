"""Networks without a dense layer: of any size, and the same everywhere (lecture 0).

    E   image - [convolution k4 s2 p1 - batch norm - LeakyReLU 0.2] ... - convolution k1 - batch norm - codes
    G   codes - convolution k1 - [batch norm - ReLU - transposed convolution k4 s2 p1] ... - tanh
    D   image - [convolution k4 s2 p1 - LeakyReLU 0.2] ... -.
                                                             [both] - convolution k1 - LeakyReLU 0.2 - a number
        codes - convolution k1 - LeakyReLU 0.2 -------------'

There is a code, and a number of D, for each square of m pixels a side. An image that is moved by m pixels has its codes
moved by one, and so has all that is made of them: of a crop the networks give the crop of what they give for the
whole, but for a border as wide as they look.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import tinygen as tg
from tinygen import nn

from .dcgan import dcgan_weights, transposed
from .joint import halving
from .mlp import FromTanh


class MapCodeEncoder(nn.Sequential):
    """Images (N, C, H, W) in [0, 1] to codes (N, latent, H / m, W / m), m = 2^(number of channels)."""

    def __init__(
        self, shape: Sequence[int], channels: Sequence[int], latent: int
    ) -> None:
        super().__init__(
            *halving(shape, channels, nn.BatchNorm2d),
            nn.Conv2d(channels[-1], latent, 1, bias=False),
            nn.BatchNorm2d(latent, affine=False),
        )
        self.channels, self.multiple = shape[0], 2 ** len(channels)
        self.apply(dcgan_weights)


class MapCodeGenerator(nn.Sequential):
    """Codes (N, latent, h, w) to images (N, C, m h, m w) in [0, 1]; `channels` are the encoder's, in its order."""

    def __init__(
        self, shape: Sequence[int], channels: Sequence[int], latent: int
    ) -> None:
        # Batch norm subtracts the mean, so only the last layer needs a bias.
        layers: list[nn.Module] = [
            nn.Conv2d(latent, channels[-1], 1, bias=False)
        ]
        for a, b in pairwise(channels[::-1]):
            layers += [nn.BatchNorm2d(a), nn.ReLU(), transposed(a, b, False)]
        layers += [nn.BatchNorm2d(channels[0]), nn.ReLU()]
        layers += [transposed(channels[0], shape[0], True)]
        super().__init__(*layers, nn.Tanh(), FromTanh())
        self.apply(dcgan_weights)


class MapDiscriminator(nn.Module):
    """Images (N, C, H, W) and their codes (N, latent, h, w) to one number at each place, (N, 1, h, w)."""

    def __init__(
        self,
        shape: Sequence[int],
        channels: Sequence[int],
        latent: int,
        hidden: int,
    ) -> None:
        super().__init__()
        self.of_image = nn.Sequential(*halving(shape, channels))
        self.of_code = nn.Sequential(
            nn.Conv2d(latent, hidden, 1), nn.LeakyReLU(0.2)
        )
        self.of_both = nn.Sequential(
            nn.Conv2d(channels[-1] + hidden, hidden, 1), nn.LeakyReLU(0.2)
        )
        self.number = nn.Conv2d(hidden, 1, 1)
        self.apply(dcgan_weights)

    def features(self, images: tg.Tensor, codes: tg.Tensor) -> tg.Tensor:
        """What the last layer sees, (N, hidden, h, w)."""
        parts = [self.of_image(images), self.of_code(codes)]
        return self.of_both(tg.cat(parts, 1))

    def forward(self, images: tg.Tensor, codes: tg.Tensor) -> tg.Tensor:
        return self.number(self.features(images, codes))
