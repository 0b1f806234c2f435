"""The graph of a loss, explained: a line for each node, from the inputs on.

    tg.explain(loss)

An op is named as the user wrote it (conv+relu); the kernel that computed it stands beside it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from ..backends import KERNEL_NAMES
from ..backends.geometry import by
from ..tape import Leaf, Node, Tensor
from .memory import base_of, in_bytes
from .observer import written

_ROOT = Path(__file__).parent.parent.parent
_HEAD = ("op", "output <- inputs that want gradients", "keeps", "bytes", "kernel", "source")
_WIDEST = (34, 60, 60, 10, 24, 80)


def explain(loss: Tensor, file: TextIO | None = None, max_nodes: int = 80) -> None:
    """Prints the graph of `loss` from its inputs on: op, shapes, what is kept for the backward pass, bytes, kernel,
    source.

    An array kept by several nodes counts once; what exists anyway (parameters, data) is told apart. Of a graph with
    more than `max_nodes` nodes the first and the last are printed; the totals are of all. Raises RuntimeError for a
    constant.
    """
    if loss.node is None:
        raise RuntimeError(
            f"explain: this tensor {tuple(loss.array.shape)} was not recorded; it depends on no parameter"
        )
    out = sys.stdout if file is None else file
    nodes, leaves, shapes = _collect(loss)
    memory = _Memory()
    rows = [_row(node, shapes[node], memory) for node in nodes]
    for tensor in leaves:
        print(f"leaf {tensor.name or 'without name'}: {by(tensor.array.shape)} {tensor.array.dtype}", file=out)
    half = max_nodes // 2
    shown = rows if len(rows) <= max_nodes else [*rows[:half], *rows[len(rows) - half :]]
    widths = [min(limit, max(len(r[i]) for r in [_HEAD, *shown])) for i, limit in enumerate(_WIDEST)]
    for number, row in enumerate([_HEAD, *shown]):
        if len(rows) > max_nodes and number == 1 + half:
            print(f"... {len(rows) - len(shown)} more ...", file=out)
        print("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip(), file=out)
    print(f"{len(nodes)} nodes keep {memory}", file=out)


class _Memory:
    """The arrays that nodes keep, each counted once."""

    def __init__(self) -> None:
        self.counted: set[int] = set()
        self.kept, self.arrays, self.existing = 0, 0, 0

    def add(self, array: Any, exists_anyway: bool) -> None:
        base = base_of(array)
        if id(base) in self.counted:
            return
        self.counted.add(id(base))
        if exists_anyway:
            self.existing += base.nbytes
        else:
            self.kept += base.nbytes
            self.arrays += 1

    def __str__(self) -> str:
        return (
            f"{in_bytes(self.kept)} in {self.arrays} arrays for the backward pass, and refer to "
            f"{in_bytes(self.existing)} of parameters and data that exist anyway"
        )


def _row(node: Node, shapes: list[tuple], memory: _Memory) -> tuple[str, ...]:
    """The cells of a node's line; what it keeps is added to `memory`."""
    described, before = [], memory.kept
    for name, value in _kept(node):
        parts = list(_arrays_of(value))
        described.append(f"{name} {', '.join(label for label, _, _ in parts)}".rstrip())
        for _, array, exists_anyway in parts:
            memory.add(array, exists_anyway)
    own = memory.kept - before
    kept = "freed" if node.saved is None else ", ".join(described) or "nothing"
    sides = f"{', '.join(map(by, shapes))} <- {', '.join(map(by, node.shapes))}"
    return (written(node.op, node.attributes), sides, kept, in_bytes(own) if own else "", *_source(node))


def _collect(loss: Tensor) -> tuple[list[Node], list[Tensor], dict[Node, list[tuple]]]:
    """The nodes behind a tensor by rank, its leaves, and the output shapes of each node (which its readers know)."""
    order: dict[Any, None] = {}
    leaves: dict[Leaf, Tensor] = {}
    shapes: dict[Node, dict[int, tuple]] = {}

    def reached(link: Any, shape: tuple) -> None:
        if isinstance(link, Leaf):
            tensor = link.tensor()
            if tensor is not None:
                leaves.setdefault(link, tensor)
            return
        node, index = (link, 0) if isinstance(link, Node) else (link.parents[0], link.index)
        shapes.setdefault(node, {})[index] = tuple(shape)
        if node not in order:
            order[node] = None
            stack.append(node)

    stack: list[Node] = []
    reached(loss.node, loss.array.shape)
    while stack:
        node = stack.pop()
        for parent, shape in zip(node.parents, node.shapes, strict=True):
            reached(parent, shape)
    found = [*reversed(order)]
    outputs = {n: [s for _, s in sorted(shapes[n].items())] for n in found}
    return sorted(found, key=lambda n: n.rank), [*reversed(leaves.values())], outputs


def _kept(node: Node) -> Iterator[tuple[str, Any]]:
    """(name, value) of everything a node keeps: tensors, arrays, tuples of them, or shapes."""
    for name, (value, _) in (node.saved or {}).items():
        if value is not None:
            yield name, value
    if node.out is not None:
        yield "out", node.out
    for name, value in node.attributes.items():  # masks, indices, statistics
        if next(_arrays_of(value), None) is not None:
            yield name, value


def _arrays_of(value: Any) -> Iterator[tuple[str, Any, bool]]:
    """(label, array, whether it would exist without the graph) of every array in a kept value."""
    if isinstance(value, Tensor):
        label = f"{value.name} {by(value.array.shape)}" if value.name else by(value.array.shape)
        yield label, value.array, value.node is None or isinstance(value.node, Leaf)
    elif hasattr(value, "nbytes") and hasattr(value, "shape"):
        yield by(value.shape), value, False
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _arrays_of(part)


def _source(node: Node) -> tuple[str, str]:
    """(kernel names, file:line) of what computes a node: its kernels if it uses any, else the op itself."""
    kernels = _kernels_of(node.op.forward)
    table = node.device.kernels
    if not kernels:
        return "", _location(node.op.forward)
    places = table.sources() if hasattr(table, "sources") else {}
    where = [places.get(name) or _location(getattr(table, name)) for name in kernels]
    return ", ".join(kernels), ", ".join(dict.fromkeys(where))  # two kernels may lie in one function


def _kernels_of(function: Callable, depth: int = 3) -> list[str]:
    """The kernels that a forward names, itself or in the plain functions that it calls."""
    names = inspect.getclosurevars(function)
    read = {*names.unbound, *names.globals, *names.builtins}  # k.sum is read as the name sum
    found = [kernel for kernel in KERNEL_NAMES if kernel in read]
    for name, called in names.globals.items():
        if inspect.isfunction(called) and name not in KERNEL_NAMES and depth:
            found += _kernels_of(called, depth - 1)
    return list(dict.fromkeys(found))


def _location(function: Callable) -> str:
    code = inspect.unwrap(function).__code__
    path = Path(code.co_filename)
    if path.is_relative_to(_ROOT):
        path = path.relative_to(_ROOT)
    return f"{path}:{code.co_firstlineno}"
