"""Capture: a whole training step as one CUDA graph, recorded once and then replayed without Python.

    step = tg.capture(VAEStep(encoder, decoder, likelihood, latent=20).to("cuda"))
    for batch in batches:
        metrics = step(batch)                    # the third call and later ones are one launch each

Forward, backward, optimizer, random numbers and metrics are recorded as the addresses they work on: batches are copied
into fixed inputs, results lie in fixed memory that the graph owns. What changes from step to step lives on the device:
learning rate, count of steps, place in the random sequence. A batch of another shape gets a graph of its own, and so
does another `phase` of the step. Calls 1 (warm-up) and 2 run eagerly; call 2 also records, and compares the graph with
the eager step. So it is again where arrays, options of optimizers, modes or `requires_grad` are others than recorded.

Players at different rates are a Step and a graph each; they share parameters by address. A step's parts are all that it
changes: a generator whose batch norm counts along while the critic learns is a part of the critic's Step too.

Not captured, and refused by name: whatever looks at a value (`.item()`, `if loss > 0`), generators other than the
default one. On the CPU there is nothing to gain, and capture(step) is the step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import tape
from .backends import float32_matmul_precision
from .ops import random
from .optim import LRScheduler, Optimizer
from .tape import Tensor

__all__ = ["CaptureFailed", "capture"]


class CaptureFailed(RuntimeError):
    """The step cannot be captured, or its graph does not compute what the step computes."""


def capture(step: Any, compare: bool = True) -> Any:
    """A function of a batch that does what `step` (a Step, see step.py) does, by replaying a CUDA graph.

    The step's networks say what it changes, its optimizers how; all parameters are on one device. `compare`: hold
    the first replay to an eager step. Raises CaptureFailed, naming the op, where something cannot be captured.
    """
    devices = {t.device for module in step.networks().values() for t in module.parameters()}
    if len(devices) != 1:
        names = ", ".join(sorted(map(str, devices))) or "none"
        raise ValueError(f"capture: the step's parameters should be on one device, they are on {names}")
    (device,) = devices
    return Captured(step, device, compare) if hasattr(device.kernels, "launcher") else step


class Captured:
    """A step and its graphs, one for each shape of batch, precision of products and phase; all else is the step's."""

    def __init__(self, step: Any, device: Any, compare: bool) -> None:
        self.step, self.device, self.compare = step, device, compare
        self.graphs: dict[Any, _Graph | None] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.step, name)

    def __call__(self, batch: Any) -> Any:
        key = _key(batch), float32_matmul_precision(), self.step.phase
        graph = self.graphs.get(key)
        if key not in self.graphs or (graph is not None and not graph.fits()):
            self.graphs[key] = None  # this call compiles, uploads tables, makes the optimizers' arrays
            return self.step(batch)
        if graph is None:
            graph = self.graphs[key] = _Graph(self, batch)
            return graph.first
        return graph.replay(batch)


class _Graph:
    def __init__(self, owner: Captured, batch: Any) -> None:
        self.step, self.device, self.kernels = owner.step, owner.device, owner.device.kernels
        self.generator = random.default_generator
        self.inputs = _map(batch, lambda t: Tensor(t.array.copy(), None, t.device))
        self.base = self.kernels.launcher.upload(np.zeros(1, np.int64))  # blocks of random numbers drawn since capture
        start = self._save()
        with _Schedules(writing=True) as schedules:
            self.first = _map(self.step(batch), _copy)  # eagerly: what the caller gets
        after = self._save()
        schedules.undo()
        self._restore(start)
        self._record()
        self._restore(start)  # the emulator computes while it records
        replayed = self.replay(batch)
        if owner.compare:
            self._hold_to(after, replayed)

    # What a step changes: tensors, flat arrays of optimizers, and numbers on the host that are counted along.

    def _tensors(self) -> dict[str, Tensor]:
        every = {}
        for title, module in self.step.networks().items():
            for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
                every[f"{title}.{name}"] = tensor
        for i, flat in enumerate(self._flats()):
            every |= {f"optimizer {i} parameter {j}": p for j, p in enumerate(flat.params)}
        for name, part in _parts(self.step).items():  # an EMA's averages
            tables = [held for held in vars(part).values() if isinstance(held, dict)]
            if not isinstance(part, Optimizer) and not hasattr(part, "parameters"):
                found = [(k, t) for held in (vars(part), *tables) for k, t in held.items() if isinstance(t, Tensor)]
                every |= {f"{name}.{k}": t for k, t in found}
        return {name: t for t, name in {t: name for name, t in reversed(every.items())}.items()}  # each once

    def _optimizers(self) -> list[Optimizer]:
        return [part for part in _parts(self.step).values() if isinstance(part, Optimizer)]

    def _flats(self) -> list[Any]:
        return [flat for o in self._optimizers() for group in o._flats for flat in group]

    def _save(self) -> dict[str, Any]:
        arrays = {name: (t.array, t.array.copy()) for name, t in self._tensors().items()}
        for i, flat in enumerate(self._flats()):
            for name, array in {**flat.state, "steps": flat.steps}.items():
                arrays[f"optimizer {i} {name}"] = (array, array.copy())
        return {
            "arrays": arrays,
            "counts": [list(flat.counts) for flat in self._flats()],
            "random": self.generator.get_state(),
        }

    def _restore(self, saved: dict[str, Any]) -> None:
        for array, values in saved["arrays"].values():
            array[...] = values
        for flat, counts in zip(self._flats(), saved["counts"], strict=True):
            flat.counts[:] = counts
        self.generator.set_state(saved["random"])

    def _record(self) -> None:
        for optimizer in self._optimizers():
            optimizer.update_rates()  # before, not in the graph
        before, counts = self._tensors(), [list(flat.counts) for flat in self._flats()]
        held = {name: t.array for name, t in before.items()}
        self.identity, (_, _, offset) = self.generator.get_state()[:2], self.generator.get_state()
        self.start, self.kernels.replayed, normal = offset, self.base, self.kernels.replayed

        def run() -> Any:
            metrics = self.step(self.inputs)
            for name, t in before.items():  # a buffer that was replaced, not written to: the next replay reads the old
                if t.array is not held[name]:
                    held[name][...] = t.array
                    t.array = held[name]
            return metrics

        try:
            with _default_generator_only(), _Schedules(writing=False) as schedules:
                self.metrics, self.launch = self.kernels.launcher.capture(run)
        except RuntimeError as error:
            raise CaptureFailed(f"capture: {_op_of(error)}{error}") from error
        finally:
            self.kernels.replayed = normal
        schedules.undo()
        self.earlier, self.later = schedules.order()
        self.blocks = (self.generator.get_state()[2] - self.start) % 2**64
        self.counted = [
            [now - then for now, then in zip(flat.counts, old, strict=True)]
            for flat, old in zip(self._flats(), counts, strict=True)
        ]
        self._remember()

    def _remember(self) -> None:
        """Lists, once, what `fits` compares at each replay: who holds what, and what the graph contains as it was."""
        parts, optimizers, self.flats = _parts(self.step), self._optimizers(), self._flats()
        modules = {m: None for network in self.step.networks().values() for m in network.modules()}
        groups = [group for o in optimizers for group in o.param_groups]
        tables: list[Any] = [group["params"] for group in groups] + [flat.state for flat in self.flats]
        tables += [table for o in optimizers for table in (o.param_groups, o._flats, *o._flats)]
        self.held = [(table, key, value) for table in tables for key, value in _items(table)]
        self.held += [(vars(flat), name, getattr(flat, name)) for flat in self.flats for name in ("steps", "lr")]
        self.held += [(vars(owner), name, part) for owner, name, part in parts.places]
        for m in modules:
            members = {**m._parameters, **m._buffers, **m._modules}
            self.held += [(vars(m), name, member) for name, member in members.items()]
        self.sizes = [(table, len(table)) for table in [*tables, *map(vars, modules)]]
        self.modes = [(module, module.training) for module in modules]
        self.tensors = [(t, t.array, t.node is None) for t in self._tensors().values()]
        self.options = [(group, _baked(group)) for group in groups]
        self.optimizers = optimizers

    def fits(self) -> bool:
        """Whether what was recorded still is: arrays, options, modes, and the random sequence."""
        try:
            return (
                self.generator.get_state()[:2] == self.identity
                and all(len(table) == size for table, size in self.sizes)
                and all(table[key] is value for table, key, value in self.held)
                and all(t.array is a and (t.node is None) is constant for t, a, constant in self.tensors)
                and all(module.training is mode for module, mode in self.modes)
                and all(_baked(group) == options for group, options in self.options)
            )
        except LookupError:  # a name that is gone
            return False

    def replay(self, batch: Any) -> Any:
        _each(self.inputs, batch, lambda old, new: old.array.__setitem__(..., new.array))
        for schedule in self.earlier:
            schedule.step()
        for optimizer in self.optimizers:
            optimizer.update_rates()
        _, _, offset = self.generator.get_state()
        since = (offset - self.start) % 2**64
        self.base.fill(since - 2**64 if since >= 2**63 else since)
        self.launch()
        self.generator.advance(4 * self.blocks)
        for flat, counted in zip(self.flats, self.counted, strict=True):
            for i, more in enumerate(counted):
                flat.counts[i] += more
        for t, _, _ in self.tensors:
            t._version[0] += 1
        for schedule in self.later:
            schedule.step()
        return _map(self.metrics, _copy)  # the next replay writes over them

    def _hold_to(self, after: dict[str, Any], replayed: Any) -> None:
        got = {name: (values, array) for name, (array, values) in after["arrays"].items()}
        _each(self.first, replayed, lambda a, b: got.setdefault(f"result {len(got)}", (a.array, b.array)))
        for name, (want, have) in got.items():
            a, b = (Tensor(x, None, self.device).numpy() for x in (want, have))
            if not np.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True):
                worst = float(np.nanmax(np.abs(a - b)))
                raise CaptureFailed(f"capture: the graph's {name} differs from the eager step's by up to {worst:.3g}")


class _default_generator_only:
    """Inside, a draw from any generator but the default one raises: the graph would draw the same numbers each time."""

    def __enter__(self) -> None:
        self.advance = advance = random.Generator.advance

        def checked(generator: random.Generator, words: int) -> int:
            if generator is not random.default_generator:
                raise RuntimeError(f"{generator} cannot be part of a captured graph; draw from the default generator")
            return advance(generator, words)

        random.Generator.advance = checked  # type: ignore

    def __exit__(self, *_: Any) -> None:
        random.Generator.advance = self.advance  # type: ignore[method-assign]


class _Schedules:
    """Notes, in order, which schedules advance inside and which optimizers read their rates; `undo` turns them back.

    Unless it is `writing`, no rate reaches the device: the graph would write the same one at each replay.
    """

    def __init__(self, writing: bool) -> None:
        self.writing, self.events, self.before = writing, [], {}  # type: ignore[var-annotated]

    def __enter__(self) -> _Schedules:
        self.methods = step, read = LRScheduler.step, Optimizer.update_rates

        def noted_step(schedule: LRScheduler) -> None:
            groups = [(group, group["lr"]) for group in schedule.optimizer.param_groups]
            held = {k: list(v) if isinstance(v, list) else v for k, v in vars(schedule).items()}
            self.before.setdefault(schedule, (held, groups))
            self.events.append(schedule)
            step(schedule)

        def noted_read(optimizer: Optimizer) -> None:
            self.events.append(optimizer)
            if self.writing:
                read(optimizer)

        LRScheduler.step, Optimizer.update_rates = noted_step, noted_read  # type: ignore
        return self

    def __exit__(self, *_: Any) -> None:
        LRScheduler.step, Optimizer.update_rates = self.methods  # type: ignore[method-assign]

    def undo(self) -> None:
        for schedule, (held, groups) in reversed(self.before.items()):
            vars(schedule).update(held)
            for group, rate in groups:
                group["lr"] = rate

    def order(self) -> tuple[list[LRScheduler], list[LRScheduler]]:
        """The schedules that advance before their optimizer reads its rate, and those that do so after it."""
        earlier: list[LRScheduler] = []
        later: list[LRScheduler] = []
        for i, event in enumerate(self.events):
            if isinstance(event, LRScheduler):
                read, reads = event.optimizer in self.events[:i], event.optimizer in self.events[i:]
                if read and reads:
                    raise CaptureFailed("capture: a schedule advances between two steps of its optimizer; one call of "
                                        "the Step should update once at each rate")  # fmt: skip
                (earlier if reads else later).append(event)
        return earlier, later


_NAMED = tuple(f"{__package__}.{part}" for part in ("ops.", "nn.", "tape", "tensor", "optim"))


def _op_of(error: BaseException) -> str:
    """ "name: " of the innermost op, function or method of tinygen's that had been called when the error was raised."""
    name, trace = "", error.__traceback__
    while trace is not None:
        frame, called = trace.tb_frame, trace.tb_frame.f_code.co_name
        local, module = frame.f_locals.get("self"), frame.f_globals.get("__name__", "")
        if isinstance(local, tape.Op):
            name = f"{local.name}: " if called == "__call__" else name
        elif module.startswith(_NAMED) and (called.startswith("__") or called[0] not in "_<"):
            name = f"{called}: "
        trace = trace.tb_next
    return name


class _Parts(dict):
    """{name: part} of a step and of the steps among its parts; `places` says which attribute of whom each is."""

    places: list[tuple[Any, str, Any]]


def _parts(step: Any, prefix: str = "") -> _Parts:
    found = _Parts()
    found.places = [(step, name, part) for name, part in step.parts().items()]
    for _, name, part in found.places[:]:
        if hasattr(part, "parts"):
            inner = _parts(part, f"{prefix}{name}.")
            found |= inner
            found.places += inner.places
        else:
            found[prefix + name] = part
    return found


def _items(table: Any) -> list[tuple[Any, Any]]:
    return list(table.items() if isinstance(table, dict) else enumerate(table))


def _baked(group: dict[str, Any]) -> dict[str, Any]:
    """The options of a group that a graph contains as numbers: all but the rate, which it reads."""
    return {k: v for k, v in group.items() if k not in ("lr", "initial_lr", "params")}


def _copy(t: Tensor) -> Tensor:
    return Tensor(t.array.copy(), None, t.device)


def _map(value: Any, f: Callable[[Tensor], Any]) -> Any:
    """The same nesting of tuples, lists and dicts, with f applied to the tensors."""
    if isinstance(value, Tensor):
        return f(value)
    if isinstance(value, dict):
        return {k: _map(v, f) for k, v in value.items()}
    return type(value)([_map(v, f) for v in value]) if isinstance(value, tuple | list) else value


def _each(a: Any, b: Any, f: Callable[[Tensor, Tensor], Any]) -> None:
    if isinstance(a, Tensor):
        f(a, b)
    elif isinstance(a, dict):
        for k in a:
            _each(a[k], b[k], f)
    elif isinstance(a, tuple | list):
        for x, y in zip(a, b, strict=True):
            _each(x, y, f)


def _key(batch: Any) -> Any:
    """What must be equal for a graph to serve: nesting, shapes, dtypes; and numbers and strings, which are baked in."""
    if isinstance(batch, Tensor):
        return batch.array.shape, batch.array.dtype.str, batch.device.name
    if isinstance(batch, dict):
        return tuple((k, _key(v)) for k, v in batch.items())
    return tuple(_key(v) for v in batch) if isinstance(batch, tuple | list) else batch
