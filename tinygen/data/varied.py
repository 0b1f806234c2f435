"""Digits in random colours, or turned: one known factor of variation more, with its value for every image.

    data = load("tinted-digits")        # or "tinted-mnist": 3 channels
    data.train_hues                     # float32 (N,) in [0, 1): what colour each digit has
    data = load("two-hues-digits")      # red or cyan, equally likely; "three-hues-digits": red, green or blue
    data = load("rotated-digits")       # or "rotated-mnist"
    data.train_angles                   # degrees, anticlockwise, in [-45, 45)

Hue and angle are drawn from the seed alone, so they say nothing about the class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .dataset import Dataset
from .draws import Draws
from .pixels import DataError, as_float

LARGEST_ANGLE = 45.0  # degrees; farther, a 6 becomes a 9
TWO_HUES, THREE_HUES = (0.0, 1 / 2), (0.0, 1 / 3, 2 / 3)  # red and cyan, whose mean is grey; the three primaries
NUMBERS = {2: "two", 3: "three"}


@dataclass(frozen=True, repr=False)
class Tinted(Dataset):
    """A data set in colour, and the hue of each image: float32 in [0, 1), 0 red, 1/3 green, 2/3 blue."""

    train_hues: np.ndarray | None = None
    test_hues: np.ndarray | None = None


@dataclass(frozen=True, repr=False)
class Rotated(Dataset):
    """A data set of turned images, and the angle of each: float32 degrees, anticlockwise."""

    train_angles: np.ndarray | None = None
    test_angles: np.ndarray | None = None


def tinted(dataset: Dataset, seed: int = 0) -> Tinted:
    """A grey data set with a uniform random hue for each image; see `tint`. DataError for colour images."""
    return _tinted(dataset, seed, tint, f"tinted-{dataset.name}", "in random hues")


def in_hues(dataset: Dataset, hues: Sequence[float], seed: int = 0) -> Tinted:
    """A grey data set, each image in one of some equally likely hues. DataError for colour images, or no hue."""
    if not hues:
        raise DataError("in_hues: give at least one hue, such as (0, 1/2) for red and cyan")
    chosen = np.array(hues, np.float32)
    of = lambda images, drawn: tint(images, chosen[(drawn * len(chosen)).astype(int)])
    name = f"{NUMBERS.get(len(chosen), len(chosen))}-hues-{dataset.name}"
    found = _tinted(dataset, seed, of, name, f"in {len(chosen)} hues")
    exact = {f"{split}_hues": chosen[(getattr(found, f"{split}_hues") * len(chosen)).astype(int)]
             for split in ("train", "test")}
    return replace(found, **exact)


def _tinted(dataset: Dataset, seed: int, colour: Callable, name: str, how: str) -> Tinted:
    if len(dataset.shape) != 3 or dataset.shape[0] != 1:
        raise DataError(f"tinted: expected grey images (1, H, W), {dataset.name} has {dataset.shape}; "
                        f"load it with channels=1")
    hues, images = _varied(dataset, seed, colour, low=0.0, high=1.0)
    return Tinted(name, images[0], dataset.train_labels, images[1], dataset.test_labels,
                  dataset.classes, f"{dataset.source}, {how}, seed {seed}", dataset.partly_labelled,
                  dataset.unread, *hues)


def rotated(dataset: Dataset, seed: int = 0, largest: float = LARGEST_ANGLE) -> Rotated:
    """A data set whose images are turned by random angles, uniform in [-largest, largest) degrees; see `turn`."""
    if len(dataset.shape) != 3:
        raise DataError(f"rotated: expected images (C, H, W), {dataset.name} has {dataset.shape}")
    angles, images = _varied(dataset, seed, turn, low=-largest, high=largest)
    return Rotated(f"rotated-{dataset.name}", images[0], dataset.train_labels, images[1], dataset.test_labels,
                   dataset.classes, f"{dataset.source}, turned, seed {seed}", dataset.partly_labelled,
                   dataset.unread, *angles)


def _varied(dataset: Dataset, seed: int, vary: Callable[[np.ndarray, np.ndarray], np.ndarray], low: float, high: float
            ) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(factors, images) of both splits. Images keep their dtype, and are converted in pieces: floats are large."""
    factors, varied = [], []
    for stream, split in enumerate(("train", "test")):
        images = dataset.split(split)[0]
        factor = Draws(seed, stream).uniform(len(images), low=low, high=high).astype(np.float32)
        factor = np.minimum(factor, np.nextafter(np.float32(high), np.float32(low)))  # rounding may reach `high`
        pieces = []
        for start in range(0, len(images), 1024):
            part = slice(start, start + 1024)
            piece = vary(as_float(images[part]), factor[part])
            pieces.append(np.rint(255 * piece).astype(np.uint8) if images.dtype == np.uint8 else piece)
        factors.append(factor)
        varied.append(np.concatenate(pieces))
    return factors, varied


def tint(images: np.ndarray, hues: np.ndarray) -> np.ndarray:
    """Grey float32 images (N, 1, H, W) in full colour: HSV of (hue, 1, grey level), as float32 (N, 3, H, W)."""
    six = 6 * hues.astype(np.float32)
    red, green, blue = abs(six - 3) - 1, 2 - abs(six - 2), 2 - abs(six - 4)
    colours = np.clip(np.stack([red, green, blue], axis=1), 0, 1).astype(np.float32)
    return images * colours[:, :, None, None]


def untinted(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(grey (N, 1, H, W), hues (N,) in [0, 1)) of colour images (N, 3, H, W): what `tint` was given.

    Grey is the brightest channel; the hue is that of all light together, 0 where it has none.
    """
    light = images.sum((2, 3), dtype=np.float64)
    low, high = light.min(1), light.max(1)
    red, green, blue = light.T
    sextant = [(green - blue), 2 * (high - low) + blue - red, 4 * (high - low) + red - green]
    turned = np.choose(light.argmax(1), sextant) / np.maximum(6 * (high - low), 1e-12)
    return images.max(1, keepdims=True), turned % 1


def turn(images: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """float32 images (N, C, H, W) turned about their centre by `angles` degrees, anticlockwise.

    Bilinear; what comes in from outside is black.
    """
    count, _, height, width = images.shape
    theta = np.deg2rad(angles.astype(np.float64))[:, None, None]
    y, x = np.mgrid[:height, :width]
    y, x = y - (height - 1) / 2, x - (width - 1) / 2
    from_x = np.cos(theta) * x - np.sin(theta) * y + (width - 1) / 2
    from_y = np.sin(theta) * x + np.cos(theta) * y + (height - 1) / 2
    left, top = np.floor(from_x).astype(int), np.floor(from_y).astype(int)
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    rows = [np.clip(top + k, 0, height + 1) for k in (1, 2)]
    columns = [np.clip(left + k, 0, width + 1) for k in (1, 2)]
    down, right = (from_y - top).astype(np.float32), (from_x - left).astype(np.float32)
    n = np.arange(count)[:, None, None]
    result = 0.0
    for row, by_row in zip(rows, (1 - down, down)):
        for column, by_column in zip(columns, (1 - right, right)):
            corner = padded[n, :, row, column]  # (N, H, W, C)
            result = result + corner * (by_row * by_column)[..., None]
    return np.ascontiguousarray(np.clip(result, 0, 1).transpose(0, 3, 1, 2), dtype=np.float32)
