"""The slides' facts about noise: arithmetic is exact for a linear G, and its inversion is ridge regression."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import tinygen as tg
from tinygen import nn
from tinygen.models import GANStep, games
from tinygen.networks.dcgan import DCDiscriminator, DCGenerator
from tinygen.studies import noise
from tinygen.training import aside

DRAW = np.random.default_rng(0)
WEIGHT, BIAS = DRAW.normal(size=(5, 12)), DRAW.normal(size=12)
KNOWN = (np.arange(12) % 3 > 0).astype(float)  # M hides every third value


def linear(z):
    return z @ tg.tensor(WEIGHT) + tg.tensor(BIAS)


def test_arithmetic_with_averages_is_exact_for_a_linear_generator():
    """G(mean z_1 - mean z_2 + mean z_3) = mean G(z_1) - mean G(z_2) + mean G(z_3)."""
    codes = DRAW.normal(size=(30, 5))
    groups = {(a, c): np.flatnonzero((np.arange(30) % 2 == a) & (np.arange(30) // 2 % 3 == c))
              for a in range(2) for c in range(3)}  # fmt: skip
    asked = noise.questions(range(2), range(3), 8, np.random.default_rng(1))
    found = noise.trials(codes, groups, asked, 3, np.random.default_rng(2))
    images = codes @ WEIGHT + BIAS
    for i, (first, minus, plus) in enumerate(found.chosen):
        expected = images[first].mean(0) - images[minus].mean(0) + images[plus].mean(0)
        np.testing.assert_allclose(linear(tg.tensor(found.codes[i])).numpy(), expected, atol=1e-12)


def ridge(y, known, c):
    """argmin_z |M (W^T z + b) - y|^2 + |z|^2 / c = (A^T A + I / c)^-1 A^T (y - M b), A = M W^T."""
    design = (WEIGHT * known).T
    return np.linalg.solve(design.T @ design + np.eye(5) / c, design.T @ (y - known * BIAS).T).T


@pytest.mark.parametrize("known", [np.ones(12), KNOWN], ids=["inversion", "restoration"])
@pytest.mark.parametrize("c", [0.5, 20.0])
def test_the_code_of_an_image_is_ridge_regression_for_a_linear_generator(known, c):
    y = DRAW.normal(size=(3, 12)) * known
    starts = tg.tensor(DRAW.normal(size=(2, 3, 5)))
    found = noise.inverted(linear, tg.tensor(y), starts, c, noise.behind(known))
    expected = ridge(y, known, c)
    np.testing.assert_allclose(found.codes.numpy(), expected, atol=1e-4)
    misfit = ((known * (expected @ WEIGHT + BIAS) - y) ** 2).sum(1) + (expected**2).sum(1) / c
    np.testing.assert_allclose(found.losses, misfit, rtol=1e-4)


def test_adam_finds_it_too_with_more_gradients():
    y = DRAW.normal(size=(2, 12)) * KNOWN
    starts, search = tg.tensor(DRAW.normal(size=(1, 2, 5))), partial(noise.by_adam, lr=0.03)
    found = noise.inverted(linear, tg.tensor(y), starts, 3.0, noise.behind(KNOWN), search, 700)
    np.testing.assert_allclose(found.codes.numpy(), ridge(y, KNOWN, 3.0), atol=1e-4)


def test_a_search_leaves_the_generator_as_it_is():
    """Weights get no gradients, statistics do not move, and G computes with those of its training."""
    G = DCGenerator((1, 8, 8), (4, 6), 3)
    step = GANStep(G, DCDiscriminator((1, 8, 8), (4, 6)), games.non_saturating(), latent=3)
    step((tg.rand(8, 1, 8, 8),))
    given = {name: p.grad.numpy().copy() for name, p in G.named_parameters()}
    before = {name: value.numpy().copy() for name, value in G.state_dict().items()}
    modes = []
    with aside(step, 0):
        for search in (noise.by_lbfgs, noise.by_adam):
            def watched(z):
                modes.append([m.training for m in G.modules() if isinstance(m, nn.BatchNorm2d)])
                return G(z)

            noise.inverted(watched, tg.rand(2, 1, 8, 8), tg.randn(1, 2, 3), 10.0, search=search, evaluations=5)
    assert modes and not any(any(mode) for mode in modes)
    assert all(np.array_equal(given[name], p.grad.numpy()) for name, p in G.named_parameters())
    assert all(np.array_equal(before[name], value.numpy()) for name, value in G.state_dict().items())
