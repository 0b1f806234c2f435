"""Bits per dimension, and importance sampling in a model whose likelihood is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tinygen import metrics


def test_bits_per_dim():
    """A uniform density of 256 integers: 8 bits a value; its nats are D log 256."""
    assert metrics.bits_per_dim(784 * math.log(256), 784) == pytest.approx(8)
    assert metrics.bits_per_dim(math.log(2) * 30, 10) == pytest.approx(3)
    with pytest.raises(ValueError, match="C x H x W"):
        metrics.bits_per_dim(1.0, 0)


def log_normal(x, mean, variance):
    return -0.5 * (math.log(2 * math.pi * variance) + (x - mean) ** 2 / variance)


def log_weights(draws, images, mean=0.4, variance=0.6):
    """z ~ N(0, 1), x | z ~ N(z, 1), q(z | x) = N(mean x, variance); so x ~ N(0, 2), p(z | x) = N(x/2, 1/2)."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=images) * math.sqrt(2)
    z = mean * x + math.sqrt(variance) * draw.normal(size=(draws, images))
    return x, log_normal(x, z, 1) + log_normal(z, 0, 1) - log_normal(z, mean * x, variance)


def test_importance_sampling_finds_the_likelihood():
    x, weights = log_weights(2000, 50)
    assert metrics.importance_sampled_nll(weights) == pytest.approx(-log_normal(x, 0, 2).mean(), abs=0.01)
    x, exact = log_weights(3, 50, 0.5, 0.5)  # q is the posterior: every weight is p(x)
    assert metrics.importance_sampled_nll(exact) == pytest.approx(-log_normal(x, 0, 2).mean(), abs=1e-12)


def test_the_bound_rises_with_k():
    _, weights = log_weights(2000, 200)
    bounds = [metrics.k_sample_bound(weights, k) for k in (1, 2, 10, 100, 2000)]
    assert bounds == sorted(bounds) and bounds[0] < bounds[-1] - 0.005
    assert bounds[0] == pytest.approx(weights.mean())  # the ELBO
    assert bounds[-1] == -metrics.importance_sampled_nll(weights)
    by_hand = np.log((np.exp(weights[0::2]) + np.exp(weights[1::2])) / 2).mean()
    assert bounds[1] == pytest.approx(by_hand)


def test_weights_far_out_neither_overflow_nor_vanish():
    weights = np.array([[-1000.0, 900.0], [-1000 + math.log(3), 900.0]])
    assert metrics.importance_sampled_nll(weights) == pytest.approx((1000 - math.log(2) - 900) / 2)
    lost = np.array([[-np.inf], [0.0]])
    assert metrics.importance_sampled_nll(lost) == pytest.approx(math.log(2))
    assert metrics.importance_sampled_nll(np.full((2, 1), -np.inf)) == math.inf
    kept = np.array([[-np.inf], [-np.inf]])
    metrics.importance_sampled_nll(kept)
    assert np.isneginf(kept).all()  # the argument stays as it was


def test_draws_must_fall_into_whole_groups():
    with pytest.raises(ValueError, match="k = 3 must divide the 4 draws"):
        metrics.k_sample_bound(np.zeros((4, 2)), 3)
    with pytest.raises(ValueError, match=r"expected \(K, N\)"):
        metrics.importance_sampled_nll(np.zeros(4))
