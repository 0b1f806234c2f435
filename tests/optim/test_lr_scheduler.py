"""Learning rates over time against torch."""

from __future__ import annotations

import numpy as np
import pytest

import tinygen as tg
from tinygen import nn, optim

torch = pytest.importorskip("torch")


SCHEDULES = {
    "StepLR": {"step_size": 3, "gamma": 0.5},
    "MultiStepLR": {"milestones": [2, 5, 5], "gamma": 0.3},
    "ExponentialLR": {"gamma": 0.9},
    "LinearLR": {"start_factor": 0.2, "total_iters": 4},
    "LinearLR decay": {"start_factor": 1.0, "end_factor": 0.1, "total_iters": 6},
    "CosineAnnealingLR": {"T_max": 6, "eta_min": 0.001},
    "LambdaLR": {"lr_lambda": [lambda e: 1 / (1 + e), lambda e: 0.5**e]},
}


def optimizers():
    return [
        M.optim.SGD(
            [{"params": [M.nn.Parameter(M.ones(1))]}, {"params": [M.nn.Parameter(M.ones(1))], "lr": 0.3}], lr=0.1
        )
        for M in (tg, torch)
    ]


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_equal_torch(name):
    mine, his = optimizers()
    kind, options = name.split()[0], SCHEDULES[name]
    a, b = getattr(optim.lr_scheduler, kind)(mine, **options), getattr(torch.optim.lr_scheduler, kind)(his, **options)
    for _ in range(10):
        np.testing.assert_allclose(a.get_last_lr(), b.get_last_lr(), rtol=1e-9, atol=1e-12)
        mine.step(), his.step()
        a.step(), b.step()
    other, _ = optimizers()
    resumed = getattr(optim.lr_scheduler, kind)(other, **options)
    resumed.load_state_dict(a.state_dict())
    assert resumed.get_last_lr() == a.get_last_lr()
    a.step(), resumed.step()
    assert resumed.get_last_lr() == a.get_last_lr()


@pytest.mark.parametrize("second", SCHEDULES)
@pytest.mark.parametrize("first", SCHEDULES)
def test_two_schedules_and_a_hand_compose_as_in_torch(first, second):
    pairs = []
    for optimizer, library in zip(optimizers(), (optim, torch.optim), strict=True):
        made = [getattr(library.lr_scheduler, n.split()[0])(optimizer, **SCHEDULES[n]) for n in (first, second)]
        pairs.append((optimizer, made))
    for epoch in range(10):
        rates = [[group["lr"] for group in optimizer.param_groups] for optimizer, _ in pairs]
        np.testing.assert_allclose(*rates, rtol=1e-9, atol=1e-12)
        for optimizer, schedules in pairs:
            if epoch == 3:
                optimizer.param_groups[1]["lr"] *= 7
            optimizer.step()
            for schedule in schedules:
                schedule.step()


def test_a_rate_changed_by_hand_survives_a_resumption():
    optimizer, _ = optimizers()
    schedule = optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    optimizer.param_groups[0]["lr"] = 5.0
    schedule.step()
    other, _ = optimizers()
    resumed = optim.lr_scheduler.StepLR(other, 2, 0.5)
    resumed.load_state_dict(schedule.state_dict())
    assert other.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"] == 5.0
    schedule.step(), resumed.step()
    assert resumed.get_last_lr() == schedule.get_last_lr() == [2.5, 0.15]


def test_warm_up_then_cosine_equals_torch():
    rates = []
    for optimizer, library in zip(optimizers(), (optim, torch.optim), strict=True):
        S = library.lr_scheduler
        parts = [S.LinearLR(optimizer, 0.1, total_iters=3), S.CosineAnnealingLR(optimizer, 5)]
        schedule = S.SequentialLR(optimizer, parts, [3])
        rates.append([])
        for _ in range(8):
            rates[-1].append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
    np.testing.assert_allclose(rates[0], rates[1], rtol=1e-6)
    with pytest.raises(ValueError, match="2 schedules need 1 milestones"):
        S = optim.lr_scheduler
        S.SequentialLR(optimizers()[0], [S.ExponentialLR(optimizers()[0], 0.5)] * 2, [])


def test_a_schedule_changes_what_the_optimizer_does():
    p = nn.Parameter(tg.zeros(1))
    optimizer = optim.SGD([p], lr=1.0)
    schedule = optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    for _ in range(3):
        p.grad = -tg.ones(1)
        optimizer.step()
        schedule.step()
    assert p.item() == 1.75
    from tinygen.optim.lr_scheduler import StepLR

    assert StepLR is optim.StepLR


def test_empty_schedules_are_refused():
    S = optim.lr_scheduler
    for call, words in (
        (lambda o: S.StepLR(o, 0), "StepLR: step_size=0"),
        (lambda o: S.CosineAnnealingLR(o, 0), "CosineAnnealingLR: T_max=0"),
        (lambda o: S.LinearLR(o, total_iters=0), "LinearLR: total_iters=0"),
        (lambda o: S.LinearLR(o, 0.0), "LinearLR: start_factor=0.0"),
    ):
        with pytest.raises(ValueError, match=f"{words} should be"):
            call(optimizers()[0])
