"""Measures of sample quality against values that are known."""

from __future__ import annotations

import math

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


def test_class_histogram_kl():
    even = np.arange(10).repeat(10)
    assert metrics.class_histogram_kl(even, even) == 0
    assert metrics.class_histogram_kl(np.zeros(50, int), even) == pytest.approx(math.log(10))
    half = np.repeat([0, 1], 50)
    assert metrics.class_histogram_kl(np.repeat([0, 1], [25, 75]), half, 2) == pytest.approx(
        0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    )
    assert metrics.class_histogram_kl(even, half) == math.inf


def test_share_of_confident_samples():
    p = np.array([[0.95, 0.05], [0.94, 0.06], [0.01, 0.99], [0.5, 0.5]])
    assert metrics.confident(p) == 0.5
    assert metrics.confident(p, 0.5) == 1


def test_precision_and_recall():
    """Samples from one of two clusters are real (precision 1); half of the real ones are never made (recall 1/2)."""
    draw = np.random.default_rng(0)
    left, right = draw.normal(size=(300, 4)), draw.normal(size=(300, 4)) + 100
    precision, recall = metrics.precision_recall(np.concatenate([left, right]), draw.normal(size=(600, 4)))
    assert precision > 0.75
    assert 0.4 < recall <= 0.5
    assert metrics.precision_recall(left, left) == (1, 1)
    assert metrics.precision_recall(left, right) == (0, 0)
    with pytest.raises(ValueError, match="3 fake features"):
        metrics.precision_recall(left, right[:3])


def test_psnr():
    x = np.zeros((4, 4))
    assert metrics.psnr(x, x + 0.1) == pytest.approx(20)
    assert metrics.psnr(x, x + 25.5, peak=255) == pytest.approx(20)
    assert metrics.psnr(x, x) == math.inf


def test_the_frozen_network_is_the_one_shipped_and_computes_its_formula(tmp_path):
    """Against the same layers written out in NumPy for one image."""
    image = np.random.default_rng(0).random((1, 1, 28, 28), np.float32)
    features, probabilities = metrics.mnist_features(image)
    net = np.load(metrics.CNN_FILE)
    x = image[0].astype(float)
    for layer in ("c1", "c2"):
        w, b = net[layer + ".weight"], net[layer + ".bias"]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
        y = np.maximum(np.einsum("chwij,kcij->khw", windows, w) + b[:, None, None], 0)
        x = y.reshape(len(b), y.shape[1] // 2, 2, y.shape[2] // 2, 2).max((2, 4))
    h = np.maximum(net["f1.weight"] @ x.ravel() + net["f1.bias"], 0)
    logits = net["f2.weight"] @ h + net["f2.bias"]
    assert np.allclose(features[0], h, atol=1e-4) and h.max() > 0.1
    assert np.allclose(probabilities[0], np.exp(logits) / np.exp(logits).sum(), atol=1e-5)

    damaged = tmp_path / "cnn.npz"
    damaged.write_bytes(metrics.CNN_FILE.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match="SHA-256"):
        metrics.mnist_features(image, damaged)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        metrics.mnist_features(image, tmp_path / "nowhere.npz")
    with pytest.raises(ValueError, match="Nx1x28x28, got 2x3x28x28"):
        metrics.mnist_features(np.zeros((2, 3, 28, 28)))


def test_scores_of_samples():
    draw = np.random.default_rng(0)
    real, noise = draw.random((200, 1, 28, 28), np.float32), draw.random((200, 1, 28, 28), np.float32) ** 4
    same = metrics.mnist_scores(real, real)
    assert same["cfid"] == pytest.approx(0, abs=1e-3) and same["class_kl"] == 0
    assert metrics.mnist_scores(noise, real)["cfid"] > 10
    assert set(same) == {"cfid", "conf95", "class_kl", "digits"} and 1 <= same["digits"] <= 10
