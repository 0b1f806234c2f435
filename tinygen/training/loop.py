"""The loop itself: epochs, batches, one call of the Step for each; and what a Step is.

Batch `index` of epoch `epoch` is a pure function of the two (`batches.at`), so a `Position` is all that a loop has to
know in order to go on where another one stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

import tinygen as tg

Batch = tuple[tg.Tensor, "tg.Tensor | None"]  # images (N, C, H, W) in [0, 1]; integer labels, where the data has them


class Step(Protocol):
    """One training update of one model family."""

    modules: dict[str, Any]  # by name: what checkpoints hold
    optimizers: dict[str, Any]

    def __call__(self, batch: Batch) -> dict[str, tg.Tensor]:
        """One update; metrics as 0-d tensors."""

    def pictures(self, batch: Batch) -> dict[str, tg.Tensor]:
        """What to look at: images (N, C, H, W) in [0, 1] by name."""


class Source(Protocol):
    """Batches that are a pure function of (epoch, index); see tinygen.data.Batches."""

    def __len__(self) -> int: ...
    def at(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray | None]: ...


@dataclass
class Position:
    """How far a training is: epochs finished, batches done in the current one."""

    epoch: int = 0
    index: int = 0


class Callback:
    """What `fit` calls after every step and every epoch, in the order given. `position` counts what is done."""

    def after_step(self, step: Step, position: Position, metrics: Mapping[str, tg.Tensor]) -> None: ...

    def after_epoch(self, step: Step, position: Position) -> None: ...


def fit(
    step: Step, batches: Source, epochs: int, callbacks: Sequence[Callback] = (), position: Position | None = None,
    device: Any = "cpu",
) -> Position:  # fmt: skip
    """The position reached: `epochs` epochs, counted from the beginning of the training and not from `position`."""
    position = position or Position()
    while position.epoch < epochs:
        while position.index < len(batches):
            metrics = step(to_tensors(batches.at(position.epoch, position.index), device))
            position.index += 1
            for callback in callbacks:
                callback.after_step(step, position, metrics)
        position.epoch, position.index = position.epoch + 1, 0
        for callback in callbacks:
            callback.after_epoch(step, position)
    return position


def to_tensors(batch: tuple[np.ndarray, np.ndarray | None], device: Any = "cpu") -> Batch:
    """The same batch as tensors on a device."""
    images, labels = batch
    return tg.tensor(images, device=device), None if labels is None else tg.tensor(labels, device=device)


@contextmanager
def aside(step: Step, seed: int) -> Iterator[None]:
    """Context manager for looking at a model without touching its training.

    Modules are in evaluation mode, nothing is recorded, and random numbers start from `seed`, the same at every look;
    the training's go on afterwards as if nothing had happened.
    """
    state = tg.get_rng_state()
    with ExitStack() as stack:
        stack.callback(tg.set_rng_state, state)
        for module in step.modules.values():
            if module.training:
                stack.callback(module.train)
                module.eval()
        stack.enter_context(tg.no_grad())
        tg.set_rng_state((seed % 2**64, 1, 0))  # stream 1: the training's numbers are those of stream 0
        yield
