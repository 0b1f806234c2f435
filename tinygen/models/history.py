"""What generators made before: a discriminator that sees it, too, does not forget (Shrivastava et al. 2017).

    pool = ImagePool((1, 28, 28), size=50)
    shown = pool(images)            # of CycleGAN: each image, or with probability 1/2 an older one in exchange
    history = History((1, 28, 28), size=500)
    shown = history(images)         # of SimGAN: half of the batch is of the buffer

Both are modules whose images are buffers: so they are saved with a run, and lie where the networks lie. No number is
read from the device, so that an update can be captured as a graph.
"""

from __future__ import annotations

from collections.abc import Sequence

import tinygen as tg
from tinygen import nn


class _Store(nn.Module):
    """`size` images of a shape (C, H, W), and how many were ever put in."""

    def __init__(self, shape: Sequence[int], size: int) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(
                f"a store of {size} images holds nothing; give at least 1, 50 is usual"
            )
        self.size = size
        self.images: tg.Tensor
        self.count: tg.Tensor
        self.register_buffer("images", tg.zeros(size, *shape))
        self.register_buffer("count", tg.zeros(1, dtype=tg.int64))

    def _check(self, n: int) -> None:
        if n > self.size:
            raise ValueError(
                f"{n} images do not fit into a store of {self.size}; give a larger one, or smaller batches"
            )

    def places(self, n: int) -> tuple[tg.Tensor, tg.Tensor]:
        """(n different places, whether the store was full before): the next free ones, or drawn at random."""
        device = self.images.device
        full = self.count >= self.size
        free = (self.count + tg.arange(n, device=device)) % self.size
        drawn = tg.randperm(self.size, device=device)[:n]
        self.count.add_(n)
        return tg.where(full, drawn, free), full


class ImagePool(_Store):
    """Each image, or with probability 1/2, once the pool is full, one of the pool that it takes the place of."""

    def forward(self, images: tg.Tensor) -> tg.Tensor:
        images = images.detach()
        self._check(len(images))
        places, full = self.places(len(images))
        old = self.images[places]
        exchanged = (tg.rand(len(images), device=images.device) < 0.5) & full
        exchanged = exchanged.reshape(-1, 1, 1, 1)
        kept = full.reshape(-1, 1, 1, 1) & ~exchanged
        self.images[places] = tg.where(kept, old, images)
        return tg.where(exchanged, old, images)


class History(_Store):
    """The first half of the images, and as many as the others are out of the buffer, once it is full.

    Half of the images take places in the buffer, at random.
    """

    def forward(self, images: tg.Tensor) -> tg.Tensor:
        images = images.detach()
        half = len(images) // 2
        if half == 0:
            return images
        self._check(half)
        places, full = self.places(half)
        old = self.images[places]
        self.images[places] = images[:half]
        others = images[len(images) - half :]
        mixed = tg.where(full.reshape(-1, 1, 1, 1), old, others)
        return tg.cat([images[: len(images) - half], mixed])
