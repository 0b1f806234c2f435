"""What happened, op by op: the graph of a loss, the first NaN, times, flops and memory.

    tg.explain(loss)                            # the graph: shapes, what is kept, bytes, each kernel's file:line
    with tg.detect_anomaly(): ...               # raises at the op that makes the first NaN, forward or backward
    with observe.profile() as p: ...            # print(p): calls, time and GFLOP/s of every op and kernel
    with observe.count_flops() as f: ...        # f.total, print(f)
    with observe.memory_timeline() as m: ...    # m.peak bytes, and the op that reached it

The tape calls each function in `tape.observers` after every op, and these are such functions. Two things happen
outside any op and are seen only where said: a fused op's fast derivative (it works on arrays) and sums of gradients.
"""

from __future__ import annotations

import dis
import inspect
import sys
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from . import tape
from .backends import KERNEL_NAMES, Device
from .backends import device as get_device
from .tape import Leaf, Node, Op, Tensor

__all__ = ["count_flops", "detect_anomaly", "explain", "memory_timeline", "observing", "profile"]

_PACKAGE = Path(__file__).parent


@contextmanager
def observing(f: Callable) -> Iterator[Any]:
    """Context manager: f(op, inputs, output, node) is called after every op inside; gives f."""
    tape.observers.append(f)
    try:
        yield f
    finally:
        tape.observers[:] = [g for g in tape.observers if g is not f]


def _outputs(output: Any) -> tuple[Tensor, ...]:
    return output if isinstance(output, tuple) else (output,)


def _by(shape: tuple) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _bytes(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000 or unit == "GB":
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    raise AssertionError


# ---------------------------------------------------------------- NaN


class AnomalyError(RuntimeError):
    """Raised by `detect_anomaly` at the first value that is not a number."""


class _Anomaly:
    def __init__(self, infinite: bool) -> None:
        self.infinite = infinite
        self.sites: dict[int, tuple[weakref.ref[Tensor], str]] = {}

    def __call__(self, op: Op, inputs: Any, output: Any, node: Any) -> None:
        for i, t in enumerate(_outputs(output)):
            if node is not None:
                self.sites[id(node)] = (weakref.ref(t), _call_site())
            bad = self._bad(t)
            if bad:
                raise AnomalyError(self._message(op, inputs, t, i, bad, isinstance(output, tuple)))

    def _bad(self, t: Any) -> int:
        if not isinstance(t, Tensor) or t.array.dtype.kind != "f":
            return 0
        xp = t.device.kernels.xp
        return int((~xp.isfinite(t.array) if self.infinite else xp.isnan(t.array)).sum())

    def _message(self, op: Op, inputs: Any, t: Tensor, i: int, bad: int, several: bool) -> str:
        differentiated = _being_differentiated()
        what = "not finite" if self.infinite else "NaN"
        where = "in the forward pass" if differentiated is None else f"in the backward pass of {differentiated.op.name}"
        lines = [f"{op.name}, {where}: {bad} of {t.array.size} values of "]
        lines[0] += f"{f'output {i}' if several else 'its output'} {_by(t.array.shape)} are {what}"
        for j, x in enumerate(inputs):
            if not isinstance(x, Tensor):
                lines.append(f"  input {j}: {x!r}")
                continue
            xp, broken = x.device.kernels.xp, self._bad(x)
            if broken:
                state = f"already {what} in {broken} places"
                state += " (it comes from data, a parameter or a fused derivative: no op that was watched made it)"
            elif x.array.size and x.array.dtype.kind in "fiu":
                state = f"from {float(xp.nanmin(x.array)):.4g} to {float(xp.nanmax(x.array)):.4g}"
            else:
                state = f"{x.array.dtype}"
            name = f" '{x.name}'" if x.name else ""
            lines.append(f"  input {j}{name} {_by(x.array.shape)}: {state}")
        site = self.sites.get(id(differentiated)) if differentiated is not None else None
        if site is not None:
            lines.append(f"  the forward call was {site[1]}")
        return "\n".join(lines)


def _being_differentiated() -> Node | None:
    """The node whose derivative is running now; None in the forward pass."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        if frame.f_code is Node.pull.__code__:
            return frame.f_locals["self"]
        frame = frame.f_back
    return None


def _call_site() -> str:
    """file:line of the nearest caller outside this package."""
    frame: Any = sys._getframe(1)
    while frame is not None and Path(frame.f_code.co_filename).is_relative_to(_PACKAGE):
        frame = frame.f_back
    return "unknown" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


@contextmanager
def detect_anomaly(infinite: bool = False) -> Iterator[None]:
    """Context manager: raises AnomalyError at the op that makes the first NaN (with `infinite`, also the first
    infinity).

    The message names the op, says whether it ran forward or as part of which op's derivative, which inputs were bad
    before, the range of the others, and the line that made the forward call. Every result is read once: expect half
    the speed.
    """
    with observing(_Anomaly(infinite)):
        yield


# ---------------------------------------------------------------- flops


def _flops(op: Op, inputs: Any, output: Any, node: Any = None) -> int | None:
    """Nominal floating-point operations (two per multiply-add); None for an op of another family."""
    a = [t.array for t in inputs if isinstance(t, Tensor)]
    if op.name == "conv":
        return 2 * output.array.size * int(np.prod(a[1].shape[1:]))
    if op.name == "conv_transpose":
        return 2 * a[0].size * int(np.prod(a[1].shape[1:]))
    if op.name == "conv_weight":
        return 2 * a[1].size * int(np.prod(output.array.shape[1:]))
    if op.name in ("matmul", "matmul_nt", "linear", "linear_leaky_relu"):
        return 2 * output.array.size * a[0].shape[-1]
    if op.name == "matmul_tn":
        return 2 * output.array.size * a[0].shape[-2]
    return None


class FlopCount:
    """Nominal flops by op: convolutions, matrix products and linear layers, which dominate. `total` is their sum."""

    def __init__(self) -> None:
        self.by_op: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    @property
    def total(self) -> int:
        return sum(self.by_op.values())

    def __call__(self, op: Op, inputs: Any, output: Any, node: Any) -> None:
        flops = _flops(op, inputs, output, node)
        if flops is not None:
            self.add(op.name, flops)

    def add(self, name: str, flops: int) -> None:
        self.by_op[name] += flops
        self.calls[name] += 1

    def __str__(self) -> str:
        line = lambda name, calls, flops: f"{name:<20}{calls:>8} calls{flops / 1e6:>14.3f} Mflop"
        rows = [line(name, self.calls[name], flops) for name, flops in self.by_op.most_common()]
        return "\n".join([*rows, line("total", sum(self.calls.values()), self.total)])


@contextmanager
def count_flops() -> Iterator[FlopCount]:
    """Context manager that gives a FlopCount of the convolutions, matrix products and linear layers run inside.

    Two per multiply-add; taps on padding count, as everywhere in the field. Pointwise ops and einsum are not counted.
    """
    count, plain_pull = FlopCount(), Node._pull_fused

    def counted_pull(node: Node, g: Any, needed: Any) -> Any:
        gradients = plain_pull(node, g, needed)
        if node.op.name == "linear_leaky_relu" and isinstance(gradients, list):  # by kernels, which no observer sees
            for product in gradients[:2]:
                if product is not None:
                    count.add(node.op.name, 2 * g.array.size * node.saved["weight"][0].array.shape[1])
        return gradients

    Node._pull_fused = counted_pull  # type: ignore[method-assign, assignment]
    try:
        with observing(count):
            yield count
    finally:
        Node._pull_fused = plain_pull  # type: ignore[method-assign]


# ---------------------------------------------------------------- time


class Profile:
    """Calls and seconds per op and per kernel. `print(profile)` is the table; `ops` and `kernels` hold the numbers.

    `ops[name]` and `kernels[name]` are [calls, seconds, flops]; `seconds` is the time from entering to leaving the
    block. What no op accounts for (Python between the ops, derivatives of fused ops, optimizer steps) is the line
    "between ops".
    """

    def __init__(self) -> None:
        self.ops: dict[str, list] = {}
        self.kernels: dict[str, list] = {}
        self.seconds = 0.0

    def _add(self, table: dict[str, list], name: str, seconds: float, flops: int = 0) -> None:
        row = table.setdefault(name, [0, 0.0, 0])
        row[0] += 1
        row[1] += seconds
        row[2] += flops

    def __str__(self) -> str:
        lines = []
        for title, table in (("op", self.ops), ("kernel", self.kernels)):
            lines.append(f"{title:<26}{'calls':>8}{'ms':>12}{'us/call':>12}{'share':>8}{'GFLOP/s':>10}")
            for name, (calls, seconds, flops) in sorted(table.items(), key=lambda item: -item[1][1]):
                share = f"{seconds / self.seconds:.0%}" if self.seconds else ""
                rate = f"{flops / seconds / 1e9:.1f}" if flops and seconds else ""
                each = 1e6 * seconds / calls
                lines.append(f"{name:<26}{calls:>8}{1e3 * seconds:>12.3f}{each:>12.1f}{share:>8}{rate:>10}")
            if title == "op":
                rest = self.seconds - sum(row[1] for row in table.values())
                lines.append(f"{'between ops':<26}{'':>8}{1e3 * rest:>12.3f}")
                lines.append(f"{'total':<26}{'':>8}{1e3 * self.seconds:>12.3f}\n")
        return "\n".join(lines)


class _TimedKernels:
    """A kernel table whose kernels report how long they took; everything else is the table's own."""

    def __init__(self, table: Any, profile: Profile) -> None:
        self._table, self._profile = table, profile

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._table, name)
        if name not in KERNEL_NAMES:
            return value

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = value(*args, **kwargs)
            _wait(self._table)
            self._profile._add(self._profile.kernels, name, time.perf_counter() - start)
            return result

        setattr(self, name, timed)
        return timed


def _wait(kernels: Any) -> None:
    """Until the device has finished: a GPU's kernels run on after the call returns."""
    if kernels.name == "cuda":
        kernels.xp.cuda.get_current_stream().synchronize()


@contextmanager
def profile(device: str | Device = "cpu") -> Iterator[Profile]:
    """Context manager that gives a Profile: wall time of every op and of every kernel of `device` inside.

    An observer is called after an op and cannot know when it began, so the ops and the kernel table are wrapped while
    the block runs. On a GPU each op is waited for: the times are true, and the overlap of host and device is lost.
    """
    result, place, plain_call = Profile(), get_device(device), Op.__call__
    table = place.kernels

    def timed_call(op: Op, *inputs: Any, **attributes: Any) -> Any:
        start = time.perf_counter()
        output = plain_call(op, *inputs, **attributes)
        _wait(table)
        result._add(result.ops, op.name, time.perf_counter() - start, _flops(op, inputs, output) or 0)
        return output

    Op.__call__ = timed_call  # type: ignore[method-assign, assignment]
    place.kernels = _TimedKernels(table, result)
    start = time.perf_counter()
    try:
        yield result
    finally:
        result.seconds = time.perf_counter() - start
        Op.__call__, place.kernels = plain_call, table  # type: ignore[method-assign, assignment]


# ---------------------------------------------------------------- memory


class MemoryTimeline:
    """Bytes of op results that are alive, after every op: `events` [(op, bytes)], `live` now, `peak` and `peak_op`.

    Views share their base's memory and count once. Parameters, data and arrays made outside ops are not included.
    """

    def __init__(self) -> None:
        self.live, self.peak, self.peak_op = 0, 0, ""
        self.events: list[tuple[str, int]] = []
        self._alive: dict[int, weakref.ref] = {}

    def __call__(self, op: Op, inputs: Any, output: Any, node: Any) -> None:
        known = {id(_base(t.array)) for t in inputs if isinstance(t, Tensor)}
        for t in _outputs(output):
            base = _base(t.array)
            if id(base) not in known and id(base) not in self._alive:
                self._watch(base)
        self.events.append((op.name, self.live))
        if self.live > self.peak:
            self.peak, self.peak_op = self.live, op.name

    def _watch(self, base: Any) -> None:
        key, size = id(base), int(base.nbytes)

        def died(_: Any) -> None:
            self.live -= size
            self._alive.pop(key, None)

        self._alive[key] = weakref.ref(base, died)
        self.live += size

    def __str__(self) -> str:
        columns = 60
        step = max(1, -(-len(self.events) // columns))
        tops = [max(b for _, b in self.events[i : i + step]) for i in range(0, len(self.events), step)]
        bars = "".join(" ▁▂▃▄▅▆▇█"[round(8 * top / max(1, self.peak))] for top in tops)
        peak = f"peak {_bytes(self.peak)} after {self.peak_op or 'none'}"
        return f"[{bars}] {len(self.events)} ops, {peak}, now {_bytes(self.live)}"


def _base(array: Any) -> Any:
    while isinstance(getattr(array, "base", None), type(array)):
        array = array.base
    return array


@contextmanager
def memory_timeline() -> Iterator[MemoryTimeline]:
    """Context manager that gives a MemoryTimeline of the results of the ops run inside."""
    timeline = MemoryTimeline()
    with observing(timeline):
        yield timeline


# ---------------------------------------------------------------- the graph, explained


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
    nodes, leaves, shapes = _collect(loss)
    counted: set[int] = set()
    rows, total, arrays, existing = [], 0, 0, 0
    for node in nodes:
        described, own = [], 0
        for name, value in _kept(node):
            parts = list(_arrays_of(value))
            described.append(f"{name} {', '.join(label for label, _, _ in parts)}".rstrip())
            for _, array, exists_anyway in parts:
                base = _base(array)
                if id(base) in counted:
                    continue
                counted.add(id(base))
                if exists_anyway:
                    existing += base.nbytes
                else:
                    own += base.nbytes
                    arrays += 1
        total += own
        kept = "freed" if node.saved is None else ", ".join(described) or "nothing"
        sides = [f"{', '.join(map(_by, shapes[node]))} <- {', '.join(map(_by, node.shapes))}", kept]
        rows.append((node.op.name, *sides, _bytes(own) if own else "", *_source(node)))
    head = ("op", "output <- inputs that want gradients", "keeps", "bytes", "kernel", "source")
    shown = rows if len(rows) <= max_nodes else [*rows[: max_nodes // 2], *rows[len(rows) - max_nodes // 2 :]]
    limits = (24, 60, 60, 10, 24, 80)
    widths = [min(limit, max(len(r[i]) for r in [head, *shown])) for i, limit in enumerate(limits)]
    out = sys.stdout if file is None else file
    for tensor in leaves:
        print(f"leaf {tensor.name or 'without name'}: {_by(tensor.array.shape)} {tensor.array.dtype}", file=out)
    for number, row in enumerate([head, *shown]):
        if len(rows) > max_nodes and number == 1 + max_nodes // 2:
            print(f"... {len(rows) - len(shown)} more ...", file=out)
        print("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip(), file=out)
    print(
        f"{len(nodes)} nodes keep {_bytes(total)} in {arrays} arrays for the backward pass, and refer to "
        f"{_bytes(existing)} of parameters and data that exist anyway",
        file=out,
    )


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
        label = f"{value.name} {_by(value.array.shape)}" if value.name else _by(value.array.shape)
        yield label, value.array, value.node is None or isinstance(value.node, Leaf)
    elif hasattr(value, "nbytes") and hasattr(value, "shape"):
        yield _by(value.shape), value, False
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
    return ", ".join(kernels), ", ".join(where)


def _kernels_of(function: Callable, depth: int = 3) -> list[str]:
    """The kernels that a forward names, itself or in the plain functions that it calls."""
    found: list[str] = []
    for step in dis.get_instructions(function):
        if step.opname in ("LOAD_ATTR", "LOAD_METHOD") and step.argval in KERNEL_NAMES:
            found.append(step.argval)
        elif step.opname == "LOAD_GLOBAL" and depth:
            helper = function.__globals__.get(step.argval)  # type: ignore[attr-defined]
            if inspect.isfunction(helper):
                found += _kernels_of(helper, depth - 1)
    return list(dict.fromkeys(found))


def _location(function: Callable) -> str:
    code = inspect.unwrap(function).__code__
    path = Path(code.co_filename)
    if path.is_relative_to(_PACKAGE.parent):
        path = path.relative_to(_PACKAGE.parent)
    return f"{path}:{code.co_firstlineno}"
