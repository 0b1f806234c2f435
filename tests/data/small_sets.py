"""Small data sets for tests."""

import numpy as np

from tinygen.data import Dataset


def grey(count, side=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 1, side, side), np.uint8)


def small_set(count=20, tests=5, **changes):
    parts = {
        "name": "small", "train_images": grey(count), "train_labels": np.arange(count) % 3,
        "test_images": grey(tests, seed=1), "test_labels": np.arange(tests) % 3, "classes": ("a", "b", "c"),
    }
    return Dataset(**(parts | changes))
