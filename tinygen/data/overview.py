"""What a person wants to see of a data set before training on it: its figures and a sheet of its images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .dataset import Dataset
from .one_class import OneClass
from .pixels import DataError, as_float

NAMED = 20  # classes in a warning


def summary(dataset: Dataset) -> dict[str, Any]:
    """Figures of a data set, all plain Python values:

    name, source, unread, sha · train, test (counts) · shape (C, H, W) · dtype · min, max, mean, std of the training
    pixels in [0,1] · classes · train_histogram, test_histogram ({class: count} or None) · blank (training images of one
    single value) · test_in_train (test images that also are training images, bit for bit) · warnings (sentences).
    """
    images = dataset.train_images
    mean, std = _moments(images)
    scale = 255 if images.dtype == np.uint8 else 1
    flat = images.reshape(len(images), -1)
    seen = {row.tobytes() for row in images}
    figures: dict[str, Any] = {
        "name": dataset.name,
        "source": dataset.source,
        "unread": dataset.unread,
        "sha": dataset.sha,
        "train": len(images),
        "test": len(dataset.test_images),
        "shape": dataset.shape,
        "dtype": str(images.dtype),
        "min": float(images.min()) / scale,
        "max": float(images.max()) / scale,
        "mean": mean,
        "std": std,
        "classes": dataset.classes,
        "train_histogram": _histogram(dataset.train_labels, dataset.classes),
        "test_histogram": _histogram(dataset.test_labels, dataset.classes),
        "blank": int((flat.max(axis=1) == flat.min(axis=1)).sum()),
        "test_in_train": sum(row.tobytes() in seen for row in dataset.test_images),
    }
    figures["warnings"] = _warnings(figures, dataset)
    return figures


def contact_sheet(dataset: Dataset, n: int = 64, *, split: str = "train") -> np.ndarray:
    """A grid of n images of a split, taken at even distances: uint8 (H, W) or (H, W, 3), for PIL.Image.fromarray.

    Near-square, row by row, two mid-grey pixels between and around the images; n is cut to the number of images.
    """
    if n < 1:
        raise DataError(f"contact_sheet: n must be at least 1; it is {n}")
    if len(dataset.shape) != 3:
        raise DataError(f"contact_sheet: {dataset.name} holds {dataset.items}, which have no pixels to show")
    images = dataset.split(split)[0]
    count = len(images)
    n = min(n, count)
    chosen = as_float(images[np.arange(n) * count // n])
    pixels = np.rint(chosen * 255).astype(np.uint8)
    channels, height, width = dataset.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    sheet = np.full((rows * (height + 2) + 2, columns * (width + 2) + 2, channels), 128, np.uint8)
    for i, image in enumerate(pixels):
        top, left = 2 + (i // columns) * (height + 2), 2 + (i % columns) * (width + 2)
        sheet[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return sheet[:, :, 0] if channels == 1 else sheet


def _moments(images: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the pixels in [0,1], in float64 without a float copy of the images."""
    if images.dtype == np.uint8:
        levels = np.arange(256) / 255
        parts = np.array_split(images, len(images) // 4096 + 1)  # bincount makes an int64 copy of what it counts
        counts = sum(np.bincount(part.ravel(), minlength=256) for part in parts)
        shares = counts / images.size
        mean = float(levels @ shares)
        return mean, math.sqrt(float((levels - mean) ** 2 @ shares))
    return float(images.mean(dtype=np.float64)), float(images.std(dtype=np.float64))


def _histogram(labels: np.ndarray | None, classes: tuple[str, ...]) -> dict[str, int] | None:
    if labels is None:
        return None
    counts = np.bincount(labels[labels >= 0], minlength=len(classes))  # -1: unlabelled
    return {name: int(n) for name, n in zip(classes, counts, strict=True)}


def _warnings(figures: dict[str, Any], dataset: Dataset) -> list[str]:
    found = [f"not read: {figures['unread']}"] if figures["unread"] else []
    if figures["train"] < 100:
        found.append(f"only {figures['train']} training images: a generative model will mostly memorise them")
    if figures["blank"]:
        found.append(f"{figures['blank']} training images have one single value")
    if figures["max"] < 0.25:
        found.append(f"the brightest pixel is {figures['max']:.3f} of 1: the images are nearly black")
    if figures["test_in_train"]:
        found.append(f"{figures['test_in_train']} of {figures['test']} test images are training images too")
    normal = dataset.normal if isinstance(dataset, OneClass) else range(len(dataset.classes))
    counts = figures["train_histogram"] or {}
    empty = [dataset.classes[k] for k in normal if counts and counts[dataset.classes[k]] == 0]
    if empty:
        more = f" and {len(empty) - NAMED} more" if len(empty) > NAMED else ""
        found.append(f"no training image of class {', '.join(empty[:NAMED])}{more}")
    return found
