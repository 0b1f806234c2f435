"""Fully connected networks: linear layers with a nonlinearity between them (lectures 0-4).

    h_0 = x,   h_l = relu(W_l h_{l-1} + b_l),   y = W_L h_{L-1} + b_L

They take data of any shape: (C, H, W) images are flattened, points are (D,). Decoders and discriminators return
logits, the values before a sigmoid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import tinygen as tg
from tinygen import nn


def linear_layers(sizes: Sequence[int]) -> list[nn.Module]:
    """Linear layers from sizes[0] to sizes[-1] values with ReLU between them, none after the last."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return layers[:-1]


def he_weights(module: nn.Module) -> None:
    """He's initialisation (2015), for `module.apply`: weights N(0, 2 / inputs), biases 0.

    `inputs` of a value: those of a linear layer, or those that its kernel reaches. With torch's weights a third of the
    units behind two linear layers with ReLU is 0 for every digit and never learns; and a convolutional decoder may end
    in black images, where its sigmoid has no slope (2 of 3 seeds).
    """
    kinds = nn.Linear, nn.Conv2d, nn.ConvTranspose2d
    if isinstance(module, kinds):
        weight = module.weight
        inputs: float = math.prod(weight.shape[1:])
        if isinstance(module, nn.ConvTranspose2d):
            taps = math.prod(weight.shape[2:]) / math.prod(module.stride)
            inputs = weight.shape[0] * taps
        weight.data.normal_(0, math.sqrt(2 / inputs))
        module.bias.data.zero_()


class MLPEncoder(nn.Sequential):
    """(N, *shape) to (N, outputs) through layers of `hidden` values."""

    def __init__(
        self, shape: Sequence[int], hidden: Sequence[int], outputs: int
    ) -> None:
        super().__init__(
            nn.Flatten(), *linear_layers((math.prod(shape), *hidden, outputs))
        )


class MLPDecoder(nn.Sequential):
    """(N, inputs) to logits (N, *shape) through layers of `hidden` values."""

    def __init__(
        self, shape: Sequence[int], hidden: Sequence[int], inputs: int
    ) -> None:
        super().__init__(
            *linear_layers((inputs, *hidden, math.prod(shape))),
            nn.Unflatten(1, tuple(shape)),
        )


class TiedDecoder(nn.Module):
    """(N, outputs of a layer) to logits (N, *shape): y = W^T h + c, W the weight of that linear layer.

    Only c is its own; W is learned and saved with the layer.
    """

    def __init__(self, shape: Sequence[int], layer: nn.Linear) -> None:
        super().__init__()
        self.shape, self.tied = tuple(shape), (layer,)  # a tuple hides it
        self.bias = nn.Parameter(tg.zeros(math.prod(shape)))

    def forward(self, h: tg.Tensor) -> tg.Tensor:
        y = h @ self.tied[0].weight + self.bias
        return y.reshape(len(h), *self.shape)


class GaussianHead(nn.Module):
    """(N, inputs) to the mean and log variance of a diagonal Gaussian, each (N, latent)."""

    def __init__(self, inputs: int, latent: int) -> None:
        super().__init__()
        self.mean, self.log_variance = (
            nn.Linear(inputs, latent),
            nn.Linear(inputs, latent),
        )

    def forward(self, h: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        return self.mean(h), self.log_variance(h)


def gaussian(encoder: nn.Module, width: int, latent: int) -> nn.Sequential:
    """The encoder of a VAE: `encoder` gives `width` values, then ReLU and a GaussianHead."""
    return nn.Sequential(encoder, nn.ReLU(), GaussianHead(width, latent))


class MLPGenerator(nn.Sequential):
    """Noise (N, latent) to images in [0, 1] through linear layers with batch norm and ReLU."""

    def __init__(
        self, shape: Sequence[int], hidden: Sequence[int], latent: int
    ) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((latent, *hidden)):
            layers += [
                nn.Linear(inputs, outputs),
                nn.BatchNorm1d(outputs),
                nn.ReLU(),
            ]
        values = math.prod(shape)
        super().__init__(
            *layers,
            nn.Linear(hidden[-1], values),
            nn.Tanh(),
            FromTanh(),
            nn.Unflatten(1, tuple(shape)),
        )


class MLPDiscriminator(nn.Sequential):
    """Images in [0, 1] to one logit each through linear layers with LeakyReLU 0.2 and dropout."""

    def __init__(
        self, shape: Sequence[int], hidden: Sequence[int], dropout: float = 0.3
    ) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((math.prod(shape), *hidden)):
            layers += [
                nn.Linear(inputs, outputs),
                nn.LeakyReLU(0.2),
                nn.Dropout(dropout),
            ]
        super().__init__(
            ToTanh(), nn.Flatten(), *layers, nn.Linear(hidden[-1], 1)
        )


class ToTanh(nn.Module):
    """[0, 1] to [-1, 1], the range of tanh."""

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return 2 * x - 1


class FromTanh(nn.Module):
    """[-1, 1], the range of tanh, to [0, 1]."""

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return 0.5 * (x + 1)
