"""Two sets drawn apart: what learns from unpaired images (CycleGAN, Zhu et al. 2017) gets batches (a, b).

    data = load("digits+slanted")                       # upright digits, and slanted ones of other images: see CHANGES
    data = load("grass+gravel")                         # two data sets of one size
    for a, b in data.batches(64, seed=0).epoch(0): ...  # a from the first set, b from the second

Each set is visited in its own random order. An epoch is as long as the smaller set; of the larger one, other items are
left out in every epoch. A batch is a pure function of (seed, epoch, index).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from .batches import Batches
from .dataset import Dataset
from .draws import Draws
from .pixels import DataError, as_float, in_channels
from .selection import subset
from .varied import tint, untinted


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

    items: ClassVar[str] = "images"

    first: Dataset
    second: Dataset
    title: str = ""  # the name, where it is not that of both sets

    def __post_init__(self) -> None:
        if self.first.shape != self.second.shape:
            raise DataError(f"{self.first.name} has items of shape {self.first.shape}, {self.second.name} of "
                            f"{self.second.shape}; both must be the same, for example load(..., size=32, channels=1)")

    @property
    def name(self) -> str:
        """Both names, or the title."""
        return self.title or f"{self.first.name}+{self.second.name}"

    @property
    def source(self) -> str:
        """Both sources."""
        return f"{self.first.source}; {self.second.source}"

    @property
    def unread(self) -> str:
        """What lies beside the items of either set and was not read."""
        return "; ".join(filter(None, (self.first.unread, self.second.unread)))

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
        return Unpaired(self.first.limited(limit), self.second.limited(limit), self.title)

    def resized(self, size: int) -> Unpaired:
        """Both sets at size x size pixels."""
        return Unpaired(self.first.resized(size), self.second.resized(size), self.title)

    def in_channels(self, channels: int) -> Unpaired:
        """Both sets in grey (1) or in colour (3)."""
        return Unpaired(self.first.in_channels(channels), self.second.in_channels(channels), self.title)

    def divided(self) -> tuple[Unpaired, Unpaired]:
        """(learned, held): every tenth training item of each set is held back, to choose an epoch by."""
        first, second = self.first.divided(), self.second.divided()
        return Unpaired(first[0], second[0], self.title), Unpaired(first[1], second[1], self.title)

    def only(self, name: str) -> Unpaired:
        """No class is chosen from two sets that stand side by side: DataError."""
        raise DataError(f"{self.name}: a class cannot be chosen from a pair of data sets; leave out --only")

    def without(self, name: str) -> Unpaired:
        """No class is left out of two sets that stand side by side: DataError."""
        raise DataError(f"{self.name}: a class cannot be left out of a pair of data sets; leave out --without")

    def with_labels(self, count: int) -> Unpaired:
        """A pair has no labels to learn from: DataError."""
        raise DataError(f"{self.name}: what learns from a pair of data sets sees no labels; leave out --labels")

    def __repr__(self) -> str:
        return f"Unpaired({self.name}: {self.first!r}, {self.second!r})"


class Change(NamedTuple):
    """What sets the second half of a data set apart, and how it is undone: float32 (N, C, H, W) in [0,1] to the same.

    channels: in how many, all alike, the data are before; None where they stay as they are.
    """

    apply: Callable[[np.ndarray], np.ndarray]
    undo: Callable[[np.ndarray], np.ndarray]
    channels: int | None = None


def changed(dataset: Dataset, name: str) -> Unpaired:
    """`halves` of a data set, the second changed as CHANGES[name] says."""
    change = CHANGES[name]
    if len(dataset.shape) != 3:
        raise DataError(f"{dataset.name}: {dataset.items} cannot be {name}, images can; give two sets, such as "
                        f"{dataset.name}+moons")
    whole = dataset if change.channels is None else dataset.in_channels(1).in_channels(change.channels)
    pair = halves(whole, change.apply)
    return Unpaired(pair.first, pair.second, f"{dataset.name}+{name}")


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


def inverted(images: np.ndarray) -> np.ndarray:
    """1 - x: black on white for white on black, and back."""
    return 1 - images


def coloured(images: np.ndarray) -> np.ndarray:
    """Grey images of three channels, each in a random hue, which follows from its place."""
    hues = Draws(0, 2).uniform(len(images)).astype(np.float32)
    return tint(images[:, :1], hues)


def uncoloured(images: np.ndarray) -> np.ndarray:
    """The grey images, of three channels, that `coloured` was given."""
    return in_channels(untinted(images)[0].astype(np.float32), 3)


SHEAR = 0.4  # columns to the right for a row up
CHANGES = {
    "slanted": Change(sheared(SHEAR), sheared(-SHEAR)),
    "inverted": Change(inverted, inverted),
    "tinted": Change(coloured, uncoloured, channels=3),
}
