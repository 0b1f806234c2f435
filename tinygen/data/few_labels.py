"""All images without their labels, and beside them a few with: what semi-supervised learning gets.

    batches = FewLabels(images, labels, chosen=balanced_draw(labels, 100, seed), batch_size=64, seed=0)
    x, few, named = batches.at(0, 5)        # 64 images; 64 of the 100 that have labels; these labels

Of all labels only those at `chosen` are read. The few have an order of their own: they come again as soon as a batch
can no longer be filled. A batch is a pure function of (seed, epoch, index).
"""

from __future__ import annotations

import numpy as np

from .batches import Batches


class FewLabels:
    """Batches (images, labelled images, their labels); length and count are those of all images."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, chosen: np.ndarray, batch_size: int, seed: int = 0, *,
                 drop_last: bool = False) -> None:
        self.all = Batches(images, None, batch_size, seed, drop_last=drop_last)
        self.few = Batches(images[chosen], labels[chosen], min(batch_size, len(chosen)), seed, drop_last=True)
        self.batch_size, self.seed = self.all.batch_size, self.all.seed

    def __len__(self) -> int:
        """Batches in one epoch."""
        return len(self.all)

    @property
    def count(self) -> int:
        """Images in the split, labelled or not."""
        return self.all.count

    def at(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Batch `index` of epoch `epoch`: images float32, labelled images float32, labels int64."""
        images, _ = self.all.at(epoch, index)
        return images, *self.few.step(epoch * len(self) + index)
