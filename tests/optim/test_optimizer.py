"""What all optimizers share: groups, the flat arrays, learning rates on the device, errors."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from trajectories import assert_same, run, step_on, twins

import tinygen as tg
from tinygen import nn, optim

torch = pytest.importorskip("torch")


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


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_rates_and_betas_stand_in_the_groups_and_reach_the_step(name):
    p, q = nn.Parameter(tg.tensor([1.0])), nn.Parameter(tg.tensor([1.0]))
    groups = [{"params": [p]}, {"params": [q], "lr": 0.1, "betas": (0.0, 0.9)}]
    optimizer = getattr(optim, name)(groups, lr=0.5, betas=(0.5, 0.999), weight_decay=0.0)
    assert [(g["lr"], g["betas"]) for g in optimizer.param_groups] == [(0.5, (0.5, 0.999)), (0.1, (0.0, 0.9))]
    for gradient in (1.0, -2.0):
        p.grad, q.grad = tg.tensor([gradient]), tg.tensor([gradient])
        optimizer.step()
    for x, lr, b1, b2 in ((p, 0.5, 0.5, 0.999), (q, 0.1, 0.0, 0.9)):
        value, m, v = 1.0, 0.0, 0.0
        for t, g in ((1, 1.0), (2, -2.0)):
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            value -= lr * (m / (1 - b1**t)) / ((v / (1 - b2**t)) ** 0.5 + 1e-8)
        assert x.item() == pytest.approx(value, rel=1e-5)


def test_sgd_reads_the_rate_and_momentum_of_each_group():
    p, q = nn.Parameter(tg.tensor([0.0])), nn.Parameter(tg.tensor([0.0]))
    optimizer = optim.SGD([{"params": [p], "momentum": 0.5}, {"params": [q], "lr": 0.25}], lr=1.0)
    for _ in range(2):
        p.grad, q.grad = tg.ones(1), tg.ones(1)
        optimizer.step()
    assert p.item() == -2.5 and q.item() == -0.5


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
