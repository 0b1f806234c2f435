"""What an observer is, and how ops are named to people.

    class Names(Observer):
        def after(self, call):
            print(call.op.name, call.output)

    with attached(Names()): ...
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .. import tape
from ..tape import Call, Op, Tensor


class Observer:
    """Told of every op and every fused VJP, before and after; `Call` in tape.py says what there is to see."""

    def before(self, call: Call) -> None:
        """The op is about to run."""

    def after(self, call: Call) -> None:
        """The op has run, and `call.output` is there."""


@contextmanager
def attached(observer: Any) -> Iterator[Any]:
    """Context manager: the observer is told of all that this thread does inside; gives the observer."""
    entry = (threading.get_ident(), observer)
    tape.observers.append(entry)
    try:
        yield observer
    finally:
        tape.observers.remove(entry)


class _Function(Observer):
    def __init__(self, f: Callable) -> None:
        self.f = f

    def after(self, call: Call) -> None:
        if not call.derivative:
            self.f(call.op, call.inputs, call.output, call.node)


@contextmanager
def observing(f: Callable) -> Iterator[Any]:
    """Context manager: f(op, inputs, output, node) is called after every op inside; gives f."""
    with attached(_Function(f)):
        yield f


def tensors(value: Any) -> tuple[Tensor, ...]:
    """The tensors in what an op received or returned."""
    every = value if isinstance(value, tuple) else (value,)
    return tuple(t for t in every if isinstance(t, Tensor))


LOSSES = {  # a fused loss: the function that calls it
    "squared_error": "mse_loss", "class_loss": "cross_entropy", "bernoulli_loss": "binary_cross_entropy_with_logits",
    "bce_with_logits": "binary_cross_entropy_with_logits",
}  # fmt: skip


def written(op: Op, attributes: dict) -> str:
    """The name of an op in the user's words: conv+relu for one kernel that computes both, relu for a slope of 0,
    mse_loss for squared_error."""
    name, slope = op.name.removesuffix("_over"), attributes.get("slope")
    name = LOSSES.get(name, name)
    layer = name.removesuffix("_moments").removesuffix("leaky_relu").rstrip("_")
    if slope is None or name == "leaky_relu_backward":
        return name
    activation = {1.0: "", 0.0: "relu"}.get(slope, "leaky_relu")
    return "+".join(filter(None, (layer, activation)))


def named(call: Call) -> str:
    """An op's name in tables: that of its kernel, and which of its two functions ran."""
    return f"{call.op.name} vjp" if call.derivative else call.op.name
