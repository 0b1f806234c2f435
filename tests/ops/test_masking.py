"""Masks: values and gradients are torch's."""

from __future__ import annotations

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
from tinygen.ops import masking as MODULE  # noqa: F401

WITHOUT_GRADIENT = {"nonzero"}
MASK = [[True, False, True], [False, False, True]]
CASES = {
    "masked_fill": [
        (lambda L, x: L.masked_fill(x, L.tensor(MASK), -2.0), [(2, 3)]),
        (lambda L, x: x.masked_fill(L.tensor([True, False, True]), 0), [(2, 3)]),
        (lambda L, x: x.masked_fill(x > 0, float("-inf")).exp(), [(2, 3)]),
        (lambda L, x, v: x.masked_fill(L.tensor(MASK), v), [(2, 3), ()]),
        (lambda L, x, v: x.masked_fill(L.tensor(MASK), v), [(3,), ()]),
        (lambda L, x: x.masked_fill(L.tensor([[True], [False]]), 4), [(1, 3)]),
        (lambda L, x, v: x.masked_fill(L.tensor(True), v), [(), ()]),
    ],
    "masked_select": [(lambda L, x: L.masked_select(x, L.tensor([True, False, True])), [(2, 3)])],
}  # fmt: skip

X = tg.zeros(2, 3)
ERRORS = {
    "masked_fill": (lambda: X.masked_fill(tg.tensor([True, False]), 0), ValueError, "mask"),
    "masked_fill_int": (lambda: X.masked_fill(tg.tensor([1, 0, 1]), 0), TypeError, "bool"),
    "masked_fill_value": (lambda: X.masked_fill(tg.tensor(True), tg.zeros(3)), ValueError, "0-d"),
}  # fmt: skip


def test_nonzero():
    x = tg.tensor([[0.0, 2.0], [3.0, 0.0]])
    assert tg.nonzero(x).tolist() == [[0, 1], [1, 0]]
    assert [p.tolist() for p in tg.nonzero(x > 2, as_tuple=True)] == [[1], [0]]
    assert tg.nonzero(x > 5).shape == (0, 2)
