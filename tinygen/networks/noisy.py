"""A discriminator with a logit for each class and noise between its layers (Salimans 2016, lecture 2).

    image + 0.3 n - [linear - ReLU = h, h + 0.5 n] ... - linear - logits,    n ~ N(0, I), the last h are the features

Noise keeps D from learning a hundred labelled images by heart; it is drawn in training alone. There is no batch norm:
labelled, real and fake images come in batches of their own, each with other statistics. The paper's weight
normalisation is left out: He's weights do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import tinygen as tg
from tinygen import nn

from .mlp import he_weights


class GaussianNoise(nn.Module):
    """x + deviation * N(0, I) in training, x in evaluation."""

    def __init__(self, deviation: float) -> None:
        super().__init__()
        if not deviation >= 0:
            raise ValueError(
                f"a deviation is at least 0, it is {deviation}; 0.3 is usual"
            )
        self.deviation = deviation

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        if not self.training:
            return x
        return x + self.deviation * tg.randn_like(x)


class NoisyDiscriminator(nn.Module):
    """Images (N, *shape) to logits (N, classes); `features(x)` are the values (N, hidden[-1]) below them.

    noise: its deviation on the images; hidden_noise: on the values of every hidden layer.
    """

    def __init__(
        self,
        shape: Sequence[int],
        hidden: Sequence[int],
        classes: int,
        *,
        noise: float = 0.3,
        hidden_noise: float = 0.5,
    ) -> None:
        super().__init__()
        sizes = (math.prod(shape), *hidden)
        layers: list[nn.Module] = [nn.Flatten(), GaussianNoise(noise)]
        for inputs, outputs in pairwise(sizes):
            layers += [
                nn.Linear(inputs, outputs),
                nn.ReLU(),
                GaussianNoise(hidden_noise),
            ]
        *below, last = layers
        self.features = nn.Sequential(*below)
        self.classify = nn.Sequential(last, nn.Linear(sizes[-1], classes))
        self.apply(he_weights)

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return self.classify(self.features(x))
