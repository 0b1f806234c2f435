"""Functions of one number: derivatives of both orders, values and gradients as in torch, also at infinities and NaN."""

from __future__ import annotations

import numpy as np
import pytest
from pointwise_cases import (  # noqa: F401
    POSITIVE,
    X,
    beside,
    keeps,
    piecewise_as_torch,
    pytest_generate_tests,
    pytestmark,
    same_in_every_layout,
    t,
    test_docstrings_say_what_is_returned,
    test_every_op_has_a_case,
    test_float32_stays_float32,
    test_gradient,
    test_integers_become_float32,
    test_integers_stay,
    test_second_derivative,
    test_third_derivative,
    test_unary_as_torch_at_the_edges,
    torchs,
)

import tinygen as tg
from tinygen.ops import pointwise as MODULE  # noqa: F401

DIFFERENTIABLE = {
    "square": [(tg.square, [X])],
    "reciprocal": [(tg.reciprocal, [X])],
    "exp": [(tg.exp, [X])],
    "log": [(tg.log, [POSITIVE])],
    "log1p": [(tg.log1p, [POSITIVE])],
    "expm1": [(tg.expm1, [X])],
    "sqrt": [(tg.sqrt, [POSITIVE])],
    "rsqrt": [(tg.rsqrt, [POSITIVE])],
    "sin": [(tg.sin, [X])],
    "cos": [(tg.cos, [X])],
    "erf": [(tg.erf, [X])],
    "abs": [(tg.abs, [X])],
    "sign": [(tg.sign, [X])],
    "cast": [(lambda x: (x * 2).float().double(), [t([0.5, 1.0, -2.0])])],
}
STEPS = ["floor", "ceil", "round", "trunc"]
DIFFERENTIABLE |= {name: [(getattr(tg, name), [X])] for name in STEPS}
CONSTANT: dict = {}
THROUGH_FLOAT32 = {"cast"}
THIRD = ["erf", "rsqrt"]
UNARY = {
    **{n: n for n in ("exp", "log", "log1p", "expm1", "sqrt", "rsqrt", "reciprocal", "square", "abs")},
    **{n: n for n in ("sin", "cos", "erf")},
}  # fmt: skip
INTEGERS = {
    "square": [4, 0, 9], "abs": [2, 0, 3], "sign": [-1, 0, 1],
    **{n: [-2, 0, 3] for n in ("floor", "ceil", "round", "trunc")},
}  # fmt: skip


@pytest.mark.parametrize("name", ["sign", "floor", "ceil", "round", "trunc"])
def test_piecewise_constant_as_torch(name):
    piecewise_as_torch(name)


@pytest.mark.parametrize("name", [*STEPS, "sign"])
def test_what_moves_only_steps_gets_zeros_as_in_torch(name):
    beside(getattr(tg, name), torchs(name), np.array([-1.5, -0.5, 0.3, 2.7]))


def test_kinks_as_torch():
    beside(tg.abs, torchs("abs"), np.array([-1.0, 0.0, -0.0, 1.0, 2.0]))


def test_layouts():
    same_in_every_layout([*UNARY, "sign"])


def test_cast():
    x = t([1.5, -2.5], np.float32, grad=True)
    assert tg.cast(x, np.float32) is x
    y = x.double()
    assert y.dtype == np.float64 and tg.grad(y.sum(), x)[0].dtype == np.float32
    n = x.long()
    assert n.dtype == np.int64 and not n.requires_grad and n.tolist() == [1, -2]
    assert tg.tensor([0, 2]).bool().tolist() == [False, True]


def test_round_to_decimals():
    x = [0.125, -1.375, 2.5, 3.5, 1e10]
    for decimals in (0, 2, 1, -1):
        np.testing.assert_allclose(tg.round(t(x), decimals=decimals).numpy(), np.round(x, decimals))


def test_memory_kept():
    """exp keeps its result alone."""
    keeps(tg.exp, [], True)


def test_errors():
    with pytest.raises(TypeError, match="exp: no argument is a tensor"):
        tg.exp(2.0)
