"""The first NaN: step, batch and op are named in one line, and nothing else is printed."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from toys import Pressing, Toy, contents

import tinygen as tg
from tinygen import data, optim, training
from tinygen.errors import UserError
from tinygen.recipes import start

TINY = {"limit": 80, "batch_size": 16, "threads": 1, "preset": "tiny"}


def test_the_first_nan_is_named_with_step_and_batch(tmp_path):
    run = start("vae", folder=tmp_path / "run", epochs=2, **TINY)
    calls = []

    class Poisoned(Pressing):
        def __call__(self, batch):
            metrics = self.step(batch)
            calls.append(1)
            return metrics | ({"kl": tg.tensor(float("nan"))} if len(calls) == 8 else {})

    run.step = Poisoned(run.step, 0)
    with pytest.raises(
        training.Diverged, match=r"kl became nan at step 8: epoch 2, batch 3 of 5, .*batches.at\(1, 2\)"
    ) as error:
        run.fit(2)
    assert len(calls) == 8 + 3  # the epoch is replayed
    assert "parts" in training.load_checkpoint(tmp_path / "run" / "not-finite.safetensors")
    assert contents(run)["run"]["position"] == {"epoch": 1, "index": 0}
    assert isinstance(error.value, UserError) and "\n" not in str(error.value)


class Logarithm(Toy):
    """Takes the logarithm of a weight, which update `first` makes negative by a rate far too high."""

    def __init__(self, first):
        super().__init__(lr=1e-3)
        self.schedule = optim.lr_scheduler.LambdaLR(self.optimizer, lambda t: 1e5 if t >= first - 1 else 1.0)
        with tg.no_grad():
            self.net.weight.fill_(2.0)

    def distance(self, batch):
        return (self.net.weight.reshape(()).log() - batch[0]).square().mean()

    def __call__(self, batch):
        metrics = super().__call__(batch)
        self.schedule.step()
        return metrics


@pytest.mark.parametrize("first", [1, 4])
def test_the_op_is_named_without_a_warning(first, tmp_path):
    images = np.full((6, 1, 8, 8), 0.25, "f4")
    batches = data.Batches(images, None, 2)
    run = training.Run(tmp_path / "run", Logarithm(first), batches, batches)
    message = rf"mse became nan at step {first + 1}: .*at\(.*\)\. The first bad op: log, in the forward pass: 1 of 1 "
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(training.Diverged, match=message) as error:
            run.fit(3)
    assert "\n" not in str(error.value)


def test_an_infinity_counts_as_well(tmp_path):
    images = np.full((6, 1, 8, 8), 0.25, "f4")
    run = training.Run(tmp_path / "run", Toy(lr=1e30), data.Batches(images, None, 2), data.Batches(images, None, 2))
    with pytest.raises(training.Diverged, match=r"mse became inf at step 2: .*lower learning rate"):
        run.fit(1)
