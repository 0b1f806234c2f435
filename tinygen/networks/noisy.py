"""A convolutional discriminator with a logit for each class, noise and dropout in it (Salimans 2016, lecture 2).

    image + noise - [convolution k4 s2 p1 - LeakyReLU 0.2] ... - dropout - linear - LeakyReLU 0.2 = features
    features + noise - linear - logits

Noise keeps D from learning a hundred labelled images by heart. It is drawn in training alone. There is no batch norm:
labelled, real and fake images come in batches of their own, each with other statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import tinygen as tg
from tinygen import nn

from .convolutional import halved
from .mlp import he_weights


class GaussianNoise(nn.Module):
    """x + deviation * N(0, I) in training, x in evaluation."""

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.deviation = deviation

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        if not self.training:
            return x
        return x + self.deviation * tg.randn_like(x)


class NoisyDiscriminator(nn.Module):
    """Images (N, C, H, W) to logits (N, classes); `features(x)` are the values (N, hidden) below them."""

    def __init__(
        self,
        shape: Sequence[int],
        channels: Sequence[int],
        hidden: int,
        classes: int,
        *,
        noise: float = 0.3,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        h, w = halved(shape, len(channels))[-1]
        layers: list[nn.Module] = [GaussianNoise(noise)]
        for a, b in pairwise((shape[0], *channels)):
            layers += [nn.Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(0.2)]
        self.features = nn.Sequential(
            *layers,
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Linear(channels[-1] * h * w, hidden),
            nn.LeakyReLU(0.2),
        )
        self.classify = nn.Sequential(
            GaussianNoise(noise), nn.Linear(hidden, classes)
        )
        self.apply(he_weights)

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return self.classify(self.features(x))
