"""Scikit-learn's handwritten digits: 1,797 grey images of 8x8 pixels with 17 levels, on every machine, no network.

They are the test half of UCI's "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, 1998).
The split is fixed, by class and without any random numbers: 297 of 1,797 are held out, 29 or 30 of each digit, taken at
even distances through the file, so that every writer is on both sides.
"""

from __future__ import annotations

import gzip
import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from .dataset import Dataset
from .pixels import DataError
from .selection import stratified

COUNT, TEST_COUNT = 1797, 297
CLASSES = tuple("0123456789")
# SHA-256 of the decompressed table: 1,797 lines of 64 pixels (0..16) and the digit
TABLE_SHA = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"


def load_digits() -> Dataset:
    """The digits as float32 (N, 1, 8, 8), value/16, in 1,500 training and 297 test images."""
    table = _table()
    images = (table[:, :64] / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    labels = table[:, 64].astype(np.int64)
    test = stratified(labels, TEST_COUNT)
    train = np.setdiff1d(np.arange(COUNT), test)
    return Dataset("digits", images[train], labels[train], images[test], labels[test], CLASSES,
                   "scikit-learn's embedded digits (UCI optdigits), 1,500 + 297 stratified")


def _table() -> np.ndarray:
    """The table of the digits, (1797, 65) float64."""
    # Reading the file spares the import of scikit-learn, 0.8 s of a first run's first second. The checksum makes sure
    # that it is the file meant; wherever it lies or looks otherwise, scikit-learn itself is asked.
    spec = find_spec("sklearn")
    if spec is None:
        raise DataError("digits come with scikit-learn, which is not installed: pip install scikit-learn")
    for folder in spec.submodule_search_locations or ():
        try:
            text = gzip.decompress((Path(folder) / "datasets" / "data" / "digits.csv.gz").read_bytes())
        except (OSError, EOFError):
            continue
        if hashlib.sha256(text).hexdigest() == TABLE_SHA:
            return np.loadtxt(text.decode().splitlines(), delimiter=",")
    from sklearn.datasets import load_digits as sklearn_digits

    table = np.column_stack([sklearn_digits().data, sklearn_digits().target])
    if table.shape != (COUNT, 65) or table[:, :64].min() < 0 or table[:, :64].max() > 16:
        raise DataError(f"scikit-learn's digits are not the 1,797 8x8 images with levels 0..16: table is {table.shape}")
    return table
