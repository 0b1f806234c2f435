"""A convolutional encoder and its mirror image with transposed convolutions (lectures 0, 1, 4).

A convolution of kernel 4, stride 2 and padding 1 maps both 2i and 2i + 1 pixels to i. So the decoder is told which of
the two it has to restore (`output_size`), and every image size of at least 8 pixels works.

Absent on purpose: skip connections (unet.py) and pooling.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import tinygen as tg
from tinygen import nn
from tinygen.nn import functional as F

from .mlp import linear_layers


def halved(shape: Sequence[int], times: int) -> list[tuple[int, int]]:
    """(height, width) of the image and after each of `times` convolutions of kernel 4, stride 2, padding 1."""
    if len(shape) != 3:
        raise ValueError(
            f"a convolution needs images (channels, height, width), the data's shape is {tuple(shape)}"
        )
    _, h, w = shape
    if min(h, w) >> times < 1:
        raise ValueError(
            f"an image of {h}x{w} pixels cannot be halved {times} times; use fewer channels=(...) entries"
        )
    return [(h >> i, w >> i) for i in range(times + 1)]


def halving_layers(
    shape: Sequence[int], channels: Sequence[int]
) -> list[nn.Module]:
    """Convolutions of kernel 4, stride 2, padding 1, each with a ReLU behind it."""
    layers: list[nn.Module] = []
    for a, b in pairwise((shape[0], *channels)):
        layers += [nn.Conv2d(a, b, 4, stride=2, padding=1), nn.ReLU()]
    return layers


def doubling_layers(
    shape: Sequence[int], channels: Sequence[int]
) -> nn.ModuleList:
    """The transposed convolutions that lead from channels[-1] planes back to the image's."""
    widths = (shape[0], *channels)[::-1]
    return nn.ModuleList(
        [
            nn.ConvTranspose2d(a, b, 4, stride=2, padding=1)
            for a, b in pairwise(widths)
        ]
    )


def doubled(
    y: tg.Tensor, layers: nn.ModuleList, sizes: Sequence[tuple[int, int]]
) -> tg.Tensor:
    """y after each layer in turn, with ReLU between them; `sizes` are the encoder's, the image's first."""
    for layer, size in zip(layers, reversed(sizes)):
        y = layer(y if layer is layers[0] else F.relu(y), output_size=size)
    return y


class ConvEncoder(nn.Sequential):
    """Images (N, C, H, W) to (N, outputs): k4 s2 p1 convolutions with ReLU, then linear layers `hidden` with ReLU."""

    def __init__(
        self,
        shape: Sequence[int],
        channels: Sequence[int],
        hidden: Sequence[int],
        outputs: int,
    ) -> None:
        h, w = halved(shape, len(channels))[-1]
        super().__init__(
            *halving_layers(shape, channels),
            nn.Flatten(),
            *linear_layers((channels[-1] * h * w, *hidden, outputs)),
        )


class ConvDecoder(nn.Module):
    """(N, inputs) to logits (N, C, H, W): linear layers `hidden`, then the encoder's sizes in reverse order.

    `channels` are those of the encoder, in its order.
    """

    def __init__(
        self,
        shape: Sequence[int],
        channels: Sequence[int],
        hidden: Sequence[int],
        inputs: int,
    ) -> None:
        super().__init__()
        *self.sizes, (h, w) = halved(shape, len(channels))
        layers = linear_layers((inputs, *hidden, channels[-1] * h * w))
        self.project = nn.Sequential(
            *layers, nn.ReLU(), nn.Unflatten(1, (channels[-1], h, w))
        )
        self.up = doubling_layers(shape, channels)

    def forward(self, z: tg.Tensor) -> tg.Tensor:
        return doubled(self.project(z), self.up, self.sizes)


class MapEncoder(nn.Sequential):
    """Images (N, C, H, W) to a feature map (N, channels[-1], h, w): ConvEncoder without linear layers."""

    def __init__(self, shape: Sequence[int], channels: Sequence[int]) -> None:
        halved(shape, len(channels))
        super().__init__(*halving_layers(shape, channels))


class MapDecoder(nn.Module):
    """A MapEncoder's feature map to logits (N, C, H, W). `channels` are those of the encoder, in its order."""

    def __init__(self, shape: Sequence[int], channels: Sequence[int]) -> None:
        super().__init__()
        self.sizes = halved(shape, len(channels))[:-1]
        self.up = doubling_layers(shape, channels)

    def forward(self, code: tg.Tensor) -> tg.Tensor:
        return doubled(code, self.up, self.sizes)
