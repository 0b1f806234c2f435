"""Classifiers (lecture 4).

    tinygen train lenet --data mnist
"""

from __future__ import annotations

from tinygen.models import ClassifierStep
from tinygen.networks.lenet import LeNet5

from . import baselines
from .recipe import Given, recipe


@recipe(
    "LeNet-5 digit classifier, learning rate falling to 0", lectures=(4,), batch_size=64, labels=True,
    baselines=(baselines.largest_class,), small={"epochs": 40, "batch_size": 32},
)  # fmt: skip
def lenet(given: Given, lr: float = 1e-3) -> ClassifierStep:
    """lr: learning rate of Adam at the first update
    """
    network = LeNet5(given.shape, len(given.classes))
    return ClassifierStep(network, given.classes, steps=given.steps, lr=lr)
