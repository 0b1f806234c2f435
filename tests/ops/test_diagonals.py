"""Triangles and diagonals: values and gradients are torch's."""

from __future__ import annotations

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
from tinygen.ops import diagonals as MODULE  # noqa: F401

CASES = {
    "tril": [(lambda L, x: L.tril(x), [(3, 4)]), (lambda L, x: x.tril(-1), [(2, 3, 3)])],
    "triu": [(lambda L, x: L.triu(x), [(3, 4)]), (lambda L, x: x.triu(2), [(2, 3, 3)])],
    "diagonal": [
        (lambda L, x: L.diagonal(x), [(3, 4)]),
        (lambda L, x: L.diagonal(x, -1, 2, 0), [(3, 2, 4)]),
        (lambda L, x: L.diagonal(x, 2, -2, -1), [(2, 3, 4)]),
    ],
    "diag": [(lambda L, x: L.diag(x, 1), [(3,)]), (lambda L, x: L.diag(x, -1), [(3, 4)])],
}  # fmt: skip

X = tg.zeros(2, 3)
ERRORS = {
    "tril": (lambda: tg.tril(tg.zeros(3)), ValueError, "2 axes"),
    "diagonal": (lambda: tg.diagonal(X, 0, 1, -1), ValueError, "same axis"),
}  # fmt: skip


def test_a_diagonal_is_a_view_to_write_through():
    x = tg.zeros(2, 3)
    x.diagonal(1).fill_(1.0)
    x.diagonal()[1] = 5.0
    assert x.tolist() == [[0, 1, 0], [0, 5, 1]]
    tg.diag(x).fill_(9.0)
    assert x.tolist() == [[0, 1, 0], [0, 5, 1]]
    w = tg.zeros(2, 2, requires_grad=True) * 1.0
    with pytest.raises(RuntimeError, match="shares its memory"):
        w.diagonal().fill_(w.sum())


def test_a_triangle_of_booleans():
    x = tg.arange(6).reshape(2, 3)
    assert (x > 2).tril().tolist() == [[False, False, False], [True, True, False]]
