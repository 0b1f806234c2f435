"""Running statistics, and spectral normalisation against torch."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import tinygen as tg
from tinygen import nn
from tinygen.testing import gradcheck, gradgradcheck

torch = pytest.importorskip("torch")


def same(ours, theirs, **tolerance):
    np.testing.assert_allclose(
        ours.detach().numpy(), theirs.detach().numpy(), **{"rtol": 1e-9, "atol": 1e-10, **tolerance}
    )


def test_running_statistics_can_be_reset():
    norm = nn.BatchNorm2d(2)
    norm(tg.randn(3, 2, 4, 4))
    assert norm.num_batches_tracked.item() == 1 and (norm.running_mean.array != 0).all()
    norm.reset_running_stats()
    assert norm.num_batches_tracked.item() == 0 and norm.running_var.tolist() == [1, 1]


@pytest.mark.parametrize("device", ["cpu", "cuda-emulated"])
@pytest.mark.parametrize("shape", [(0, 2, 4, 4), (3, 2, 0, 4)], ids=str)
@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_batch_of_nothing_leaves_the_statistics_alone(device, shape, momentum):
    norm = nn.BatchNorm2d(2, momentum=momentum).to(device)
    norm(tg.randn(3, 2, 4, 4, device=device))
    before = [buffer.tolist() for buffer in (norm.running_mean, norm.running_var, norm.num_batches_tracked)]
    x = tg.ones(shape, device=device, requires_grad=True)
    y = norm(x)
    y.sum().backward()
    assert y.shape == shape and x.grad.shape == shape and norm.weight.grad.tolist() == [0, 0]
    assert [buffer.tolist() for buffer in (norm.running_mean, norm.running_var, norm.num_batches_tracked)] == before
    mean, var = tg.zeros(2, device=device), tg.ones(2, device=device)
    nn.functional.instance_norm(tg.ones(shape, device=device), mean, var)
    assert mean.tolist() == [0, 0] and var.tolist() == [1, 1]


@pytest.mark.parametrize("kind", ["linear", "conv", "transposed"])
def test_spectral_norm_equals_torch(kind, rng):
    make = {
        "linear": lambda N: (N.Linear(5, 4), (3, 5)),
        "conv": lambda N: (N.Conv2d(2, 3, 3), (2, 2, 5, 5)),
        "transposed": lambda N: (N.ConvTranspose2d(2, 3, 3), (2, 2, 4, 4)),
    }[kind]
    (ours, shape), (theirs, _) = make(nn), make(torch.nn)
    ours, theirs = ours.double(), theirs.double()
    assert nn.utils.spectral_norm(ours, n_power_iterations=2) is ours
    torch.nn.utils.spectral_norm(theirs, n_power_iterations=2)
    assert set(ours.state_dict()) == set(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    for mode in (True, True, False):
        ours.train(mode), theirs.train(mode)
        x = rng.standard_normal(shape)
        ours.zero_grad(), theirs.zero_grad()
        y, h = ours(tg.tensor(x)), theirs(torch.tensor(x))
        same(y, h)
        y.square().sum().backward()
        h.square().sum().backward()
        same(ours.weight_orig.grad, theirs.weight_orig.grad)
        same(ours.weight_u, theirs.weight_u)


def test_spectral_norm_bounds_the_largest_singular_value_and_can_be_copied():
    layer = nn.spectral_norm(nn.Linear(6, 4))
    x = tg.randn(5, 6)
    for _ in range(100):
        y = layer(x)
    assert abs(np.linalg.svd(layer.weight.detach().numpy(), compute_uv=False)[0] - 1) < 1e-3
    assert [n for n, _ in layer.named_parameters()] == ["bias", "weight_orig"] and y.requires_grad
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert np.allclose(twin.eval()(x).detach().numpy(), layer.eval()(x).detach().numpy(), atol=1e-6)
    with pytest.raises(ValueError, match="not a parameter"):
        nn.spectral_norm(layer)
    with pytest.raises(ValueError, match="at least 2 dimensions"):
        nn.spectral_norm(nn.BatchNorm1d(3))


def test_spectral_norm_survives_two_forwards_before_backward_and_has_two_orders():
    layer = nn.spectral_norm(nn.Linear(3, 2).double())
    x = tg.randn(4, 3, dtype=tg.float64)
    (layer(x).square().sum() + layer(x).square().sum()).backward()  # as a discriminator on real and on generated images
    layer.eval()

    def f(weight, x):
        layer.__dict__["weight_orig"] = weight
        return layer(x)

    assert gradcheck(f, [tg.tensor(layer.weight_orig.detach().numpy()), x])
    assert gradgradcheck(f, [tg.tensor(layer.weight_orig.detach().numpy()), x])
