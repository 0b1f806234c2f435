"""Arithmetic: derivatives of both orders, values and gradients as in torch, also at infinities, NaN and 0 ** 0."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pointwise_cases import (  # noqa: F401
    PAIRS,
    POSITIVE,
    ROW,
    X,
    Y,
    beside,
    broadcasts,
    integers_fit_float64,
    keeps,
    numbers_keep_the_dtype,
    pairs_as_torch,
    pytest_generate_tests,
    pytestmark,
    same_in_every_layout,
    t,
    test_docstrings_say_what_is_returned,
    test_every_op_has_a_case,
    test_float32_stays_float32,
    test_gradient,
    test_integers_stay,
    test_second_derivative,
    test_third_derivative,
    test_unary_as_torch_at_the_edges,
    test_without_gradient,
    torchs,
)

import tinygen as tg
from tinygen.ops import arithmetic as MODULE  # noqa: F401

DIFFERENTIABLE = {
    "add": [(tg.add, [X, ROW]), (lambda x: x + 2, [X]), (lambda x: 2 + x, [X])],
    "sub": [(tg.sub, [X, ROW]), (lambda x: x - 2, [X]), (lambda x: 2 - x, [X])],
    "mul": [(tg.mul, [X, ROW]), (lambda x: x * 3, [X]), (lambda x: x * x, [X])],
    "div": [(tg.div, [X, POSITIVE]), (tg.div, [ROW, X]), (lambda x: x / 3, [X]), (lambda x: 3 / x, [X])],
    "neg": [(tg.neg, [X])],
    "pow": [
        (tg.pow, [POSITIVE, Y]), (tg.pow, [POSITIVE, ROW]), (lambda y: 2 ** y, [Y]), (lambda x: x ** -1.5, [POSITIVE]),
        *[(lambda x, p=p: x ** p, [X]) for p in (0, 1, 2, 3, 4, 5, -1, -2, 2.0)],
        *[(lambda x, p=p: x ** p, [POSITIVE]) for p in (0.5, 2.5)],
    ],
    "fmod": [(lambda x: tg.fmod(x, 0.7), [X]), (tg.fmod, [X, Y]), (lambda y: tg.fmod(2.0, y), [Y])],
    "remainder": [(lambda x: x % 0.7, [X]), (tg.remainder, [X, Y]), (lambda y: 2.0 % y, [Y])],
    "lerp": [(tg.lerp, [X, ROW, POSITIVE]), (lambda a, b: tg.lerp(a, b, 0.3), [X, Y])],
    "addcmul": [(lambda a, b, c: tg.addcmul(a, b, c, value=0.5), [X, Y, ROW])],
    "addcdiv": [(lambda a, b, c: tg.addcdiv(a, b, c, value=0.5), [X, Y, POSITIVE])],
}  # fmt: skip
CONSTANT = {"floor_divide": [X, Y]}
THIRD = ["div", "pow"]
UNARY = {"neg": "neg"}
INTEGERS = {"neg": [2, 0, -3]}


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "pow"])
def test_binary_as_torch_at_the_edges(name):
    x, y = PAIRS
    if name == "pow":  # the derivative of NaN ** 0 is NaN here and 0 in torch
        x, y = PAIRS[:, ~(np.isnan(PAIRS[0]) & (PAIRS[1] == 0))]
    beside(getattr(tg, name), torchs(name), x, y, dtype="float64")


@pytest.mark.parametrize("name", ["fmod", "remainder", "floor_divide"])
def test_remainders_as_torch(name):
    pairs_as_torch(name)


@pytest.mark.parametrize("name", ["add", "sub"])
def test_alpha_as_torch(name):
    for alpha in (1, 2, -0.5):
        f, g = (partial(function, alpha=alpha) for function in (getattr(tg, name), torchs(name)))
        beside(f, g, *PAIRS[:, 18:27])
    x = tg.ones(2)
    assert getattr(x, f"{name}_")(x.clone(), alpha=3) is x and x.tolist() == ([4, 4] if name == "add" else [-2, -2])
    assert getattr(tg, name)(t([5, 6], np.int64), 1, alpha=2).tolist() == ([7, 8] if name == "add" else [3, 4])
    with pytest.raises(TypeError, match=f"{name}: alpha=0.5 is no integer"):
        getattr(tg, name)(t([5], np.int64), 1, alpha=0.5)


@pytest.mark.parametrize("name", ["fmod", "remainder"])
def test_derivatives_of_remainders_as_torch(name):
    x, y = PAIRS[:, (PAIRS[1] != 0) & np.isfinite(PAIRS[0])]
    beside(getattr(tg, name), torchs(name), x, y, dtype="float64")


def test_a_number_in_a_0_d_tensor_does_not_decide_the_dtype():
    torch = pytest.importorskip("torch")
    for dtype in ("float32", "float64", "float16", "int64"):
        for number in ("float32", "float64"):
            found, expected = [], []
            for L, out in ((tg, found), (torch, expected)):
                x, w = L.ones(2, dtype=getattr(L, dtype)), L.tensor(3.0, dtype=getattr(L, number))
                w.requires_grad_()
                for y in (x * w, w - x, x / w, L.where(x > 0, w, x), L.maximum(x, w)):
                    out.append(str(y.dtype).removeprefix("torch."))
                    out.append(np.asarray(L.autograd.grad(y.sum(), w)[0] if L is torch else tg.grad(y.sum(), w)[0]))
                out += [str(g.dtype) for g in out if isinstance(g, np.ndarray)]
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_array_equal(a, b)
    with pytest.raises(TypeError, match="mul: mixed dtypes float32 and float64"):
        tg.ones(2) * tg.ones(1, dtype="float64")


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 4, -1, -2, 0.5, 1.5, -0.5, 2.0])
def test_number_exponents_as_torch(exponent):
    beside(lambda x: x**exponent, lambda x: x**exponent, np.array([-2.0, -1.0, 0.0, 0.5, 3.0]), dtype="float64")


def test_zero_to_the_power_of_numbers_has_finite_derivatives():
    x = t([0.0, 0.0, 2.0], grad=True)
    derivatives = {0: ([0] * 3, [0] * 3), 1: ([1] * 3, [0] * 3), 2: ([0, 0, 4], [2, 2, 2]), 3: ([0, 0, 12], [0, 0, 12])}
    for p, (first, second) in derivatives.items():
        (g,) = tg.grad((x**p).sum(), x, create_graph=True)
        np.testing.assert_array_equal(g.detach().numpy(), first)
        if g.requires_grad:
            found = tg.grad(g.sum(), x, allow_unused=True)[0]
            np.testing.assert_array_equal(np.zeros(3) if found is None else found.numpy(), second)


def test_zero_to_the_power_of_a_tensor():
    x, y = t([0.0, 0.0, 0.0], grad=True), t([0.0, 1.0, 2.0], grad=True)
    gx, gy = tg.grad((x**y).sum(), [x, y])
    np.testing.assert_array_equal(gx.numpy(), [0, 1, 0])
    np.testing.assert_array_equal(gy.numpy(), [0, 0, 0])


def test_division_of_integers():
    a, b = t([7, -7, 8], np.int64), t([2, 2, 4], np.int64)
    assert (a / b).dtype == np.float32 and (a / 2).dtype == np.float32 and (1 / a).dtype == np.float32
    np.testing.assert_array_equal((a / b).numpy(), [3.5, -3.5, 2])
    for mode, expected in (("floor", [3, -4, 2]), ("trunc", [3, -3, 2])):
        got = tg.div(a, b, rounding_mode=mode)
        assert got.dtype == np.int64
        np.testing.assert_array_equal(got.numpy(), expected)
        np.testing.assert_array_equal(tg.div(a.double(), b, rounding_mode=mode).numpy(), expected)
    x = t([7.0], grad=True)
    assert tg.grad(tg.div(x, 2.0, rounding_mode="floor").sum(), x)[0].item() == 0
    with pytest.raises(ValueError, match="rounding_mode='up'"):
        tg.div(a, b, rounding_mode="up")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("number", [2, 0.3, True, np.float64(0.3)])
def test_numbers_do_not_change_the_dtype(dtype, number):
    functions = [
        lambda x, n: x + n, lambda x, n: n * x, lambda x, n: x - n, lambda x, n: n / x,
        lambda x, n: x**n, lambda x, n: n**x,
    ]  # fmt: skip
    numbers_keep_the_dtype(functions, dtype, number)


@pytest.mark.parametrize("f", [
    lambda x, n: x * n, lambda x, n: x / n, lambda x, n: n / x, lambda x, n: x**n, lambda x, n: n**x,
    lambda x, n: tg.lerp(x, n, 0.5),
])  # fmt: skip
def test_integers_beside_float64(f):
    integers_fit_float64(f)


@given(st.data())
def test_broadcasting(data):
    broadcasts(data, [(tg.mul, np.multiply), (tg.div, np.divide), (tg.pow, np.power)])


def test_layouts():
    same_in_every_layout(UNARY)


def test_memory_kept():
    """add, sub and neg keep nothing; a product with a number keeps the number."""
    for f, saved in ((tg.neg, []), (lambda x: x + x, []), (lambda x: x - 1, []), (lambda x: x * 2, ["y"])):
        keeps(f, saved, False)


def test_errors():
    x = t([1.0, 2.0])
    with pytest.raises(ValueError, match=r"shape|broadcast"):
        x + t([1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match="mul: mixed dtypes float32 and float64"):
        x * t([1.0, 2.0], np.float32)


DIVISIONS = {
    "//": lambda L, x, y: x // y,
    "%": lambda L, x, y: x % y,
    "fmod": lambda L, x, y: L.fmod(x, y),
    "floor": lambda L, x, y: L.div(x, y, rounding_mode="floor"),
    "trunc": lambda L, x, y: L.div(x, y, rounding_mode="trunc"),
}


@pytest.mark.parametrize("name", DIVISIONS)
def test_integers_divided_by_0_raise_as_torchs_do(name):
    torch, divide = pytest.importorskip("torch"), DIVISIONS[name]
    for x, y in (([5, 6], 0), ([5, 6], [1, 0])):
        operands = [torch.tensor(x), torch.tensor(y) if y else y]
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            divide(torch, *operands)
        with pytest.raises(ZeroDivisionError, match=r": integers cannot be divided by 0; convert them with \.float"):
            divide(tg, tg.tensor(x), tg.tensor(y) if y else y)
    with np.errstate(divide="ignore", invalid="ignore"):
        for x, y in (([5.0, -6.0], 0), ([5.0, 0.0], [0, 2])):
            ours = divide(tg, tg.tensor(x), tg.tensor(y) if y else y)
            theirs = divide(torch, torch.tensor(x), torch.tensor(y) if y else y)
            np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


@pytest.mark.parametrize(
    "name, apply",
    [
        ("bitwise_and", lambda u: u & 300),
        ("bitwise_or", lambda u: u | -1),
        ("add", lambda u: u + 300),
        ("sub", lambda u: 300 - u),
        ("remainder", lambda u: u % 300),
        ("clamp", lambda u: u.clamp(-1, 2)),
    ],
)
def test_a_number_that_the_dtype_cannot_hold_is_named_with_the_op(name, apply):
    with pytest.raises(OverflowError, match=rf"^{name}: .*(300|-1).* uint8; choose a number .* or widen"):
        apply(tg.tensor([5], dtype="uint8"))


DTYPES = ("float64", "float32", "float16", "int64", "int32", "uint8", "bool")


@pytest.mark.parametrize("first", DTYPES)
def test_the_dtypes_of_mixtures_are_torchs(first):
    torch = pytest.importorskip("torch")
    for second, one, two in itertools.product(DTYPES, ((), (1,)), ((), (1,))):
        if one and two and {first[0], second[0]} == {"f"} and first != second:  # tests above: these raise
            continue
        y = tg.ones(one, dtype=first) * tg.ones(two, dtype=second)
        z = torch.ones(one, dtype=getattr(torch, first)) * torch.ones(two, dtype=getattr(torch, second))
        assert str(y.dtype) == str(z.dtype).removeprefix("torch."), (first, one, second, two)


def test_gradients_of_mixed_scalars_keep_their_dtypes():
    x, y = tg.tensor(2.0, requires_grad=True), tg.tensor(np.float64(3), requires_grad=True)
    (x * y).backward()
    assert (x.grad.dtype, y.grad.dtype, x.grad.item(), y.grad.item()) == (np.float32, np.float64, 3.0, 2.0)


def test_an_integer_that_does_not_fit_beside_others_is_named():
    small, large = tg.tensor([1, 2], dtype="uint8"), tg.tensor(300)
    for call in (lambda: small + large, lambda: large * small, lambda: small + tg.tensor(-1)):
        with pytest.raises(OverflowError, match=r"(add|mul): (300|-1) does not fit the uint8 beside it; .*'int64'"):
            call()
    assert (small.to("int64") + large).tolist() == [301, 302]


def test_powers_of_booleans_are_integers():
    torch = pytest.importorskip("torch")
    for power in (lambda L, x: L.square(x), lambda L, x: x**2, lambda L, x: x**3, lambda L, x: x**0):
        y, z = power(tg, tg.tensor([True, False])), power(torch, torch.tensor([True, False]))
        assert (str(y.dtype), y.tolist()) == (str(z.dtype).removeprefix("torch."), z.tolist())
