"""Figures over batches of any sizes, and looking at a model without a trace."""

from __future__ import annotations

import numpy as np
import pytest
from toys import Counting

import tinygen as tg
from tinygen import data, nn, training
from tinygen.step import Step


def test_looking_aside_leaves_no_trace():
    step = Counting()
    tg.manual_seed(4)
    tg.rand(3)
    state = tg.get_rng_state()
    drawn = []
    for _ in range(2):
        with training.aside(step, 7):
            drawn.append(tg.rand(4).tolist())
            assert not step.net.training and not tg.is_grad_enabled()
    assert drawn[0] == drawn[1]
    assert tg.get_rng_state() == state and step.net.training and tg.is_grad_enabled()
    tg.manual_seed(7)
    assert tg.rand(4).tolist() != drawn[0]  # not the numbers that a training with this seed draws


def test_a_look_that_fails_leaves_no_trace_either():
    step = Counting()
    state = tg.get_rng_state()
    with pytest.raises(ZeroDivisionError), training.aside(step, 7):
        raise ZeroDivisionError
    assert tg.get_rng_state() == state and step.net.training and tg.is_grad_enabled()


class Measuring(Step):
    def measure(self, batch):
        return {"mean": batch[0].mean(), "mse": batch[0].square().mean()}

    def summary(self, batches):
        return {"active": float(max(batch[0].max().item() for batch in batches)), "passes": float(len(list(batches)))}


def test_every_example_counts_alike():
    """37 images in batches of 32 and 5: the mean over all of them, not of two means."""
    images = np.random.default_rng(0).random((37, 1, 8, 8)).astype("f4")
    images[32:] += 1
    images = np.float32(images / images.max())
    for size, count in ((37, 1), (32, 2), (10, 4), (1, 37)):
        batches = data.Batches(images, None, size, shuffle=False)
        found = training.evaluate(Measuring(), training.Tensors(batches))
        assert found["mean"] == pytest.approx(images.mean(), rel=1e-5)
        assert found["mse"] == pytest.approx((images**2).mean(), rel=1e-5)
        assert found["active"] == 1 and found["passes"] == count


def test_a_step_that_measures_nothing_has_no_figures():
    batches = data.Batches(np.zeros((3, 1, 8, 8), "f4"), None, 2)
    assert training.evaluate(Counting(), training.Tensors(batches)) == {}


def test_every_layer_of_a_network_is_looked_at_in_evaluation_mode():
    class Deep(Step):
        def __init__(self):
            self.network = nn.Sequential(nn.Sequential(nn.Dropout(0.5)), nn.BatchNorm1d(2))

    step = Deep()
    with training.aside(step, 0):
        assert not any(module.training for module in step.network.modules())
    assert all(module.training for module in step.network.modules())
