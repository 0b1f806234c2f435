"""Optimizers against torch over trajectories; the flat arrays behind them; schedules, clipping, averages, L-BFGS-B."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest

import tinygen as tg
from tinygen import nn, optim

torch = pytest.importorskip("torch")

SHAPES = [(4, 3), (4,), (5, 4), (1,), ()]

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


def test_groups_have_their_own_options():
    ours, theirs = twins()
    groups = lambda params: [{"params": params[:2], "lr": 0.1}, {"params": params[2:], "weight_decay": 0.2}]
    mine, his = optim.Adam(groups(ours), lr=0.01), torch.optim.Adam(groups(theirs), lr=0.01)
    run(ours, theirs, mine, his, 3)
    mine.param_groups[1]["lr"] = his.param_groups[1]["lr"] = 0.5  # changed from step to step
    run(ours, theirs, mine, his, 3)
    assert_same(ours, theirs)
    state = mine.state_dict()
    assert [g["params"] for g in state["param_groups"]] == [[0, 1], [2, 3, 4]] and sorted(state["state"]) == [
        0,
        1,
        2,
        3,
        4,
    ]
    extra = nn.Parameter(tg.ones(2))
    mine.add_param_group({"params": extra, "lr": 1.0})
    (extra * 3).sum().backward()
    mine.step()
    np.testing.assert_allclose(extra.tolist(), [0, 0], atol=1e-6)
    assert "group 2: 1 tensors, 2 numbers" in repr(mine)


# ---------------------------------------------------------------- the flat arrays


def step_on(params, optimizer):
    optimizer.zero_grad()
    sum(((p - 1) ** 2).sum() for p in params).backward()
    optimizer.step()


def test_one_kernel_call_updates_a_group(monkeypatch):
    ours, _ = twins()
    optimizer = optim.Adam(ours)
    kernels, calls = tg.device("cpu").kernels, []
    original = kernels.adam_step
    monkeypatch.setattr(kernels, "adam_step", lambda p, *rest: (calls.append(p.size), original(p, *rest)))
    step_on(ours, optimizer)
    assert len(calls) == 1 and calls[0] >= sum(p.numel() for p in ours)
    bases = {id(p.array.base if p.array.base.base is None else p.array.base.base) for p in ours}
    assert len(bases) == 1, "the parameters should be views of one array"
    assert all(
        (p.array.__array_interface__["data"][0] - ours[0].array.__array_interface__["data"][0]) % 64 == 0 for p in ours
    )
    calls.clear()
    optimizer.zero_grad()
    (ours[0].sum() + ours[1].sum() + ours[3].sum()).backward()
    optimizer.step()
    assert len(calls) == 2  # the runs 0-1 and 3


def test_replaced_arrays_are_never_lost():
    ours, theirs = twins()
    mine, his = optim.Adam(ours, lr=0.1), torch.optim.Adam(theirs, lr=0.1)
    run(ours, theirs, mine, his, 2)
    for params, like in ((ours, tg.tensor), (theirs, torch.tensor)):
        params[0].data = like(np.full((4, 3), 7.0))  # WGAN's p.data = p.data.clamp(...)
        params[2].data = params[2].data.clamp(-0.1, 0.1)
        params[1].data.fill_(3.0)  # in place, in the same memory
    run(ours, theirs, mine, his, 3)
    assert_same(ours, theirs)


def test_two_optimizers_may_share_parameters():
    ours, theirs = twins()
    mine = [optim.Adam(ours, lr=0.1), optim.SGD(ours[1:4], lr=0.01, momentum=0.9)]
    his = [torch.optim.Adam(theirs, lr=0.1), torch.optim.SGD(theirs[1:4], lr=0.01, momentum=0.9)]
    for _ in range(3):
        run(ours, theirs, mine[0], his[0], 1)
        run(ours, theirs, mine[1], his[1], 1)
    assert_same(ours, theirs)


def test_a_module_may_be_converted_between_steps():
    net = nn.Linear(3, 2)
    optimizer = optim.Adam(net.parameters(), lr=0.1)
    step_on(list(net.parameters()), optimizer)
    first = optimizer.state_dict()["state"][0]
    net.double()
    step_on(list(net.parameters()), optimizer)
    second = optimizer.state_dict()["state"][0]
    assert net.weight.dtype == np.float64 and second["exp_avg"].dtype == np.float64 and second["step"].item() == 2
    assert (first["exp_avg"].numpy() != 0).all() and (
        np.abs(second["exp_avg"].numpy()) > np.abs(first["exp_avg"].numpy())
    ).any()


def test_state_dicts_and_copies_of_the_module_stay_right():
    net = nn.Linear(3, 2)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    step_on(list(net.parameters()), optimizer)
    live, twin = net.state_dict(), copy.deepcopy(net)
    weight = net.weight.detach().numpy().copy()
    step_on(list(net.parameters()), optimizer)
    assert np.array_equal(live["weight"].numpy(), net.weight.detach().numpy())  # shares memory, as in torch
    assert np.array_equal(twin.weight.detach().numpy(), weight)
    net.load_state_dict(twin.state_dict())
    assert np.array_equal(net.weight.detach().numpy(), weight)
    step_on(list(net.parameters()), optimizer)
    np.testing.assert_allclose(net.weight.detach().numpy(), weight - 0.1 * 2 * (weight - 1), rtol=1e-5)


def test_a_step_invalidates_recorded_graphs():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    loss = net(tg.ones(1, 2)).square().sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match=r"1\.weight.*was changed"):
        loss.backward()


def test_mixed_dtypes_and_frozen_parameters_in_one_group():
    a, b = nn.Parameter(tg.zeros(3)), nn.Parameter(tg.zeros(2, dtype=tg.float64))
    c = nn.Parameter(tg.zeros(2), requires_grad=False)
    optimizer = optim.SGD([a, c, b], lr=1.0)
    (a.sum() + b.sum().to(tg.float32)).backward()
    optimizer.step()
    assert a.tolist() == [-1, -1, -1] and b.tolist() == [-1, -1] and c.tolist() == [0, 0]


def test_zero_grad_step_with_closure_and_no_gradients():
    p = nn.Parameter(tg.ones(2))
    optimizer = optim.SGD([p], lr=0.5)
    optimizer.step()
    assert p.tolist() == [1, 1]

    def closure():
        optimizer.zero_grad(set_to_none=False)
        loss = p.square().sum()
        loss.backward()
        return loss

    with tg.no_grad():
        assert optimizer.step(closure).item() == 2
    assert p.tolist() == [0, 0] and optimizer.step(closure).item() == 0 and p.grad.tolist() == [0, 0]
    optimizer.zero_grad()
    assert p.grad is None


def test_the_learning_rate_reaches_the_device_only_when_it_changes():
    p = nn.Parameter(tg.ones(1))
    optimizer = optim.SGD([p], lr=0.5)
    p.grad = tg.ones(1)
    optimizer.step()
    flat = optimizer._flats[0][0]
    held = flat.lr
    assert held.shape == () and held.dtype == np.float64 and float(held) == 0.5
    optimizer.param_groups[0]["lr"] = 0.25
    optimizer.update_rates()
    assert flat.lr is held and float(held) == 0.25


def test_optimizer_errors():
    p = nn.Parameter(tg.ones(2))
    for call, kind, match in (
        (lambda: optim.SGD([]), ValueError, "no parameters"),
        (lambda: optim.SGD(p), TypeError, r"write \[tensor\]"),
        (lambda: optim.SGD([3]), TypeError, "got int"),
        (lambda: optim.SGD([p * 2]), ValueError, "leaf"),
        (lambda: optim.SGD([tg.tensor([1])]), TypeError, "floating"),
        (lambda: optim.SGD([p, p]), ValueError, "twice"),
        (lambda: optim.SGD([p], lr=-1), ValueError, "lr=-1"),
        (lambda: optim.SGD([p], nesterov=True), ValueError, "momentum > 0"),
        (lambda: optim.Adam([p], betas=(1.0, 0.9)), ValueError, "betas"),
        (
            lambda: optim.SGD([p]).load_state_dict(optim.SGD([p, nn.Parameter(tg.ones(1))]).state_dict()),
            ValueError,
            r"\[2\]",
        ),
    ):
        with pytest.raises(kind, match=match):
            call()
    other = optim.Adam([nn.Parameter(tg.ones(3))])
    other.param_groups[0]["params"][0].grad = tg.ones(3)
    other.step()
    with pytest.raises(ValueError, match=r"exp_avg of parameter 0 is \(3,\), the parameter \(2,\)"):
        optim.Adam([p]).load_state_dict(other.state_dict())
    p.grad = tg.ones(3)
    with pytest.raises(ValueError, match=r"\(2,\) float32, its gradient \(3,\)"):
        optim.SGD([p]).step()


# ---------------------------------------------------------------- learning rates over time

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


# ---------------------------------------------------------------- clipping and averages


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, math.inf])
@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clip_grad_norm_equals_torch(norm_type, max_norm):
    ours, theirs = twins()
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


def test_ema_averages_swaps_and_resumes():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    optimizer, ema = optim.SGD(net.parameters(), lr=0.1), optim.EMA(net, decay=0.9)
    expected = [p.detach().numpy().copy() for p in net.parameters()]
    for _ in range(4):
        step_on(list(net.parameters()), optimizer)
        ema.update()
        expected = [0.9 * e + 0.1 * p.detach().numpy() for e, p in zip(expected, net.parameters(), strict=True)]
    now = [p.detach().numpy().copy() for p in net.parameters()]
    with ema.average_parameters():
        for p, e in zip(net.parameters(), expected, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), e, rtol=1e-5, atol=1e-7)
    assert all(np.array_equal(p.detach().numpy(), n) for p, n in zip(net.parameters(), now, strict=True))
    with pytest.raises(KeyError), ema.average_parameters():
        raise KeyError
    assert all(np.array_equal(p.detach().numpy(), n) for p, n in zip(net.parameters(), now, strict=True))
    net[1].running_mean.fill_(4.0)
    twin = copy.deepcopy(net)
    twin[1].running_mean.zero_()
    ema.copy_to(twin)
    np.testing.assert_allclose(twin[0].weight.detach().numpy(), expected[0], rtol=1e-5, atol=1e-7)
    assert twin[1].running_mean.tolist() == [4, 4]
    other = optim.EMA(copy.deepcopy(net), decay=0.9)
    other.load_state_dict(ema.state_dict())
    assert other.updates == 4 and np.array_equal(other.averages["0.weight"].numpy(), ema.averages["0.weight"].numpy())
    with pytest.raises(ValueError, match="other names"):
        optim.EMA(nn.Linear(2, 2)).load_state_dict(ema.state_dict())
    with pytest.raises(ValueError, match="decay"):
        optim.EMA(net, decay=2.0)


def test_ema_warm_up_forgets_the_first_values_soon():
    net = nn.Linear(1, 1, bias=False)
    ema = optim.EMA(net, decay=0.999, warmup=True)
    net.weight.data.fill_(5.0)
    ema.update()
    first = 5.0 - (5.0 - ema.averages["weight"].item())
    for _ in range(30):
        ema.update()
    assert abs(ema.averages["weight"].item() - 5) < 0.01 < abs(first - 5)


# ---------------------------------------------------------------- L-BFGS-B


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
