"""One recipe on one engine: its first steps, a step to be timed, and the whole training with its test figures.

    training = Training(library, settings, weights)        # library: of libraries.py; weights: an .npz of the networks
    training.course(5)                                     # {metric: its values at the first five steps}
    training.train(); training.figures(10_000)

Both engines run the same sources (`on_torch`) on the same batches, from the same weights, with the same noise, and
their figures come from the same measures. Only dropout differs, which torch draws by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import tinygen as tg
from tinygen import recipes
from tinygen.recipes import Settings
from tinygen.recipes.run import data_of
from tinygen.recipes.settings import given_of

from . import on_torch
from .libraries import Library

KEPT = 16  # batches that the timed step takes in turn
STREAM = 2  # of random numbers, for the course


class Training:
    """A recipe's Step with its data, on the engine of `library`."""

    def __init__(self, library: Library, settings: Settings, weights: Path) -> None:
        self.library, self.settings, self.side = library, settings, side_of(library)
        self.dataset = data_of(settings)
        self.batches = recipes.find(settings.recipe).batches(self.dataset, settings)
        self.step = self._built(settings)
        with np.load(weights) as saved:
            for part, network in self.step.networks().items():
                state = {key: library.tensor(saved[f"{part}.{key}"]) for key in network.state_dict()}
                network.load_state_dict(state)
                library.place(network)

    def _built(self, settings: Settings) -> Any:
        recipe = self.side.find(settings.recipe)
        bases = [self._built(Settings(**base["settings"])) for base in (settings.on or {}).values()]
        return recipe.build(given_of(settings), *bases, **settings.arguments)

    @property
    def drops(self) -> bool:
        """Whether a layer drops values by chance."""
        modules = [module for network in self.step.networks().values() for module in network.modules()]
        return any("Dropout" in type(module).__name__ and module.p > 0 for module in modules)

    def ordered(self) -> Iterator[tuple]:
        """The batches of the whole training, as tensors."""
        for epoch in range(self.settings.epochs):
            for index in range(len(self.batches)):
                yield self._tensors(self.batches.at(epoch, index))

    def _tensors(self, batch: tuple) -> tuple:
        return tuple(None if array is None else self.library.tensor(array) for array in batch)

    def course(self, steps: int) -> dict[str, np.ndarray]:
        """{metric: its values} at the first steps, on noise that all engines share."""
        on_torch.share_noise(True)
        tg.set_rng_state((self.settings.seed, STREAM, 0))
        found: dict[str, list[float]] = {}
        for _, batch in zip(range(steps), self.ordered()):
            for metric, value in self.step(batch).items():
                found.setdefault(metric, []).append(float(value))
        return {metric: np.array(values) for metric, values in found.items()}

    def job(self) -> Any:
        """A function that does one update, with noise of the engine's own."""
        batches = cycle([batch for _, batch in zip(range(KEPT), self.ordered())])
        on_torch.share_noise(False)
        return lambda: self.step(next(batches))

    def train(self) -> None:
        """The whole plan, on noise that all engines share."""
        on_torch.share_noise(True)
        tg.set_rng_state((self.settings.seed, 0, 0))
        for batch in self.ordered():
            self.step(batch)

    def figures(self, samples: int) -> dict[str, tuple[float, int]]:
        """{metric: (value, number of examples)} on the test set."""
        return self.side.score(self.step, self.dataset, 0, samples)


def side_of(library: Library) -> SimpleNamespace:
    """What runs recipes on the engine of a library; see `on_torch.load`."""
    if library.T is tg:
        return SimpleNamespace(find=recipes.find, score=recipes.score)
    return on_torch.load()
