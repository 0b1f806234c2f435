"""Nominal floating-point operations: two per multiply-add of convolutions, matrix products and linear layers.

    with observe.count_flops() as f:
        loss.backward()
    f.total, f.by_op["conv_weight"]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ..tape import Call
from .observer import Observer, attached, tensors


def nominal_flops(call: Call) -> int | None:
    """Two per multiply-add; None for an op of another family."""
    a = [t.array for t in tensors(call.inputs)]
    name = call.op.name
    if call.derivative:
        return _of_fused_vjp(call)
    contraction = name.removesuffix("_moments").removesuffix("_leaky_relu")
    if contraction == "conv":
        return 2 * tensors(call.output)[0].array.size * int(np.prod(a[1].shape[1:]))
    if contraction == "conv_transpose":
        return 2 * a[0].size * int(np.prod(a[1].shape[1:]))
    if name == "conv_weight":
        return 2 * a[1].size * int(np.prod(call.output.array.shape[1:]))
    if name in ("matmul", "matmul_nt", "linear", "linear_leaky_relu"):
        return 2 * call.output.array.size * a[0].shape[-1]
    if name == "matmul_tn":
        return 2 * call.output.array.size * a[0].shape[-2]
    return None


def _of_fused_vjp(call: Call) -> int | None:
    """A linear layer's: a product for the gradient of the input, one for that of the weight, where they were wanted."""
    if call.op.name != "linear_leaky_relu" or call.output is None:
        return None
    products = sum(gradient is not None for gradient in call.output[:2])
    return products * 2 * call.inputs[0].array.size * call.node.saved["weight"][0].array.shape[1]


class FlopCount(Observer):
    """Nominal flops by op: convolutions, matrix products and linear layers, which dominate. `total` is their sum."""

    def __init__(self) -> None:
        self.by_op: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    @property
    def total(self) -> int:
        return sum(self.by_op.values())

    def after(self, call: Call) -> None:
        """Counts the call."""
        count = nominal_flops(call)
        if count is not None:
            self.by_op[call.op.name] += count
            self.calls[call.op.name] += 1

    def __str__(self) -> str:
        line = lambda name, calls, flops: f"{name:<20}{calls:>8} calls{flops / 1e6:>14.3f} Mflop"
        rows = [line(name, self.calls[name], flops) for name, flops in self.by_op.most_common()]
        return "\n".join([*rows, line("total", sum(self.calls.values()), self.total)])


@contextmanager
def count_flops() -> Iterator[FlopCount]:
    """Context manager that gives a FlopCount of the convolutions, matrix products and linear layers run inside.

    Two per multiply-add; taps on padding count, as everywhere in the field. Pointwise ops and einsum are not counted.
    """
    with attached(FlopCount()) as count:
        yield count
