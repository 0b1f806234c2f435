"""Every algorithm against torch over trajectories: values, skipped parameters, state."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from trajectories import advance, assert_same, run, twins

import tinygen as tg
from tinygen import nn, optim

torch = pytest.importorskip("torch")


VARIANTS = {  # name: (class, options)
    "sgd": ("SGD", {"lr": 0.1}),
    "sgd momentum": ("SGD", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}),
    "sgd dampening": ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3, "maximize": True}),
    "sgd nesterov": ("SGD", {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1}),
    "adam": ("Adam", {"lr": 0.02}),
    "adam gan": ("Adam", {"lr": 0.02, "betas": (0.5, 0.999), "eps": 1e-6, "weight_decay": 0.05}),
    "adam maximize": ("Adam", {"lr": 0.02, "maximize": True}),
    "adamw": ("AdamW", {"lr": 0.02, "weight_decay": 0.3}),
    "rmsprop": ("RMSprop", {"lr": 0.01}),
    "rmsprop all": ("RMSprop", {"lr": 0.01, "alpha": 0.9, "momentum": 0.7, "centered": True, "weight_decay": 0.02}),
    "adagrad": ("Adagrad", {"lr": 0.1}),
    "adagrad all": ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5}),
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_twenty_steps_equal_torch(name, dtype):
    kind, options = VARIANTS[name]
    ours, theirs = twins(dtype)
    mine, his = getattr(optim, kind)(ours, **options), getattr(torch.optim, kind)(theirs, **options)
    run(ours, theirs, mine, his, 20)
    assert_same(ours, theirs, 1e-5 if dtype == np.float32 else 1e-10)


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_without_gradient_are_untouched_as_in_torch(name):
    kind, options = VARIANTS[name]
    ours, theirs = twins()
    mine, his = getattr(optim, kind)(ours, **options), getattr(torch.optim, kind)(theirs, **options)
    before = ours[1].detach().numpy().copy()
    run(ours, theirs, mine, his, 1, lambda step: (1,))
    assert np.array_equal(before, ours[1].detach().numpy())
    run(ours, theirs, mine, his, 12, lambda step: [(), (0, 3), (1,), (4,), (0, 1, 2, 3), ()][step % 6])
    assert_same(ours, theirs, 1e-10)
    state, reference = mine.state_dict()["state"], his.state_dict()["state"]
    for i, held in reference.items():
        if "step" in held:
            assert state[i]["step"].item() == held["step"].item(), i


@pytest.mark.parametrize("name", VARIANTS)
def test_state_continues_here_and_comes_from_torch(name):
    kind, options = VARIANTS[name]
    ours, theirs = twins()
    mine, his = getattr(optim, kind)(ours, **options), getattr(torch.optim, kind)(theirs, **options)
    run(ours, theirs, mine, his, 5, lambda step: (2,) if step < 3 else ())
    saved = mine.state_dict()
    frozen = copy.deepcopy(saved)
    again = [nn.Parameter(p.detach().clone()) for p in ours]
    resumed = getattr(optim, kind)(again, lr=123.0)
    resumed.load_state_dict(saved)
    assert resumed.param_groups[0]["lr"] == options["lr"]
    ported = [nn.Parameter(tg.tensor(q.detach().numpy().copy())) for q in theirs]
    from_torch = getattr(optim, kind)(ported, **options)
    from_torch.load_state_dict(his.state_dict())
    run(ours, theirs, mine, his, 5)
    for params, optimizer in ((again, resumed), (ported, from_torch)):
        for step in range(5):
            advance(optimizer, params, tg.tensor, step)
    assert all(np.array_equal(p.detach().numpy(), q.detach().numpy()) for p, q in zip(ours, again, strict=True))
    assert_same(ported, theirs, 1e-10)
    for i, held in saved["state"].items():  # the saved state is a copy: later steps did not change it
        assert all(np.array_equal(np.asarray(v), np.asarray(frozen["state"][i][k])) for k, v in held.items())
