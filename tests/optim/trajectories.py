"""Equal parameters here and in torch, and the same steps on both."""

from __future__ import annotations

import numpy as np
import pytest

import tinygen as tg
from tinygen import nn

torch = pytest.importorskip("torch")


SHAPES = [(4, 3), (4,), (5, 4), (1,), ()]


def twins(dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    values = [rng.standard_normal(s).astype(dtype) for s in SHAPES]
    return [nn.Parameter(tg.tensor(v.copy())) for v in values], [torch.nn.Parameter(torch.tensor(v)) for v in values]


def loss_of(params, targets):
    """Bounded, with bounded gradients, so that no step size and no sign of it makes a trajectory diverge."""
    distances = [(p - t) ** 2 for p, t in zip(params, targets, strict=True) if t is not None]
    return sum((d / (1 + d)).sum() for d in distances)


def targets_of(like, seed, skip=()):
    rng = np.random.default_rng(seed)
    values = [rng.standard_normal(s) for s in SHAPES]
    return [None if i in skip else like(v) for i, v in enumerate(values)]


def advance(optimizer, params, like, step, skip=()):
    optimizer.zero_grad()
    loss_of(params, targets_of(lambda v: like(v, dtype=params[0].dtype), step, skip)).backward()
    optimizer.step()


def run(ours, theirs, mine, his, steps, skip=lambda step: ()):
    for step in range(steps):
        advance(mine, ours, tg.tensor, step, skip(step))
        advance(his, theirs, torch.tensor, step, skip(step))


def assert_same(ours, theirs, rtol=1e-9):
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=rtol, atol=rtol)


def step_on(params, optimizer):
    optimizer.zero_grad()
    sum(((p - 1) ** 2).sum() for p in params).backward()
    optimizer.step()
