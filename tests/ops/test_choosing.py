"""Choices: derivatives of both orders, values and gradients as in torch, also at ties, bounds, infinities and NaN."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pointwise_cases import (  # noqa: F401
    MASK,
    PAIRS,
    ROW,
    X,
    Y,
    beside,
    broadcasts,
    integers_fit_float64,
    numbers_keep_the_dtype,
    pytest_generate_tests,
    pytestmark,
    t,
    test_docstrings_say_what_is_returned,
    test_every_op_has_a_case,
    test_float32_stays_float32,
    test_gradient,
    test_second_derivative,
    torchs,
)

import tinygen as tg
from tinygen.ops import choosing as MODULE  # noqa: F401

DIFFERENTIABLE = {
    "maximum": [(tg.maximum, [X, Y]), (tg.maximum, [ROW, X]), (lambda x: tg.maximum(x, 0.05), [X])],
    "minimum": [(tg.minimum, [X, Y]), (tg.minimum, [ROW, X]), (lambda x: tg.minimum(x, 0.05), [X])],
    "clamp": [
        (lambda x: x.clamp(-1, 0.7), [X]), (lambda x: x.clamp(min=-0.5), [X]), (lambda x: x.clamp(max=0.5), [X]),
        (lambda x, low, high: x.clamp(low, high), [X, t(-1.03), t([0.5, 0.6, 0.7, 0.8])]),
    ],
    "where": [
        (lambda x, y: tg.where(MASK, x, y), [X, ROW]), (lambda x: tg.where(MASK, x, 1.0), [X]),
        (lambda x: x.where(MASK, 2.0), [ROW]),
    ],
}  # fmt: skip
CONSTANT: dict = {}


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_binary_as_torch_at_the_edges(name):
    beside(getattr(tg, name), torchs(name), *PAIRS, dtype="float64")


@pytest.mark.parametrize("low, high", [(-1.0, 1.0), (None, 0.0), (0.0, None), (1.0, -1.0), (-np.inf, np.inf)])
def test_clamp_as_torch(low, high):
    x = np.array([-np.inf, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, np.inf, np.nan])
    beside(lambda x: x.clamp(low, high), lambda x: x.clamp(low, high), x)


def test_clamp_by_tensors_as_torch():
    torch = pytest.importorskip("torch")
    x, low = np.array([-2.0, -1.0, 0.0, 1.0, 2.0, 0.0]), np.array([-1.0, -1.0, 0.0, 0.5, 0.5, 1.0])
    high = np.array([1.0, 1.0, 1.0, 1.0, 1.0, -1.0])
    got = tg.clamp(t(x), t(low), t(high)).numpy()
    np.testing.assert_array_equal(got, torch.clamp(torch.tensor(x), torch.tensor(low), torch.tensor(high)).numpy())
    a, b = t(x, grad=True), torch.tensor(x, requires_grad=True)
    (mine,) = tg.grad(a.clamp(t(low), t(high)).sum(), a)
    torch.clamp(b, torch.tensor(low), torch.tensor(high)).sum().backward()
    np.testing.assert_array_equal(mine.numpy(), b.grad.numpy())


@pytest.mark.parametrize("f", [
    lambda x, lib: lib.maximum(x, lib.zeros_like(x)), lambda x, lib: x.clamp(0, 1),
    lambda x, lib: lib.where(x > 0, x, x * 2),
])  # fmt: skip
def test_kinks_as_torch(f):
    torch = pytest.importorskip("torch")
    beside(lambda x: f(x, tg), lambda x: f(x, torch), np.array([-1.0, 0.0, -0.0, 1.0, 2.0]))


def test_ties_share_half_and_half():
    x, y = t([1.0, 2.0], grad=True), t([1.0, 1.0], grad=True)
    for f, expected in ((tg.maximum, ([0.5, 1], [0.5, 0])), (tg.minimum, ([0.5, 0], [0.5, 1]))):
        for g, e in zip(tg.grad(f(x, y).sum(), [x, y]), expected):
            np.testing.assert_array_equal(g.numpy(), e)


def test_an_inner_where_keeps_nan_out():
    x = t([-1.0, 0.0, 4.0], grad=True)
    y = tg.where(x > 0, tg.where(x > 0, x, 1.0).log(), 0.0)
    (g,) = tg.grad(y.sum(), x)
    np.testing.assert_array_equal(g.numpy(), [0, 0, 0.25])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("number", [2, 0.3, True, np.float64(0.3)])
def test_numbers_do_not_change_the_dtype(dtype, number):
    functions = [tg.maximum, lambda x, n: tg.where(x > 0, x, n), lambda x, n: x.clamp(n, 5)]
    numbers_keep_the_dtype(functions, dtype, number)


@pytest.mark.parametrize("f", [
    lambda x, n: tg.maximum(x, n), lambda x, n: tg.minimum(n, x), lambda x, n: tg.where(x > 1, x, n),
    lambda x, n: x.clamp(n),
])  # fmt: skip
def test_integers_beside_float64(f):
    integers_fit_float64(f)


@given(st.data())
def test_broadcasting(data):
    broadcasts(data, [(tg.maximum, np.maximum)])


def test_where():
    x, y = t([1.0, 2.0, 3.0]), t([[10.0], [20.0]])
    mask = tg.tensor([True, False, True])
    np.testing.assert_array_equal(tg.where(mask, x, y).numpy(), [[1, 10, 3], [1, 20, 3]])
    assert tg.where(mask, 1.0, 0.0).dtype == np.float32 and tg.where(mask, 1, 0).dtype == np.int64
    assert tg.where(mask, 1, 0.5).dtype == np.float32
    np.testing.assert_array_equal(tg.where(mask, 1, 0.5).numpy(), [1, 0.5, 1])
    with pytest.raises(TypeError, match=r"bool tensor, got float64.*x > 0"):
        tg.where(x, x, x)
    with pytest.raises(TypeError, match="bool tensor, got bool"):
        tg.where(True, x, x)


def test_errors():
    with pytest.raises(ValueError, match="clamp: both bounds are None"):
        t([1.0, 2.0]).clamp()


@pytest.mark.parametrize("number", [300, -1, np.int64(300)])
def test_where_takes_no_number_that_the_integers_beside_it_cannot_hold(number):
    x, mask = tg.tensor([5, 6], dtype="uint8"), tg.tensor([True, False])
    for args in ((x, number), (number, x)):
        with pytest.raises(OverflowError, match=r"where: (300|-1) does not fit uint8 \(0 to 255\)"):
            tg.where(mask, *args)
    assert tg.where(mask, x, 255).tolist() == [5, 255] and tg.where(mask, x, 0.5).tolist() == [5, 0.5]
    assert tg.where(mask, 300, x.float()).tolist() == [300, 6] and tg.where(mask, 300, 1).tolist() == [300, 1]
