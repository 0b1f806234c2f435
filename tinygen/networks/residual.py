"""Residual networks from image to image: SRResNet, the generator of CycleGAN, and a refiner (lectures 1, 2, 3).

    y = x + f(x)            a block: convolution 3 - norm - activation - convolution 3 - norm, and x (He et al. 2016)

    SRResNet                conv 9 - [block] ... - conv 3 - norm, and the first planes again
                            - [conv 3 - pixel shuffle] for each doubling - conv 9                  (Ledig et al. 2017)
    ResNetGenerator         conv 7 - [conv 3, stride 2] ... - [block] ... - [transposed conv 3] ... - conv 7
                            with reflected borders and instance norm      (Johnson et al. 2016, Zhu et al. 2017)
    Refiner                 conv 3 - [block] ... - conv 1, at one size, without norm       (Shrivastava et al. 2017)

A pixel shuffle is a permutation: r^2 planes become one of r times the side. Each network says what images it takes:
`channels`, sides that are a multiple of `multiple`, and how far it looks, `reach` pixels of its input to each side
(None: everywhere, as where a norm is of a whole image). Its output is `scale` times as large.

Absent on purpose: SRGAN's discriminator, which is DCGAN's (dcgan.py), and PatchGAN's (patchgan.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import tinygen as tg
from tinygen import nn

from .mlp import FromTanh, ToTanh


class ResidualBlock(nn.Module):
    """x + f(x), at the same size and width. `conv(a, b)` keeps the size; `norm(a)` and `activation()` make modules."""

    def __init__(
        self, width: int, conv: Callable, norm: Callable, activation: Callable
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv(width, width),
            norm(width),
            activation(),
            conv(width, width),
            norm(width),
        )

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return x + self.layers(x)


def zero_padded(a: int, b: int) -> nn.Module:
    """A convolution of kernel 3 that keeps the size; beyond the border are zeros."""
    return nn.Conv2d(a, b, 3, padding=1)


def reflected(a: int, b: int) -> nn.Module:
    """A convolution of kernel 3 that keeps the size; beyond the border the image is mirrored."""
    return nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(a, b, 3))


class SRResNet(nn.Module):
    """Images (N, C, H, W) to images (N, C, factor H, factor W), values near [0, 1] without a limit.

    width: planes of every layer; blocks: residual blocks; factor: 2, 4 or 8.
    """

    multiple = 1

    def __init__(
        self, shape: Sequence[int], width: int, blocks: int, factor: int
    ) -> None:
        super().__init__()
        doublings = factor.bit_length() - 1
        if factor != 2**doublings or not 1 <= doublings <= 3:
            raise ValueError(
                f"the factor is 2, 4 or 8, it is {factor}; 2 is usual"
            )
        self.channels, self.scale = shape[0], factor
        # Kernel 9 at the beginning, two layers in a block, one behind them;
        # kernel 9 of small pixels at the end are 2 of those before, and one
        # layer makes 3 of them, which halve to 2 again.
        self.reach = 4 + 2 * blocks + 1 + 3
        self.head = nn.Sequential(
            nn.Conv2d(shape[0], width, 9, padding=4), nn.PReLU()
        )
        made = [
            ResidualBlock(width, zero_padded, nn.BatchNorm2d, nn.PReLU)
            for _ in range(blocks)
        ]
        self.body = nn.Sequential(
            *made, zero_padded(width, width), nn.BatchNorm2d(width)
        )
        larger: list[nn.Module] = []
        for _ in range(doublings):
            larger += [
                zero_padded(width, 4 * width),
                nn.PixelShuffle(2),
                nn.PReLU(),
            ]
        self.tail = nn.Sequential(
            *larger, nn.Conv2d(width, shape[0], 9, padding=4)
        )

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        h = self.head(x)
        return self.tail(h + self.body(h))


class ResNetGenerator(nn.Module):
    """Images (N, C, H, W) in [0, 1] to images of the same shape, of another kind.

    channels: planes after each halving but the first number, which the full size has; blocks: at the smallest size.
    """

    scale, multiple, reach = 1, 1, None

    def __init__(
        self, shape: Sequence[int], channels: Sequence[int], blocks: int
    ) -> None:
        super().__init__()
        # A border is mirrored by 3 pixels at the full size, by 1 within: of
        # so many pixels, or of 2, which is one more than half of them.
        self.channels = shape[0]
        self.least = max(4, 2 ** (len(channels) - 1) + 1)
        if min(shape[1:]) < self.least:
            raise ValueError(
                f"images of {shape[1]}x{shape[2]} pixels are too small for {len(channels) - 1} halvings and a mirrored "
                f"border; give fewer channels=(...) entries"
            )
        first, innermost = channels[0], channels[-1]
        norm, relu = nn.InstanceNorm2d, nn.ReLU
        self.head = nn.Sequential(
            ToTanh(),
            nn.ReflectionPad2d(3),
            nn.Conv2d(shape[0], first, 7),
            norm(first),
            relu(),
        )
        widths = list(pairwise(channels))
        self.down = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), norm(b), relu())
                for a, b in widths
            ]
        )
        self.body = nn.Sequential(
            *[
                ResidualBlock(innermost, reflected, norm, relu)
                for _ in range(blocks)
            ]
        )
        self.up = nn.ModuleList(
            [nn.ConvTranspose2d(b, a, 3, 2, 1) for a, b in widths[::-1]]
        )
        self.norms = nn.ModuleList(
            [nn.Sequential(norm(a), relu()) for a, _ in widths[::-1]]
        )
        self.tail = nn.Sequential(
            nn.ReflectionPad2d(3),
            nn.Conv2d(first, shape[0], 7),
            nn.Tanh(),
            FromTanh(),
        )

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        h, sizes = self.head(x), []
        for down in self.down:
            sizes.append(h.shape[2:])
            h = down(h)
        h = self.body(h)
        for up, norm, size in zip(self.up, self.norms, sizes[::-1]):
            h = norm(up(h, output_size=list(size)))
        return self.tail(h)


class Refiner(nn.Sequential):
    """Images (N, C, H, W) in [0, 1] to images of the same shape: blocks at the full size, so that shapes stay."""

    scale, multiple = 1, 1

    def __init__(
        self, shape: Sequence[int], width: int, blocks: int
    ) -> None:
        self.channels, self.reach = shape[0], 1 + 2 * blocks
        made = [
            ResidualBlock(width, zero_padded, nothing, nn.ReLU)
            for _ in range(blocks)
        ]
        super().__init__(
            ToTanh(),
            zero_padded(shape[0], width),
            nn.ReLU(),
            *made,
            nn.Conv2d(width, shape[0], 1),
            nn.Tanh(),
            FromTanh(),
        )


def nothing(width: int) -> nn.Module:
    """No norm."""
    return nn.Identity()
