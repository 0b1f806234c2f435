"""Networks without a dense layer, for pictures of any size (Jetchev et al. 2016, lecture 0).

    z (latent, h, w) - transposed convolution 6, stride 1 - / sqrt(places' number of z) - batch norm - ReLU
                     - [transposed convolution 4, stride 2, padding 2 - batch norm - ReLU] ... - tanh

Trained on z of 1x1, an image; sampled with any map of z, a picture as large as wanted. Two things make the inside of a
large picture the same as what was trained. A place between several z receives the sum of what each sends: divided by
the root of their number it has the variance that one z gave it. And no layer pads with zeros: at 64 pixels every place
would be near a border, and the inside of a large picture a thing that was never seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import tinygen as tg
from tinygen import nn
from tinygen.nn import functional as F

from .dcgan import dcgan_weights
from .mlp import FromTanh

FIRST = 6  # planes' size for one z: as each doubling loses two, 4 of them count


class TextureGenerator(nn.Module):
    """Maps of noise (N, latent, h, w) to images in [0, 1] of 2^d (h + 3) x 2^d (w + 3) pixels, d = len(channels).

    channels: of the layers from the image back; four of them for 64 pixels, so that one z makes an image.
    Moving the map by one place moves the picture by 2^d pixels, exactly where all places have 36 z: 5 places from the
    map's border.
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
