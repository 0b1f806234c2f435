"""Autoencoder: an encoder E squeezes an image into a few numbers, a decoder D rebuilds it (lectures 0, 1, 3, 4).

    loss = mean over batch and pixels of (x - D(E(x)))^2

Two networks: fully connected, and convolutional with transposed convolutions on the way back. A convolution of stride 2
maps both 2i and 2i + 1 pixels to i, so the decoder is told which of the two it has to restore (`output_size`): that is
why every image size of at least 8 pixels works.

Absent on purpose: skip connections, and any prior on the codes. So there is nothing to draw samples from; see vae.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import tinygen as tg
from tinygen import nn, optim
from tinygen.nn import functional as F

from .display import ShowsModules

Shape = tuple[int, int, int]  # (channels, height, width) of one image


def mlp(sizes: Sequence[int]) -> list[nn.Module]:
    """Linear layers from sizes[0] to sizes[-1] values with ReLU between them (none after the last)."""
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return layers[:-1]


def halved(shape: Sequence[int], times: int) -> list[tuple[int, int]]:
    """(height, width) of the image and after each of `times` convolutions of kernel 4, stride 2, padding 1."""
    _, h, w = shape
    if min(h, w) >> times < 1:
        raise ValueError(f"an image of {h}x{w} pixels cannot be halved {times} times; use fewer channels=(...) entries")
    return [(h >> i, w >> i) for i in range(times + 1)]


class ConvEncoder(nn.Sequential):
    """Images (N, C, H, W) to (N, outputs): k4 s2 p1 convolutions with ReLU, then linear layers `hidden` with ReLU."""

    def __init__(self, shape: Sequence[int], channels: Sequence[int], hidden: Sequence[int], outputs: int) -> None:
        h, w = halved(shape, len(channels))[-1]
        widths = (shape[0], *channels)
        convolutions = [f for a, b in pairwise(widths) for f in (nn.Conv2d(a, b, 4, stride=2, padding=1), nn.ReLU())]
        super().__init__(*convolutions, nn.Flatten(), *mlp((channels[-1] * h * w, *hidden, outputs)))


class ConvDecoder(nn.Module):
    """(N, inputs) to images (N, C, H, W), before the sigmoid: the encoder's shapes in reverse order."""

    def __init__(self, shape: Sequence[int], channels: Sequence[int], hidden: Sequence[int], inputs: int) -> None:
        super().__init__()
        *self.sizes, (h, w) = halved(shape, len(channels))
        self.project = nn.Sequential(
            *mlp((inputs, *hidden, channels[-1] * h * w)), nn.ReLU(), nn.Unflatten(1, (channels[-1], h, w))
        )
        widths = (shape[0], *channels)
        self.up = nn.ModuleList([nn.ConvTranspose2d(b, a, 4, stride=2, padding=1) for a, b in pairwise(widths)][::-1])

    def forward(self, z: tg.Tensor) -> tg.Tensor:
        y = self.project(z)
        for layer, size in zip(self.up, reversed(self.sizes)):
            y = layer(y if layer is self.up[0] else F.relu(y), output_size=size)
        return y


class MLPAutoencoder(nn.Module):
    """pixels - hidden - latent - hidden reversed - pixels, ReLU, sigmoid at the end."""

    def __init__(self, shape: Sequence[int], hidden: Sequence[int] = (512, 256), latent: int = 32) -> None:
        super().__init__()
        sizes = (math.prod(shape), *hidden, latent)
        self.encoder = nn.Sequential(nn.Flatten(), *mlp(sizes))
        self.decoder = nn.Sequential(*mlp(sizes[::-1]), nn.Sigmoid(), nn.Unflatten(1, tuple(shape)))

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return self.decoder(self.encoder(x))


class ConvAutoencoder(nn.Module):
    """Stride-2 convolutions, one linear layer to the code, and the way back by transposed convolutions."""

    def __init__(self, shape: Sequence[int], channels: Sequence[int] = (16, 32), latent: int = 32) -> None:
        super().__init__()
        self.encoder = ConvEncoder(shape, channels, (), latent)
        self.decoder = nn.Sequential(ConvDecoder(shape, channels, (), latent), nn.Sigmoid())

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return self.decoder(self.encoder(x))


class AutoencoderStep(ShowsModules):
    """One update of an autoencoder. Arguments: `shape` (C, H, W) of the data, `conv` which network, and its sizes."""

    units = {"mse": "squared error per pixel"}

    def __init__(
        self, shape: Sequence[int], conv: bool = False, hidden: Sequence[int] = (512, 256),
        channels: Sequence[int] = (16, 32), latent: int = 32, lr: float = 1e-3,
    ) -> None:  # fmt: skip
        self.model = ConvAutoencoder(shape, channels, latent) if conv else MLPAutoencoder(shape, hidden, latent)
        self.optimizer = optim.Adam(self.model.parameters(), lr=lr)
        self.modules = {"autoencoder": self.model}
        self.optimizers = {"autoencoder": self.optimizer}

    def __call__(self, batch: tuple) -> dict[str, tg.Tensor]:
        x, _ = batch
        loss = F.mse_loss(self.model(x), x)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"mse": loss.detach()}

    def pictures(self, batch: tuple) -> dict[str, tg.Tensor]:
        """Images in rows of eight, each row followed by its reconstruction."""
        x, _ = batch
        return {"reconstructions": beside(x, self.model(x))}

    def evaluate(self, batches: Iterable[tuple]) -> dict[str, float]:
        """Test mse: over all pixels of all images."""
        total = count = 0.0
        for x, _ in batches:
            total += F.mse_loss(self.model(x), x, reduction="sum").item()
            count += x.numel()
        return {"mse": total / count}


def beside(x: tg.Tensor, y: tg.Tensor, columns: int = 8, rows: int = 4) -> tg.Tensor:
    """Images for a grid of `columns`: a row of x, the same row of y, the next row of x, ...; at most `rows` of each."""
    columns = min(columns, len(x))
    rows = min(rows, len(x) // columns)
    x, y = (t[: rows * columns].reshape(rows, columns, *t.shape[1:]) for t in (x, y))
    return tg.stack([x, y], 1).flatten(0, 2)
