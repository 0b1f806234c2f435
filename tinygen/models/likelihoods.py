"""p(x|z) of a decoder that returns logits: what a VAE's reconstruction term is made of (lectures 2, 3, 4).

    likelihood(logits, x)         # -log p(x|z), summed over pixels, averaged over the batch, in nats
    likelihood.log_prob(logits, x)  # log p(x|z) of each image, (N,)
    likelihood.mean(logits)       # E[x|z], an image in [0, 1]

A likelihood may learn: so it is a module.
"""

from __future__ import annotations

import math

import tinygen as tg
from tinygen import nn
from tinygen.nn import functional as F


class Bernoulli(nn.Module):
    """A pixel in [0, 1] is its probability to be on: -sum x log y + (1 - x) log(1 - y), y = sigmoid(logits)."""

    def forward(self, logits: tg.Tensor, x: tg.Tensor) -> tg.Tensor:
        return F.binary_cross_entropy_with_logits(
            logits, x, reduction="sum"
        ) / len(x)

    def log_prob(self, logits: tg.Tensor, x: tg.Tensor) -> tg.Tensor:
        losses = F.binary_cross_entropy_with_logits(logits, x, reduction="none")
        return -losses.flatten(1).sum(1)

    def mean(self, logits: tg.Tensor) -> tg.Tensor:
        return logits.sigmoid()


class Gaussian(nn.Module):
    """x ~ N(sigmoid(logits), sigma^2), sigma one learned number for all pixels.

    A density, so its nats may well be negative. The best sigma^2 is the mean squared error of a pixel.
    """

    def __init__(self, log_sigma: float = -1.0) -> None:
        super().__init__()
        self.log_sigma = nn.Parameter(tg.full((), log_sigma))

    def forward(self, logits: tg.Tensor, x: tg.Tensor) -> tg.Tensor:
        error = (logits.sigmoid() - x).square().sum() / len(x)
        pixels = math.prod(x.shape[1:])
        spread = pixels * (self.log_sigma + 0.5 * math.log(2 * math.pi))
        return 0.5 * error * (-2 * self.log_sigma).exp() + spread

    def log_prob(self, logits: tg.Tensor, x: tg.Tensor) -> tg.Tensor:
        errors = (logits.sigmoid() - x).square().flatten(1).sum(1)
        pixels = math.prod(x.shape[1:])
        spread = pixels * (self.log_sigma + 0.5 * math.log(2 * math.pi))
        return -0.5 * errors * (-2 * self.log_sigma).exp() - spread

    def mean(self, logits: tg.Tensor) -> tg.Tensor:
        return logits.sigmoid()
