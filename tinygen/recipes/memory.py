"""Whether a training fits into memory, asked before it begins.

    with built_within(settings): step = build(settings)
    step = fitting(step, make, settings, batches)

What a step needs: the weights four times (themselves, gradients, Adam's two moments), the batch, and the results that
the backward pass reads. Where that may be near to what is free, updates of as few examples as can be, and of twice as
many, are measured and scaled to the batch; the Step is then built anew. A small model is never measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tinygen import free_memory
from tinygen.free_memory import TooLarge, limited, size
from tinygen.observe import MemoryTimeline, attached
from tinygen.optim import Optimizer
from tinygen.step import Step
from tinygen.training import to_tensors

from .settings import Settings

COPIES = {"SGD": 3}  # of the weights, by optimizer: themselves, gradients, momentum
ADAM = 4  # and two moments
PER_VALUE = 1000  # results for each value of a batch that no model here exceeds
REMEDY = "give a smaller --batch-size, --size, or --set of the sizes of layers"


class _Results(MemoryTimeline):
    """Remembers all results too: [(bytes, shape)] in the order in which they are made."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[int, tuple[int, ...]]] = []

    def _watch(self, base: Any) -> None:
        super()._watch(base)
        self.made.append((int(base.nbytes), tuple(base.shape)))


@contextmanager
def built_within(settings: Settings) -> Iterator[None]:
    """Context manager in which an array that does not fit becomes a TooLarge that names the recipe and the array."""
    try:
        with limited():
            yield
    except TooLarge:
        raise
    except MemoryError as error:
        raise TooLarge(f"{_who(settings)} does not fit into memory: {error or 'no more can be had'}; {_free()}{REMEDY}"
                       ) from error  # fmt: skip


def fitting(step: Step, make: Callable[[], Step], settings: Settings, batches: Any) -> Step:
    """A Step as `make` builds it, whose first update fits. Raises TooLarge, naming the largest array."""
    free = free_memory.available()
    if free is None or settings.device != "cpu":
        return step
    parameters = [(f"{part}.{name}", p) for part, network in step.networks().items()
                  for name, p in network.named_parameters()]  # fmt: skip
    kinds = {type(part).__name__ for part in step.parts().values() if isinstance(part, Optimizer)}
    weights = max((COPIES.get(kind, ADAM) for kind in kinds), default=2) * sum(p.array.nbytes for _, p in parameters)
    values = 4 * batches.batch_size * math.prod(settings.given["shape"])
    if weights + PER_VALUE * values < free:
        return step
    name, largest = max(parameters, key=lambda one: one[1].array.nbytes, default=("", None))
    words, bytes_of = (f"{name} {tuple(largest.shape)}", largest.array.nbytes) if largest is not None else ("", 0)
    _refuse(settings, weights + values, words, bytes_of, free)
    peak, result, shape = _measured(step, settings, batches)
    if result > bytes_of:
        words, bytes_of = f"a result of shape {shape}", result
    _refuse(settings, weights + values + peak, words, bytes_of, free)
    del step  # it has learned from the few
    with built_within(settings):
        return make()


def _measured(step: Step, settings: Settings, batches: Any) -> tuple[int, int, tuple[int, ...]]:
    """(peak, largest result, its shape) of an update of a whole batch: bytes, from updates of few and of twice as many.

    What grows with the batch grows by as much from each to the next; gradients of weights do not grow.
    """
    size = batches.batch_size
    few = max(step.least_batch, 1)
    counts = (few, 2 * few) if 2 * few < size else (size,)
    seen = []
    for count in counts:
        batch = tuple(None if array is None else array[:count] for array in batches.at(0, 0))
        with built_within(settings), attached(_Results()) as results:
            step(to_tensors(batch, settings.device))
        seen.append(results)
    first, last = seen[0], seen[-1]
    far = 0 if first is last else (size - counts[0]) / few
    scaled = lambda a, b: round(a + far * (b - a))
    found = [(scaled(a, b), tuple(map(scaled, one, other))) for (a, one), (b, other) in zip(first.made, last.made)]
    alive = [scaled(a, b) for (_, a), (_, b) in zip(first.events, last.events)]  # after each op: the peak may move
    return max(alive, default=0), *max(found, default=(0, ()))


def _refuse(settings: Settings, needed: float, words: str, bytes_of: int, free: int) -> None:
    if needed > free:
        raise TooLarge(
            f"{_who(settings)} with batches of {settings.batch_size} needs about {size(needed)} of memory, "
            f"{size(free)} are free; the largest array is {words}, {size(bytes_of)}; {REMEDY}"
        )


def _who(settings: Settings) -> str:
    return f"{settings.recipe} on data of shape {'x'.join(map(str, settings.given['shape']))}"


def _free() -> str:
    free = free_memory.available()
    return "" if free is None else f"{size(free)} are free; "
