"""Batches beside each other in one grid."""

from __future__ import annotations

import numpy as np

from tinygen.training.pictures import _beside


def test_rows_of_images_alternate_with_rows_of_reconstructions():
    x = np.arange(20).reshape(20, 1, 1, 1)
    rows = _beside([x, x + 100], columns=4, rows=2).reshape(4, 4).tolist()
    assert rows == [[0, 1, 2, 3], [100, 101, 102, 103], [4, 5, 6, 7], [104, 105, 106, 107]]
    assert _beside([x[:3], x[:3]], columns=8).shape == (6, 1, 1, 1)
    three = _beside([x, x + 100, x + 200], columns=4, rows=1).reshape(3, 4).tolist()
    assert three == [[0, 1, 2, 3], [100, 101, 102, 103], [200, 201, 202, 203]]
