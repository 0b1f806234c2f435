"""Limits on gradients against torch."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinygen as tg
from tinygen import nn, optim

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, math.inf])
@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clip_grad_norm_equals_torch(norm_type, max_norm):
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(s) for s in ((4, 3), (4,), (5, 4), (1,), ())]
    ours = [nn.Parameter(tg.tensor(v)) for v in values]
    theirs = [torch.nn.Parameter(torch.tensor(v)) for v in values]
    for p, q in zip(ours[:4], theirs[:4], strict=True):  # the fifth has no gradient
        p.grad, q.grad = tg.tensor(p.detach().numpy() * 2), q.detach() * 2
    norm = nn.utils.clip_grad_norm_(iter(ours), max_norm, norm_type)
    reference = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    assert isinstance(norm, tg.Tensor) and norm.shape == () and norm.item() == pytest.approx(reference.item(), rel=1e-9)
    for p, q in zip(ours[:4], theirs[:4], strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-9)


def test_clip_grad_value_and_the_edges_of_clipping():
    p = nn.Parameter(tg.zeros(3))
    assert optim.clip_grad_norm_(p, 1.0).item() == 0
    p.grad = tg.tensor([-3.0, 0.5, 2.0])
    nn.utils.clip_grad_value_([p], 1.0)
    assert p.grad.tolist() == [-1, 0.5, 1]
    p.grad = tg.tensor([np.inf, 0.0, 0.0])
    with pytest.raises(RuntimeError, match="inf"):
        optim.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
    from tinygen.nn.utils import clip_grad_norm_

    assert clip_grad_norm_ is optim.clip_grad_norm_
