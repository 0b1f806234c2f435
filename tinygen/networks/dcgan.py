"""DCGAN's generator and discriminator, and a critic without batch norm (Radford 2016, lectures 0, 3, 4).

    noise - linear - [batch norm - ReLU - transposed convolution k4 s2 p1] ... - tanh          the generator
                                     or resize - convolution k3 p1, without checkerboards (Odena 2016)
    image - [convolution k4 s2 p1 - batch norm - LeakyReLU 0.2] ... - linear - logit           the discriminator

Weights are drawn from N(0, 0.02). A gradient penalty speaks of one image's gradient, and batch norm mixes images: so a
critic has none (Gulrajani 2017). With `apply(spectrally_normalised)` its slope is bounded by its weights alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import tinygen as tg
from tinygen import nn
from tinygen.nn import functional as F

from .convolutional import halved
from .mlp import FromTanh, ToTanh


def dcgan_weights(module: nn.Module) -> None:
    """DCGAN's initialisation, for `module.apply`: weights N(0, 0.02), scales of batch norm N(1, 0.02), biases 0."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        module.weight.data.normal_(0.0, 0.02)
        if module.bias is not None:
            module.bias.data.zero_()
    elif isinstance(module, nn.BatchNorm2d) and module.affine:
        module.weight.data.normal_(1.0, 0.02)
        module.bias.data.zero_()


def spectrally_normalised(module: nn.Module) -> None:
    """For `module.apply`: every weight is divided by its largest singular value (Miyato et al. 2018)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.utils.spectral_norm(module)


def transposed(a: int, b: int, bias: bool) -> nn.Module:
    """A transposed convolution: a planes to b of twice the size."""
    return nn.ConvTranspose2d(a, b, 4, 2, 1, bias=bias)


class Resized(nn.Module):
    """The nearest pixel, then a convolution: a planes to b of the size that is asked for."""

    def __init__(self, a: int, b: int, bias: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(a, b, 3, padding=1, bias=bias)

    def forward(
        self, x: tg.Tensor, output_size: tuple[int, int]
    ) -> tg.Tensor:
        return self.conv(F.interpolate(x, size=output_size))


class DCGenerator(nn.Module):
    """Noise (N, latent) to images in [0, 1]: project to channels[-1] planes, double their size layer by layer.

    `upsample(a, b, bias)` makes the layer from a planes to b planes of twice the size.
    """

    def __init__(
        self,
        shape: Sequence[int],
        channels: Sequence[int],
        latent: int,
        upsample: Callable = transposed,
    ) -> None:
        super().__init__()
        *self.sizes, (h, w) = halved(shape, len(channels))
        planes = (channels[-1], h, w)
        self.project = nn.Sequential(
            nn.Linear(latent, channels[-1] * h * w, bias=False),
            nn.Unflatten(1, planes),
        )
        widths = (shape[0], *channels)[::-1]
        self.norms = nn.ModuleList([nn.BatchNorm2d(a) for a in widths[:-1]])
        # Batch norm subtracts the mean, so only the last layer needs a bias.
        layers = [upsample(a, b, False) for a, b in pairwise(widths[:-1])]
        self.up = nn.ModuleList(
            [*layers, upsample(channels[0], shape[0], True)]
        )
        self.range = FromTanh()
        self.apply(dcgan_weights)

    def forward(self, z: tg.Tensor) -> tg.Tensor:
        y = self.project(z)
        for norm, up, size in zip(self.norms, self.up, reversed(self.sizes)):
            y = up(norm(y).relu(), output_size=size)
        return self.range(y.tanh())


class DCDiscriminator(nn.Sequential):
    """Images in [0, 1] to one logit each: convolutions with LeakyReLU 0.2, batch norm except on the first."""

    def __init__(self, shape: Sequence[int], channels: Sequence[int]) -> None:
        h, w = halved(shape, len(channels))[-1]
        layers: list[nn.Module] = [
            nn.Conv2d(shape[0], channels[0], 4, 2, 1),
            nn.LeakyReLU(0.2),
        ]
        for a, b in pairwise(channels):
            layers += [
                nn.Conv2d(a, b, 4, 2, 1, bias=False),
                nn.BatchNorm2d(b),
                nn.LeakyReLU(0.2),
            ]
        super().__init__(
            ToTanh(), *layers, nn.Flatten(), nn.Linear(channels[-1] * h * w, 1)
        )
        self.apply(dcgan_weights)


class DCCritic(nn.Sequential):
    """Images in [0, 1] to one number each: DCDiscriminator without batch norm, torch's initial weights."""

    def __init__(self, shape: Sequence[int], channels: Sequence[int]) -> None:
        h, w = halved(shape, len(channels))[-1]
        layers: list[nn.Module] = []
        for a, b in pairwise((shape[0], *channels)):
            layers += [nn.Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(0.2)]
        super().__init__(
            ToTanh(), *layers, nn.Flatten(), nn.Linear(channels[-1] * h * w, 1)
        )
