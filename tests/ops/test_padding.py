"""Borders of every mode: values and gradients are torch's."""

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
from tinygen.ops import padding as MODULE  # noqa: F401

CASES = {
    "pad": [
        (lambda L, x: L.pad(x, (1, 2)), [(2, 3)]),
        (lambda L, x: L.pad(x, (1, 2, 0, 3), value=1.5), [(2, 3)]),
        (lambda L, x: L.pad(x, (-1, 2, 1, -1), value=2.0), [(2, 3)]),
        (lambda L, x: L.pad(x, (-1, -1)), [(2, 3)]),
        (lambda L, x: L.pad(x, (2, 1), mode="reflect"), [(1, 2, 3)]),
        (lambda L, x: L.pad(x, (1, 3, 2, 0), mode="reflect"), [(2, 1, 3, 4)]),
        (lambda L, x: L.pad(x, (1, 3, 2, 0), mode="replicate"), [(2, 1, 3, 4)]),
        (lambda L, x: L.pad(x, (1, 3, 2, 0), mode="circular"), [(2, 1, 3, 4)]),
        (lambda L, x: L.pad(x, (0, 0, 5, 0), mode="replicate"), [(2, 1, 3, 4)]),
        (lambda L, x: L.pad(x, (-1, 1), mode="reflect"), [(1, 2, 4)]),
    ],
}  # fmt: skip

X = tg.zeros(2, 3)
ERRORS = {
    "pad": (lambda: tg.pad(X, (1,)), ValueError, "before, after"),
    "pad_crop": (lambda: tg.pad(X, (-2, -2)), ValueError, "crops"),
    "pad_reflect": (lambda: tg.pad(X, (3, 0), mode="reflect"), ValueError, "at most 2"),
    "pad_mode": (lambda: tg.pad(X, (1, 0), mode="mirror"), ValueError, "'reflect'"),
}  # fmt: skip


def test_integers_get_borders_too():
    x = tg.arange(6).reshape(2, 3)
    assert tg.pad(x, (1, 0), value=9)[0].tolist() == [9, 0, 1, 2]
