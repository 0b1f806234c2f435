"""Distances between rows: torch's values and gradients for every p, and derivatives of both orders."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinygen as tg
from tinygen.testing import gradcheck, gradgradcheck

torch = pytest.importorskip("torch")
R = np.random.default_rng(6)
X, Y = R.standard_normal((2, 4, 3)), R.standard_normal((2, 5, 3))
POWERS = (0, 0.5, 1, 1.5, 2, 3, math.inf)


@pytest.mark.parametrize("p", POWERS)
def test_values_and_gradients_are_torchs(p):
    for name, arrays in (("cdist", (X, Y)), ("cdist", (X[0], Y)), ("cdist", (X[:, :0], Y)), ("pdist", (X[0],))):
        ours, theirs = [tg.tensor(a).requires_grad_() for a in arrays], [torch.tensor(a) for a in arrays]
        theirs = [t.requires_grad_() for t in theirs]
        call = (lambda L, *a: L.cdist(*a, p)) if name == "cdist" else (lambda L, *a: L.pdist(*a, p))
        y = call(tg, *ours)
        r = call(torch if name == "cdist" else torch.nn.functional, *theirs)
        np.testing.assert_allclose(y.detach().numpy(), r.detach().numpy(), rtol=1e-10, atol=1e-12)
        w = R.standard_normal(y.shape)
        mine = tg.grad(y, ours, tg.tensor(w))
        for g, h in zip(mine, torch.autograd.grad(r, theirs, torch.tensor(w))):
            np.testing.assert_allclose(g.numpy(), h.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("p", [0.5, 1, 1.5, 2, 3, math.inf])
def test_two_orders_of_derivatives(p):
    x, y = tg.tensor(X), tg.tensor(Y)
    for f, inputs in ((lambda x, y: tg.cdist(x, y, p), [x, y]), (lambda x: tg.pdist(x, p), [x[0]])):
        assert gradcheck(f, inputs, directions=2) and gradgradcheck(f, inputs, directions=2)


def test_the_distance_of_a_row_to_itself_is_0_and_so_is_its_derivative():
    x = tg.tensor(X[0]).requires_grad_()
    d = tg.cdist(x, x)
    assert (np.diag(d.detach().numpy()) == 0).all()
    np.testing.assert_allclose(d.detach().numpy()[np.triu_indices(4, 1)], tg.pdist(x).detach().numpy(), rtol=1e-12)
    d.diagonal().sum().backward()
    assert (x.grad.numpy() == 0).all()


def test_near_points_far_from_0_keep_their_digits():
    x = tg.tensor(np.array([[1e8, 0.0], [1e8, 1e-3]]))
    assert tg.cdist(x, x)[0, 1].item() == 1e-3


def test_errors_say_what_was_expected():
    for call, match in (
        (lambda: tg.cdist(tg.zeros(2, 3), tg.zeros(2, 4)), r"\(\.\.\., P, M\)"),
        (lambda: tg.cdist(tg.zeros(3), tg.zeros(3)), r"\(\.\.\., P, M\)"),
        (lambda: tg.cdist(tg.zeros(2, 3), tg.zeros(2, 3), -1), "p=-1"),
        (lambda: tg.pdist(tg.zeros(3)), r"\(N, M\)"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
