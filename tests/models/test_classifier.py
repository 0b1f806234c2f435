"""The classifier's update against cross entropy in NumPy; figures of answers that are known."""

from __future__ import annotations

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen import nn
from tinygen.models import ClassifierStep
from tinygen.models.classifier import share_right
from tinygen.networks.lenet import LeNet5
from tinygen.networks.mlp import MLPEncoder
from tinygen.training import evaluate

DIGIT = (1, 8, 8)


def made(**options):
    network = MLPEncoder(DIGIT, (12,), 10)
    by_hand.stir(network)
    return ClassifierStep(network, "0123456789", **options)


def log_softmax(logits):
    logits = logits - logits.max(1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def loss_of(weights, x, labels):
    return -log_softmax(by_hand.mlp(x, weights))[np.arange(len(x)), labels].mean()


class Known(nn.Module):
    """Says whatever the first ten pixels say."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(tg.ones(1))

    def forward(self, x):
        return 20 * self.scale * x.flatten(1)[:, :10]


def told(answers):
    """Images that `Known` takes for these classes."""
    x = np.zeros((len(answers), *DIGIT), np.float32)
    x.reshape(len(answers), -1)[np.arange(len(answers)), answers] = 1
    return tg.tensor(x)


def test_the_update_follows_cross_entropy():
    step = made(lr=1e-3)
    x, labels = by_hand.images(9)
    by_hand.leave_gradients(step.classifier)
    before, pixels = by_hand.arrays(step.classifier), x.numpy().astype(float)
    metrics = step((x, labels))
    assert metrics["loss"].item() == pytest.approx(loss_of(before, pixels, labels.numpy()), rel=1e-5)
    right = (by_hand.mlp(pixels, before).argmax(1) == labels.numpy()).mean()
    assert metrics["accuracy"].item() == pytest.approx(right)
    found = by_hand.gradients(step.classifier)
    assert by_hand.same_slopes(lambda weights: loss_of(weights, pixels, labels.numpy()), before, found)
    for old, new, gradient in zip(before, by_hand.arrays(step.classifier), found):
        large = abs(gradient) > 1e-4
        assert (old - new)[large] == pytest.approx(1e-3 * np.sign(gradient[large]), rel=0.02)
    assert all(value.shape == () and not value.requires_grad for value in metrics.values())


@pytest.mark.parametrize(("answers", "accuracy"), [([3, 1, 4, 1], 1.0), ([0, 0, 0, 0], 0.0), ([3, 1, 0, 0], 0.5)])
def test_the_accuracy_of_answers_that_are_known(answers, accuracy):
    step = ClassifierStep(Known(), "0123456789")
    labels = tg.tensor(np.array([3, 1, 4, 1]))
    assert step.measure((told(answers), labels))["accuracy"].item() == accuracy
    assert step((told(answers), labels))["accuracy"].item() == accuracy
    assert share_right(step.classifier(told(answers)), labels).item() == accuracy


def test_evaluation_is_the_mean_over_all_images_of_unequal_batches():
    step = made()
    x, labels = by_hand.images(37)
    x[32:] = 3 * x[32:]
    labels[32:] = tg.tensor(by_hand.mlp(x.numpy(), by_hand.arrays(step.classifier)).argmax(1)[32:])
    found = evaluate(step, [(x[:32], labels[:32]), (x[32:], labels[32:])])
    logits = by_hand.mlp(x.numpy(), by_hand.arrays(step.classifier))
    assert found["accuracy"] == pytest.approx((logits.argmax(1) == labels.numpy()).mean())
    expected = -log_softmax(logits)[np.arange(37), labels.numpy()].mean()
    assert found["loss"] == pytest.approx(expected, rel=1e-5)


def test_lenet_learns_by_heart_and_its_rate_falls_to_zero():
    tg.manual_seed(0)
    step = ClassifierStep(LeNet5(DIGIT), "0123456789", steps=100, lr=4e-3)
    data = by_hand.images(32)
    rates = []
    for _ in range(100):
        rates.append(step.optimizer.param_groups[0]["lr"])
        metrics = step(data)
    assert rates == pytest.approx([4e-3 * (1 - t / 100) for t in range(100)])
    assert step.optimizer.param_groups[0]["lr"] == 0
    assert metrics["accuracy"].item() > 0.9
    test = evaluate(step, [data, data])
    assert test["accuracy"] > 0.9 and test["loss"] < 0.5
    step(data)
    assert step.optimizer.param_groups[0]["lr"] == 0  # an update beyond the plan does not climb again


def test_without_steps_the_rate_stays():
    step = made(lr=2e-3)
    for _ in range(5):
        step(by_hand.images())
    assert step.optimizer.param_groups[0]["lr"] == 2e-3
    assert made().optimizer.param_groups[0]["lr"] == 1e-3


def test_augmented_images_are_what_is_learned():
    def darker(classifier, x, labels):
        asked.append((classifier, x, labels))
        return 0.5 * x

    asked = []
    step = made(augment=darker)
    x, labels = by_hand.images(9)
    before = by_hand.arrays(step.classifier)
    loss = step((x, labels))["loss"].item()
    assert asked == [(step.classifier, x, labels)]
    assert loss == pytest.approx(loss_of(before, 0.5 * x.numpy().astype(float), labels.numpy()), rel=1e-5)
    before = by_hand.arrays(step.classifier)
    measured = step.measure((x, labels))["loss"].item()
    assert measured == pytest.approx(loss_of(before, x.numpy().astype(float), labels.numpy()), rel=1e-5)
    assert len(asked) == 1  # test images stay as they are


def test_the_hardest_image_comes_first():
    step = ClassifierStep(LeNet5(DIGIT), "0123456789")
    x, labels = by_hand.images(40)
    hardest = step.pictures((x, labels))["hardest"]
    probabilities = tg.softmax(step.classifier(x), 1).detach().numpy()[np.arange(40), labels.numpy()]
    assert hardest.images.shape == (32, *DIGIT) and len(hardest.captions) == 32
    order = probabilities.argsort(kind="stable")[:32]
    assert np.array_equal(hardest.images[0].numpy(), x.numpy()[probabilities.argmin()])
    assert np.array_equal(hardest.images.numpy(), x.numpy()[order])


def test_captions_name_the_true_class_then_the_wrong_answer():
    step = ClassifierStep(Known(), ["zero", "one", "two", *"3456789"])
    labels = tg.tensor(np.array([0, 1, 2]))
    shown = step.pictures((told([0, 2, 2]), labels))["hardest"]
    assert shown.captions[0] == "one, not two"
    assert sorted(shown.captions[1:]) == ["two, right", "zero, right"]
