"""The slides' facts about scores of anomalies: the latent density, D, A(s), estimated densities, inversion of G."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import tinygen as tg
from tinygen import metrics
from tinygen.studies import anomaly, noise

DRAW = np.random.default_rng(0)

# ---------------------------------------------------------------------------------- phi_z(E(s)), D(s, E(s)) (N2, N3)


def test_an_image_of_low_likelihood_is_an_anomaly():
    """-log N(z; 0, I) = |z|^2 / 2 + const: the order is that of the norms, whatever the direction."""
    codes = DRAW.normal(size=(50, 6)) * DRAW.uniform(0.2, 3, size=(50, 1))
    scores = anomaly.prior(codes)
    np.testing.assert_allclose(scores - scores[0], ((codes**2).sum(1) - (codes[0] ** 2).sum()) / 2)
    assert np.array_equal(np.argsort(scores), np.argsort(np.linalg.norm(codes, axis=1)))
    assert scores[0] - (codes[0] ** 2).sum() / 2 == pytest.approx(3 * np.log(2 * np.pi))


def test_a_uniform_prior_says_nothing():
    """Every code in the cube has the same density: half of the pairs are in order, as of scores that know nothing."""
    inside = DRAW.uniform(-1, 1, size=(40, 3))
    density = np.where((abs(inside) <= 1).all(1), 1 / 8, 0)
    assert metrics.auroc(-np.log(density), np.arange(40) < 10) == 0.5


def test_d_takes_anomalies_for_fake():
    """-log D(s, E(s)) falls with D: 0 for a pair that is surely real, log 2 where D cannot tell."""
    d = np.array([0.999, 0.9, 0.5, 0.1, 0.001])
    scores = anomaly.discriminator(np.log(d / (1 - d)))
    np.testing.assert_allclose(scores, -np.log(d))
    assert (np.diff(scores) > 0).all() and scores[2] == pytest.approx(np.log(2))


# ---------------------------------------------------------------------------------- A(s) (N4)


def test_a_reduces_to_its_parts():
    s, again = DRAW.random((8, 1, 4, 4)), DRAW.random((8, 1, 4, 4))
    real, fake = DRAW.normal(size=(8, 5)), DRAW.normal(size=(8, 5))
    reconstruction, match = anomaly.distance(again, s), anomaly.distance(real, fake)
    assert np.array_equal(anomaly.combined(reconstruction, match, 0), reconstruction)
    assert np.array_equal(anomaly.combined(reconstruction, match, 1), match)
    for alpha in (0.1, 0.5, 0.9):
        expected = [(1 - alpha) * np.sqrt(((g - x) ** 2).sum()) + alpha * np.sqrt(((u - v) ** 2).sum())
                    for g, x, u, v in zip(again, s, real, fake)]  # fmt: skip
        np.testing.assert_allclose(anomaly.combined(reconstruction, match, alpha), expected)


def test_what_g_makes_again_exactly_is_no_anomaly():
    s, f = DRAW.random((3, 1, 4, 4)), DRAW.normal(size=(3, 5))
    assert not anomaly.combined(anomaly.distance(s, s), anomaly.distance(f, f), 0.3).any()


def test_the_norms_are_not_squared():
    s, zero = DRAW.random((3, 1, 4, 4)), np.zeros((3, 1, 4, 4))
    np.testing.assert_allclose(anomaly.distance(2 * s, zero), 2 * anomaly.distance(s, zero))


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order():
    positive = DRAW.random(200) < 0.3
    for scores in (DRAW.normal(size=200) + positive, (DRAW.normal(size=200) + positive).round(), np.zeros(200)):
        false, true = anomaly.roc(scores, positive)
        area = sum((x2 - x1) * (y1 + y2) / 2 for x1, x2, y1, y2 in zip(false, false[1:], true, true[1:]))
        assert area == pytest.approx(metrics.auroc(scores, positive), abs=1e-12)
        assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)


# ---------------------------------------------------------------------------------- the estimated distribution (N8)


def skewed(n, seed=0):
    """Codes of N(mean, A A^T), and their law."""
    weight, mean = np.array([[2.0, 0, 0], [1.5, 0.4, 0], [0, -1, 0.1]]), np.array([3.0, -1, 0])
    return np.random.default_rng(seed).normal(size=(n, 3)) @ weight.T + mean, mean, weight @ weight.T


def mahalanobis(codes, mean, covariance):
    return np.sqrt([(z - mean) @ np.linalg.inv(covariance) @ (z - mean) for z in codes])


def test_a_gaussian_fitted_to_gaussian_codes_gives_the_mahalanobis_distance():
    known, mean, covariance = skewed(100_000)
    codes = skewed(300, seed=1)[0]
    scores, distances = anomaly.gaussian(known)(codes), mahalanobis(codes, mean, covariance)
    constant = 0.5 * np.log(np.linalg.det(2 * np.pi * covariance))
    np.testing.assert_allclose(np.sqrt(2 * (scores - constant)), distances, rtol=0.02, atol=0.02)


def test_it_does_not_change_with_the_axes_of_the_codes():
    """A linear map of all codes moves every score by log |det|: a trained E may stretch and turn them."""
    known, codes = skewed(200)[0], skewed(30, seed=1)[0]
    turn = DRAW.normal(size=(3, 3))
    before, after = anomaly.gaussian(known)(codes), anomaly.gaussian(known @ turn.T)(codes @ turn.T)
    np.testing.assert_allclose(after - before, np.log(abs(np.linalg.det(turn))), atol=0.02)
    assert np.ptp(anomaly.prior(codes @ turn.T) - anomaly.prior(codes)) > 1


def test_a_mixture_of_one_is_the_gaussian():
    known, codes = skewed(300)[0], skewed(50, seed=1)[0]
    np.testing.assert_allclose(anomaly.mixture(known, 1)(codes), anomaly.gaussian(known)(codes), rtol=1e-6)


def test_a_mixture_sees_what_lies_between_two_kinds_of_normal_images():
    """Between two clusters a single Gaussian is densest, and N(0, I) too: there a mixture finds nobody."""
    centres = np.array([[-4.0, 0], [4.0, 0]])
    known = DRAW.normal(size=(400, 2)) + centres[np.arange(400) % 2]
    test = np.concatenate([DRAW.normal(size=(100, 2)) + centres[np.arange(100) % 2], 0.5 * DRAW.normal(size=(50, 2))])
    positive = np.arange(150) >= 100
    area = lambda scores: metrics.auroc(scores, positive)
    assert area(anomaly.mixture(known, 2)(test)) > 0.95
    assert area(anomaly.gaussian(known)(test)) < 0.2 and area(anomaly.prior(test)) < 0.1


def test_an_estimated_law_finds_what_the_prior_cannot():
    """An E that has not filled N(0, I): codes of normal images lie to one side, those of anomalies at the origin."""
    known, normal, odd = (DRAW.normal(size=(n, 4)) * 0.3 + shift for n, shift in ((300, 2), (80, 2), (80, 0)))
    codes, positive = np.concatenate([normal, odd]), np.arange(160) >= 80
    assert metrics.auroc(anomaly.prior(codes), positive) < 0.01
    assert metrics.auroc(anomaly.gaussian(known)(codes), positive) > 0.99


# ---------------------------------------------------------------------------------- inversion of G (G25)

WEIGHT, BIAS = DRAW.normal(size=(4, 10)), DRAW.normal(size=10)


def linear(z):
    return z @ tg.tensor(WEIGHT) + tg.tensor(BIAS)


def ridge(y, known, c):
    """(codes, losses) of argmin |M (W^T z + b) - y|^2 + |z|^2 / c, by the normal equations."""
    design = (WEIGHT * known).T
    codes = np.linalg.solve(design.T @ design + np.eye(4) / c, design.T @ (y - known * BIAS).T).T
    return codes, ((codes @ design.T + known * BIAS - y) ** 2).sum(1) + (codes**2).sum(1) / c


@pytest.mark.parametrize("known", [np.ones(10), (np.arange(10) < 7).astype(float)], ids=["everything", "a mask"])
def test_the_score_of_a_batch_by_inversion_of_a_linear_g_is_the_loss_of_ridge_regression(known):
    """All images at once, each as if it were alone."""
    y = DRAW.normal(size=(12, 10)) * known
    search = partial(noise.by_adam, lr=0.05)
    starts = tg.tensor(DRAW.normal(size=(1, 12, 4)))
    found = noise.inverted(linear, tg.tensor(y), starts, 5.0, noise.behind(known), search, 500)
    codes, losses = ridge(y, known, 5.0)
    np.testing.assert_allclose(found.codes.numpy(), codes, atol=1e-4)
    np.testing.assert_allclose(found.losses, losses, atol=1e-4)


def test_what_g_cannot_draw_has_the_larger_score():
    """Images of N(0, I) by a linear G, and the same with something added that lies across its plane."""
    normal = DRAW.normal(size=(10, 4)) @ WEIGHT + BIAS
    across = np.linalg.svd(WEIGHT)[2][4:]
    odd = normal + DRAW.normal(size=(10, 6)) @ across * 3
    y, positive = np.concatenate([normal, odd]), np.arange(20) >= 10
    found = noise.inverted(linear, tg.tensor(y), tg.zeros(1, 20, 4).double(), 20.0, search=noise.by_adam,
                           evaluations=150)  # fmt: skip
    assert metrics.auroc(found.losses, positive) > 0.95
