"""Networks without a dense layer: of any size, and the same everywhere (lecture 0).

Of a BiGAN, with a code and a number of D for each square of m pixels a side:

    E   image - [convolution k4 s2 p1 - batch norm - LeakyReLU 0.2] ... - convolution k1 - batch norm - codes
    G   codes - convolution k1 - [batch norm - ReLU - transposed convolution k4 s2 p1] ... - tanh
    D   image - [convolution k4 s2 p1 - LeakyReLU 0.2] ... -.
                                                             [both] - convolution k1 - LeakyReLU 0.2 - a number
        codes - convolution k1 - LeakyReLU 0.2 -------------'

An image that is moved by m pixels has its codes moved by one, and so has all that is made of them: of a crop the
networks give the crop of what they give for the whole, but for a border as wide as they look.

Of a texture GAN (Jetchev et al. 2016), trained on z of 1x1, an image, and sampled with any map of z:

    z (latent, h, w) - transposed convolution 6, stride 1 - / sqrt(places' number of z) - batch norm - ReLU
                     - [transposed convolution 4, stride 2, padding 2 - batch norm - ReLU] ... - tanh

A place between several z receives the sum of what each sends: divided by the root of their number it has the variance
that one z gave it. No layer of it pads with zeros, so that what is trained has no border that a large picture lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import tinygen as tg
from tinygen import nn
from tinygen.nn import functional as F

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


FIRST = 6  # planes' size for one z: as each doubling loses two, 4 of them count


class TextureGenerator(nn.Module):
    """Maps of noise (N, latent, h, w) to images in [0, 1] of 2^d (h + 3) x 2^d (w + 3) pixels, d = len(channels).

    channels: of the layers from the image back; for images of 64 pixels four of them, so that one z makes an image.
    Moving the map by one place moves the picture by 2^d pixels, exactly where all places have 36 z, that is 5 places
    from the map's border.
    """

    def __init__(
        self, shape: Sequence[int], channels: Sequence[int], latent: int
    ) -> None:
        super().__init__()
        if len(shape) != 3:
            raise ValueError(
                f"a texture has images (channels, height, width), the data's shape is {tuple(shape)}"
            )
        self.size = (shape[1], shape[2])
        self.stride = 2 ** len(channels)
        self.first = nn.ConvTranspose2d(
            latent, channels[-1], FIRST, bias=False
        )
        widths = (shape[0], *channels)[::-1]
        self.norms = nn.ModuleList([nn.BatchNorm2d(a) for a in channels[::-1]])
        # Padding of a transposed convolution takes away: here the places that one of two neighbours does not reach,
        # and at last one pixel more, so that the size is a multiple of the stride.
        paddings = [2] * (len(channels) - 1) + [3]
        self.up = nn.ModuleList(
            [
                nn.ConvTranspose2d(a, b, 4, 2, p, bias=p == 3)
                for (a, b), p in zip(pairwise(widths), paddings)
            ]
        )
        self.range = FromTanh()
        self.apply(dcgan_weights)

    def cells(self, size: Sequence[int] | None = None) -> tuple[int, int]:
        """(h, w) of the smallest map whose picture has room for `size` (height, width), by default the training's."""
        height, width = (
            max(1, -(-side // self.stride) - 3) for side in size or self.size
        )
        return height, width

    def memory(self, size: Sequence[int], n: int = 1) -> int:
        """Bytes that n pictures take, one after the other: of the largest layer twice the input, and the output."""
        h, w = (n + FIRST - 1 for n in self.cells(size))
        found = 0
        for norm, up in zip(self.norms, self.up):
            read = 2 * norm.num_features * h * w
            h, w = 2 * h - 2, 2 * w - 2
            found = max(found, 4 * (read + up.out_channels * h * w))
        return found + 4 * n * self.up[-1].out_channels * size[0] * size[1]

    def forward(
        self, z: tg.Tensor, size: Sequence[int] | None = None
    ) -> tg.Tensor:
        """The picture, cut at right and below to `size`: that of the training for a map of the training's, or all."""
        if size is None and z.shape[2:] == self.cells():
            size = self.size
        ones = tg.ones(1, 1, *z.shape[2:], device=z.device)
        kernel = tg.ones(1, 1, FIRST, FIRST, device=z.device)
        senders = F.conv_transpose2d(ones, kernel)  # how many z reach a place
        y = self.first(z) / senders.sqrt()
        for norm, up in zip(self.norms, self.up):
            y = up(norm(y).relu())
        picture = self.range(y.tanh())
        return picture[:, :, : size[0], : size[1]] if size else picture
