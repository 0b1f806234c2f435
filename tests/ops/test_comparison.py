"""Comparisons and logic: values as in torch, also at infinities and NaN, and no gradient."""

from __future__ import annotations

import pytest
from pointwise_cases import (  # noqa: F401
    X,
    Y,
    pairs_as_torch,
    piecewise_as_torch,
    pytest_generate_tests,
    pytestmark,
    test_docstrings_say_what_is_returned,
    test_every_op_has_a_case,
    test_without_gradient,
)

from tinygen.ops import comparison as MODULE  # noqa: F401

OF_TWO = ("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor")
OF_ONE = ("logical_not", "isnan", "isinf", "isfinite")
DIFFERENTIABLE: dict = {}
CONSTANT = {**{n: [X, Y] for n in OF_TWO}, **{n: [X] for n in OF_ONE}}


@pytest.mark.parametrize("name", OF_TWO)
def test_comparisons_as_torch(name):
    pairs_as_torch(name)


@pytest.mark.parametrize("name", OF_ONE)
def test_piecewise_constant_as_torch(name):
    piecewise_as_torch(name)
