"""The loop itself: epochs, batches, one call of the Step for each.

Batch `index` of epoch `epoch` is a pure function of the two (`batches.at`), so a `Position` is all that a loop has to
know in order to go on where another one stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

import tinygen as tg
from tinygen.step import Step

from .evaluate import to_tensors


class Source(Protocol):
    """Batches that are a pure function of (epoch, index); see tinygen.data.Batches."""

    def __len__(self) -> int: ...
    def at(self, epoch: int, index: int) -> tuple[np.ndarray | None, ...]: ...


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
    step: Any, batches: Source, epochs: int, callbacks: Sequence[Callback] = (), position: Position | None = None,
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
