"""Two sets drawn apart: what learns from unpaired images (CycleGAN, Zhu et al. 2017) gets batches (a, b).

    data = halves(load("digits"), second=sheared(0.4))      # upright digits, and slanted ones of other images
    for a, b in data.batches(64, seed=0).epoch(0): ...      # a from the first set, b from the second

Each set is visited in its own random order. An epoch is as long as the smaller set; of the larger one, other items are
left out in every epoch. A batch is a pure function of (seed, epoch, index).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .batches import Batches
from .dataset import Dataset
from .pixels import DataError, as_float
from .selection import subset


class UnpairedBatches:
    """Batches (a, b) of equal size from two arrays of items; the interface of `Batches`."""

    def __init__(self, first: np.ndarray, second: np.ndarray, batch_size: int, seed: int = 0, *,
                 shuffle: bool = True, drop_last: bool = False) -> None:
        whole = {"shuffle": shuffle, "drop_last": drop_last}
        self.first = Batches(first, None, batch_size, seed, **whole)
        self.second = Batches(second, None, batch_size, _other(seed), **whole)
        self.batch_size, self.seed = self.first.batch_size, self.first.seed

    def __len__(self) -> int:
        """Batches in one epoch."""
        return min(len(self.first), len(self.second))

    @property
    def count(self) -> int:
        """Items that an epoch can show: those of the smaller set."""
        return min(self.first.count, self.second.count)

    def at(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Batch `index` of epoch `epoch`: two float32 arrays of the same length."""
        (a, _), (b, _) = self.first.at(epoch, index), self.second.at(epoch, index)
        size = min(len(a), len(b))  # the last batch of the smaller set may be ragged
        return a[:size], b[:size]

    def step(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The batch of training step `step`, counted from 0 through all epochs."""
        return self.at(*divmod(step, len(self)))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The batches of one epoch in order, from batch `start` on."""
        if not 0 <= start <= len(self):
            raise IndexError(f"Batches: an epoch has {len(self)} batches; it cannot start at {start}")
        return (self.at(epoch, index) for index in range(start, len(self)))


def _other(seed: int) -> int:
    """Another seed, a fixed function of the first: one word of Philox."""
    return int(np.random.Philox(key=np.array([seed, 0], np.uint64), counter=[0, 0, 0, 2]).random_raw())


@dataclass(frozen=True)
class Unpaired:
    """Two data sets of one shape, read side by side; the interface of a `Dataset`.

    `train_labels`, `test_labels`, `classes`, `count` and `floats` are those of the first set, whose items are what is
    translated; `first` and `second` are the sets themselves. Raises DataError where the shapes differ.
    """

    first: Dataset
    second: Dataset

    def __post_init__(self) -> None:
        if self.first.shape != self.second.shape:
            raise DataError(f"{self.first.name} has items of shape {self.first.shape}, {self.second.name} of "
                            f"{self.second.shape}; both must be the same, for example load(..., size=32, channels=1)")

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self.first.name}+{self.second.name}"

    @property
    def source(self) -> str:
        """Both sources."""
        return f"{self.first.source}; {self.second.source}"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one item."""
        return self.first.shape

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of the first set."""
        return self.first.classes

    @property
    def train_labels(self) -> np.ndarray | None:
        """Training labels of the first set."""
        return self.first.train_labels

    @property
    def test_labels(self) -> np.ndarray | None:
        """Test labels of the first set."""
        return self.first.test_labels

    @property
    def sha(self) -> str:
        """SHA-256 (hex) over both sets."""
        return hashlib.sha256(f"{self.first.sha}{self.second.sha}".encode()).hexdigest()

    def split(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(items of the first set, items of the second) of "train" or "test", as stored."""
        return self.first.split(name)[0], self.second.split(name)[0]

    def count(self, split: str = "train") -> int:
        """How many items of the first set a split has."""
        return self.first.count(split)

    def floats(self, split: str = "train", index: int | slice | Sequence[int] | np.ndarray = slice(None)) -> np.ndarray:
        """Items of the first set as float32."""
        return self.first.floats(split, index)

    def batches(self, batch_size: int, seed: int = 0, *, split: str = "train", shuffle: bool = True,
                drop_last: bool = False) -> UnpairedBatches:
        """`UnpairedBatches` over one split."""
        return UnpairedBatches(*self.split(split), batch_size, seed, shuffle=shuffle, drop_last=drop_last)

    def limited(self, limit: int) -> Unpaired:
        """At most `limit` training and `limit` test items of each set."""
        return Unpaired(self.first.limited(limit), self.second.limited(limit))


def halves(dataset: Dataset, second: Callable[[np.ndarray], np.ndarray] | None = None) -> Unpaired:
    """Two disjoint halves of one data set, always the same ones; `second` transforms the items of the second half.

    second: from float32 (N, C, H, W) in [0,1] to the same shape and range, such as `sheared(0.4)`. Labels stay.
    Raises DataError where a split has fewer than two items.
    """
    chosen, others = {}, {}
    for split in ("train", "test"):
        count = dataset.count(split)
        if count < 2:
            raise DataError(f"{dataset.name}: {count} {split} {dataset.items} cannot be halved; at least 2 are needed")
        chosen[split] = subset(count, count // 2)
        others[split] = np.setdiff1d(np.arange(count), chosen[split])
    other = dataset.picked(others["train"], others["test"])
    changes: dict[str, Any] = {}
    if second is not None:
        for split in ("train", "test"):
            items = other.split(split)[0]
            changed = second(as_float(items))
            changes[f"{split}_images"] = _like(changed, items)
    return Unpaired(dataset.picked(chosen["train"], chosen["test"]), other.picked(**changes))


def _like(changed: np.ndarray, items: np.ndarray) -> np.ndarray:
    """`changed` in the type of `items`."""
    if items.dtype == np.uint8:
        return np.rint(np.clip(changed, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(changed, items.dtype)


def sheared(amount: float) -> Callable[[np.ndarray], np.ndarray]:
    """A function that slants images: row y moves right by amount (H/2 - 1/2 - y) pixels, black beyond the border.

    Positions between pixels are interpolated linearly. `sheared(-amount)` undoes it, save what left the image.
    """

    def shear(images: np.ndarray) -> np.ndarray:
        height, width = images.shape[2:]
        rows = np.arange(height)[:, None]
        source = np.arange(width)[None, :] - amount * ((height - 1) / 2 - rows)
        left = np.floor(source).astype(int)
        weight = (source - left).astype(images.dtype)
        padded = np.pad(images, ((0, 0), (0, 0), (0, 0), (1, 1)))
        before, after = (padded[:, :, rows, np.clip(left + k, 0, width + 1)] for k in (1, 2))
        return before * (1 - weight) + after * weight

    return shear
