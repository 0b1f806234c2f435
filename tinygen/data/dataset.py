"""A data set: images in memory, split once into what a model learns from and what it is judged on.

    data = tinygen.data.load("digits")
    data.shape                          # (1, 8, 8): channels, height, width
    data.floats("test")                 # float32 in [0,1], (297, 1, 8, 8)
    data.batches(64, seed=0).at(0, 5)   # batch 5 of epoch 0: (images, labels)

Images stay in the type of their source: uint8 (value/255 is the pixel) or float32 in [0,1]; a batch is converted
when it is drawn, so MNIST costs 55 MB, not 220. Labels are int64 and dense, 0..K-1, named by `classes`.

Absent on purpose: streams from disk, worker processes, augmentation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from .batches import Batches
from .pixels import DataError, as_float, in_channels, resized
from .selection import held_out, stratified, subset

SMALLEST = 8  # pixels a side; the nets halve an image up to three times
SPLITS = ("train", "test")
UNLABELLED = -1


@dataclass(frozen=True, repr=False)
class Dataset:
    """Train and test images (N, C, H, W), their labels or None, the class names, and where it all came from.

    Raises DataError when the parts do not fit each other: wrong rank or dtype, C not 1 or 3, a side below 8 pixels,
    counts that differ, labels outside 0..len(classes)-1, floats outside [0,1]. Arrays are kept as read-only views.

    A subclass may hold other items (`check_items`), and more arrays: fields named train_... and test_..., one row per
    item. Where `partly_labelled`, a training label may be UNLABELLED (-1).
    """

    items: ClassVar[str] = "images"

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray | None
    test_images: np.ndarray
    test_labels: np.ndarray | None
    classes: tuple[str, ...] = ()
    source: str = ""
    partly_labelled: bool = False
    unread: str = ""  # what lies beside the images and was not read, counted and named

    def __post_init__(self) -> None:
        for split in SPLITS:
            images, labels = getattr(self, f"{split}_images"), getattr(self, f"{split}_labels")
            self.check_items(f"{self.name}: {split} {self.items}", images)
            if labels is not None:
                lowest = UNLABELLED if self.partly_labelled and split == "train" else 0
                _check_labels(f"{self.name}: {split} labels", labels, len(images), len(self.classes), lowest)
            for field, array in self._arrays(split).items():
                if len(array) != len(images):
                    raise DataError(f"{self.name}: {len(array)} {field}, but {len(images)} {self.items}; give as many")
                object.__setattr__(self, field, _read_only(array))
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise DataError(
                f"{self.name}: training {self.items} are {_times(self.train_images.shape[1:])}, test {self.items} "
                f"{_times(self.test_images.shape[1:])} (channels x height x width); both must be the same"
            )
        if self.train_images.dtype != self.test_images.dtype:
            raise DataError(f"{self.name}: training {self.items} are {self.train_images.dtype}, "
                            f"test {self.items} {self.test_images.dtype}; both must be the same")
        if (self.train_labels is None) != (self.test_labels is None):
            raise DataError(f"{self.name}: labels for one split only; give both or neither")

    def check_items(self, what: str, items: Any) -> None:
        """Raises DataError unless `items` are images that can be used; `what` names them."""
        _check_images(what, items)

    def _arrays(self, split: str) -> dict[str, np.ndarray]:
        names = [f.name for f in fields(self) if f.name.startswith(f"{split}_")]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of one image."""
        return self.train_images.shape[1:]

    def count(self, split: str = "train") -> int:
        """How many images a split has."""
        return len(self.split(split)[0])

    @cached_property
    def sha(self) -> str:
        """SHA-256 (hex) over shapes, dtypes, values and class names: equal for equal data, whatever its file."""
        digest = hashlib.sha256("\0".join(self.classes).encode())
        for name in [f.name for f in fields(self) if f.name.startswith(("train_", "test_"))]:
            array = getattr(self, name)
            if array is None:
                digest.update(b"none")
                continue
            # little-endian bytes, so that the figure is the same on every machine
            array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(array.data)
        return digest.hexdigest()

    def split(self, name: str) -> tuple[np.ndarray, np.ndarray | None]:
        """(images, labels) of "train" or "test", as stored."""
        if name not in SPLITS:
            raise DataError(f"{self.name} has no split {name!r}; it has 'train' and 'test'")
        return getattr(self, f"{name}_images"), getattr(self, f"{name}_labels")

    def floats(self, split: str = "train", index: int | slice | Sequence[int] | np.ndarray = slice(None)) -> np.ndarray:
        """The images of a split as float32 in [0,1]: all of them, or those that `index` picks."""
        return as_float(self.split(split)[0][index])

    def batches(self, batch_size: int, seed: int = 0, *, split: str = "train", shuffle: bool = True,
                drop_last: bool = False) -> Batches:
        """`Batches` over one split."""
        images, labels = self.split(split)
        return Batches(images, labels, batch_size, seed, shuffle=shuffle, drop_last=drop_last)

    def picked(self, train: np.ndarray | None = None, test: np.ndarray | None = None, **changes: Any) -> Dataset:
        """The same data with the training and test items at these positions alone (None: all); `changes` to fields."""
        for split, positions in (("train", train), ("test", test)):
            if positions is not None:
                changes = {name: array[positions] for name, array in self._arrays(split).items()} | changes
        return replace(self, **changes)

    def limited(self, limit: int) -> Dataset:
        """At most `limit` training and `limit` test images, drawn as `subset` says."""
        return self.picked(subset(self.count("train"), limit), subset(self.count("test"), limit))

    def divided(self) -> tuple[Dataset, Dataset]:
        """(learned, held): every tenth training image is held back, to choose an epoch by. Test images stay apart."""
        learned, held = held_out(self.count("train"), self.name)
        return self.picked(learned), self.picked(held)

    def only(self, name: str) -> Dataset:
        """The training images of one class alone. Test images and class numbers stay: an anomaly detector is tested
        on all classes. DataError for an unknown class."""
        return self.picked(np.flatnonzero(self._of_class(name)), source=f"{self.source}, class {name} alone")

    def without(self, name: str) -> Dataset:
        """The training images of all classes but one; test images and class numbers stay, as with `only`."""
        return self.picked(np.flatnonzero(~self._of_class(name)), source=f"{self.source}, without class {name}")

    def with_labels(self, count: int) -> Dataset:
        """The labels of `count` training images, shared among the classes; the other labels become UNLABELLED (-1).

        No image is left out, and test labels stay. DataError where there are fewer labels, or none.
        """
        labels = self.train_labels
        there = np.flatnonzero(labels >= 0) if labels is not None else np.arange(0)
        if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or not 1 <= count <= len(there):
            raise DataError(f"{self.name}: labels must be a whole number from 1 to {len(there)}, the labelled "
                            f"training {self.items} there are; it is {count!r}")
        assert labels is not None
        chosen = there[stratified(labels[there], count)]
        kept = np.full_like(labels, UNLABELLED)
        kept[chosen] = labels[chosen]
        return replace(self, train_labels=kept, partly_labelled=True, source=f"{self.source}, {count} labels kept")

    def _of_class(self, name: str) -> np.ndarray:
        """Which training items are of a class; DataError where the class is unknown or has none."""
        there = ", ".join(self.classes[:20]) + (", ..." if len(self.classes) > 20 else "")
        if self.train_labels is None or str(name) not in self.classes:
            raise DataError(f"{self.name} has no class {str(name)!r}; it has {there or 'no classes'}")
        found = self.train_labels == self.classes.index(str(name))
        if not found.any():
            raise DataError(f"{self.name} has no training {self.items} of class {name!r}")
        return found

    def in_channels(self, channels: int) -> Dataset:
        """The same data in grey (1) or in colour (3)."""
        return replace(self, train_images=in_channels(self.train_images, channels),
                       test_images=in_channels(self.test_images, channels))

    def resized(self, size: int) -> Dataset:
        """The same data at size x size pixels: shorter side to `size`, then the centre."""
        check_size(size)
        return replace(self, train_images=resized(self.train_images, size), test_images=resized(self.test_images, size))

    def __repr__(self) -> str:
        labels = f", {len(self.classes)} classes" if self.train_labels is not None else ", no labels"
        counts = f"{self.count('train'):,} train + {self.count('test'):,} test"
        return (f"{type(self).__name__}({self.name}: {counts}, "
                f"{_times(self.shape)} {self.train_images.dtype}{labels})")


def dense_labels(*arrays: np.ndarray) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """(class names, int64 labels 0..K-1 per array) for labels of any integers or strings, numbered in sorted order.

    The digits 3 and 7 alone become classes 0 and 1, named "3" and "7": nets and histograms need no empty classes.
    """
    values = np.unique(np.concatenate(arrays))
    return tuple(str(v) for v in values), [np.searchsorted(values, a).astype(np.int64) for a in arrays]


def check_size(size: int) -> None:
    """Raises DataError unless `size` is a whole number of at least 8 pixels."""
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < SMALLEST:
        raise DataError(f"size must be a whole number of pixels, at least {SMALLEST}; it is {size!r}")


def _check_images(what: str, images: np.ndarray) -> None:
    if not isinstance(images, np.ndarray) or images.ndim != 4:
        raise DataError(f"{what} must be an array (N, channels, height, width); shape is {np.shape(images)}")
    if images.dtype not in (np.uint8, np.float32):
        raise DataError(f"{what} are {images.dtype}; they must be uint8 (0..255) or float32 in [0,1]")
    count, channels, height, width = images.shape
    if count == 0:
        raise DataError(f"{what}: there are none")
    if channels not in (1, 3):
        raise DataError(f"{what} have {channels} channels; 1 (grey) or 3 (colour) can be used")
    if min(height, width) < SMALLEST:
        raise DataError(f"{what} are {height}x{width} pixels, but a side must have at least {SMALLEST}; "
                        f"load them larger, for example with size={SMALLEST}")
    if images.dtype == np.float32:
        low, high = images.min(), images.max()
        if not (low >= 0 and high <= 1):  # written so that NaN fails it
            raise DataError(f"{what} lie in [{low:g}, {high:g}]; floats must lie in [0,1]")


def _check_labels(what: str, labels: np.ndarray, count: int, classes: int, lowest: int) -> None:
    if not isinstance(labels, np.ndarray) or labels.dtype != np.int64 or labels.shape != (count,):
        raise DataError(f"{what} must be int64 of shape ({count},), one per image; "
                        f"they are {getattr(labels, 'dtype', type(labels).__name__)} {np.shape(labels)}")
    if labels.min() < lowest or labels.max() >= classes:
        raise DataError(f"{what} lie in {labels.min()}..{labels.max()}, but there are {classes} classes")


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def _times(shape: Sequence[int]) -> str:
    return "x".join(str(s) for s in shape)
