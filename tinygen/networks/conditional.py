"""DCGAN's players that are told a label: G(z, y) and D(x, y) (Mirza and Osindero 2014, lectures 2, 3, 4).

    G   [z, e_y] - DCGenerator                           e_y: the label as K numbers, 1 at y, else 0
    D   [x, K planes] - DCDiscriminator                  plane y is 1, the others 0, as large as the image

Both are DCGAN's nets with K more inputs. A plane of 1 under a convolution is a bias of that label, at every place.
"""

from __future__ import annotations

from collections.abc import Sequence

import tinygen as tg
from tinygen import nn
from tinygen.nn import functional as F

from .dcgan import DCDiscriminator, DCGenerator


class ConditionalGenerator(nn.Module):
    """Noise (N, latent) and labels (N,) to images (N, C, H, W) in [0, 1]. `known`: 1 for each class it has learned."""

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        channels: Sequence[int],
        latent: int,
    ) -> None:
        super().__init__()
        self.generator = DCGenerator(shape, channels, latent + classes)
        self.known: tg.Tensor
        self.register_buffer("known", tg.zeros(classes))

    def forward(self, z: tg.Tensor, labels: tg.Tensor) -> tg.Tensor:
        told = F.one_hot(labels, len(self.known)).to(z.dtype)
        return self.generator(tg.cat([z, told], 1))


class ConditionalDiscriminator(nn.Module):
    """Images (N, C, H, W) in [0, 1] and labels (N,) to one logit each: is x real, and of that class?"""

    def __init__(
        self, shape: Sequence[int], classes: int, channels: Sequence[int]
    ) -> None:
        super().__init__()
        self.classes = classes
        joined = (shape[0] + classes, *shape[1:])
        self.discriminator = DCDiscriminator(joined, channels)

    def forward(self, x: tg.Tensor, labels: tg.Tensor) -> tg.Tensor:
        told = F.one_hot(labels, self.classes).to(x.dtype)
        planes = 0.5 + 0.5 * told  # white and grey are 1 and 0 to the network
        planes = planes[:, :, None, None].expand(-1, -1, *x.shape[2:])
        return self.discriminator(tg.cat([x, planes], 1))
