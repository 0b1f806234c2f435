"""Reverse-mode differentiation: the whole idea in one file.

A tensor is an array plus the node that produced it. An `Op` is a function on arrays; for each argument it has at most one
vector-Jacobian product (VJP): a function of tensors, written with ops, so the derivative of a derivative needs no further
code. For y = f(x) and a scalar L the VJP of x maps g = dL/dy to dL/dx. `grad` walks the nodes from the outputs back, in
order of decreasing rank (a node's rank is one more than its parents'), so every node is visited once, when its g is complete.

What the tape keeps is read off a VJP's parameter names: `g` the incoming gradient, `out` the result, an argument's name its
tensor, `x_shape` the shape of x alone, an attribute's name its value. Broadcasting is undone here, once (`sum_to`).

Deliberately absent: lazy evaluation, in-place operations on recorded values, hooks, gradients stored on intermediate tensors.
"""

from __future__ import annotations

import heapq
import inspect
import itertools
import math
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import ContextDecorator
from types import MethodType
from typing import Any

import numpy as np

from .backends import Device
from .backends import device as get_device

_recording = True
observers: list[Callable] = []  # each is called as f(op, inputs, output, node) after every op; see observe.py


class Tensor:
    """An n-dimensional array that remembers how it was computed.

    `array` is the raw NumPy or CuPy array, `node` the tape node that made it (None for a constant, a `Leaf` where gradients
    end), `grad` what `backward()` accumulated into a leaf. What users touch is attached in tensor.py.
    """

    __slots__ = ("__weakref__", "_version", "array", "device", "grad", "name", "node")

    def __init__(self, array: Any, node: Any = None, device: Device | None = None) -> None:
        self.array, self.node, self.device = array, node, device if device is not None else get_device("cpu")
        self.grad: Tensor | None = None
        self.name: str | None = None
        self._version = [0]  # one cell shared by all views of the same memory, counted up by in-place changes


class set_grad_enabled(ContextDecorator):
    """Context manager or decorator that switches recording on or off; nests."""

    def __init__(self, mode: bool) -> None:
        self.mode, self.previous = mode, []

    def __enter__(self) -> None:
        global _recording
        self.previous.append(_recording)
        _recording = self.mode

    def __exit__(self, *exc: object) -> None:
        global _recording
        _recording = self.previous.pop()


def no_grad() -> set_grad_enabled:
    """Context manager or decorator: operations inside are not recorded."""
    return set_grad_enabled(False)


def enable_grad() -> set_grad_enabled:
    """Context manager or decorator: operations inside are recorded, also within `no_grad`."""
    return set_grad_enabled(True)


def is_grad_enabled() -> bool:
    """True where operations are being recorded."""
    return _recording


class Op:
    """A differentiable function: `forward(k, *arrays, **attributes)` on arrays, and VJPs registered with `vjp`.

    `k` is the kernel table of the inputs' device. Positional arguments are tensors or Python scalars (which are constants);
    keyword-only arguments are static attributes. A forward that returns a tuple makes an op with several outputs: its VJP
    receives a tuple of g, None where an output was not used. A forward with `*xs` has one VJP, which returns a list.
    """

    def __init__(self, forward: Callable, view: bool = False, composite: Any = None) -> None:
        self.forward, self.view, self.composite = forward, view, composite
        self.name = self.__name__ = forward.__name__.lstrip("_")
        self.__doc__ = forward.__doc__
        parameters = list(inspect.signature(forward).parameters.values())[1:]
        self.args = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
        self.attributes = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self.rules: dict[str, tuple[Callable, list[str]]] = {}
        self.fast: tuple[Callable, list[str]] | None = None
        self._plans: dict[tuple[int, ...], tuple[list, bool]] = {}

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __get__(self, instance: Any, owner: Any = None) -> Any:  # assigned to a class, an op is a method
        return self if instance is None else MethodType(self, instance)

    def vjp(self, arg: str) -> Callable:
        """Decorator: `rule(g, ...)` is the derivative by `arg`; its parameter names say what the tape keeps."""

        def register(rule: Callable) -> Callable:
            reads = list(inspect.signature(rule).parameters)[1:]
            legal = {"out", *self.args, *(a + "_shape" for a in self.args), *self.attributes}
            if arg not in self.args or not legal.issuperset(reads):
                raise TypeError(f"{self.name}: VJP of '{arg}' reads {reads}; it may keep {sorted(legal)}")
            self.rules[arg] = (rule, reads)
            return rule

        return register

    def fused_vjp(self, rule: Callable) -> Callable:
        """Decorator for an op with a composite: `rule(k, g, ...)` on arrays returns every argument's gradient.

        It may return NotImplemented; then, as whenever backward is itself recorded, the composite is differentiated.
        """
        self.fast = (rule, list(inspect.signature(rule).parameters)[2:])
        return rule

    def _plan(self, wanted: tuple[int, ...]) -> tuple[list, bool]:
        """What a node keeps when these arguments want gradients: [(name, argument, shape only)], and the output?"""
        if self.composite:
            reads = {*self.args, *(self.fast[1] if self.fast else ())}
        else:
            reads = {r for i in wanted for r in self.rules[self.args[0 if self.variadic else i]][1]}
        keeps = [(a, i, False) for i, a in enumerate(self.args) if a in reads]
        keeps += [(a + "_shape", i, True) for i, a in enumerate(self.args) if a + "_shape" in reads]
        self._plans[wanted] = keeps, "out" in reads
        return self._plans[wanted]

    def __call__(self, *inputs: Any, **attributes: Any) -> Any:
        arrays, wanted, device, dtype, uniform = [], [], None, None, True
        for i, t in enumerate(inputs):
            if isinstance(t, Tensor):
                arrays.append(t.array)
                if device is None:
                    device, dtype = t.device, t.array.dtype
                elif t.device is not device or t.array.dtype is not dtype:
                    uniform = False
                if t.node is not None and (self.variadic or self.composite or self.args[i] in self.rules):
                    wanted.append(i)
            elif t is None or type(t) in (int, float, bool):
                arrays.append(t)
            elif isinstance(t, np.generic):  # a NumPy scalar would impose its dtype, a Python one does not
                return self(*inputs[:i], t.item(), *inputs[i + 1 :], **attributes)
            else:
                raise TypeError(f"{self.name}: argument {i + 1} is a {type(t).__name__}; make it a tensor with tensor(...)")
        if device is None:
            raise TypeError(f"{self.name}: expected a tensor among {', '.join(type(t).__name__ for t in inputs)}")
        if not uniform or dtype.kind != "f":
            self._reconcile(inputs, arrays)
        out = self.forward(device.kernels, *arrays, **attributes)
        node = Node(self, inputs, attributes, out, tuple(wanted), device) if _recording and wanted else None
        if type(out) is tuple:
            result: Any = tuple([Tensor(o, node and Output(node, i), device) for i, o in enumerate(out)])
        else:
            result = Tensor(np.asarray(out) if isinstance(out, np.generic) else out, node, device)
            if self.view:
                result._version = inputs[0]._version
        for f in observers:
            f(self, inputs, result, node)
        return result

    def _reconcile(self, inputs: Sequence, arrays: list) -> None:
        """Promotes integers to the float dtype beside them; mixed devices or float dtypes raise."""
        tensors = [t for t in inputs if isinstance(t, Tensor)]
        if len({t.device.name for t in tensors}) > 1:
            places = ", ".join(f"{t.array.shape} on {t.device}" for t in tensors)
            raise RuntimeError(f"{self.name}: tensors on different devices ({places}); move them with .to(...)")
        floats = sorted({t.array.dtype.name for t in tensors if t.array.dtype.kind == "f"})
        if len(floats) > 1:
            raise TypeError(f"{self.name}: mixed dtypes {' and '.join(floats)}; convert one with .float() or .double()")
        if floats or any(type(t) is float for t in inputs):
            for i, t in enumerate(inputs):
                if isinstance(t, Tensor):
                    arrays[i] = t.array.astype(floats[0] if floats else "float32", copy=False)


def op(forward: Callable | None = None, **options: Any) -> Any:
    """Decorator that makes an `Op` of a function on arrays; `view=True` where the result shares the first input's memory."""
    return Op(forward, **options) if forward is not None else lambda f: Op(f, **options)


class Leaf:
    """Where gradients end: the node of a parameter. It knows its tensor weakly, so neither keeps the other alive."""

    __slots__ = ("rank", "tensor")
    parents = ()

    def __init__(self, tensor: Tensor) -> None:
        self.rank, self.tensor = 0, weakref.ref(tensor)


class Output:
    """One of several outputs of a node."""

    __slots__ = ("index", "parents", "rank")

    def __init__(self, node: Node, index: int) -> None:
        self.parents, self.index, self.rank = (node,), index, node.rank + 1


class Node:
    """One recorded application of an op: its parents, and what its VJPs asked to keep.

    It never refers to its own output tensor, so a graph is freed by reference counts alone.
    """

    __slots__ = ("attributes", "count", "device", "op", "out", "parents", "rank", "saved", "shapes", "wanted")

    def __init__(self, op: Op, inputs: Sequence, attributes: dict, out: Any, wanted: tuple, device: Device) -> None:
        self.op, self.attributes, self.wanted, self.device = op, attributes, wanted, device
        self.parents = tuple([inputs[i].node for i in wanted])
        self.shapes = tuple([inputs[i].array.shape for i in wanted])
        self.rank = 1 + max([p.rank for p in self.parents])
        keeps, keeps_out = op._plans.get(wanted) or op._plan(wanted)
        self.count = len(out) if type(out) is tuple else 0
        self.out = out if keeps_out else None
        self.saved: Any = {}  # name: (value, its version now)
        for name, index, shape_only in keeps:
            value = tuple(inputs) if op.variadic else inputs[index] if index < len(inputs) else None
            if shape_only:
                value = tuple([np.shape(t) for t in value]) if op.variadic else np.shape(getattr(value, "array", value))
            self.saved[name] = (value, value._version[0] if isinstance(value, Tensor) else 0)

    def release(self) -> None:
        if self.saved or self.out is not None:
            self.saved = self.out = None

    def _values(self) -> dict[str, Any]:
        """Everything a VJP may ask for by name; raises if it was freed, or changed since the forward pass."""
        if self.saved is None:
            raise RuntimeError(
                f"{self.op.name}: this part of the graph was freed by an earlier backward; pass retain_graph=True to it"
            )
        values = {**self.op.attributes, **self.attributes}
        for name, (value, version) in self.saved.items():
            if isinstance(value, Tensor) and value._version[0] != version:
                raise RuntimeError(
                    f"{self.op.name}: its input '{value.name or name}' {value.array.shape} was changed in place after the forward "
                    "pass, so the gradient would be wrong; call backward() before optimizer.step(), or compute the loss again"
                )
            values[name] = value
        if self.count:
            values["out"] = self.out and tuple([Tensor(o, Output(self, i), self.device) for i, o in enumerate(self.out)])
        elif self.out is not None:
            values["out"] = Tensor(self.out, self, self.device)
        return values

    def pull(self, g: Any, needed: Any) -> Iterable[tuple[Any, Tensor]]:
        """Pairs (parent, gradient) for g, the gradient of the output(s); only for parents in `needed`, if given."""
        op, values = self.op, self._values()
        if op.composite:
            gradients: Any = self._pull_fused(g, values)
        elif op.variadic:
            rule, reads = op.rules[op.args[0]]
            every = rule(g, **{r: values[r] for r in reads})
            gradients = [every[i] for i in self.wanted]
        else:
            gradients = []
            for i, parent in zip(self.wanted, self.parents, strict=True):
                rule, reads = op.rules[op.args[i]]
                wants = needed is None or parent in needed
                gradients.append(rule(g, **{r: values[r] for r in reads}) if wants else None)
        return [
            (parent, h if h.array.shape == shape else sum_to(h, shape=shape))
            for parent, h, shape in zip(self.parents, gradients, self.shapes, strict=True)
            if h is not None and (needed is None or parent in needed)
        ]

    def _pull_fused(self, g: Any, values: dict) -> Sequence[Tensor | None]:
        """A fused op's gradients: by its fast VJP, or, when backward is being recorded, through its composite."""
        op, create_graph = self.op, _recording
        if op.fast and not create_graph:
            rule, reads = op.fast
            every = rule(self.device.kernels, _arrays(g), **{r: _arrays(values[r]) for r in reads})
            if every is not NotImplemented:
                every = _as_tuple(every)
                return [None if every[i] is None else Tensor(every[i], None, self.device) for i in self.wanted]
        # Fresh identity nodes: inputs that depend on each other would otherwise have their gradients counted twice.
        inputs = [values[a] for a in op.args]
        with enable_grad():
            for i in self.wanted:
                t = inputs[i]
                inputs[i] = identity(t) if create_graph else leaf(Tensor(t.array, None, self.device))
            outputs = op.composite(*inputs, **self.attributes)
        used = [pair for pair in zip(_as_tuple(outputs), _as_tuple(g), strict=True) if pair[1] is not None]
        fresh = [inputs[i] for i in self.wanted]
        return grad([o for o, _ in used], fresh, [h for _, h in used], create_graph, allow_unused=True)


def _arrays(value: Any) -> Any:
    return tuple([_arrays(v) for v in value]) if type(value) is tuple else getattr(value, "array", value)


def _as_tuple(value: Any) -> tuple:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def leaf(tensor: Tensor) -> Tensor:
    """The same tensor, made a place where gradients end."""
    tensor.node = Leaf(tensor)
    return tensor


def _leading_to(targets: set, roots: Iterable) -> set:
    """The nodes on a path from a root back to a target: all that a gradient with respect to the targets must visit."""
    lowest = min(t.rank for t in targets)
    seen, stack, order = set(), list(roots), []
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            order.append(node)
            stack.extend(p for p in node.parents if p.rank >= lowest)
    needed = set(targets)
    for node in sorted(order, key=lambda n: n.rank):
        if not needed.isdisjoint(node.parents):
            needed.add(node)
    return needed


def _propagate(roots: list, targets: set | None, create_graph: bool, retain_graph: bool | None) -> dict:
    """Gradients {node: (tensor, owned)} of the targets (or of all leaves) for these (node, gradient) roots.

    `owned` says that the array was allocated here and nothing else refers to it.
    """
    gradients: dict[Any, Any] = {}
    heap: list[tuple[int, int, Any]] = []  # (-rank, arrival, node): the order, and so every sum, is reproducible
    needed = None if targets is None else _leading_to(targets, {node for node, _ in roots})
    retain_graph = create_graph if retain_graph is None else retain_graph
    arrival = itertools.count()

    def receive(node: Any, g: Tensor) -> None:
        held = gradients.get(node)
        if held is None:
            gradients[node] = (g, False)
            heapq.heappush(heap, (-node.rank, next(arrival), node))
        elif create_graph or not held[1]:
            gradients[node] = (add(held[0], g), True)
        else:  # the sum is this call's own: accumulate in place
            g.device.kernels.xp.add(held[0].array, g.array, out=held[0].array)

    with set_grad_enabled(create_graph):
        for node, g in roots:
            if needed is None or node in needed:
                receive(node, g)
        while heap:
            node = heapq.heappop(heap)[2]
            if type(node) is Leaf:
                continue
            g = gradients[node][0] if targets and node in targets else gradients.pop(node)[0]
            if type(node) is Output:
                producer = node.parents[0]
                if producer not in gradients:
                    receive(producer, [None] * producer.count)  # type: ignore[arg-type]
                slots = gradients[producer][0]
                slots[node.index] = g if slots[node.index] is None else add(slots[node.index], g)
                continue
            for parent, h in node.pull(tuple(g) if node.count else g, needed):
                receive(parent, h)
            if not retain_graph:
                node.release()
    return gradients


def _roots(name: str, outputs: Any, grad_outputs: Any) -> list[tuple[Any, Tensor]]:
    """Pairs (node, gradient) to start from, checked; the gradient of a scalar is one."""
    outputs, roots = _as_tuple(outputs), []
    seeds = (None,) * len(outputs) if grad_outputs is None else _as_tuple(grad_outputs)
    for output, seed in itertools.zip_longest(outputs, seeds):
        array = output.array
        if output.node is None:
            raise RuntimeError(
                f"{name}: the output {array.shape} does not depend on anything that requires grad (was it computed under no_grad, "
                "or from detached or frozen tensors?)"
            )
        if seed is None:
            if array.size != 1:
                raise RuntimeError(f"{name}: the output has shape {array.shape}; reduce it to a scalar or pass its gradient")
            seed = Tensor(output.device.kernels.xp.ones(array.shape, array.dtype), None, output.device)
        elif seed.array.shape != array.shape or seed.array.dtype != array.dtype:
            raise ValueError(
                f"{name}: gradient {seed.array.shape} {seed.array.dtype} for an output {array.shape} {array.dtype}"
            )
        roots.append((output.node, seed))
    return roots


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    create_graph: bool = False,
    retain_graph: bool | None = None,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of `outputs` (weighted by `grad_outputs`; 1 for scalars) with respect to `inputs`, a tuple.

    Only the paths between the two are visited. With `create_graph` the result is itself differentiable. The graph is freed
    unless `retain_graph` (default: `create_graph`). An input that the outputs do not depend on raises RuntimeError, or gives
    None with `allow_unused`.
    """
    inputs = _as_tuple(inputs)
    for i, t in enumerate(inputs):
        if t.node is None:
            raise RuntimeError(f"grad: input {i} {t.array.shape} does not require grad; call requires_grad_() on it")
    targets = {t.node for t in inputs}
    found = _propagate(_roots("grad", outputs, grad_outputs), targets, create_graph, retain_graph)
    for i, t in enumerate(inputs):
        if t.node not in found and not allow_unused:
            raise RuntimeError(f"grad: the outputs do not depend on input {i} {t.array.shape}; allow_unused=True gives None")
    return tuple([found[t.node][0] if t.node in found else None for t in inputs])


def backward(
    outputs: Any, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False, inputs: Any = None
) -> None:
    """Add the gradient of `outputs` to `.grad` of every leaf they depend on (or of `inputs` alone)."""
    targets = None if inputs is None else {t.node for t in _as_tuple(inputs)}
    for node, (g, owned) in _propagate(_roots("backward", outputs, gradient), targets, create_graph, retain_graph).items():
        tensor = node.tensor() if type(node) is Leaf else None
        if tensor is None:
            continue
        if create_graph:
            tensor.grad = g if tensor.grad is None else add(tensor.grad, g)
        elif tensor.grad is not None:
            tensor.grad.array += g.array
        else:  # a gradient handed through unchanged may be shared with another leaf, or be a view
            tensor.grad = g if owned else Tensor(g.array.copy(), None, g.device)


# The few ops that the tape itself needs.


@op
def add(k, x, y):
    """x + y, broadcast."""
    return k.xp.add(x, y)


add.vjp("x")(lambda g: g)
add.vjp("y")(lambda g: g)


@op(view=True)
def identity(k, x):
    """x itself, under a node of its own."""
    return x


identity.vjp("x")(lambda g: g)


@op
def sum_to(k, x, *, shape):
    """The sum of x over all axes along which `shape` was broadcast to x's shape: the adjoint of `expand`."""
    lead = x.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(i + lead for i, n in enumerate(shape) if n == 1 and x.shape[i + lead] != 1)
    return k.xp.asarray(x.sum(axes, keepdims=True)).reshape(shape)


@op(view=True)
def expand(k, x, *, shape):
    """x broadcast to `shape` (a read-only view): the adjoint of `sum_to`."""
    return k.xp.broadcast_to(x, shape)


sum_to.vjp("x")(lambda g, x_shape: expand(g, shape=x_shape))
expand.vjp("x")(lambda g: g)  # the engine sums to the input's shape
