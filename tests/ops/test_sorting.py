"""Order: values, indices and gradients are torch's, also among equals and NaN."""

from __future__ import annotations

import itertools

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
from tinygen.ops import sorting as MODULE  # noqa: F401

WITHOUT_GRADIENT = {"argsort"}
CASES = {
    "sort": [
        (lambda L, x: L.sort(x)[0], [(3, 5)]),
        (lambda L, x: x.sort(0, descending=True).values, [(3, 5)]),
        (lambda L, x: x.sort()[0], [()]),
    ],
    "topk": [
        (lambda L, x: L.topk(x, 2)[0], [(3, 5)]),
        (lambda L, x: x.topk(3, 0, largest=False).values, [(4, 2)]),
        (lambda L, x: x.topk(0)[0], [(4, 2)]),
    ],
}  # fmt: skip

X = tg.zeros(2, 3)
ERRORS = {
    "topk": (lambda: X.topk(4), ValueError, "k=4"),
    "sort": (lambda: X.sort(2), IndexError, "sort"),
}  # fmt: skip


def test_sort_is_stable_and_puts_nan_last():
    x = tg.tensor([2.0, float("nan"), 1.0, 2.0, 1.0])
    up, order = x.sort()
    assert order.tolist() == [2, 4, 0, 3, 1]
    assert np.isnan(up.numpy()[-1])
    down, order = x.sort(descending=True)
    assert order.tolist() == [1, 0, 3, 2, 4]
    assert np.isnan(down.numpy()[0])
    assert x.topk(2).indices.tolist() == [1, 0]
    assert x.argsort().tolist() == [2, 4, 0, 3, 1]
    assert tg.tensor([True, False]).sort().values.tolist() == [False, True]


def test_sort_indices_equal_torchs_with_ties():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).integers(0, 4, (5, 30)).astype(np.float32)
    for dim, descending in itertools.product((0, 1, -1), (False, True)):
        values, order = tg.tensor(x).sort(dim, descending)
        expected = torch.sort(torch.tensor(x), dim=dim, descending=descending, stable=True)
        assert np.array_equal(order.numpy(), expected.indices.numpy())
        assert np.array_equal(values.numpy(), expected.values.numpy())


def test_gradient_of_sort_at_ties_goes_to_one_element():
    x = tg.tensor([1.0, 1.0, 0.0], requires_grad=True)
    x.topk(1).values.sum().backward()
    assert x.grad.tolist() == [1, 0, 0]
