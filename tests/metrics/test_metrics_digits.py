"""Scores of digits: the frozen networks against their layers in NumPy, and figures of known class counts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tinygen import data, metrics


def test_class_histogram_kl():
    even = np.arange(10).repeat(10)
    assert metrics.class_histogram_kl(even, even) == 0
    assert metrics.class_histogram_kl(np.zeros(50, int), even) == pytest.approx(math.log(10))
    half = np.repeat([0, 1], 50)
    assert metrics.class_histogram_kl(np.repeat([0, 1], [25, 75]), half, 2) == pytest.approx(
        0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    )
    assert metrics.class_histogram_kl(even, half) == math.inf


def test_class_histogram_kl_takes_the_samples_first():
    """Counts differ: 4 samples of frequencies (3/4, 1/4) against 6 real ones of (1/3, 2/3)."""
    fake, real = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1, 1, 1])
    expected = 0.75 * math.log(0.75 * 3) + 0.25 * math.log(0.25 * 1.5)
    assert metrics.class_histogram_kl(fake, real, 2) == pytest.approx(expected)
    assert metrics.class_histogram_kl(real, fake, 2) != pytest.approx(expected)


def test_share_of_confident_samples():
    p = np.array([[0.95, 0.05], [0.94, 0.06], [0.01, 0.99], [0.5, 0.5]])
    assert metrics.confident(p) == 0.5
    assert metrics.confident(p, 0.5) == 1


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


def test_the_network_of_the_8x8_digits_computes_its_formula(tmp_path):
    """Against the same layers written out in NumPy for one image."""
    image = np.random.default_rng(1).random((1, 1, 8, 8), np.float32)
    features, probabilities = metrics.features(image)
    net = {name: value.astype(float) for name, value in np.load(metrics.DIGITS_FILE).items()}
    x = image[0].astype(float)
    for layer in ("c1", "c2"):
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
        x = np.einsum("chwij,kcij->khw", windows, net[layer + ".weight"]) + net[layer + ".bias"][:, None, None]
        x = np.maximum(x, 0)
    x = x.reshape(32, 4, 2, 4, 2).max((2, 4))
    h = np.maximum(net["f1.weight"] @ x.ravel() + net["f1.bias"], 0)
    logits = net["f2.weight"] @ h + net["f2.bias"]
    assert features.shape == (1, 32) and h.max() > 0.1
    assert np.allclose(features[0], h, atol=1e-4)
    assert np.allclose(probabilities[0], np.exp(logits) / np.exp(logits).sum(), atol=1e-5)
    damaged = tmp_path / "cnn.npz"
    damaged.write_bytes(metrics.CNN_FILE.read_bytes())  # whole, but of the other network
    with pytest.raises(ValueError, match="SHA-256"):
        metrics.features(image, damaged)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def test_what_the_docstring_says_of_the_8x8_network(digits):
    probabilities = metrics.features(digits.floats("test"))[1]
    assert (probabilities.argmax(1) == digits.test_labels).mean() == pytest.approx(0.990, abs=5e-4)
    assert metrics.confident(probabilities) == pytest.approx(0.960, abs=5e-3)
    floor = [metrics.baselines.real_against_real(digits.floats(), digits.floats("test"), n) for n in (300, 500, 1500)]
    assert floor == [pytest.approx(10.6, abs=1), pytest.approx(8.5, abs=1), pytest.approx(4.1, abs=0.1)]


def test_scores_of_8x8_digits(digits):
    train, test = digits.floats(), digits.floats("test")
    real = metrics.scores(train[:500], test)
    assert real["cfid"] < 13 and real["conf95"] > 0.9 and real["class_kl"] < 0.01 and real["digits"] == 10
    ones = metrics.scores(train[digits.train_labels == 1], test)
    assert ones["cfid"] > 500 and ones["digits"] == 1
    assert set(ones) <= set(metrics.NAMES)
    noise = np.random.default_rng(0).random((500, 1, 8, 8), np.float32)
    assert metrics.scores(noise, test)["cfid"] > 100
    assert metrics.scores(test, test)["cfid"] == pytest.approx(0, abs=1e-6)


def test_class_kl_and_counts_of_scores_are_of_the_samples(digits):
    """150 samples that the network takes for known classes, against 297 real ones."""
    train, test = digits.floats(), digits.floats("test")
    samples = train[digits.train_labels < 5][:150]
    labels, real = metrics.features(samples)[1].argmax(1), metrics.features(test)[1].argmax(1)
    p, q = np.bincount(labels, minlength=10) / 150, np.bincount(real, minlength=10) / 297
    expected = sum(a * math.log(a / b) for a, b in zip(p, q) if a > 0)
    found = metrics.scores(samples, test)
    assert found["class_kl"] == pytest.approx(expected) and expected > 0.5
    assert found["digits"] == metrics.classes_covered(samples) == (p >= 0.01).sum() == 5


def test_a_class_is_covered_from_one_percent_on(digits):
    train = digits.floats()
    zeros, ones = train[digits.train_labels == 0], train[digits.train_labels == 1]
    probabilities = metrics.features(np.concatenate([zeros, ones]))[1]
    assert set(probabilities.argmax(1)) == {0, 1}  # all are recognised
    assert metrics.classes_covered(np.concatenate([zeros[:99], ones[:1]])) == 2
    assert metrics.classes_covered(np.concatenate([zeros[:100], ones[:1]])) == 1
    assert isinstance(metrics.classes_covered(zeros), int)


def test_only_known_shapes_are_scored():
    assert metrics.scorable((1, 28, 28)) and metrics.scorable([1, 8, 8])
    assert not metrics.scorable((3, 28, 28)) and not metrics.scorable((2,))
    grey, colour = np.zeros((70, 1, 8, 8), np.float32), np.zeros((70, 3, 32, 32), np.float32)
    with pytest.raises(ValueError, match="70x3x32x32; expects grey images Nx1x28x28 or Nx1x8x8"):
        metrics.scores(colour, colour)
    with pytest.raises(ValueError, match="samples are 70x3x32x32, real images 70x1x8x8"):
        metrics.scores(colour, grey)
    with pytest.raises(ValueError, match=r"63 fake samples for 32 features.*at least 64"):
        metrics.scores(grey[:63], grey)
    with pytest.raises(ValueError, match="mnist_scores: expects grey images Nx1x28x28, got 70x1x8x8"):
        metrics.mnist_scores(grey, grey)


def test_gan_test_of_real_images_is_the_network_s_accuracy_by_class_too():
    digits = data.load("digits")
    images, labels = digits.floats("test"), digits.test_labels
    found = metrics.features(images)[1].argmax(1)
    right, of_class = metrics.gan_test(images, labels)
    assert right == (found == labels).mean() == pytest.approx(0.99, abs=0.005)  # as the module says
    assert list(of_class) == list(range(10))
    for k, share in of_class.items():
        assert share == np.mean([a == k for a, b in zip(found, labels) if b == k])


def test_gan_test_counts_samples_and_not_classes():
    """Three samples of one class and one of another: 3/4, not the mean of 1 and 0."""
    digits = data.load("digits")
    sure = digits.floats("test")[metrics.features(digits.floats("test"))[1].argmax(1) == 3][:4]
    assert metrics.gan_test(sure, np.array([3, 3, 3, 5])) == (0.75, {3: 1.0, 5: 0.0})
    with pytest.raises(ValueError, match="4 samples and 3 labels"):
        metrics.gan_test(sure, np.array([3, 3, 3]))
