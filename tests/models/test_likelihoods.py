"""p(x|z) against densities written out in NumPy."""

from __future__ import annotations

import math

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen.models import Bernoulli, Gaussian


def drawn():
    draw = np.random.default_rng(1)
    return draw.normal(size=(3, 1, 8, 16)).astype("f4"), draw.random((3, 1, 8, 16), "f4")


def test_likelihoods_are_summed_over_pixels_averaged_over_the_batch_and_finite():
    a, x = drawn()
    p = by_hand.sigmoid(a.astype(float))
    expected = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum() / 3
    assert Bernoulli()(tg.tensor(a), tg.tensor(x)).item() == pytest.approx(expected, rel=1e-5)
    extreme = tg.tensor(np.float32([[50.0, -50.0]]))
    assert Bernoulli()(extreme, tg.tensor(np.float32([[0.0, 1.0]]))).item() == pytest.approx(100.0)

    likelihood = Gaussian()
    sigma = math.exp(likelihood.log_sigma.item())
    density = np.exp(-((x - p) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
    assert likelihood(tg.tensor(a), tg.tensor(x)).item() == pytest.approx(-np.log(density).sum() / 3, rel=1e-5)


def test_log_prob_is_of_each_image_alone():
    a, x = drawn()
    p = by_hand.sigmoid(a.astype(float))
    expected = (x * np.log(p) + (1 - x) * np.log(1 - p)).reshape(3, -1).sum(1)
    assert Bernoulli().log_prob(tg.tensor(a), tg.tensor(x)).numpy() == pytest.approx(expected, rel=1e-5)
    sigma, likelihood = math.exp(0.3), Gaussian(0.3)
    density = np.exp(-((x - p) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
    found = likelihood.log_prob(tg.tensor(a), tg.tensor(x))
    assert found.detach().numpy() == pytest.approx(np.log(density).reshape(3, -1).sum(1), rel=1e-5)
    for one in (Bernoulli(), likelihood):  # the mean of them is what is trained
        whole = one(tg.tensor(a), tg.tensor(x)).item()
        assert whole == pytest.approx(-one.log_prob(tg.tensor(a), tg.tensor(x)).mean().item(), rel=1e-6)


@pytest.mark.parametrize("log_sigma", [-2.0, 0.5])
def test_a_gaussian_may_start_from_any_sigma(log_sigma):
    a, x = drawn()
    sigma, p = math.exp(log_sigma), by_hand.sigmoid(a.astype(float))
    density = np.exp(-((x - p) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
    value = Gaussian(log_sigma)(tg.tensor(a), tg.tensor(x)).item()
    assert value == pytest.approx(-np.log(density).sum() / 3, rel=1e-5)


def test_the_mean_is_the_sigmoid_of_the_logits():
    a, _ = drawn()
    for likelihood in (Bernoulli(), Gaussian()):
        assert likelihood.mean(tg.tensor(a)).detach().numpy() == pytest.approx(by_hand.sigmoid(a), rel=1e-5)


def test_only_a_gaussian_learns():
    assert list(dict(Bernoulli().named_parameters())) == []
    assert list(dict(Gaussian().named_parameters())) == ["log_sigma"]
    assert Gaussian().log_sigma.item() == -1.0


def test_at_the_best_sigma_its_gradient_is_zero():
    """The best sigma^2 is the mean squared error of a pixel."""
    a, x = drawn()
    error = ((by_hand.sigmoid(a) - x) ** 2).mean()
    likelihood = Gaussian(0.5 * math.log(error))
    likelihood(tg.tensor(a), tg.tensor(x)).backward()
    assert likelihood.log_sigma.grad.item() == pytest.approx(0, abs=1e-3)
    worse = Gaussian(0.5 * math.log(error) - 0.1)
    worse(tg.tensor(a), tg.tensor(x)).backward()
    assert worse.log_sigma.grad.item() < -1
