"""The average of weights against its formula; swapping, copying, resuming."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from trajectories import step_on

import tinygen as tg
from tinygen import nn, optim


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


def test_a_resumed_average_is_the_formula_and_buffers_stay_the_modules_own():
    """a_n = decay * a_(n-1) + (1 - decay) * w_n over nine updates, saved and loaded after the fourth."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((10, 3)).astype(np.float32)
    net = nn.BatchNorm1d(3)
    ema = optim.EMA(net, decay=0.8)
    expected = np.ones(3)
    for n, values in enumerate(weights[1:]):
        if n == 4:
            held, ema = ema.state_dict(), optim.EMA(net, decay=0.8)
            ema.load_state_dict(held)
        net.weight.data = tg.tensor(values)
        net.running_mean.fill_(float(n))
        ema.update()
        expected = 0.8 * expected + 0.2 * values
    assert ema.updates == 9
    with ema.average_parameters():
        np.testing.assert_allclose(net.weight.detach().numpy(), expected, rtol=1e-5)
        assert net.running_mean.tolist() == [8, 8, 8]
        net.running_mean.fill_(9.0)  # what a forward inside would do stays
    assert net.weight.tolist() == weights[-1].tolist() and net.running_mean.tolist() == [9, 9, 9]
    held["averages"]["weight"].fill_(0.0)  # a state is a copy
    np.testing.assert_allclose(ema.averages["weight"].numpy(), expected, rtol=1e-5)


def test_the_warm_up_is_the_formula():
    net = nn.Linear(1, 1, bias=False)
    ema = optim.EMA(net, decay=0.3, warmup=True)
    expected = net.weight.item()
    for n in range(1, 8):
        net.weight.data.fill_(float(n * n))
        ema.update()
        decay = min(0.3, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n * n
        assert ema.averages["weight"].item() == pytest.approx(expected, rel=1e-5)


def test_ema_warm_up_forgets_the_first_values_soon():
    net = nn.Linear(1, 1, bias=False)
    ema = optim.EMA(net, decay=0.999, warmup=True)
    net.weight.data.fill_(5.0)
    ema.update()
    first = 5.0 - (5.0 - ema.averages["weight"].item())
    for _ in range(30):
        ema.update()
    assert abs(ema.averages["weight"].item() - 5) < 0.01 < abs(first - 5)
