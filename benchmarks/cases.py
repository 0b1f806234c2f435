"""The layers that are measured: the convolutions of the lectures' models, and large ones from the literature.

A layer is N,C,H,W,K,k,stride,pad: N images of C channels, H x W pixels, K output channels, a k x k kernel; T for
transposed. Names: cae = convolutional autoencoder, dc28 and dc64 = DCGAN at 28 and 64 pixels (d: discriminator, g:
generator), vgg at 56 and 14 pixels, pw1x1 = a pointwise layer, pix2pix and cyclegan = one image of those generators.
"""

from __future__ import annotations

import fnmatch
import sys
from dataclasses import dataclass

PASSES = ("forward", "input_grad", "weight_grad")
LARGE = 800  # MFLOP; from here on a layer is "large"


@dataclass(frozen=True)
class Layer:
    """One convolution: x (n, c, h, w), k filters of size x size; `transposed` as in torch's ConvTranspose2d."""

    name: str
    n: int
    c: int
    h: int
    w: int
    k: int
    size: int
    stride: int
    pad: int
    transposed: bool = False

    @property
    def x_shape(self) -> tuple[int, ...]:
        return self.n, self.c, self.h, self.w

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (*((self.c, self.k) if self.transposed else (self.k, self.c)), self.size, self.size)

    @property
    def y_shape(self) -> tuple[int, ...]:
        if self.transposed:
            side = lambda n: (n - 1) * self.stride + self.size - 2 * self.pad
        else:
            side = lambda n: (n + 2 * self.pad - self.size) // self.stride + 1
        return self.n, self.k, side(self.h), side(self.w)

    @property
    def flops(self) -> int:
        """Nominal operations of each pass: two per tap, taps on padding included."""
        pixels = self.h * self.w if self.transposed else self.y_shape[2] * self.y_shape[3]
        return 2 * self.n * self.c * self.k * self.size**2 * pixels

    @property
    def bytes(self) -> int:
        """What each pass must at least move: two operands read, one result written, in float32."""
        count = 0
        for shape in (self.x_shape, self.weight_shape, self.y_shape):
            n, c, h, w = shape
            count += n * c * h * w
        return 4 * count

    @property
    def text(self) -> str:
        """As --shape takes it."""
        numbers = (self.n, self.c, self.h, self.w, self.k, self.size, self.stride, self.pad)
        return ",".join(map(str, numbers)) + (",T" if self.transposed else "")


LAYERS = [
    Layer("lenet1", 64, 1, 28, 28, 6, 5, 1, 2),
    Layer("lenet2", 64, 6, 14, 14, 16, 5, 1, 0),
    Layer("cae1", 128, 1, 28, 28, 32, 3, 2, 1),
    Layer("cae2", 128, 32, 14, 14, 64, 3, 2, 1),
    Layer("cae3", 128, 64, 7, 7, 128, 3, 1, 1),
    Layer("dc28_d1", 64, 1, 28, 28, 64, 4, 2, 1),
    Layer("dc28_d2", 64, 64, 14, 14, 128, 4, 2, 1),
    Layer("dc64_d1", 64, 3, 64, 64, 64, 4, 2, 1),
    Layer("dc64_d2", 64, 64, 32, 32, 128, 4, 2, 1),
    Layer("dc64_d3", 64, 128, 16, 16, 256, 4, 2, 1),
    Layer("dc64_d4", 64, 256, 8, 8, 512, 4, 2, 1),
    Layer("vgg56", 16, 64, 56, 56, 64, 3, 1, 1),
    Layer("vgg14", 16, 256, 14, 14, 256, 3, 1, 1),
    Layer("pw1x1", 16, 64, 56, 56, 256, 1, 1, 0),
    Layer("pix2pix", 1, 64, 128, 128, 128, 4, 2, 1),
    Layer("cyclegan", 1, 256, 64, 64, 256, 3, 1, 1),
    Layer("dc28_g1", 64, 128, 7, 7, 64, 4, 2, 1, True),
    Layer("dc28_g2", 64, 64, 14, 14, 1, 4, 2, 1, True),
    Layer("dc64_g1", 64, 100, 1, 1, 512, 4, 1, 0, True),
    Layer("dc64_g2", 64, 512, 4, 4, 256, 4, 2, 1, True),
    Layer("dc64_g3", 64, 256, 8, 8, 128, 4, 2, 1, True),
    Layer("dc64_g4", 64, 128, 16, 16, 64, 4, 2, 1, True),
    Layer("dc64_g5", 64, 64, 32, 32, 3, 4, 2, 1, True),
]
NEVER_TRAINED = {("lenet1", "input_grad"), ("cae1", "input_grad")}  # nobody asks for the gradient of these images

QUICK = [  # one of each kind, in microseconds
    Layer("tiny", 2, 3, 9, 8, 5, 3, 1, 1),
    Layer("tiny_stride", 2, 4, 10, 10, 18, 4, 2, 1),
    Layer("tiny_transposed", 2, 6, 5, 4, 3, 4, 2, 1, True),
]


def parse(text: str) -> Layer:
    """The layer written N,C,H,W,K,k,stride,pad[,T]; ends the program with an explanation where it is none."""
    parts = [p.strip() for p in text.split(",")]
    transposed = parts[-1].upper() == "T"
    numbers = parts[:-1] if transposed else parts
    try:
        n, c, h, w, k, size, stride, pad = map(int, numbers)
    except ValueError:
        sys.exit(
            f"benchmarks: --shape {text} should be eight integers N,C,H,W,K,k,stride,pad, then ,T for a "
            "transposed convolution; for example 64,128,16,16,256,4,2,1"
        )
    layer = Layer(text, n, c, h, w, k, size, stride, pad, transposed)
    if min(n, c, h, w, k, size, stride) < 1 or pad < 0 or min(layer.y_shape) < 1:
        output = "x".join(map(str, layer.y_shape))
        sys.exit(
            f"benchmarks: --shape {text} has no output ({output}); use a larger input, a smaller kernel or more padding"
        )
    return layer


def choose(names: list[str], patterns: str | None, what: str = "case") -> list[str]:
    """The names that match the comma-separated patterns (with * and ?); ends the program where one matches none."""
    if not patterns:
        return list(names)
    chosen: list[str] = []
    for pattern in patterns.split(","):
        matching = [name for name in names if fnmatch.fnmatch(name, pattern.strip())]
        if not matching:
            sys.exit(f"benchmarks: no {what} is called {pattern.strip()!r}; there are {', '.join(names)}")
        chosen += [name for name in matching if name not in chosen]
    return chosen
