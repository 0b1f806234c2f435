"""Scores of anomalies against formulas in NumPy, SciPy and counting; what is refused, and why."""

from __future__ import annotations

import numpy as np
import pytest

import tinygen as tg
from tinygen import metrics
from tinygen.studies import anomaly


def rng(seed=0):
    return np.random.default_rng(seed)


def normal_log_density(codes, mean, covariance):
    """log N(z; m, C) by the inverse and the determinant, code by code."""
    inverse = np.linalg.inv(covariance)
    constant = len(mean) * np.log(2 * np.pi) + np.log(np.linalg.det(covariance))
    return np.array([-0.5 * ((z - mean) @ inverse @ (z - mean) + constant) for z in codes])


def test_the_prior_s_score_is_minus_its_log_density():
    codes = rng().normal(size=(7, 4)).astype(np.float32)
    found = anomaly.prior(codes)
    np.testing.assert_allclose(found, -normal_log_density(codes.astype(float), np.zeros(4), np.eye(4)), rtol=1e-12)
    assert anomaly.prior(np.zeros((1, 2), np.float32))[0] == pytest.approx(np.log(2 * np.pi))


def test_a_gaussian_s_score_is_minus_its_log_density():
    known = rng().normal(size=(50, 3)) @ rng(1).normal(size=(3, 3)) + (5, -2, 1)
    codes = rng(2).normal(size=(8, 3)).astype(np.float32)
    mean, covariance = known.mean(0), np.cov(known.T, ddof=0)
    found = anomaly.gaussian(known.astype(np.float32))(codes)
    np.testing.assert_allclose(found, -normal_log_density(codes.astype(float), mean, covariance), rtol=1e-3)
    assert found.shape == (8,)


def test_a_number_that_never_changes_does_no_harm():
    """It has the variance of the ridge: 1e-6 of the mean variance of a number."""
    known = rng().normal(size=(400, 3))
    known[:, 2] = 4
    codes = np.array([[0.1, 0.2, 4], [0.1, 0.2, 4.001]])
    for score in (anomaly.gaussian(known), anomaly.mixture(known, 1)):
        inside, outside = score(codes)
        variance = 1e-6 * known.var(0).mean()
        assert outside - inside == pytest.approx(0.5 * 1e-6 / variance, rel=1e-3)


@pytest.mark.parametrize("known", [np.ones((9, 3)), np.full((9, 3), np.nan)])
def test_codes_without_a_spread_are_refused(known):
    for fit in (anomaly.gaussian, lambda codes: anomaly.mixture(codes, 2)):
        with pytest.raises(ValueError, match="the 9 codes are all equal, or no numbers: a Gaussian needs a spread"):
            fit(known)


def clusters(n=300, seed=0):
    """Codes around (-3, 0) and, twice as many, (3, 0)."""
    centre = np.where(np.arange(n) % 3 == 0, -3.0, 3.0)
    return rng(seed).normal(size=(n, 2)) * 0.5 + np.stack([centre, 0 * centre], 1)


def test_a_mixture_s_score_is_minus_its_log_density():
    known, codes = clusters(), rng(1).normal(size=(20, 2)) * 3
    left = np.arange(300) % 3 == 0
    density = sum(part.mean() * np.exp(normal_log_density(codes, known[part].mean(0), np.cov(known[part].T, ddof=0)))
                  for part in (left, ~left))  # fmt: skip
    np.testing.assert_allclose(anomaly.mixture(known, 2)(codes), -np.log(density), rtol=1e-3)


def test_a_mixture_follows_from_its_seed():
    known, codes = rng().normal(size=(60, 4)), rng(1).normal(size=(9, 4))
    first, again, other = (anomaly.mixture(known, 5, seed)(codes) for seed in (0, 0, 3))
    assert np.array_equal(first, again) and not np.allclose(first, other)


@pytest.mark.parametrize("components", [0, 10])
def test_a_mixture_of_none_or_of_more_than_there_are_codes_is_refused(components):
    words = rf"a mixture of {components} Gaussians cannot be fitted to 9 codes; give 1 to 9 of them"
    with pytest.raises(ValueError, match=words):
        anomaly.mixture(rng().normal(size=(9, 2)), components)


def test_the_discriminator_s_score_is_minus_log_d_and_never_infinite():
    logits = np.array([-3.0, -0.5, 0.0, 2.0], np.float32)
    np.testing.assert_allclose(anomaly.discriminator(logits), -np.log(1 / (1 + np.exp(-logits.astype(float)))))
    far = anomaly.discriminator(np.array([-1e4, 1e4, -200], np.float32))
    np.testing.assert_allclose(far, [1e4, 0, 200])


@pytest.mark.parametrize("shape", [(5, 6), (5, 3, 4, 4)])
def test_a_distance_is_the_root_of_the_sum_of_squares_of_each(shape):
    a, b = rng().random(shape, np.float32), rng(1).random(shape, np.float32)
    expected = [np.sqrt(sum((x - y) ** 2 for x, y in zip(u.ravel(), v.ravel()))) for u, v in zip(a, b)]
    np.testing.assert_allclose(anomaly.distance(a, b), expected, rtol=1e-6)
    found = anomaly.distance(tg.tensor(a), tg.tensor(b))
    assert isinstance(found, tg.Tensor) and found.shape == (5,)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    assert not anomaly.distance(a, a).any()


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_an_alpha_outside_0_to_1_is_refused(alpha):
    with pytest.raises(ValueError, match=rf"alpha weighs .* must lie in \[0, 1\], it is {alpha}; 0.1 is usual"):
        anomaly.combined(np.ones(2), np.ones(2), alpha)


def test_the_combined_score_weighs_its_parts():
    assert anomaly.combined(np.array([1.0, 2.0]), np.array([10.0, 0.0]), 0.1).tolist() == [1.9, 1.8]


def test_pca_s_score_is_the_distance_from_the_leading_axes():
    known = (rng().random((40, 1, 4, 4)) * np.linspace(0.1, 1, 16).reshape(4, 4)).astype(np.float32)
    images = rng(1).random((9, 1, 4, 4)).astype(np.float32)
    for components in (1, 5, 16):
        mean = known.reshape(40, -1).mean(0, dtype=float)
        axes = np.linalg.svd(known.reshape(40, -1) - mean, full_matrices=False)[2][:components]
        rest = (images.reshape(9, -1) - mean) @ (np.eye(16) - axes.T @ axes)
        found = anomaly.principal(known, components)(images)
        np.testing.assert_allclose(found, np.linalg.norm(rest, axis=1), atol=1e-5)
        squares = (found**2).sum() / images.size
        assert squares == pytest.approx(metrics.baselines.pca_mse(known, images, components), abs=1e-9)


@pytest.mark.parametrize(("count", "components", "most"), [(5, 6, 5), (30, 17, 16), (30, 0, 16)])
def test_more_axes_than_images_or_values_are_refused(count, components, most):
    words = rf"PCA of {components} axes cannot be fitted to {count} images of 16 values; give 1 to {most} of them"
    with pytest.raises(ValueError, match=words):
        anomaly.principal(np.zeros((count, 1, 4, 4)), components)


def test_a_roc_curve_counts_at_every_threshold():
    scores = np.array([0.1, 0.4, 0.4, 0.9, 0.7, 0.4])
    positive = np.array([0, 1, 0, 1, 0, 1])
    false, true = anomaly.roc(scores, positive)
    expected = [(0, 0)] + [((scores[positive == 0] >= t).mean(), (scores[positive == 1] >= t).mean())
                           for t in (0.9, 0.7, 0.4, 0.1)]  # fmt: skip
    np.testing.assert_allclose(np.stack([false, true], 1), expected)


@pytest.mark.parametrize("kind", [True, False])
def test_a_curve_of_one_kind_is_refused(kind):
    with pytest.raises(ValueError, match=rf"roc: {4 * kind} of 4 are positive; a curve needs both kinds"):
        anomaly.roc(np.arange(4), np.full(4, kind))
