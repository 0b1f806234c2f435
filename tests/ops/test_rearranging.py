"""Flips, rolls, repetitions and pixel shuffles: values and gradients are torch's."""

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
from tinygen.ops import rearranging as MODULE  # noqa: F401
from tinygen.testing import adjoint_check

CASES = {
    "flip": [(lambda L, x: L.flip(x, dims=[0, 2]), [(2, 3, 4)]), (lambda L, x: x.flip(-1), [(2, 3)])],
    "rot90": [
        (lambda L, x: L.rot90(x), [(2, 3, 4)]),
        (lambda L, x: L.rot90(x, 3, (1, 2)), [(2, 3, 4)]),
        (lambda L, x: x.rot90(-3, (-1, 0)), [(2, 3, 4)]),
        (lambda L, x: L.rot90(x, 2, [1, 0]), [(2, 3)]),
        (lambda L, x: L.rot90(x, 4, [0, 1]), [(2, 3)]),
    ],
    "roll": [
        (lambda L, x: L.roll(x, 1, 0), [(3, 4)]),
        (lambda L, x: x.roll((5, -2), (0, 1)), [(3, 4)]),
        (lambda L, x: x.roll(2), [(3, 4)]),
    ],
    "tile": [(lambda L, x: L.tile(x, (2,)), [(2, 3)]), (lambda L, x: x.tile(2, 1, 3), [(2, 3)])],
    "repeat": [
        (lambda L, x: x.repeat(2, 3), [(2, 3)]),
        (lambda L, x: x.repeat(3, 1, 2), [(2, 3)]),
        (lambda L, x: x.repeat(0, 1), [(2, 3)]),
    ],
    "repeat_interleave": [
        (lambda L, x: L.repeat_interleave(x, 3, 1), [(2, 3)]),
        (lambda L, x: L.repeat_interleave(x, 2), [(2, 3)]),
        (lambda L, x: L.repeat_interleave(x, L.tensor([0, 3]), 0), [(2, 3)]),
    ],
    "pixel_shuffle": [
        (lambda L, x: L.pixel_shuffle(x, 2), [(2, 8, 3, 2)]),
        (lambda L, x: L.pixel_shuffle(x, 3), [(9, 1, 2)]),
    ],
    "pixel_unshuffle": [(lambda L, x: L.pixel_unshuffle(x, 2), [(2, 3, 4, 6)])],
}  # fmt: skip

X = tg.zeros(2, 3)
ERRORS = {
    "flip": (lambda: X.flip(0, 0), ValueError, "twice"),
    "rot90": (lambda: X.rot90(1, (0, -2)), ValueError, "two axes"),
    "roll": (lambda: X.roll((1, 2)), ValueError, "dims"),
    "repeat": (lambda: X.repeat(2), ValueError, "repeat"),
    "pixel_shuffle": (lambda: tg.pixel_shuffle(tg.zeros(1, 6, 2, 2), 2), ValueError, r"C \* 2"),
}  # fmt: skip


def test_pixel_shuffle_is_a_permutation():
    x = tg.randn(2, 12, 3, 5)
    y = tg.pixel_shuffle(x, 2)
    assert y.shape == (2, 3, 6, 10)
    assert sorted(y.flatten().tolist()) == sorted(x.flatten().tolist())
    assert tg.pixel_unshuffle(y, 2).tolist() == x.tolist()


def test_integers_are_flipped_too():
    x = tg.arange(6).reshape(2, 3)
    assert x.flip(0)[:, [0, 0]].tolist() == [[3, 3], [0, 0]]


def test_pixel_shuffle_and_unshuffle_are_adjoint():
    adjoint_check(lambda x: tg.pixel_shuffle(x, 2), lambda y: tg.pixel_unshuffle(y, 2), (2, 8, 3, 5), (2, 2, 6, 10))
