"""Trivial baselines on data whose best answers are known, and against scikit-learn."""

from __future__ import annotations

import math
import sys
from functools import partial

import numpy as np
import pytest

from tinygen import data, metrics
from tinygen.metrics import baselines


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Several blocks, the last one ragged, in every test."""
    monkeypatch.setattr(sys.modules["tinygen.metrics.baselines"], "BLOCK", 64)


def images(n, seed, shape=(1, 4, 3), scale=0.2):
    draw = np.random.default_rng(seed)
    basis = np.random.default_rng(99).normal(size=(3, math.prod(shape)))
    flat = 0.5 + scale * (draw.normal(size=(n, 3)) @ basis / 3 + 0.1 * draw.normal(size=(n, math.prod(shape))))
    return flat.reshape(n, *shape).astype(np.float32).clip(0, 1)


def test_mean_image():
    train, test = images(150, 0), images(90, 1) * 0.9
    expected = ((test.astype(float) - train.astype(float).mean(0)) ** 2).mean()
    assert baselines.mean_image_mse(train, test) == pytest.approx(expected, rel=1e-9)
    black, white = np.zeros((3, 1, 2, 2)), np.ones((5, 1, 2, 2))
    assert baselines.mean_image_mse(black, white) == 1


def test_pca_against_scikit_learn():
    from sklearn.decomposition import PCA

    train, test = images(150, 0), images(90, 1)
    for d in (1, 3, 7):
        pca = PCA(d, svd_solver="full").fit(train.reshape(150, -1).astype(float))
        back = pca.inverse_transform(pca.transform(test.reshape(90, -1).astype(float)))
        expected = ((back - test.reshape(90, -1)) ** 2).mean()
        assert baselines.pca_mse(train, test, d) == pytest.approx(expected, rel=1e-6)
    assert baselines.pca_mse(train, test, 0) == pytest.approx(baselines.mean_image_mse(train, test))
    assert baselines.pca_mse(train, test, 12) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match=r"13 components of images with 12 values"):
        baselines.pca_mse(train, test, 13)


def test_bernoulli_of_the_mean_image():
    """Two pixels: one is white in a quarter of the training images, one never; 200 images, so its p is 1/400."""
    train = np.zeros((200, 1, 1, 2))
    train[:50, 0, 0, 0] = 1
    test = np.array([[1.0, 0], [0, 0.5]]).reshape(2, 1, 1, 2)
    always = -math.log(1 - 1 / 400)
    half = -0.5 * math.log(1 / 400) - 0.5 * math.log(1 - 1 / 400)
    expected = ((-math.log(0.25) + always) + (-math.log(0.75) + half)) / 2
    assert baselines.mean_image_bernoulli(train, test) == pytest.approx(expected)


def test_the_floor_of_grey_targets():
    from scipy.special import entr

    x = images(90, 0).astype(float)
    expected = (entr(x) + entr(1 - x)).sum() / 90
    assert baselines.bernoulli_floor(x) == pytest.approx(expected)
    assert baselines.bernoulli_floor(np.full((5, 1, 2, 2), 0.5)) == pytest.approx(4 * math.log(2))
    assert baselines.bernoulli_floor((x > 0.5).astype(np.float32)) == 0
    assert baselines.mean_image_bernoulli(x, x) > baselines.bernoulli_floor(x)


def test_gaussian_of_the_mean_image():
    from scipy.stats import norm

    train, test = images(150, 0).astype(float), images(90, 1).astype(float)
    mean = train.mean(0)
    sd = np.sqrt(((train - mean) ** 2).mean())
    expected = -norm.logpdf(test, mean, sd).sum() / 90
    assert baselines.gaussian_mean_image(train, test) == pytest.approx(expected)
    with pytest.raises(ValueError, match="are equal"):
        baselines.gaussian_mean_image(np.zeros((3, 1, 2, 2)), np.ones((3, 1, 2, 2)))


def test_largest_class_is_that_of_training():
    assert baselines.largest_class(np.array([3, 1, 1, 2]), np.array([1, 1, 3, 3, 3, 2, 2, 2])) == 0.25
    assert baselines.largest_class(np.array([5, 5, 2]), np.array([2, 2])) == 0


def test_linear_denoiser_is_the_wiener_filter():
    """Pixels of variance v under noise of variance s^2 keep v s^2 / (v + s^2); they are independent."""
    draw = np.random.default_rng(0)
    deviations = np.array([0.05, 0.1, 0.2, 0.4])
    train, test = (draw.normal(0.5, deviations, (n, 1, 1, 4)) for n in (4000, 4000))
    noise = 0.2
    expected = (deviations**2 * noise**2 / (deviations**2 + noise**2)).mean()
    seen = []

    def corrupt(x, generator):
        seen.append(len(x))
        return x + noise * generator.normal(size=x.shape)

    found = baselines.linear_denoiser(train, test, corrupt, seed=3)
    assert found == pytest.approx(expected, rel=0.05)
    assert sum(seen) == 8000  # each image once
    assert found == baselines.linear_denoiser(train, test, corrupt, seed=3)
    assert found != baselines.linear_denoiser(train, test, corrupt, seed=4)


def test_moments_of_spoilt_images_are_those_of_many_draws():
    draw = np.random.default_rng(0)
    x = draw.random((200_000, 3)) @ np.array([[1, 0.5, 0], [0, 1, 0], [0, 0.3, 0.2]])
    mean, covariance = x.mean(0), np.cov(x.T)
    spoilt = {
        baselines.noise_moments: x + 0.3 * draw.normal(size=x.shape),
        baselines.mask_moments: np.where(draw.random(x.shape) < 0.3, 0, x),
    }
    for moments, y in spoilt.items():
        found = moments(0.3, mean, covariance)
        both = np.cov(y.T, x.T)
        for exact, drawn in zip(found, (y.mean(0), both[:3, :3], both[:3, 3:])):
            np.testing.assert_allclose(exact, drawn, atol=3e-3)


def test_with_moments_the_linear_denoiser_is_the_best_one_of_few_images_too():
    """30 images of 12 pixels: one draw of noise tells nothing of its covariance, its formula does."""
    train, test = images(30, 0).astype(float), images(150, 1).astype(float)
    spoil = lambda x, generator: x + 0.3 * generator.normal(size=x.shape)
    exact = baselines.linear_denoiser(train, test, spoil, partial(baselines.noise_moments, 0.3))
    drawn = baselines.linear_denoiser(train, test, spoil)
    rows = train.reshape(30, -1)
    mean, C = rows.mean(0), np.cov(rows.T, bias=True)
    W = C @ np.linalg.inv(C + 0.09 * np.eye(len(C)))
    clean = test.reshape(150, -1) - mean
    expected = (((clean @ W - clean) ** 2).sum(1).mean() + 0.09 * (W**2).sum()) / len(C)
    assert exact == pytest.approx(expected, rel=0.1) and drawn > 1.2 * exact


def test_linear_denoiser_uses_what_pixels_tell_of_each_other():
    """The first pixel is lost, and is twice the second less .1; a third never changes. The map undoes it all."""
    draw = np.random.default_rng(0)
    second = draw.uniform(0.1, 0.5, 500)
    whole = np.stack([2 * second - 0.1, second, np.full(500, 0.7)], 1).reshape(500, 1, 1, 3)

    def lose(x, generator):
        return np.where(np.arange(3) == 0, 0, x)

    assert baselines.linear_denoiser(whole[:300], whole[300:], lose) == pytest.approx(0, abs=1e-8)
    from sklearn.linear_model import LinearRegression

    train, test = (
        images(200, 0).astype(float),
        images(150, 1).astype(float),
    )

    def halve(x, generator):
        return np.where(np.arange(3) == 0, 0, x)

    rows = [halve(x, None).reshape(len(x), -1) for x in (train, test)]
    fit = LinearRegression().fit(rows[0], train.reshape(200, -1))
    expected = ((fit.predict(rows[1]) - test.reshape(150, -1)) ** 2).mean()
    assert baselines.linear_denoiser(train, test, halve) == pytest.approx(expected, rel=1e-3)


def test_real_against_real_is_of_n_training_images():
    digits = data.load("digits")
    train, test = digits.floats(), digits.floats("test")
    whole = metrics.frechet_from_features(metrics.features(test)[0], metrics.features(train)[0])
    assert baselines.real_against_real(train, test, 1500) == pytest.approx(whole, rel=1e-4)
    assert baselines.real_against_real(train, test, 300) > whole  # fewer, farther
    assert baselines.real_against_real(train, test, 300, 1) != baselines.real_against_real(train, test, 300, 2)
    with pytest.raises(ValueError, match="1501 of 1500 training images"):
        baselines.real_against_real(train, test, 1501)


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="no images"):
        baselines.mean_image_mse(np.zeros((0, 1, 2, 2)), np.zeros((3, 1, 2, 2)))


# ---------------------------------------------------------------------------------- samples without a network


def test_pixel_noise_keeps_the_law_of_every_pixel_and_no_shape(monkeypatch):
    """Features are the pixels here. Each pixel's mean and spread are those of training, two pixels are independent."""
    module, seen = sys.modules["tinygen.metrics.baselines"], []
    monkeypatch.setattr(module, "features", lambda x: (seen.append(x) or x.reshape(len(x), -1), None))
    level = np.random.default_rng(0).uniform(size=(400, 1, 1, 1))
    train = np.concatenate([level, 1 - level], 3)  # pixel 1 is 1 - pixel 0
    distance = baselines.pixel_noise(train, train, 5000)
    noise = seen[-1].reshape(5000, 2)
    assert np.isin(noise[:, 0], train[:, 0, 0, 0]).all() and np.isin(noise[:, 1], train[:, 0, 0, 1]).all()
    assert np.allclose(noise.mean(0), train.mean((0, 1, 2)), atol=0.02) and abs(np.corrcoef(noise.T)[0, 1]) < 0.05
    # Covariances v [[1, -1], [-1, 1]] and v I: Tr(2v + 2v) - 2 sqrt(2) v
    v = level.var()
    assert distance == pytest.approx((4 - 2 * 2**0.5) * v, rel=0.1)
    assert baselines.pixel_noise(train, train, 5000) == distance  # the same whenever it is asked for


def test_points_of_one_gaussian_and_real_points():
    draw = np.random.default_rng(0)
    matrix = np.array([[2.0, 0.0], [1.5, 0.3]])
    one = lambda: draw.normal(size=(1500, 2)) @ matrix.T + [3, -1]
    assert abs(baselines.gaussian_points(one(), one())) < 0.05  # mean and covariance are those of training
    train, test = draw.choice([-1.0, 1.0], (1000, 2)), draw.choice([-1.0, 1.0], (1000, 2))
    assert baselines.gaussian_points(train, test) > 0.1 > 0.05 > abs(baselines.real_points(train, test))
    assert baselines.real_points(train + 5, test) > 5  # and not test against test
    assert baselines.gaussian_points(train + 5, test) > 5
