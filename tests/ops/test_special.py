"""erfinv: the inverse of erf to rounding, over its whole range; torch's values; derivatives of three orders."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from pointwise_cases import (  # noqa: F401
    between,
    pytest_generate_tests,
    pytestmark,
    t,
    test_docstrings_say_what_is_returned,
    test_every_op_has_a_case,
    test_float32_stays_float32,
    test_gradient,
    test_second_derivative,
    test_third_derivative,
)

import tinygen as tg
from tinygen.ops import special as MODULE  # noqa: F401

DIFFERENTIABLE = {"erfinv": [(tg.erfinv, [between(-0.95, 0.95, 3, 4)])]}
CONSTANT: dict = {}
THIRD = ["erfinv"]
NEAR_1 = 1 - np.logspace(-16, -1, 40)
VALUES = np.concatenate([np.linspace(-0.999, 0.999, 201), NEAR_1, -NEAR_1, np.logspace(-300, -1, 20), [0.85, -0.85]])


def test_it_is_the_normal_quantile():
    quantile = statistics.NormalDist().inv_cdf
    u = np.linspace(0.001, 0.999, 301)
    expected = [quantile(v) / math.sqrt(2) for v in u]
    np.testing.assert_allclose(tg.erfinv(t(2 * u - 1)).numpy(), expected, rtol=1e-12, atol=1e-15)


def test_values_are_torchs():
    torch = pytest.importorskip("torch")
    for dtype, rtol in (("float64", 4e-15), ("float32", 4e-7)):
        x = np.concatenate([VALUES, [1, -1, 2, -2, np.nan, 0]]).astype(dtype)
        got, expected = tg.erfinv(tg.tensor(x)), torch.erfinv(torch.tensor(x))
        assert got.dtype == dtype
        np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=rtol)


def test_erf_brings_it_back():
    x = t(VALUES[:201])
    np.testing.assert_allclose(tg.erf(x.erfinv()).numpy(), x.numpy(), rtol=2e-15, atol=1e-16)


def test_integers_become_float32():
    assert tg.erfinv(tg.tensor([0, 1])).tolist() == [0, math.inf] and tg.erfinv(tg.tensor([0])).dtype == np.float32
