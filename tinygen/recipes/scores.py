"""The test figures of a trained run: what its Step measures, and how good samples are that look like MNIST."""

from __future__ import annotations

from typing import Any

from tinygen import metrics
from tinygen.data import Dataset
from tinygen.training import aside, to_tensors

from .recipe import samples

SAMPLES = 10_000


def score(step: Any, dataset: Dataset, seed: int = 0, n: int = SAMPLES) -> dict[str, tuple[float, int]]:
    """{metric: (value, number of images it is taken over)} on the test set.

    Steps that can be sampled are also scored by `metrics.mnist_scores` with n samples, if the data are grey 28x28
    images. Raises ValueError where there are too few test images or samples for that.
    """
    count = len(dataset.test_images)
    test = dataset.batches(min(256, count), split="test")
    found: dict[str, tuple[float, int]] = {}
    if hasattr(step, "evaluate"):
        device = next(p.device for module in step.modules.values() for p in module.parameters())
        with aside(step, seed):
            values = step.evaluate(to_tensors(test.at(0, i), device) for i in range(len(test)))
        found |= {name: (value, count) for name, value in values.items()}
    if hasattr(step, "sample") and dataset.shape == (1, 28, 28):
        scores = metrics.mnist_scores(samples(step, n, seed).numpy(), dataset.floats("test"))
        # Whether a digit was recognised says something on digits only; the distance of features, on any such images.
        found |= {name: (value, n) for name, value in scores.items() if name == "cfid" or dataset.name == "mnist"}
    return found
