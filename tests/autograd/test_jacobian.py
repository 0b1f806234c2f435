"""Jacobians: torch's nesting and values, higher orders through create_graph, and zeros for what is not used."""

from __future__ import annotations

import numpy as np
import pytest

import tinygen as tg
from tinygen.autograd.functional import jacobian

torch = pytest.importorskip("torch")
R = np.random.default_rng(9)
X, Y = R.standard_normal((2, 3)), R.standard_normal(3)
CASES = {
    "one to one": (lambda L, x: x.exp() * x.sum(), (X,)),
    "a scalar": (lambda L, x: (x * x).sum(), (X,)),
    "two inputs": (lambda L, x, y: x @ y, (X, Y)),
    "two outputs": (lambda L, x, y: (x * y, y.sin()), (X, Y)),
    "one unused": (lambda L, x, y: x * 2, (X, Y)),
    "a constant": (lambda L, x: L.ones(2, dtype=L.float64), (X,)),
}  # fmt: skip


def flat(nested):
    return [t for n in nested for t in flat(n)] if isinstance(nested, tuple) else [nested]


@pytest.mark.parametrize("case", CASES)
def test_values_and_nesting_are_torchs(case):
    f, arrays = CASES[case]
    ours, theirs = (tuple(make(a) for a in arrays) for make in (tg.tensor, torch.tensor))
    ours, theirs = (ts if len(ts) > 1 else ts[0] for ts in (ours, theirs))
    got = jacobian(lambda *xs: f(tg, *xs), ours)
    expected = torch.autograd.functional.jacobian(lambda *xs: f(torch, *xs), theirs)
    shape = lambda n: tuple(map(shape, n)) if isinstance(n, tuple) else tuple(n.shape)
    assert shape(got) == shape(expected)
    for a, b in zip(flat(got), flat(expected)):
        assert not a.requires_grad
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)


def test_create_graph_gives_second_derivatives_and_reaches_the_inputs():
    x = tg.tensor(Y).requires_grad_()
    J = tg.autograd.functional.jacobian(lambda x: x**3, x, create_graph=True)
    (g,) = tg.grad(J.sum(), x)
    np.testing.assert_allclose(g.numpy(), 6 * Y, rtol=1e-12)
    hessian = jacobian(lambda x: tg.grad((x**3).sum(), x, create_graph=True)[0], tg.tensor(Y))
    np.testing.assert_allclose(hessian.numpy(), np.diag(6 * Y), rtol=1e-12)


def test_it_works_under_no_grad_and_leaves_inputs_alone():
    x = tg.tensor(Y)
    with tg.no_grad():
        J = jacobian(tg.exp, x)
    np.testing.assert_allclose(J.numpy(), np.diag(np.exp(Y)))
    assert not x.requires_grad and x.grad is None


def test_of_nothing_it_is_empty():
    assert jacobian(lambda x: x[:0], tg.tensor(Y)).shape == (0, 3)


def test_strict_refuses_what_is_not_used():
    with pytest.raises(RuntimeError, match="does not depend"):
        jacobian(lambda x, y: x * 2, (tg.tensor(X), tg.tensor(Y)), strict=True)


def test_grad_and_backward_are_there_too():
    assert tg.autograd.grad is tg.grad and tg.autograd.backward is tg.backward
