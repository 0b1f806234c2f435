"""PatchGAN: a discriminator that judges every patch of an image by itself (Isola et al. 2017, lectures 2, 3).

    image - [convolution 4, stride 2 - norm (not the first) - LeakyReLU 0.2] x depth
          - convolution 4, stride 1 - norm - LeakyReLU 0.2 - convolution 4, stride 1 - a map of numbers

A number of the map sees a square of 16, 34, 70, ... pixels, for depth 1, 2, 3: `field(depth)`. The loss is a mean over
the map, so texture is judged everywhere, with few weights and at any size; what is larger than the square is left to
other terms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinygen import nn

from .mlp import ToTanh

DEEPEST = 3  # 70 pixels


def field(depth: int) -> int:
    """Pixels of a side of the square that one number of the map sees."""
    pixels = 1
    for stride in (1, 1, *[2] * depth):  # from the last layer back
        pixels = stride * (pixels - 1) + 4
    return pixels


def depth_for(shape: Sequence[int]) -> int:
    """The depth, 1 to 3, at which an image (C, H, W) of that size leaves at least 4 pixels before the last layers.

    Raises ValueError for images below 8 pixels.
    """
    side = min(shape[1:])
    deep = [d for d in range(1, DEEPEST + 1) if side >> d >= 4]
    if not deep:
        raise ValueError(
            f"images of {shape[1]}x{shape[2]} pixels are too small for a PatchGAN, which needs 8 a side"
        )
    return deep[-1]


class PatchGAN(nn.Sequential):
    """Images (N, C, H, W) in [0, 1] to a map of numbers (N, 1, h, w), without a sigmoid.

    width: planes of the first layer; they double up to 8 times that. norm(planes): a module.
    """

    def __init__(
        self,
        shape: Sequence[int],
        width: int,
        depth: int,
        norm: Callable = nn.BatchNorm2d,
    ) -> None:
        if depth < 1 or min(shape[1:]) >> depth < 3:
            raise ValueError(
                f"a PatchGAN of depth {depth} does not fit images of {shape[1]}x{shape[2]} pixels; give a depth of at "
                f"least 1, with 3 pixels a side or more behind so many halvings"
            )
        widths = [width * min(8, 2**i) for i in range(depth + 1)]
        layers: list[nn.Module] = [
            nn.Conv2d(shape[0], width, 4, 2, 1),
            nn.LeakyReLU(0.2),
        ]
        strides = [2] * (depth - 1) + [1]
        for a, b, stride in zip(widths, widths[1:], strides):
            layers += [
                nn.Conv2d(a, b, 4, stride, 1),
                norm(b),
                nn.LeakyReLU(0.2),
            ]
        super().__init__(ToTanh(), *layers, nn.Conv2d(widths[-1], 1, 4, 1, 1))
