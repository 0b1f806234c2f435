"""What tests of trainings share: Steps that watch or disturb another one, a toy recipe, trees compared bit for bit."""

from __future__ import annotations

import signal
from contextlib import contextmanager

import numpy as np

import tinygen as tg
from tinygen import nn, optim, training
from tinygen.recipes import RECIPES, STUDIES
from tinygen.step import Step


def contents(run):
    """The checkpoint of a run."""
    return training.load_checkpoint(run.folder / "checkpoint.safetensors")


def assert_equal(a, b, path=""):
    """Two trees of tensors and plain values, bit for bit; only the seconds may differ."""
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert list(a) == list(b), path
        for key in a:
            assert_equal(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{path}.{i}")
    elif isinstance(a, tg.Tensor):
        assert a.numpy().tobytes() == b.numpy().tobytes(), path
    elif not path.endswith(".seconds"):
        assert a == b, path


class Pressing:
    """A Step that gets Ctrl-C during one of its updates."""

    def __init__(self, step, at, times=1):
        self.step, self.at, self.times, self.calls = step, at, times, 0

    def __call__(self, batch):
        self.calls += 1
        if self.calls == self.at:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)
        return self.step(batch)

    def __getattr__(self, name):
        return getattr(self.step, name)


class Watched:
    """A Step that remembers the items of every batch, by what was asked with it."""

    def __init__(self, step):
        self.step = step
        self.seen = {"__call__": [], "measure": [], "pictures": [], "summary": []}
        self.threads = set()

    def _note(self, name, batch):
        arrays = [one.numpy() for one in batch if one is not None and one.ndim == batch[0].ndim]  # two, of a pair
        self.seen[name].append(np.concatenate(arrays))

    def __call__(self, batch):
        self._note("__call__", batch)
        self.threads.add(tg.get_num_threads())
        return self.step(batch)

    def measure(self, batch):
        self._note("measure", batch)
        return self.step.measure(batch)

    def pictures(self, batch):
        self._note("pictures", batch)
        return self.step.pictures(batch)

    def summary(self, batches):
        for batch in batches:
            self._note("summary", batch)
        return self.step.summary(batches)

    def __getattr__(self, name):
        return getattr(self.step, name)


class Counting(Step):
    """Learns nothing, remembers what it was given; answers what a Step must answer, and shows pictures."""

    def __init__(self):
        self.net, self.seen = nn.Dropout(), []

    def __call__(self, batch):
        self.seen.append(batch)
        return {"mean": batch[0].mean()}

    def pictures(self, batch):
        return {"same": batch[0]}


class Toy(Step):
    """One number that learns the mean of the data."""

    def __init__(self, lr=0.1, shape=(1, 8, 8)):
        self.net, self.shape = nn.Linear(1, 1, bias=False), shape
        self.optimizer = optim.SGD(self.net.parameters(), lr=lr)

    def __call__(self, batch):
        loss = self.distance(batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"mse": loss.detach()}

    def distance(self, batch):
        return (self.net.weight.reshape(()) - batch[0]).square().mean()

    def measure(self, batch):
        return {"mse": self.distance(batch)}

    def sample(self, n):
        return (self.net.weight.reshape(1, 1, 1, 1) + 0.1 * tg.randn(n, *self.shape)).clamp(0, 1)

    def apply(self, images):
        return 1 - images

    def pictures(self, batch):
        return {"samples": self.sample(len(batch[0]))}


@contextmanager
def known(*functions):
    """Context manager in which the recipes and studies that `register` made of these functions are taken out after."""
    before = dict(RECIPES), dict(STUDIES)
    try:
        yield functions
    finally:
        for table, old in zip((RECIPES, STUDIES), before, strict=True):
            table.clear()
            table.update(old)
