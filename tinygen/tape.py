"""Reverse-mode differentiation: the whole idea in one file.

A tensor is an array plus the node that produced it. An `Op` is a function on arrays; for each
argument it has at most one vector-Jacobian product (VJP): a function of tensors, written with ops,
so the derivative of a derivative needs no further code. For y = f(x) and a scalar L the VJP of x
maps g = dL/dy to dL/dx. `grad` walks the nodes from the outputs back, in order of decreasing rank
(a node's rank is one more than its parents'), so each is visited once, when its g is complete.

What the tape keeps is read off a VJP's parameter names: `g` the incoming gradient, `out` the
result, an argument's name its tensor, `x_shape` the shape of x alone, an attribute's name its
value. Broadcasting is undone here, once (`sum_to`). Deliberately absent: lazy evaluation, in-place
operations on recorded values, hooks, gradients stored on intermediate tensors.
"""

from __future__ import annotations

import heapq
import inspect
import itertools
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from types import MethodType
from typing import Any, NamedTuple

import numpy as np

from . import memory
from .backends import Device, home
from .backends.arrays import promoted
from .errors import named
from .keywords import positional
from .recording import enable_grad, thread
from .surface import Surface

observers: list[tuple[int, Any]] = []  # (thread, told of each of its Calls: before(call), after(call))


class Tensor(Surface):
    """An n-dimensional array that remembers how it was computed.

    `array` is the raw NumPy or CuPy array, `node` the tape node that made it (None for a constant,
    a `Leaf` where gradients end), `grad` what `backward()` accumulated into a leaf. What users
    touch is attached in tensor.py.
    """

    __slots__ = ("__weakref__", "_version", "array", "device", "grad", "name", "node")

    def __init__(self, array: Any, node: Any = None, device: Device | None = None) -> None:
        self.array, self.device = (array, device) if device else home(array)
        self.node, self.grad, self.name = node, None, None
        # One cell for all views of the memory: how often it was changed in place, then the views.
        self._version: list[Any] = [0]


class Call:
    """What observers see: an op applied to `inputs`, or a node's fused VJP applied to its g.

    `derivative` tells the two apart, `within` is the node whose VJPs are running (None: forward).
    `before` finds no output yet; `after` finds what the op returned and recorded, or a tuple of
    gradients, None where the composite is differentiated instead. It is not called after an error.
    """

    __slots__ = "attributes derivative inputs node op output within".split()

    def __init__(self, op: Op, inputs: tuple, attributes: dict, node: Any = None) -> None:
        self.op, self.inputs, self.attributes = op, inputs, attributes
        self.node, self.derivative = node, node is not None
        self.output: Any = None
        self.within = thread.within
        for observer in _observing():
            observer.before(self)

    def done(self, output: Any, node: Any) -> None:
        """Tells the observers what came of it."""
        self.output, self.node = output, node
        for observer in _observing():
            observer.after(self)


def _observing() -> list:
    """This thread's observers."""
    thread = threading.get_ident()
    return [observer for owner, observer in tuple(observers) if owner == thread]


class Op:
    """A differentiable function: `forward(k, *arrays, **attributes)` on arrays, plus its VJPs.

    `k` is the kernel table of the inputs' device. Positional arguments are tensors or Python
    scalars (which are constants); keyword-only arguments are static attributes. A forward that
    returns a tuple makes an op with several outputs: its VJP receives a tuple of g, None where an
    output was not used. A forward with `*xs` has one VJP, which returns a list. With a `composite`
    the op is fused: the composite is the same function made of plain ops, differentiated whenever
    the fast VJP does not apply. `view`: the result shares the first input's memory. `residuals`:
    the forward returns (out, residuals) and so does a call; the second are raw arrays (or None),
    for a fast VJP, which may read `residuals`, or for the caller.
    """

    def __init__(
        self, forward: Callable, view: bool = False, composite: Any = None, residuals: bool = False
    ) -> None:
        self.forward = forward
        self.view, self.composite, self.residuals = view, composite, residuals
        self.name = self.__name__ = forward.__name__.lstrip("_")
        self.__doc__ = forward.__doc__
        parameters = list(inspect.signature(forward).parameters.values())[1:]
        self.args = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
        self.attributes = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        self.named = frozenset(self.attributes)
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self.rules: dict[str, tuple[Callable, list[str]]] = {}
        self.fast: tuple[Callable, list[str]] | None = None
        self.outer: tuple[Callable, list[str]] | None = None

    def __get__(self, instance: Any, owner: Any = None) -> Any:  # assigned to a class: a method
        return self if instance is None else MethodType(self, instance)

    def vjp(self, arg: str) -> Callable:
        """Decorator: `rule(g, ...)` is the derivative by `arg`; its parameters say what is kept."""

        def register(rule: Callable) -> Callable:
            reads = list(inspect.signature(rule).parameters)[1:]
            shapes = {f"{a}_shape" for a in self.args}
            legal = {"out", *self.args, *shapes, *self.attributes}
            if arg not in self.args or not legal.issuperset(reads):
                raise TypeError(f"{self.name}: VJP of {arg} reads {reads}; it may {sorted(legal)}")
            self.rules[arg] = (rule, reads)
            return rule

        return register

    def outer_vjp(self, inner: Op) -> Callable:
        """Decorator of an op a(inner(...)): `rule(g, ...)` is a's VJP, inner's own do the rest."""

        def register(rule: Callable) -> Callable:
            self.rules = inner.rules
            self.outer = (rule, list(inspect.signature(rule).parameters)[1:])
            return rule

        return register

    def fused_vjp(self, rule: Callable) -> Callable:
        """Decorator: `rule(k, g, ...)` on arrays returns the gradients of all arguments at once.

        It may read `residuals` and `wanted`: the arguments whose gradients are needed, by position.
        It may return NotImplemented; then, as whenever backward is itself recorded, the composite
        is differentiated.
        """
        self.fast = (rule, list(inspect.signature(rule).parameters)[2:])
        return rule

    def __call__(self, *inputs: Any, **attributes: Any) -> Any:
        if attributes and not self.named.issuperset(attributes):
            inputs, attributes = positional(self, inputs, attributes)
        call = Call(self, inputs, attributes) if observers else None
        arrays: list[Any] = []
        linked: tuple[int, ...] = ()  # the inputs that are on the tape
        device = dtype = None
        for t in inputs:
            if isinstance(t, Tensor):
                array = t.array
                if device is None:
                    device, dtype = t.device, array.dtype
                elif array.dtype is not dtype or t.device is not device:
                    dtype = None  # mixed
                if t.node is not None:
                    linked += (len(arrays),)
                arrays.append(array)
            elif t is None or type(t) in (int, float, bool):
                arrays.append(t)
            elif isinstance(t, np.generic):  # would impose its dtype; a Python scalar does not
                arrays.append(t.item())
            else:
                what = f"argument {len(arrays) + 1} is a {type(t).__name__}"
                raise TypeError(f"{self.name}: {what}; wrap it in tensor()")
        if device is None:
            raise TypeError(f"{self.name}: no argument is a tensor; pass tensor(...) of one")
        if dtype is None or dtype.kind != "f":
            inputs = self._reconcile(inputs, arrays)
        forward, kernels = self.forward, device.kernels
        try:
            match arrays:  # spelled out, since CPython 3.11 needs 0.15 us more for a call with stars
                case [x] if not attributes:
                    out = forward(kernels, x)
                case [x, y] if not attributes:
                    out = forward(kernels, x, y)
                case _:
                    out = forward(kernels, *arrays, **attributes)
        except (ValueError, OverflowError) as error:  # NumPy's words do not name the op
            raise named(self.name, error) from error
        residuals = None
        if self.residuals:
            out, residuals = out
        plan = _plan(self, linked) if linked and thread.recording else None
        node = Node(self, plan, inputs, attributes, out, residuals, device) if plan else None
        if type(out) is tuple:
            result: Any = _tensors(out, node, device)
        else:
            out = np.asarray(out) if isinstance(out, np.generic) else out
            result = Tensor(out, node, device)
            if self.view:
                memory.share(inputs[0], result)
        if call is not None:
            call.done(result, node)
        return (result, residuals) if self.residuals else result

    def _reconcile(self, inputs: tuple, arrays: list) -> tuple:
        """Converts integers and 0-d arrays to the dtype beside them; other mixtures raise."""
        tensors = [t for t in inputs if isinstance(t, Tensor)]
        if len({t.device.name for t in tensors}) > 1:
            places = ", ".join(f"{t.array.shape} on {t.device}" for t in tensors)
            raise RuntimeError(f"{self.name}: mixed devices ({places}); move one with .to(...)")
        dtype = promoted(self.name, arrays)
        if dtype is not None:
            replaced = list(inputs)
            for i, a in enumerate(arrays):
                source = getattr(a, "dtype", dtype)
                if source.kind == "f" and source != dtype:  # its gradient keeps this dtype
                    replaced[i] = convert(inputs[i], dtype=dtype, source=source)
                if source != dtype:
                    arrays[i] = a.astype(dtype)
            inputs = tuple(replaced)
        return inputs


def op(forward: Callable | None = None, **options: Any) -> Any:
    """Decorator that makes an `Op` of a function on arrays; options as there."""
    return Op(forward, **options) if forward is not None else lambda f: Op(f, **options)


@cache
def _plan(op: Op, linked: tuple[int, ...]) -> tuple[list[int], list, list, set[str]] | None:
    """What recording takes if these inputs are on the tape; None if no gradient can pass.

    The inputs that want gradients, the VJPs to call, [(name, index, shape only)] to keep, and
    which of the results.
    """
    wanted = [i for i in linked if op.composite or op.variadic or op.args[i] in op.rules]
    if not wanted:
        return None
    rules = [op.rules[op.args[0 if op.variadic else i]] for i in wanted if not op.composite]
    every = [*rules, *filter(None, (op.fast, op.outer))]
    reads = {name for _, names in every for name in names}
    reads.update(op.args if op.composite else ())
    keeps = [(a, i, False) for i, a in enumerate(op.args) if a in reads]
    keeps += [(f"{a}_shape", i, True) for i, a in enumerate(op.args) if f"{a}_shape" in reads]
    return wanted, rules, keeps, reads & {"out", "residuals"}


def _tensors(arrays: tuple, node: Node | None, device: Device) -> tuple[Tensor, ...]:
    """The results of an op with several outputs."""
    return tuple([Tensor(a, node and Output(node, i), device) for i, a in enumerate(arrays)])  # type: ignore


def _kept(value: Any) -> tuple[Any, Any]:
    """A value that a node keeps, and of a tensor its state now: it may be changed or rebound."""
    if isinstance(value, Tensor):
        cell = value._version
        return value, (cell, cell[0], value.array, value.node)
    return (value, [_kept(v) for v in value]) if type(value) is tuple else (value, None)


class Leaf:
    """Where gradients end: a parameter's node. It knows its tensor weakly: no cycle, no garbage."""

    __slots__ = ("rank", "tensor")
    parents = ()

    def __init__(self, tensor: Tensor) -> None:
        self.rank, self.tensor = 0, weakref.ref(tensor)


class Output(NamedTuple):
    """One of several outputs of a node; made anew for a VJP that reads `out`, it is equal."""

    node: Node
    index: int  # type: ignore
    rank = property(lambda self: self.node.rank + 1)  # type: ignore
    parents = property(lambda self: (self.node,))  # type: ignore


class Node:
    """One recorded application of an op: its parents, and what its VJPs asked to keep.

    It never refers to its own output tensor, so a graph is freed by reference counts alone.
    """

    __slots__ = "attributes count device op out parents rank rules saved shapes site wanted".split()

    def __init__(
        self, op: Op, plan: Any, inputs: Any, attributes: dict,
        out: Any, residuals: Any, device: Device,
    ) -> None:  # fmt: skip
        self.op, self.attributes, self.device = op, attributes, device
        self.wanted, self.rules, keeps, keeps_of_results = plan
        self.parents, self.shapes, rank = [], [], 0
        for i in self.wanted:
            node = inputs[i].node
            self.parents.append(node)
            self.shapes.append(inputs[i].array.shape)
            if node.rank > rank:  # max() takes three times as long
                rank = node.rank
        self.rank = rank + 1
        self.count = len(out) if type(out) is tuple else 0
        self.out: Any = out if "out" in keeps_of_results else None
        self.saved: Any = {}  # name: (value, its state now)
        for name, index, shape_only in keeps:
            value = inputs if op.variadic else inputs[index] if index < len(inputs) else None
            if shape_only:
                value = tuple(map(_shape, inputs)) if op.variadic else _shape(value)
            self.saved[name] = _kept(value)
        if "residuals" in keeps_of_results:
            self.saved["residuals"] = (residuals, None)

    def _value(self, name: str) -> Any:
        """What a VJP's parameter `name` stands for; raises if it was changed since the forward."""
        if name in self.saved:
            value, state = self.saved[name]
            if isinstance(value, Tensor) and value._version is state[0] and state[0][0] == state[1]:
                return value
            return value if state is None else self._as_it_was(name, value, state)
        if name == "out":
            return (_tensors if self.count else Tensor)(self.out, self, self.device)
        return self.attributes.get(name, self.op.attributes[name])

    def _as_it_was(self, name: str, value: Any, state: Any) -> Any:
        if type(value) is tuple:
            every = [v if s is None else self._as_it_was(name, v, s) for v, s in state]
            return tuple(every)
        cell, version, array, node = state
        if cell[0] != version:
            name = getattr(value, "name", None) or name
            why = f"its input '{name}' {_shape(value) or ''} was changed in place since"
            remedy = "call backward() before optimizer.step(), or compute the loss again"
            raise RuntimeError(f"{self.op.name}: {why} the forward pass; {remedy}")
        if value._version is cell:
            return value
        value = Tensor(array, node, self.device)  # the tensor stands for another result by now
        value._version = cell
        return value

    def _call(self, vjp: tuple[Callable, list[str]], g: Any) -> Any:
        rule, reads = vjp
        if len(reads) == 1:
            return rule(g, self._value(reads[0]))
        return rule(g, *[self._value(name) for name in reads])

    def pull(self, g: Any, needed: Any) -> Iterator[tuple[Any, Tensor]]:
        """Pairs (parent, gradient) for g, the output's (or outputs'); of `needed` parents only."""
        if self.saved is None:
            why = "this part of the graph was freed by an earlier backward"
            raise RuntimeError(f"{self.op.name}: {why}; pass retain_graph=True to that one")
        op = self.op
        whole: Any = None  # {input: gradient}, where one function computes them all
        if op.composite:
            whole = self._pull_fused(g, needed)
        elif op.variadic:
            whole = self._call(self.rules[0], g)
        elif op.outer:
            g = self._call(op.outer, g)
        for i, parent in enumerate(self.parents):
            if needed is None or parent in needed:
                h = self._call(self.rules[i], g) if whole is None else whole[self.wanted[i]]
                if h is None:
                    continue
                shape = self.shapes[i]
                yield parent, h if h.array.shape == shape else sum_to(h, shape=shape)

    def _pull_fused(self, g: Any, needed: Any) -> Any:
        """A fused op's gradients: by its fast VJP or, if backward is recorded, its composite."""
        op, create_graph = self.op, thread.recording
        pairs = zip(self.wanted, self.parents, strict=True)
        wanted = [i for i, parent in pairs if needed is None or parent in needed]
        if op.fast and not create_graph:
            rule, reads = op.fast
            call = Call(op, _as_tuple(g), self.attributes, self) if observers else None
            values = [wanted if r == "wanted" else _arrays(self._value(r)) for r in reads]
            every = rule(self.device.kernels, _arrays(g), *values)
            if every is not NotImplemented:
                every = [h if h is None else Tensor(h, None, self.device) for h in _as_tuple(every)]
            if call is not None:
                call.done(None if every is NotImplemented else tuple(every), self)
            if every is not NotImplemented:
                return every
        # Through fresh identity nodes: inputs that depend on each other would be counted twice.
        inputs = [self._value(a) for a in op.args]
        with enable_grad():
            for i in self.wanted:
                constant = Tensor(inputs[i].array, None, self.device)
                recorded = create_graph and inputs[i].node  # None: frozen since the forward pass
                inputs[i] = identity(inputs[i]) if recorded else leaf(constant)
            outputs = _as_tuple(op.composite(*inputs, **self.attributes))
        pairs = zip(outputs, _as_tuple(g), strict=True)
        used = [pair for pair in pairs if pair[1] is not None]
        ends, seeds = zip(*used, strict=True)
        every = grad(ends, [inputs[i] for i in wanted], seeds, create_graph, None, True)
        return dict(zip(wanted, every, strict=True))


def _shape(value: Any) -> tuple:
    return value.array.shape if isinstance(value, Tensor) else ()


def _arrays(value: Any) -> Any:
    return tuple(map(_arrays, value)) if type(value) is tuple else getattr(value, "array", value)


def _as_tuple(value: Any) -> tuple:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def leaf(tensor: Tensor) -> Tensor:
    """The same tensor, made a place where gradients end."""
    tensor.node = Leaf(tensor)
    return tensor


def _leading_to(targets: set, roots: Iterable) -> set:
    """The nodes on a path from a root back to a target: all that their gradients must visit."""
    lowest = min(t.rank for t in targets)
    seen, stack = set(), list(roots)
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack.extend(p for p in node.parents if p.rank >= lowest)
    needed = set(targets)
    for node in sorted(seen, key=lambda n: n.rank):
        if not needed.isdisjoint(node.parents):
            needed.add(node)
    return needed


@contextmanager
def _differentiation(recorded: bool) -> Iterator[None]:
    """Recording or not, as in `set_grad_enabled`; and afterwards all as it was before."""
    previous, thread.recording = (thread.recording, thread.within), recorded
    try:
        yield
    finally:
        thread.recording, thread.within = previous
        memory.scratch.spare[0] = None


def _propagate(roots: list, targets: set | None, create_graph: bool, retain: bool | None) -> dict:
    """Gradients {node: (tensor, owned)} of the targets (or of all leaves), from (node, g) roots.

    `owned` says that the array was allocated here and nothing else refers to it.
    """
    gradients: dict[Any, Any] = {}
    heap: list[tuple[int, int, Any]] = []  # (-rank, arrival, node): sums in a reproducible order
    needed = None if targets is None else _leading_to(targets, {node for node, _ in roots})
    arrival, spare = itertools.count(), memory.scratch.spare
    free = not (create_graph if retain is None else retain)

    def receive(node: Any, g: Any) -> None:
        held = gradients.get(node)
        if held is None:
            gradients[node] = (g, False)
            if type(node) is not Leaf:
                heapq.heappush(heap, (-node.rank, next(arrival), node))
        elif create_graph or not held[1]:
            gradients[node] = (add(held[0], g), True)
        else:  # the sum is this call's own: accumulate in place
            g.device.kernels.xp.add(held[0].array, g.array, out=held[0].array)

    with _differentiation(create_graph):
        for node, g in roots:
            if needed is None or node in needed:
                receive(node, g)
        while heap:
            node = heapq.heappop(heap)[2]
            keep = targets and node in targets
            g = (gradients[node] if keep else gradients.pop(node))[0]
            if type(node) is Output:
                producer = node.parents[0]
                if producer not in gradients:
                    receive(producer, [None] * producer.count)
                gradients[producer][0][node.index] = g
                continue
            first = g[0] if node.count else g
            sole = first is not None and not create_graph and memory.is_unshared(first)
            spare[0] = first.array if sole else None
            if observers:
                thread.within = node
            for parent, h in node.pull(tuple(g) if node.count else g, needed):
                receive(parent, h)
            h = spare[0] = None
            if free and (node.saved or node.out is not None):  # one that kept nothing stays usable
                node.saved = node.out = None
    return gradients


def _roots(name: str, outputs: Any, grad_outputs: Any) -> list[tuple[Any, Tensor]]:
    """Pairs (node, gradient) to start from, checked; the gradient of a scalar is one."""
    outputs, roots = _as_tuple(outputs), []
    seeds = [None] * len(outputs) if grad_outputs is None else _as_tuple(grad_outputs)
    if len(seeds) != len(outputs):
        raise ValueError(f"{name}: {len(outputs)} outputs but {len(seeds)} grad_outputs")
    for output, seed in zip(outputs, seeds, strict=True):
        array = output.array
        if output.node is None:
            why = "does not depend on anything that requires grad (no_grad? detached? frozen?)"
            raise RuntimeError(f"{name}: the output {array.shape} {why}")
        if seed is None:
            if array.size != 1:
                raise RuntimeError(f"{name}: output {array.shape} is no scalar; pass its gradient")
            ones = output.device.kernels.xp.ones(array.shape, array.dtype)
            seed = Tensor(ones, None, output.device)
        elif seed.array.shape != array.shape or seed.array.dtype != array.dtype:
            given, wants = [f"{a.shape} {a.dtype}" for a in (seed.array, array)]
            raise ValueError(f"{name}: a gradient {given} was given for an output {wants}")
        roots.append((output.node, seed))
    return roots


def grad(
    outputs: Any, inputs: Any, grad_outputs: Any = None, create_graph: bool = False,
    retain_graph: bool | None = None, allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """The gradients of `outputs` (weighted by `grad_outputs`) with respect to `inputs`, a tuple.

    Only the paths between the two are visited. With `create_graph` the result is itself
    differentiable. The graph is freed unless `retain_graph` (default: `create_graph`). An input
    that the outputs do not depend on raises RuntimeError, or gives None with `allow_unused`.
    """
    inputs = _as_tuple(inputs)
    for i, t in enumerate(inputs):
        if t.node is None:
            raise RuntimeError(f"grad: input {i} {_shape(t)} needs requires_grad_() before its use")
    targets = {t.node for t in inputs}
    roots = _roots("grad", outputs, grad_outputs)
    found = _propagate(roots, targets, create_graph, retain_graph)
    for i, t in enumerate(inputs):
        if t.node not in found and not allow_unused:
            reason = f"the outputs do not depend on input {i} {_shape(t)}"
            raise RuntimeError(f"grad: {reason}; allow_unused=True gives None for it")
    return tuple([found[t.node][0] if t.node in found else None for t in inputs])


def backward(
    outputs: Any, gradient: Any = None, retain_graph: bool | None = None,
    create_graph: bool = False, inputs: Any = None,
) -> None:  # fmt: skip
    """Add the gradient of `outputs` to `.grad` of every leaf (or of `inputs` alone).

    As a method, `loss.backward()`, of one scalar, or with `gradient` of sum(outputs * gradient).
    """
    targets = None if inputs is None else {t.node for t in _as_tuple(inputs)}
    roots = _roots("backward", outputs, gradient)
    for node, (g, owned) in _propagate(roots, targets, create_graph, retain_graph).items():
        tensor = node.tensor() if type(node) is Leaf else None
        if tensor is not None and create_graph:
            tensor.grad = g if tensor.grad is None else add(tensor.grad, g)
        elif tensor is not None and tensor.grad is not None:
            tensor.grad.array += g.array
        elif tensor is not None:  # a gradient handed through unchanged may be another leaf's too
            mine = owned or memory.is_unshared(g)
            tensor.grad = g if mine else Tensor(g.array.copy(), None, g.device)


# The few ops that the tape itself needs.


@op
def add(k, x, y):
    """x + y, broadcast."""
    return x + y


@op
def convert(k, x, *, dtype, source):
    """x, whose float type is `source`, in the float type `dtype`."""
    return x.astype(dtype)


@op(view=True)
def identity(k, x):
    """x itself, under a node of its own."""
    return x


@op
def sum_to(k, x, *, shape):
    """The sum of x over all axes along which `shape` was broadcast: the adjoint of `expand`."""
    lead = x.ndim - len(shape)
    repeated = [i for i, n in enumerate(x.shape[lead:], lead) if n != shape[i - lead]]
    axes = (*range(lead), *repeated)
    return k.sum(x, axes).reshape(shape)


@op(view=True)
def expand(k, x, *, shape):
    """x broadcast to `shape` (a read-only view): the adjoint of `sum_to`."""
    return k.xp.broadcast_to(x, shape)


add.vjp("x")(lambda g: g)
add.vjp("y")(lambda g: g)
convert.vjp("x")(lambda g, dtype, source: convert(g, dtype=source, source=dtype))
identity.vjp("x")(lambda g: g)
sum_to.vjp("x")(lambda g, x_shape: expand(g, shape=x_shape))
expand.vjp("x")(lambda g: g)  # the engine sums to the input's shape
