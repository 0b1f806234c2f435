"""Slices, split, cat and stack: values and gradients are torch's."""

from __future__ import annotations

import numpy as np
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
from tinygen.ops import joining as MODULE  # noqa: F401

CASES = {
    "cat": [
        (lambda L, x, y: L.cat([x, y]), [(2, 3), (1, 3)]),
        (lambda L, x, y: L.cat((x, y, x), -1), [(2, 3), (2, 0)]),
        (lambda L, x: L.cat([L.zeros(0, dtype=x.dtype), x], 1), [(2, 3)]),
        (lambda L, x: L.cat([x]), [(2, 3)]),
    ],
    "concat": [(lambda L, x, y: L.concat([x, y], dim=1), [(2, 3), (2, 1)])],
    "concatenate": [(lambda L, x, y: L.concatenate([x, y], dim=1), [(2, 3), (2, 1)])],
    "stack": [
        (lambda L, x, y: L.stack([x, y]), [(2, 3), (2, 3)]),
        (lambda L, x, y: L.stack([x, y, x], -1), [(2, 3), (2, 3)]),
        (lambda L, x, y: L.stack([x, y]), [(), ()]),
    ],
    "split": [
        (lambda L, x: L.split(x, 2), [(5, 2)]),
        (lambda L, x: x.split([1, 0, 3], 1), [(2, 4)]),
        (lambda L, x: x.split(2, -1)[1], [(2, 5)]),
        (lambda L, x: x.split(2, 1)[0] * x.split(2, 1)[1], [(2, 4)]),
    ],
    "chunk": [(lambda L, x: L.chunk(x, 3), [(7, 2)]), (lambda L, x: x.chunk(4, 1), [(2, 3)])],
    "unbind": [(lambda L, x: L.unbind(x), [(3, 2)]), (lambda L, x: x.unbind(-1)[1], [(3, 2)])],
    "narrow": [(lambda L, x: L.narrow(x, 1, 1, 2), [(2, 4)]), (lambda L, x: L.narrow(x, -1, -3, 2), [(2, 4)])],
}  # fmt: skip

X = tg.zeros(2, 3)
ERRORS = {
    "cat": (lambda: tg.cat([X, tg.zeros(2, 2)], 0), ValueError, r"\(2, 2\)"),
    "cat_empty": (lambda: tg.cat([]), ValueError, "at least one"),
    "cat_scalars": (lambda: tg.cat([tg.zeros(())]), ValueError, "stack"),
    "stack": (lambda: tg.stack([X, tg.zeros(3)]), ValueError, "use cat"),
    "split": (lambda: X.split([1, 1], 1), ValueError, "add up"),
    "split_zero": (lambda: X.split(0), ValueError, "at least 1"),
    "narrow": (lambda: tg.narrow(X, 1, 2, 2), ValueError, "axis 1"),
}  # fmt: skip


def test_split_with_unused_pieces():
    x = tg.ones(6, requires_grad=True)
    a, _, c = x.split(2)
    (a.sum() + 3 * c.sum()).backward()
    assert x.grad.tolist() == [1, 1, 0, 0, 3, 3]


def test_long_split_backpropagates_in_one_piece():
    x = tg.ones(1000, requires_grad=True)
    sum(tg.unbind(x * 2)[10:990:7], tg.zeros(())).backward()
    expected = np.zeros(1000)
    expected[10:990:7] = 2
    assert np.array_equal(x.grad.numpy(), expected)


def test_integers_are_joined_too():
    x = tg.arange(6).reshape(2, 3)
    assert tg.cat([x, x]).dtype == np.int64
    assert tg.cat([x, x]).tolist() == [[0, 1, 2], [3, 4, 5]] * 2
