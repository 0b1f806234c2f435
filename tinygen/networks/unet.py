"""U-Net: an encoder, its mirror image, and skips between them (Ronneberger 2015, Isola et al. 2017; lectures 2, 3).

    x - down - down - ... - up - up - y        down: LeakyReLU 0.2 - convolution 4, stride 2 - batch norm
         |      |___________|    |             up:   ReLU - transposed convolution 4, stride 2 - batch norm - dropout
         |_______________________|             a skip: the planes on both sides of it, one behind the other

What is fine passes by the skips, so the innermost planes need to know only what is coarse. The first and the innermost
layer going down have no norm, as in pix2pix. Odd sides work: a layer going up is told the size it restores.

The network says what images it takes, as those of residual.py: sides that are a multiple of `multiple` are computed
alike wherever a picture is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import tinygen as tg
from tinygen import nn

from .convolutional import halved
from .mlp import FromTanh, ToTanh


class UNet(nn.Module):
    """Images (N, C, H, W) to images (N, outputs, H, W), both in [0, 1].

    shape: (C, H, W); channels: planes after each halving; dropout: `dropout()` makes the module behind every layer
    going up but the last.
    """

    scale = 1

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int,
        channels: Sequence[int],
        dropout: Callable = nn.Identity,
    ) -> None:
        super().__init__()
        halved(shape, len(channels))
        self.channels, self.multiple = shape[0], 2 ** len(channels)
        self.reach = 3 * (self.multiple - 1)  # of each size 2 going down, 1 up
        first, innermost = channels[0], channels[-1]
        down: list[nn.Module] = [
            nn.Sequential(ToTanh(), nn.Conv2d(shape[0], first, 4, 2, 1))
        ]
        for a, b in pairwise(channels):
            conv = nn.Conv2d(a, b, 4, 2, 1)
            down.append(
                nn.Sequential(nn.LeakyReLU(0.2), conv, nn.BatchNorm2d(b))
            )
        if len(down) > 1:  # the innermost one
            down[-1] = nn.Sequential(nn.LeakyReLU(0.2), conv)
        self.down = nn.ModuleList(down)
        inputs = [innermost, *[2 * c for c in channels[-2::-1]]]
        widths = [*channels[-2::-1], outputs]
        self.up = nn.ModuleList(
            [
                nn.ConvTranspose2d(a, b, 4, 2, 1)
                for a, b in zip(inputs, widths)
            ]
        )
        self.norms = nn.ModuleList(
            [
                nn.Sequential(nn.BatchNorm2d(b), dropout())
                for b in widths[:-1]
            ]
        )
        self.range = FromTanh()

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        sizes, planes = [], []
        h = x
        for down in self.down:
            sizes.append(list(h.shape[2:]))
            h = down(h)
            planes.append(h)
        for i, up in enumerate(self.up):
            if i > 0:
                h = tg.cat([self.norms[i - 1](h), planes[-1 - i]], 1)
            h = up(h.relu(), output_size=sizes[-1 - i])
        return self.range(h.tanh())


class Detailed(nn.Module):
    """(N, C, H, W) to (N, outputs, H, W) in [0, 1]: planes of a network beside the image, and a convolution 3 - tanh.

    network: from C planes to `planes`, at one size. What is as fine as a pixel need not pass through its halvings.
    """

    scale = 1

    def __init__(
        self, network: nn.Module, planes: int, outputs: int
    ) -> None:
        super().__init__()
        self.network = network
        self.channels, self.multiple = network.channels, network.multiple
        self.reach = network.reach + 1
        self.mix = nn.Conv2d(planes + self.channels, outputs, 3, padding=1)
        self.range = FromTanh()

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        h = tg.cat([self.network(x), x], 1)
        return self.range(self.mix(h).tanh())


class Filling(nn.Module):
    """(N, C + 1, H, W), the last plane 1 where pixels are hidden, to (N, C, H, W): the known pixels bit for bit.

    network: from C + 1 planes to C.
    """

    scale = 1

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.channels = network.channels - 1
        self.multiple, self.reach = network.multiple, network.reach

    def forward(self, seen: tg.Tensor) -> tg.Tensor:
        known, hidden = seen[:, :-1], seen[:, -1:] > 0.5
        return tg.where(hidden, self.network(seen), known)
