"""Batches that are a pure function of (seed, epoch, index).

    batches = Batches(images, labels, batch_size=64, seed=0)
    x, y = batches.at(3, 17)            # batch 17 of epoch 3, whatever was asked before
    for x, y in batches.epoch(3): ...   # the whole epoch; epoch(3, start=17) resumes in its middle

Epoch e visits the images in the order that sorts N random 64-bit words, Philox keyed by (seed, e). No state moves
along, so a resumed run sees what an uninterrupted one saw. The words and not `Generator.permutation` are used, since
NumPy promises that a bit generator's words never change, and promises no such thing for a Generator's methods.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .pixels import DataError, as_float


class Batches:
    """Batches of (images float32 in [0,1], labels or None) from images (N, C, H, W) in uint8 or float32.

    len() is the number of batches in an epoch. The last one is smaller when batch_size does not divide N, or is left
    out with drop_last=True. shuffle=False keeps the order of the arrays in every epoch.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray | None, batch_size: int, seed: int = 0, *,
                 shuffle: bool = True, drop_last: bool = False) -> None:
        count = len(images)
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
            raise DataError(f"Batches: batch_size must be a whole number, at least 1; it is {batch_size!r}")
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**64:
            raise DataError(f"Batches: seed must be a whole number in 0..2^64-1; it is {seed!r}")
        if labels is not None and len(labels) != count:
            raise DataError(f"Batches: {count} images but {len(labels)} labels; there must be one label per image")
        if count == 0:
            raise DataError("Batches: there are no images")
        if drop_last and batch_size > count:
            raise DataError(f"Batches: batch_size {batch_size} is larger than the {count} images and drop_last=True "
                            f"drops the only batch; use batch_size <= {count} or drop_last=False")
        self.images, self.labels = images, labels
        self.batch_size, self.seed = int(batch_size), int(seed)
        self.shuffle, self.drop_last = shuffle, drop_last
        self._last: tuple[int, np.ndarray] | None = None  # (epoch, order): saves a sort per batch, changes no result

    def __len__(self) -> int:
        """Batches in one epoch."""
        whole, rest = divmod(len(self.images), self.batch_size)
        return whole if self.drop_last or rest == 0 else whole + 1

    @property
    def count(self) -> int:
        """Images in the split."""
        return len(self.images)

    def order(self, epoch: int) -> np.ndarray:
        """The permutation of 0..N-1 in which epoch `epoch` visits the images."""
        if epoch < 0:
            raise IndexError(f"Batches: epochs count from 0; {epoch} was asked for")
        if not self.shuffle:
            return np.arange(len(self.images))
        last = self._last  # read once: another thread may replace it
        if last is None or last[0] != epoch:
            words = np.random.Philox(key=np.array([self.seed, epoch], np.uint64)).random_raw(len(self.images))
            last = self._last = (epoch, np.argsort(words, kind="stable"))
            last[1].flags.writeable = False
        return last[1]

    def indices(self, epoch: int, index: int) -> np.ndarray:
        """Which images form batch `index` of epoch `epoch`. Raises IndexError outside 0..len-1."""
        if not 0 <= index < len(self):
            raise IndexError(f"Batches: an epoch has batches 0..{len(self) - 1}; {index} was asked for")
        start = index * self.batch_size
        return self.order(epoch)[start : start + self.batch_size]

    def at(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Batch `index` of epoch `epoch`: (float32 in [0,1], contiguous, yours to change; labels or None)."""
        chosen = self.indices(epoch, index)
        return as_float(self.images[chosen]), None if self.labels is None else self.labels[chosen]

    def step(self, step: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The batch of training step `step`, counted from 0 through all epochs: at(step // len, step % len)."""
        return self.at(*divmod(step, len(self)))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """The batches of one epoch in order, from batch `start` on."""
        if not 0 <= start <= len(self):
            raise IndexError(f"Batches: an epoch has {len(self)} batches; it cannot start at {start}")
        return (self.at(epoch, index) for index in range(start, len(self)))

    def __repr__(self) -> str:
        return f"Batches({len(self)} of {self.batch_size} from {len(self.images):,} images, seed {self.seed})"
