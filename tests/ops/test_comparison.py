"""Comparisons and logic: values as in torch, also at infinities and NaN, and no gradient."""

from __future__ import annotations

import operator

import numpy as np
import pytest
from pointwise_cases import (  # noqa: F401
    X,
    Y,
    pairs_as_torch,
    piecewise_as_torch,
    pytest_generate_tests,
    pytestmark,
    t,
    test_docstrings_say_what_is_returned,
    test_every_op_has_a_case,
    test_without_gradient,
)

import tinygen as tg
from tinygen.ops import comparison as MODULE  # noqa: F401

OF_TWO = ("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor")
BITS = ("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift", "bitwise_not")
OF_ONE = ("logical_not", "isnan", "isinf", "isfinite")
I, J = t([6, -7, 0, 1], np.int64), t([3, 2, 64, -1], np.int64)
DIFFERENTIABLE: dict = {}
CONSTANT = {**{n: [X, Y] for n in OF_TWO}, **{n: [X] for n in OF_ONE}}
CONSTANT |= {**{n: [I, J] for n in BITS}, "bitwise_not": [I]}


@pytest.mark.parametrize("name", OF_TWO)
def test_comparisons_as_torch(name):
    pairs_as_torch(name)


@pytest.mark.parametrize("name", OF_ONE)
def test_piecewise_constant_as_torch(name):
    piecewise_as_torch(name)


OPERATORS = {
    "&": operator.and_, "|": operator.or_, "^": operator.xor, "<<": operator.lshift, ">>": operator.rshift,
    "&=": operator.iand, "|=": operator.ior, "^=": operator.ixor, "<<=": operator.ilshift, ">>=": operator.irshift,
}  # fmt: skip


@pytest.mark.parametrize("sign", OPERATORS)
def test_operators_on_bits_as_torch(sign):
    """Integers bit by bit, booleans logically; beside numbers too; floats, and shifts of booleans, are refused."""
    torch = pytest.importorskip("torch")
    f, values = OPERATORS[sign], ([6, -7, 0, 1], [3, 2, 64, -1], [True, False, True, True], [True, True, False, False])
    for first in (0, 2):
        for second in (0, 1, 2, 3, "number", "reflected"):
            found, expected = [], []
            for L, out in ((tg, found), (torch, expected)):
                a = L.tensor(values[first])
                b = 5 if isinstance(second, str) else L.tensor(values[second])
                try:
                    r = f(b, a) if second == "reflected" else f(a, b)
                    out += [r.tolist(), str(r.dtype).split(".")[-1]]
                except (TypeError, RuntimeError, NotImplementedError):
                    out.append("refused")
            assert found == expected, (first, second)
    for wrong in (tg.tensor([1.0]), 2.5):
        with pytest.raises(TypeError, match=r"bitwise_.*: expected integers.*got float"):
            f(tg.tensor([6]), wrong)


def test_inversion_as_torch():
    torch = pytest.importorskip("torch")
    for values, dtype in (([6, -7, 0], "int64"), ([6, 0, 255], "uint8"), ([True, False], "bool")):
        want = (~torch.tensor(values, dtype=getattr(torch, dtype))).tolist()
        assert (~tg.tensor(values, dtype=dtype)).tolist() == want
    with pytest.raises(TypeError, match="bitwise_not: expected integers or booleans, got float32"):
        ~tg.tensor([1.0])
