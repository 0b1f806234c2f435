"""Test figures of a Step over batches of any sizes.

    evaluate(step, looked_at)      # {"mse": 0.0047}; looked_at: test batches as tensors

`Step.measure` gives means over a batch. Here each counts by its number of examples, so the last, smaller batch weighs
no more than its share. Figures that are no means come from `Step.summary`, which sees all batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

import tinygen as tg
from tinygen.step import Step

Batch = tuple[Any, ...]  # what the data set names: (images, labels or None), (input, target), (points, labels), ...


def to_tensors(batch: tuple[np.ndarray | None, ...], device: Any = "cpu") -> Batch:
    """The same batch as tensors on a device; None stays None."""
    return tuple(None if array is None else tg.tensor(array, device=device) for array in batch)


class Tensors:
    """One pass over batches in their order, as tensors; can be iterated as often as wanted."""

    def __init__(self, batches: Any, device: Any = "cpu") -> None:
        self.batches, self.device = batches, device

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return (to_tensors(self.batches.at(0, i), self.device) for i in range(len(self.batches)))


def evaluate(step: Step, batches: Any) -> dict[str, float]:
    """The Step's test figures: means over all examples, then what its summary says."""
    totals: dict[str, float] = {}
    count = 0
    for batch in batches:
        n = len(batch[0])
        for name, value in step.measure(batch).items():
            totals[name] = totals.get(name, 0.0) + n * float(value)
        count += n
    return {name: total / count for name, total in totals.items()} | step.summary(batches)


@contextmanager
def aside(step: Step, seed: int) -> Iterator[None]:
    """Context manager for looking at a model without touching its training.

    Networks are in evaluation mode, nothing is recorded, and random numbers start from `seed`, the same at every look.
    The training's go on afterwards as if nothing had happened.
    """
    state = tg.get_rng_state()
    with ExitStack() as stack:
        stack.callback(tg.set_rng_state, state)
        for network in step.networks().values():
            for module in network.modules():
                if module.training:
                    stack.callback(setattr, module, "training", True)
            network.eval()
        stack.enter_context(tg.no_grad())
        tg.set_rng_state((seed % 2**64, 1, 0))  # stream 1: the training's numbers are those of stream 0
        yield
