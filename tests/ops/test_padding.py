"""Borders of every mode: values and gradients are torch's."""

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
from tinygen.ops import padding as MODULE

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


def test_a_border_is_of_a_number_that_the_integers_can_hold():
    for value, kind in ((300, OverflowError), (-1, OverflowError), (float("nan"), ValueError)):
        with pytest.raises(kind, match=rf"pad: {value} .*uint8"):
            MODULE.pad(tg.tensor([5], dtype="uint8"), (1, 1), value=value)
    assert MODULE.pad(tg.tensor([5], dtype="uint8"), (1, 1), value=255).tolist() == [255, 5, 255]
    assert MODULE.pad(tg.tensor([True]), (1, 1), value=True).tolist() == [True] * 3
