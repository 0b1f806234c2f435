"""The slides' facts about LeNet-5."""

from __future__ import annotations

import math

import pytest

import tinygen as tg
from tinygen import nn
from tinygen.models import ClassifierStep
from tinygen.networks.lenet import LeNet5


def test_lenet_has_61706_parameters():
    """The slide says 60,000: with all connections between the planes of C3, and 28x28 images padded by 2."""
    assert sum(p.numel() for p in LeNet5((1, 28, 28)).parameters()) == 61_706


def test_planes_of_lenet_on_mnist():
    network, shapes = LeNet5((1, 28, 28)), []
    for layer in network:
        layer.register_forward_hook(lambda module, inputs, output: shapes.append((type(module), output.shape[1:])))
    network(tg.zeros(1, 1, 28, 28))
    assert [shape for kind, shape in shapes if kind in (nn.Conv2d, nn.MaxPool2d)] == [
        (6, 28, 28),
        (6, 14, 14),
        (16, 10, 10),
        (16, 5, 5),
    ]
    assert [shape for kind, shape in shapes if kind is nn.Linear] == [(120,), (84,), (10,)]


def test_who_knows_nothing_loses_log_10():
    network = LeNet5((1, 8, 8))
    with tg.no_grad():
        network[-1].weight[:], network[-1].bias[:] = 0, 0
    step = ClassifierStep(network, "0123456789")
    labels = tg.arange(10)
    measured = step.measure((tg.rand(10, 1, 8, 8), labels))
    assert measured["loss"].item() == pytest.approx(math.log(10))
    assert measured["accuracy"].item() == pytest.approx(0.1)
