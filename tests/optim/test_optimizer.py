"""What all optimizers share: groups, parameters that stay where they are, learning rates on the device, errors."""

from __future__ import annotations

import copy
import pickle
import shutil

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
    monkeypatch.setattr(kernels, "adam_step", lambda p, *rest: (calls.append(len(p.arrays)), original(p, *rest)))
    arrays = [p.array for p in ours]
    step_on(ours, optimizer)
    assert calls == [len(ours)]
    assert all(p.array is a for p, a in zip(ours, arrays, strict=True)), "the parameters should stay where they are"
    assert all(start % 64 == 0 for start in np.multiply(optimizer._flats[0][0].starts, ours[0].array.itemsize))
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


def tied(lib, values, device="cpu"):
    """Two square weights, transposed views of one memory, with a bias between; a third weight is a part of another."""
    of = lambda v: lib.tensor(v.copy(), device=device) if lib is tg else lib.tensor(v.copy())
    parameter = nn.Parameter if lib is tg else torch.nn.Parameter
    encoder, bias, decoder, part = (parameter(of(v)) for v in values)
    decoder.data = encoder.data.transpose(0, 1)
    part.data = encoder.data[1:3]
    return [encoder, bias, decoder, part]


@pytest.mark.parametrize("device", ["cpu", "cuda-emulated"])
@pytest.mark.parametrize(
    "kind, options",
    [("SGD", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}), ("Adam", {"lr": 0.02}), ("Adagrad", {"lr": 0.1})],
)
def test_weights_tied_through_data_stay_tied_as_in_torch(kind, options, device):
    if device != "cpu" and not shutil.which("g++"):
        pytest.skip("the emulator needs g++")
    rng = np.random.default_rng(5)
    values = [rng.standard_normal(s).astype(np.float32) for s in ((4, 4), (4,), (4, 4), (2, 4))]
    x = rng.standard_normal((6, 4)).astype(np.float32)
    histories = []
    for lib, namespace in ((tg, optim), (torch, torch.optim)):
        params = tied(lib, values, device)
        encoder, bias, decoder, part = params
        inputs = lib.tensor(x, device=device) if lib is tg else lib.tensor(x)
        held, part_of = encoder.detach(), encoder.detach()[1:3]  # before the first step
        optimizer, history = getattr(namespace, kind)(params, **options), []
        for _ in range(6):
            optimizer.zero_grad()
            y = lib.tanh(inputs @ encoder + bias) @ decoder
            ((y - inputs) ** 2).mean().backward()
            part.grad = None if len(history) % 2 else lib.ones_like(part)
            optimizer.step()
            history += [p.detach().cpu().numpy().copy() for p in [*params, held, part_of]]
        assert np.array_equal(history[-6], history[-4].T) and np.array_equal(history[-6][1:3], history[-3])
        histories.append(history)
    for a, b in zip(*histories, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


def test_who_took_the_memory_before_the_first_step_sees_every_step():
    net = nn.Linear(3, 2)
    held, state, row = net.weight.detach(), net.state_dict(), net.weight.detach()[1]
    array = net.weight.detach().numpy()
    optimizer = optim.Adam(net.parameters(), lr=0.1)
    before = array.copy()
    for _ in range(2):
        step_on(list(net.parameters()), optimizer)
        weight = net.weight.detach().numpy()
        assert not np.array_equal(weight, before)
        for seen in (held.numpy(), state["weight"].numpy(), array):
            np.testing.assert_array_equal(seen, weight)
        np.testing.assert_array_equal(row.numpy(), weight[1])


def test_a_step_on_tied_weights_invalidates_graphs_of_both():
    a, b = nn.Parameter(tg.ones(2, 2)), nn.Parameter(tg.ones(2, 2))
    b.data = a.data.transpose(0, 1)
    optimizer = optim.SGD([a], lr=0.1)
    loss = b.square().sum()
    a.grad = tg.ones(2, 2)
    optimizer.step()
    with pytest.raises(RuntimeError, match="was changed in place"):
        loss.backward()


@pytest.mark.parametrize("memory", ["expanded", "read-only"])
def test_memory_that_cannot_be_updated_is_refused_by_name(memory):
    p = nn.Parameter(tg.ones(3, 2))
    p.name = "layer.weight"
    p.array = np.broadcast_to(np.float32(1), (3, 2))
    if memory == "read-only":
        p.array = np.ones((3, 2), np.float32)
        p.array.flags.writeable = False
    p.grad = tg.ones(3, 2)
    with pytest.raises(ValueError, match=r"'layer.weight' \(3, 2\) is read-only.*clone"):
        optim.SGD([p], lr=0.1).step()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
@pytest.mark.parametrize(
    "kind, options",
    [("Adam", {"lr": 0.1}), ("SGD", {"lr": 0.1, "momentum": 0.9}), ("SGD", {"lr": 0.1}), ("Adagrad", {"lr": 0.1})],
)
def test_a_copy_of_model_and_optimizer_continues_bit_for_bit(kind, options, copied):
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    optimizer = getattr(optim, kind)(
        [{"params": net[0].parameters()}, {"params": net[2].parameters(), "lr": 0.01}], **options
    )
    fresh, unused = copied((net, optimizer))  # before any step
    step_on(list(fresh.parameters()), unused)
    for _ in range(2):
        step_on(list(net.parameters()), optimizer)
    twin, other = copied((net, optimizer))
    assert [id(p) for g in other.param_groups for p in g["params"]] == [id(p) for p in twin.parameters()]
    for _ in range(3):
        step_on(list(net.parameters()), optimizer)
        step_on(list(twin.parameters()), other)
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        assert np.array_equal(p.detach().numpy(), q.detach().numpy()) and p is not q
    assert optimizer.state_dict()["param_groups"] == other.state_dict()["param_groups"]


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
