"""Activations: derivatives of three orders, values and gradients as in torch, also at kinks, infinities and NaN."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from pointwise_cases import (  # noqa: F401
    X,
    beside,
    keeps,
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
from tinygen.ops import activation as MODULE
from tinygen.testing import composite_check

DIFFERENTIABLE = {
    "tanh": [(tg.tanh, [X])],
    "sigmoid": [(tg.sigmoid, [X])],
    "softplus": [(tg.softplus, [X])],
    "log_sigmoid": [(tg.log_sigmoid, [X])],
    "relu": [(tg.relu, [X])],
    "leaky_relu": [(tg.leaky_relu, [X]), *[(lambda x, s=s: tg.leaky_relu(x, s), [X]) for s in (0, 0.2, -0.5)]],
    "elu": [(tg.elu, [X]), (lambda x: tg.elu(x, 0.3), [X])],
    "selu": [(tg.selu, [X])],
    "gelu": [(tg.gelu, [X]), (lambda x: tg.gelu(x, approximate="tanh"), [X])],
    "silu": [(tg.silu, [X])],
}
CONSTANT: dict = {}
THIRD = ["tanh", "sigmoid", "softplus", "gelu", "silu", "elu"]
UNARY = {
    **{n: n for n in ("tanh", "sigmoid", "relu")},
    **{n: "nn.functional." + n for n in ("softplus", "selu", "elu", "leaky_relu", "silu", "gelu")},
    "log_sigmoid": "nn.functional.logsigmoid",
}  # fmt: skip
INTEGERS = {"relu": [0, 0, 3]}


@pytest.mark.parametrize("op, attributes", [
    (MODULE._elu, {"alpha": 0.7, "scale": 1.3}), (MODULE.silu, {}),
    (MODULE._gelu, {"tanh": False}), (MODULE._gelu, {"tanh": True}),
])  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_fast_vjp_equals_the_composite(op, attributes, dtype):
    assert composite_check(op, [np.random.default_rng(0).normal(0, 3, (5, 7)).astype(dtype)], **attributes)


def test_kinks_as_torch():
    beside(tg.relu, torchs("relu"), np.array([-1.0, 0.0, -0.0, 1.0, 2.0]))


@pytest.mark.parametrize("f, second", [
    (tg.sigmoid, lambda x: -np.sign(x) * np.exp(-np.abs(x))), (tg.softplus, lambda x: np.exp(-np.abs(x))),
    (tg.silu, lambda x: (2 - np.abs(x)) * np.exp(-np.abs(x))), (tg.log_sigmoid, lambda x: -np.exp(-np.abs(x))),
    (tg.tanh, lambda x: 0 * x), (tg.gelu, lambda x: 0 * x), (tg.elu, lambda x: np.where(x < 0, np.exp(x), 0)),
])  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_second_derivatives_far_out(f, second, dtype):
    """At |x| = 50 (and 1000) they are tiny, never NaN."""
    x = t([-1000.0, -50.0, 50.0, 1000.0], dtype, grad=True)
    (g,) = tg.grad(f(x).sum(), x, create_graph=True)
    (gg,) = tg.grad(g.sum(), x)
    assert np.isfinite(f(x).detach().numpy()).all() and np.isfinite(g.detach().numpy()).all()
    np.testing.assert_allclose(gg.numpy(), second(x.detach().numpy().astype(np.float64)), rtol=1e-4, atol=1e-15)


def test_layouts():
    same_in_every_layout(UNARY)


def test_memory_kept():
    """relu, tanh, sigmoid and leaky_relu keep their result alone; softplus and silu their argument alone."""
    for f in (tg.relu, tg.tanh, tg.sigmoid, tg.leaky_relu):
        keeps(f, [], True)
    for f in (tg.softplus, tg.silu):
        keeps(f, ["x"], False)


def test_errors():
    with pytest.raises(ValueError, match="approximate='erf'"):
        tg.gelu(t([1.0, 2.0]), approximate="erf")


def test_stable_activations_do_not_warn():
    x = t([-1e4, -750.0, 0.0, 750.0, 1e4], grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for f in (tg.sigmoid, tg.softplus, tg.log_sigmoid, tg.tanh, tg.elu, tg.selu, tg.silu, tg.gelu, tg.relu):
            (g,) = tg.grad((f(x) * x).sum(), x, create_graph=True)
            tg.grad(g.sum(), x)


def test_gelu_and_selu_constants():
    assert tg.gelu(t(1.0)).item() == pytest.approx(0.5 * (1 + math.erf(math.sqrt(0.5))), rel=1e-14)
    assert tg.selu(t(-1.0)).item() == pytest.approx(1.0507009873554805 * 1.6732632423543772 * math.expm1(-1), rel=1e-14)
