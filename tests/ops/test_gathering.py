"""Gather and scatter: values and gradients are torch's, and the two are adjoint."""

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
from tinygen.ops import gathering as MODULE
from tinygen.testing import adjoint_check

CASES = {
    "gather": [
        (lambda L, x: L.gather(x, 1, L.tensor([[0, 3, 3], [1, 1, 0]])), [(2, 4)]),
        (lambda L, x: x.gather(0, L.tensor([[0, 1, 1], [1, 1, 0], [0, 0, 0]])), [(2, 4)]),
        (lambda L, x: x.gather(-1, L.tensor([[[2], [0]]])), [(2, 3, 4)]),
        (lambda L, x: x.gather(0, L.tensor(0)), [()]),
        (lambda L, x: x.gather(0, L.tensor([0, 0])), [()]),
        (lambda L, x: x.gather(-1, L.tensor(2)), [(3,)]),
    ],
    "take_along_dim": [
        (lambda L, x: L.take_along_dim(x, L.tensor([[2], [0]]), 1), [(2, 4)]),
        (lambda L, x: L.take_along_dim(x, L.tensor([[2, 0]]), 1), [(2, 4)]),
        (lambda L, x: L.take_along_dim(x, L.tensor([5, 0])), [(2, 4)]),
        (lambda L, x: L.take_along_dim(x, L.tensor([[-1], [-4]]), -1), [(2, 4)]),
    ],
    "scatter": [
        (lambda L, x: L.scatter(x, 1, L.tensor([[0, 3], [1, 2]]), 7.0), [(2, 4)]),
        (lambda L, x, y: L.scatter(x, 1, L.tensor([[0, 3], [1, 2]]), y), [(2, 4), (2, 2)]),
        (lambda L, x, y: L.scatter(x, 0, L.tensor(0), y), [(), ()]),
        (lambda L, x, y: x.scatter(0, L.tensor(1), y), [(3,), ()]),
    ],
    "scatter_add": [
        (lambda L, x, y: L.scatter_add(x, 1, L.tensor([[0, 3, 3], [1, 1, 0]]), y), [(2, 4), (2, 3)]),
        (lambda L, x, y: x.scatter_add(0, L.tensor([[2, 0], [2, 2]]), y), [(3, 4), (2, 2)]),
        (lambda L, x, y: x.scatter_add(0, L.tensor(0), y), [(), ()]),
    ],
}  # fmt: skip
# torch has the values, but cannot differentiate where src is larger than the index.
ONLY_DERIVATIVES = [
    (lambda L, x, y: x.scatter_add(0, L.tensor([[2, 0], [2, 2]]), y), [(3, 4), (2, 3)]),
    (lambda L, x, y: L.scatter(x, 1, L.tensor([[0, 3], [1, 2]]), y), [(2, 4), (3, 3)]),
]

X = tg.zeros(2, 3)
ERRORS = {
    "gather": (lambda: X.gather(1, tg.tensor([[3]])), IndexError, "0 to 2"),
    "take_along_dim": (lambda: tg.take_along_dim(X, tg.tensor([[3]]), 1), IndexError, "0 to 2"),
    "gather_shape": (lambda: X.gather(1, tg.tensor([0])), ValueError, "axes"),
    "gather_float": (lambda: X.gather(1, tg.zeros(1, 1)), TypeError, "integers"),
    "scatter_add": (lambda: X.scatter_add(1, tg.tensor([[0, 1]]), tg.zeros(1, 1)), ValueError, "src"),
}  # fmt: skip


def test_gather_and_scatter_are_adjoint():
    index = np.random.default_rng(0).integers(0, 7, (3, 5))
    adjoint_check(
        lambda x: MODULE._gather(x, dim=1, index=index),
        lambda y: MODULE._scatter(y, dim=1, index=index, shape=(4, 7)), (4, 7), (3, 5),
    )  # fmt: skip


def test_scatter_keeps_one_of_the_values_as_torch_does():
    torch = pytest.importorskip("torch")

    results = []
    for L in (tg, torch):
        x, y = L.zeros(3, requires_grad=True), L.tensor([2.0, 3.0, 4.0], requires_grad=True)
        z = x.scatter(0, L.tensor([1, 1, 0]), y)
        (z * L.tensor([1.0, 10.0, 100.0])).sum().backward()
        results.append([np.asarray(a.detach()) for a in (z, x.grad, y.grad)])
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("shape", [(3,), (3, 2), (0, 2), ()])
def test_an_empty_index_reads_and_writes_nothing(shape):
    torch = pytest.importorskip("torch")

    for index in ((0,), (0, 2), (3, 0), (2, 0)):
        found, expected = [], []
        for L, out in ((tg, found), (torch, expected)):
            x, i = L.zeros(shape), L.zeros(index, dtype=L.int64)
            out += [x.gather(0, i), x.scatter(0, i, 1.0), x.scatter(0, i, L.zeros(index))]
            out += [x.scatter_add(0, i, L.zeros(index))]
        assert [tuple(a.shape) for a in found] == [tuple(b.shape) for b in expected]


def test_integers_are_scattered_too():
    zeros = tg.zeros(3, dtype="int64")
    assert tg.scatter_add(zeros, 0, tg.tensor([0, 2, 2]), tg.tensor([1, 2, 3])).tolist() == [1, 0, 5]
    assert tg.scatter(tg.zeros(2, 3), 1, tg.tensor([[2], [0]]), 1).tolist() == [[0, 0, 1], [1, 0, 0]]


@pytest.mark.parametrize("name", ["scatter", "scatter_add", "index_add"])
def test_what_is_written_does_not_change_the_dtype(name):
    torch = pytest.importorskip("torch")
    for dtype, other in (("int64", "float32"), ("uint8", "int64"), ("float32", "float64")):
        x, values = torch.zeros(2, dtype=getattr(torch, dtype)), torch.ones(1, dtype=getattr(torch, other))
        with pytest.raises(RuntimeError, match=r"dtype|scalar type"):
            getattr(x, name)(0, torch.tensor([0]), values)
        with pytest.raises(TypeError, match=rf"{name}: (src|source) is {other}, input {dtype}; .*\.to\('{dtype}'\)"):
            getattr(tg.zeros(2, dtype=dtype), name)(0, tg.tensor([0]), tg.ones(1, dtype=other))
