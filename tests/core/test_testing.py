"""The checks of testing.py pass what is right and find planted faults: a check that cannot fail proves nothing."""

from __future__ import annotations

import numpy as np
import pytest

import tinygen as tg
from tinygen.tape import op
from tinygen.testing import adjoint_check, composite_check, gradcheck, gradgradcheck


@op
def wrong_sine(k, x):
    return k.xp.sin(x)


wrong_sine.vjp("x")(lambda g, x: g * x.cos() * 1.0001)


@op
def wrong_second(k, x):
    return k.xp.sin(x)


@op
def cosine_without_sign(k, x):
    return k.xp.cos(x)


wrong_second.vjp("x")(lambda g, x: g * cosine_without_sign(x))
cosine_without_sign.vjp("x")(lambda g, x: g * x.sin())  # should be minus


def test_gradcheck_finds_a_derivative_that_is_a_little_wrong():
    x = np.linspace(-1, 1, 12).reshape(3, 4)
    assert gradcheck(lambda t: t.sin(), x)
    with pytest.raises(AssertionError, match=r"input 0 \(3, 4\): .* made by wrong_sine"):
        gradcheck(wrong_sine, x)
    with pytest.raises(AssertionError, match=r"input 1 \(3, 4\)"):
        gradcheck(lambda a, b: a * wrong_sine(b), [x, x])


def test_gradcheck_finds_one_wrong_element_of_many():
    @op
    def nearly(k, x):
        return x * 2.0

    mask = np.full(1000, 2.0)
    mask[617] = 2.1
    nearly.vjp("x")(lambda g: g * tg.tensor(mask))
    with pytest.raises(AssertionError, match="gradcheck of nearly"):
        gradcheck(nearly, np.ones(1000))


def test_gradgradcheck_finds_a_wrong_second_derivative():
    x = np.linspace(-1, 1, 5)
    assert gradcheck(wrong_second, x)  # the first order is right
    with pytest.raises(AssertionError, match="gradgradcheck of gradient of wrong_second: input 0"):
        gradgradcheck(wrong_second, x)


def test_gradcheck_refuses_what_it_cannot_check():
    with pytest.raises(TypeError, match="input 1 is float32; finite differences need float64"):
        gradcheck(lambda a, b: a * 2.0, [np.ones(2), np.ones(2, np.float32)])
    with pytest.raises(TypeError, match="none of the 1 inputs is a floating tensor"):
        gradcheck(lambda a: a, [np.arange(3)])
    with pytest.raises(AssertionError, match="no output depends differentiably"):
        gradcheck(lambda a: a.detach() + 1.0, [np.ones(2) * 0.3])
    with pytest.raises(AssertionError, match="gradient along a random direction is 0"):
        gradcheck(lambda a, b: a.detach() * 2.0 + b, [np.ones(2), np.ones(2)])
    with pytest.raises(AssertionError, match="nan"):
        gradcheck(lambda a: a * float("nan"), [np.ones(2)])


def test_gradcheck_passes_other_arguments_through_and_respects_requires_grad():
    index = tg.tensor(np.array([1, 0]))
    assert gradcheck(lambda x, i, c: x[i] * c, [np.ones(3), index, 2.0])
    assert gradgradcheck(lambda x, i, c: (x[i] ** 2.0) * c, [np.ones(3), index, 2.0])
    assert gradcheck(
        lambda x, y: x * y.detach(), [tg.tensor(np.ones(2)).requires_grad_(), np.ones(2)]
    )  # only x asks for a gradient


def test_adjoint_check_can_fail():
    a = tg.tensor(np.random.default_rng(0).standard_normal((3, 5)))
    assert adjoint_check(lambda x: a @ x, lambda y: a.T @ y, (5,), (3,))
    with pytest.raises(AssertionError, match=r"adjoint_check: <A x, y> = "):
        adjoint_check(lambda x: a @ x, lambda y: a.T @ y * 1.000001, (5,), (3,))
    with pytest.raises(AssertionError, match=r"A\* y has shape"):
        adjoint_check(lambda x: a @ x, lambda y: y, (5,), (3,))
    with pytest.raises(AssertionError, match="zero everywhere"):
        adjoint_check(lambda x: a @ x * 0.0, lambda y: a.T @ y * 0.0, (5,), (3,))


def make_fused(factor, runs=True):
    @op(composite=lambda x, y: x * y)
    def fused(k, x, y):
        return x * y

    @fused.fused_vjp
    def _(k, g, x, y):
        return (g * y, g * x * factor) if runs else NotImplemented

    return fused


def test_composite_check_can_fail():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((3, 4)), rng.standard_normal((3, 4))
    assert composite_check(make_fused(1.0), [x, y])
    assert composite_check(make_fused(1.0), [x.astype("f"), y.astype("f")])
    with pytest.raises(AssertionError, match=r"composite_check of fused: gradient of input 1 \('y'\)"):
        composite_check(make_fused(1.0 + 1e-8), [x, y])
    with pytest.raises(AssertionError, match="the fast VJP did not run"):
        composite_check(make_fused(1.0, runs=False), [x, y])
    with pytest.raises(TypeError, match="mul has no composite"):
        composite_check(tg.mul, [x, y])

    @op(composite=lambda x: x * 2.0)
    def other(k, x):
        return x * 2.1

    other.fused_vjp(lambda k, g, x: (g * 2.0,))
    with pytest.raises(AssertionError, match="output 0: forward"):
        composite_check(other, [x])
