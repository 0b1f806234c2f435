"""L-BFGS-B: minima, bounds, errors."""

from __future__ import annotations

import numpy as np
import pytest

import tinygen as tg
from tinygen import nn, optim


def rosenbrock(p):
    return (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2


def closure_of(optimizer, f):
    def closure():
        optimizer.zero_grad()
        loss = f()
        loss.backward()
        return loss

    return closure


def test_lbfgs_finds_the_minimum():
    p = nn.Parameter(tg.tensor([-1.2, 1.0], dtype=tg.float64))
    optimizer = optim.LBFGS([p], max_iter=100, tolerance_change=1e-14)
    first = optimizer.step(closure_of(optimizer, lambda: rosenbrock(p)))
    assert first.item() == pytest.approx(24.2) and np.allclose(p.detach().numpy(), 1, atol=1e-5)


def test_lbfgs_respects_bounds_over_several_parameters():
    a, b = nn.Parameter(tg.zeros(2)), nn.Parameter(tg.full((2, 2), 0.5))
    loss = lambda: ((a - 3) ** 2).sum() + ((b + 1) ** 2).sum()
    optimizer = optim.LBFGS([a, b], bounds=(0.0, 1.0))
    optimizer.step(closure_of(optimizer, loss))
    assert a.tolist() == [1, 1] and b.tolist() == [[0, 0], [0, 0]]
    optimizer = optim.LBFGS([a, b], bounds=[(None, tg.tensor([2.0, 0.5])), None])
    optimizer.step(closure_of(optimizer, loss))
    np.testing.assert_allclose(a.detach().numpy(), [2, 0.5], atol=1e-6)
    np.testing.assert_allclose(b.detach().numpy(), -1, atol=1e-4)


def test_lbfgs_errors():
    p = nn.Parameter(tg.zeros(2))
    for call, kind, match in (
        (lambda: optim.LBFGS([p], lr=0.1), ValueError, "searched for"),
        (lambda: optim.LBFGS([p], line_search_fn="armijo"), ValueError, "strong_wolfe"),
        (lambda: optim.LBFGS([p], bounds=[(0, 1), (0, 1), (0, 1)]), ValueError, "3 bounds for 1"),
        (lambda: optim.LBFGS([p], bounds=(1.0, 0.0)), ValueError, "above"),
        (lambda: optim.LBFGS([p]).step(), TypeError, "closure"),
    ):
        with pytest.raises(kind, match=match):
            call()
