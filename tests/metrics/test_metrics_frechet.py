"""The Fréchet distance against Gaussians whose distance is known."""

from __future__ import annotations

import numpy as np
import pytest

from tinygen import metrics


def spread(dimensions, seed):
    a = np.random.default_rng(seed).normal(size=(dimensions, dimensions))
    return a @ a.T


def test_frechet_distance_of_known_gaussians():
    """Diagonal covariances: sum of (m1 - m2)^2 + (s1 - s2)^2."""
    m1, m2, s1, s2 = (np.array(v) for v in ([1.0, -2, 0], [0.5, 1, 3], [1.0, 2, 3], [2.0, 0.5, 3]))
    expected = ((m1 - m2) ** 2).sum() + ((s1 - s2) ** 2).sum()
    assert metrics.frechet_distance(m1, np.diag(s1**2), m2, np.diag(s2**2)) == pytest.approx(expected, abs=1e-8)


def test_frechet_distance_is_symmetric_and_invariant_to_rotation():
    draw = np.random.default_rng(0)
    m1, m2, c1, c2 = draw.normal(size=5), draw.normal(size=5), spread(5, 1), spread(5, 2)
    distance = metrics.frechet_distance(m1, c1, m2, c2)
    q, _ = np.linalg.qr(draw.normal(size=(5, 5)))
    assert distance > 1
    assert metrics.frechet_distance(m2, c2, m1, c1) == pytest.approx(distance, abs=1e-8)
    assert metrics.frechet_distance(q @ m1, q @ c1 @ q.T, q @ m2, q @ c2 @ q.T) == pytest.approx(distance, abs=1e-8)


def test_frechet_distance_against_the_matrix_root():
    from scipy.linalg import sqrtm

    m, c1, c2 = np.zeros(4), spread(4, 3), spread(4, 4)
    expected = np.trace(c1 + c2 - 2 * sqrtm(c1 @ c2).real)
    assert metrics.frechet_distance(m, c1, m, c2) == pytest.approx(expected, abs=1e-8)


def test_frechet_distance_of_singular_covariances_is_real_and_zero_for_equal_sets():
    features = np.random.default_rng(0).normal(size=(200, 6))
    features[:, 3] = features[:, 0]  # rank 5
    features[:, 5] = 0
    # the root of an eigenvalue that should be 0 and is 1e-16 is 1e-8
    assert metrics.frechet_from_features(features, features) == pytest.approx(0, abs=1e-6)
    assert metrics.frechet_from_features(features, features + 2) == pytest.approx(24, abs=1e-6)


def test_too_few_samples_are_refused():
    enough = np.random.default_rng(0).normal(size=(20, 10))
    assert metrics.frechet_from_features(enough, enough) == pytest.approx(0, abs=1e-8)
    with pytest.raises(ValueError, match=r"19 fake samples for 10 features.*at least 20"):
        metrics.frechet_from_features(enough, enough[:19])
    with pytest.raises(ValueError, match="19 real samples"):
        metrics.frechet_from_features(enough[:19], enough)
    with pytest.raises(ValueError, match="same number of features"):
        metrics.frechet_distance(np.zeros(2), np.eye(2), np.zeros(3), np.eye(3))


def test_variances_are_those_of_samples():
    """One dimension: (m1 - m2)^2 + (s1 - s2)^2, s^2 = sum (x - mean)^2 / (n - 1)."""
    real, fake = np.array([[1.0], [2], [4], [9]]), np.array([[0.0], [1], [5]])
    s1, s2 = np.sqrt(real.var(ddof=1)), np.sqrt(fake.var(ddof=1))
    expected = (real.mean() - fake.mean()) ** 2 + (s1 - s2) ** 2
    assert metrics.frechet_from_features(real, fake) == pytest.approx(expected, abs=1e-10)
