"""Embedding and one-hot: values and gradients are torch's."""

from __future__ import annotations

import numpy as np
import pytest
from moving_cases import (  # noqa: F401
    T,
    pytest_generate_tests,
    test_derivatives_of_both_orders,
    test_errors_name_the_op_and_what_was_wrong,
    test_every_function_has_a_case,
    test_single_precision_stays_single,
    test_the_cases_reach_every_op_of_the_module,
    test_values_and_gradients_are_torchs,
)

import tinygen as tg
from tinygen.ops import embedding as MODULE  # noqa: F401

WITHOUT_GRADIENT = {"one_hot"}
CASES = {
    "embedding": [
        (lambda L, w: L.embedding(L.tensor([[0, 2, 2], [3, 0, 2]]), w), [(4, 3)]),
        (lambda L, w: L.embedding(L.tensor(1), w), [(4, 3)]),
    ],
}  # fmt: skip
# A row whose gradient is left out on purpose: compared with torch, but no derivative.
ONLY_TORCH = [
    (lambda L, w: L.embedding(L.tensor([0, 2, 2, 1]), w, padding_idx=2), [(4, 3)]),
    (lambda L, w: L.embedding(L.tensor([[0, 2], [2, 1]]), w, padding_idx=-2), [(4, 3)]),
]

X = tg.zeros(2, 3)
ERRORS = {
    "embedding": (lambda: tg.embedding(tg.tensor([2]), X), IndexError, "0 to 1"),
    "embedding_float": (lambda: tg.embedding(tg.tensor([1.0]), X), TypeError, "integers"),
    "one_hot": (lambda: tg.one_hot(tg.zeros(0, dtype="int64")), ValueError, "num_classes"),
}  # fmt: skip


def test_one_hot():
    y = tg.one_hot(tg.tensor([[0, 2], [1, 1]]))
    assert y.dtype == np.int64 and y.shape == (2, 2, 3)
    assert y.tolist() == [[[1, 0, 0], [0, 0, 1]], [[0, 1, 0], [0, 1, 0]]]
    assert tg.one_hot(tg.tensor(1), 4).tolist() == [0, 1, 0, 0]
    assert tg.one_hot(tg.zeros(0, dtype="int64"), 4).shape == (0, 4)
    with pytest.raises(IndexError, match="one_hot"):
        tg.one_hot(tg.tensor([0, 3]), 3)
    with pytest.raises(IndexError, match="one_hot"):
        tg.one_hot(tg.tensor([-2, 1]), 3)
