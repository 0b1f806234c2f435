"""Gradients kept or written over without a copy: only where nobody else can see it."""

from __future__ import annotations

import numpy as np
import pytest

import tinygen as tg
from tinygen import memory, nn
from tinygen.ops import activation


def leaf(*shape, seed=0):
    return tg.tensor(np.random.default_rng(seed).standard_normal(shape)).requires_grad_()


class Box:
    def __init__(self, array):
        self.array = array


def asked(make):
    """What is_unshared says of a tensor-like object around the array that make() returns."""
    container = [Box(make())]
    variable = container[0]
    return memory.is_unshared(variable)


def test_counts_of_references():
    kept = np.empty(6)
    unshared = [lambda: np.empty(3), lambda: np.empty(4).reshape(2, 2), lambda: np.empty(()), lambda: np.empty(9)[1:]]
    assert [asked(make) for make in unshared] == [True] * 4
    shared = [lambda: kept, lambda: kept.reshape(2, 3), lambda: kept[:]]
    assert [asked(make) for make in shared] == [False] * 3
    useless = [lambda: np.empty((2, 3)).T, lambda: np.broadcast_to(np.empty(3), 3), lambda: np.empty(10_000)[:10]]
    assert [asked(make) for make in useless] == [False] * 3
    container = [Box(np.empty(2))]
    first = second = container[0]
    assert second is first and memory.is_unshared(first) is False


@pytest.fixture
def overwritten(monkeypatch):
    """The answers that derivatives of ReLUs got."""
    answers = []
    monkeypatch.setattr(activation, "may_overwrite", lambda g: answers.append(memory.may_overwrite(g)) or answers[-1])
    return answers


def test_a_gradient_between_two_ops_is_written_over(overwritten):
    x, w = leaf(5, 4), leaf(4, 4, seed=1)
    h = (x @ w).relu()
    (h @ w).sum().backward()
    assert overwritten == [True]
    assert memory.scratch.spare == [None]


def test_what_somebody_else_holds_is_not_written_over(overwritten):
    x = leaf(5, 4)
    seed = tg.tensor(np.ones((5, 4)))
    x.relu().backward(seed)  # the caller's
    np.testing.assert_array_equal(seed.numpy(), 1)
    h = x * 2
    (h.relu() + h).sum().backward()  # both branches get the one gradient of the sum
    y = x.relu()
    z = y.relu()
    gy, gx = tg.grad((z * 3).sum(), (y, x))  # the gradient of y is returned
    np.testing.assert_array_equal(gx.numpy(), gy.numpy() * (x.detach().numpy() > 0))
    tg.grad((x.relu().square() * 3).sum(), x, create_graph=True)  # recorded
    assert overwritten == [False, False, True, False, False]


def test_gradients_are_the_same_as_with_copies(monkeypatch, rng):
    """A network with branches and shared weights, twice: once as it is, once with everything taken for shared."""
    tg.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.LeakyReLU(0.2), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(100, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 7), nn.LeakyReLU(0.1),
    )  # fmt: skip
    x = tg.tensor(rng.standard_normal((6, 2, 5, 5)).astype(np.float32))
    found = []
    for unshared in (memory._UNSHARED, set()):
        monkeypatch.setattr(memory, "_UNSHARED", unshared)
        for p in net.parameters():
            p.grad = None
        y = net(x)
        shared = net[9](y).relu() + y * y + net[9](y)
        loss = shared.square().sum() + y.sum()
        loss.backward(retain_graph=True)
        loss.backward()
        found.append([p.grad.numpy().copy() for p in net.parameters()])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_two_parameters_share_a_gradient():
    x, y = leaf(3, 3), leaf(3, 3, seed=1)
    (x + y).backward(tg.ones(3, 3, dtype=tg.float64))
    assert not np.shares_memory(x.grad.array, y.grad.array)
    z = leaf(4, 6)
    parts = z.split(2)
    (parts[0] * 2 + parts[1]).sum().backward()
    z.grad.array[...] = 7.0  # writeable, and nobody else's
    a, b = leaf(2, 3), leaf(3, 2, seed=1)
    (a.T * b).sum().backward()  # the gradient of a is a transposed view: copied in order
    assert a.grad.array.flags.c_contiguous
    for t in (x, y, z, a, b):
        assert t.grad.array.flags.writeable
