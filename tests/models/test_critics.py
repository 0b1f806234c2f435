"""Clipping and the gradient penalty against formulas: slopes by hand, points uniform between a pair."""

from __future__ import annotations

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen import nn
from tinygen.models.critics import clipped, gradient_penalty, slopes
from tinygen.networks.dcgan import DCCritic


def between(seed, real, fake):
    """The points that `slopes` draws after this seed."""
    tg.manual_seed(seed)
    share = tg.rand(len(real), 1).numpy().astype(float)
    tg.manual_seed(seed)
    return share * real + (1 - share) * fake


def slope(weights, x):
    """|grad f| of f(x) = v . leaky(W x + b) + c, one an x."""
    w, b, v, _ = weights
    inside = np.where(by_hand.linear(x, w, b) > 0, 1.0, 0.2)
    return np.linalg.norm(np.einsum("nh,h,hi->ni", inside, v[0], w), axis=1)


def critic(inputs=3):
    network = nn.Sequential(nn.Linear(inputs, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
    by_hand.stir(network)
    return network


def pairs(n=12, inputs=3):
    draw = np.random.default_rng(4)
    return draw.normal(size=(n, inputs)).astype("f4"), 2 + draw.normal(size=(n, inputs)).astype("f4")


def test_slopes_are_norms_of_the_gradient_one_for_each_pair():
    network, (real, fake) = critic(), pairs()
    points = between(5, real, fake)
    found = slopes(network, tg.tensor(real), tg.tensor(fake))
    assert found.shape == (12,)
    np.testing.assert_allclose(found.detach().numpy(), slope(by_hand.arrays(network), points), rtol=1e-5)


@pytest.mark.parametrize("weight", [10.0, 0.5])
def test_the_penalty_and_its_gradient_in_the_critic_s_weights(weight):
    network, (real, fake) = critic(), pairs()
    points, before = between(5, real, fake), by_hand.arrays(network)
    objective = lambda weights: weight * ((slope(weights, points) - 1) ** 2).mean()
    value = gradient_penalty(weight)(network, tg.tensor(real), tg.tensor(fake))
    assert value.shape == () and value.item() == pytest.approx(objective(before), rel=1e-5)
    value.backward()
    w, b, v, c = network.parameters()
    assert b.grad is None or not b.grad.numpy().any()
    assert c.grad is None or not c.grad.numpy().any()
    found = [p.grad.numpy() if p.grad is not None else np.zeros(p.shape) for p in (w, b, v, c)]
    assert by_hand.same_slopes(objective, before, found)


def test_the_default_weight_is_ten():
    network, (real, fake) = critic(), pairs()
    tg.manual_seed(5)
    ten = gradient_penalty()(network, tg.tensor(real), tg.tensor(fake)).item()
    assert ten == pytest.approx(10 * ((slope(by_hand.arrays(network), between(5, real, fake)) - 1) ** 2).mean())


def test_the_penalty_asks_nothing_of_the_generator():
    network, (real, fake) = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)), pairs()  # slopes that vary
    fake = tg.tensor(fake, requires_grad=True)
    gradient_penalty()(network, tg.tensor(real), fake).backward()
    assert fake.grad is None


def test_an_image_is_mixed_as_a_whole_and_each_with_its_own_share():
    class Watching(nn.Module):
        def forward(self, x):
            seen.append(x.detach().numpy().copy())
            return x.flatten(1).sum(1, keepdim=True)

    seen = []
    slopes(Watching(), tg.ones(6, 2, 4, 4), tg.zeros(6, 2, 4, 4))
    shares = seen[0].reshape(6, -1)
    assert (shares == shares[:, :1]).all()
    assert len(set(shares[:, 0])) == 6


def test_a_flat_critic_has_a_penalty_without_nan():
    network, (real, fake) = critic(), pairs()
    with tg.no_grad():
        network[2].weight[:] = 0
    value = gradient_penalty(1.0)(network, tg.tensor(real), tg.tensor(fake))
    value.backward()
    assert value.item() == 1.0
    assert all(np.isfinite(p.grad.numpy()).all() for p in network.parameters() if p.grad is not None)


def test_slopes_of_images_through_convolutions_equal_finite_differences():
    network = DCCritic((1, 8, 8), (3, 4)).double()
    by_hand.stir(network)
    x = tg.randn(2, 1, 8, 8, dtype=tg.float64)
    found = slopes(network, x, x).detach().numpy()  # both ends the same: the point is known
    gradient = np.zeros((2, 64))
    with tg.no_grad():
        for i in range(64):
            step = np.zeros(64)
            step[i] = 1e-6
            ahead, back = (network(x + s * tg.tensor(step).reshape(1, 1, 8, 8)).numpy()[:, 0] for s in (1, -1))
            gradient[:, i] = (ahead - back) / 2e-6
    np.testing.assert_allclose(found, np.linalg.norm(gradient, axis=1), rtol=1e-6)


def test_clipping_cuts_every_parameter_and_leaves_the_small_ones():
    network = critic()
    before = by_hand.arrays(network)
    clipped(0.3)(network)
    for old, new in zip(before, by_hand.arrays(network)):
        np.testing.assert_allclose(new, np.clip(old, -0.3, 0.3), rtol=1e-6)
    assert any((abs(old) > 0.3).any() for old in before)
    clipped()(network)
    assert max(abs(p).max() for p in by_hand.arrays(network)) == pytest.approx(0.01)


@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_a_senseless_weight_is_refused(value):
    with pytest.raises(ValueError, match=f"weight must be at least 0, it is {value}; 10 is usual"):
        gradient_penalty(value)
    with pytest.raises(ValueError, match=f"clip must be above 0, it is {value}; 0.01 is usual"):
        clipped(value)
    with pytest.raises(ValueError, match="clip must be above 0"):
        clipped(0.0)  # would set every weight to 0
    gradient_penalty(0.0)  # no penalty: the plain game
