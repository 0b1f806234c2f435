"""A generator and a discriminator that grow from a quarter of the image's size to all of it (Karras 2018).

    G at stage s:   image_s = (1 - alpha) up(old_s-1) + alpha new_s             7 - 14 - 28 pixels for two `channels`
    D at stage s:   h = (1 - alpha) old_s-1(half(x)) + alpha new_s(x)           x has the size of stage s

At alpha 0 both compute what they did before they grew, at alpha 1 what the new layers say. Fully grown they are
DCGAN's networks (dcgan.py), with as many multiplications: so what growing is worth can be measured. Images become
smaller by means of four pixels, larger by repeated ones; every size works that can be halved.

Absent on purpose: Karras's normalisation of pixels and weights, and when to grow (models/progressive_gan.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import tinygen as tg
from tinygen import nn
from tinygen.nn import functional as F

from .convolutional import halved
from .dcgan import dcgan_weights
from .mlp import FromTanh, ToTanh


class Growing(nn.Module):
    """What both players share: sizes, from the smallest, and `alpha`, a 0-d buffer, the new layers' share.

    `stage` is the index of the present size; `fading` says whether the layers before still count. A new network is
    fully grown. Raises ValueError where the images cannot be halved as often as there are channels.
    """

    def __init__(self, shape: Sequence[int], channels: Sequence[int]) -> None:
        super().__init__()
        self.sizes = halved(shape, len(channels))[::-1]
        self.stage, self.fading = len(channels), False
        self.register_buffer("alpha", tg.ones(()), persistent=False)

    def grow(self, stage: int, fading: bool, alpha: tg.Tensor) -> None:
        """Takes the size of a stage, from 0; `alpha` counts where it is fading. Its value is copied."""
        self.stage, self.fading = stage, fading
        self.alpha.copy_(alpha)

    def mixed(self, old: tg.Tensor, new: tg.Tensor) -> tg.Tensor:
        """(1 - alpha) old + alpha new."""
        return (1 - self.alpha) * old + self.alpha * new

    def smaller(self, images: tg.Tensor, stage: int) -> tg.Tensor:
        """Images of a stage's size: each pixel is the mean of those that it covers."""
        return F.interpolate(images, size=self.sizes[stage], mode="area")

    def larger(self, images: tg.Tensor, stage: int) -> tg.Tensor:
        """Images of a stage's size: each pixel is repeated."""
        return F.interpolate(images, size=self.sizes[stage], mode="nearest")


class GrowingGenerator(Growing):
    """Noise (N, latent) to images in [0, 1] of the present size: DCGenerator with an exit at every size."""

    def __init__(
        self, shape: Sequence[int], channels: Sequence[int], latent: int
    ) -> None:
        super().__init__(shape, channels)
        h, w = self.sizes[0]
        widths = (shape[0], *channels)[::-1]
        self.project = nn.Sequential(
            nn.Linear(latent, channels[-1] * h * w, bias=False),
            nn.Unflatten(1, (channels[-1], h, w)),
        )
        self.norms = nn.ModuleList([nn.BatchNorm2d(a) for a in widths[:-1]])
        layers = [
            nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False)
            for a, b in pairwise(widths[:-1])
        ]
        self.up = nn.ModuleList(
            [*layers, nn.ConvTranspose2d(channels[0], shape[0], 4, 2, 1)]
        )
        self.to_image = nn.ModuleList(
            [nn.Conv2d(a, shape[0], 1) for a in widths[:-1]]
        )
        self.range = FromTanh()
        self.apply(dcgan_weights)

    def forward(self, z: tg.Tensor) -> tg.Tensor:
        old = y = self.norms[0](self.project(z)).relu()
        for stage in range(1, self.stage + 1):
            old = y
            y = self.up[stage - 1](y, output_size=self.sizes[stage])
            if stage < len(self.norms):
                y = self.norms[stage](y).relu()
        new = self.image(y, self.stage)
        if not self.fading:
            return new
        before = self.image(old, self.stage - 1)
        return self.mixed(self.larger(before, self.stage), new)

    def image(self, y: tg.Tensor, stage: int) -> tg.Tensor:
        """Planes of a stage as an image; the last stage's are one already."""
        if stage < len(self.to_image):
            y = self.to_image[stage](y)
        return self.range(y.tanh())


class GrowingDiscriminator(Growing):
    """Images in [0, 1] of the present size to one logit each: DCDiscriminator with an entry at every size."""

    def __init__(self, shape: Sequence[int], channels: Sequence[int]) -> None:
        super().__init__(shape, channels)
        h, w = self.sizes[0]
        widths = channels[::-1]
        self.range = ToTanh()
        # Planes that mix in a fade are both normalised or neither. Else weights
        # behind small planes grow, and D's logits leap where large ones replace them.
        self.from_image = nn.ModuleList(
            nn.Conv2d(shape[0], a, 3, 1, 1, bias=False) for a in widths[:-1]
        )
        self.from_image.append(nn.Conv2d(shape[0], channels[0], 3, 1, 1))
        self.from_image.append(nn.Conv2d(shape[0], channels[0], 4, 2, 1))
        self.norms = nn.ModuleList([nn.BatchNorm2d(a) for a in widths[:-1]])
        self.down = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(b, a, 4, 2, 1, bias=False),
                nn.BatchNorm2d(a),
                nn.LeakyReLU(0.2),
            )
            for a, b in pairwise(widths)
        )
        self.judge = nn.Sequential(
            nn.Flatten(), nn.Linear(channels[-1] * h * w, 1)
        )
        self.apply(dcgan_weights)

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        y = self.enter(x, self.stage)
        if 0 < self.stage <= len(self.down):
            y = self.down[self.stage - 1](y)
        level = max(self.stage - 1, 0)  # whose planes y is
        if self.fading:
            before = self.enter(self.smaller(x, level), level)
            y = self.mixed(before, y)
        for layer in reversed(self.down[:level]):
            y = layer(y)
        return self.judge(y)

    def enter(self, x: tg.Tensor, stage: int) -> tg.Tensor:
        """Images of a stage's size as planes; the last stage's entry halves them at once."""
        y = self.from_image[stage](self.range(x))
        if stage < len(self.norms):
            y = self.norms[stage](y)
        return F.leaky_relu(y, 0.2)
