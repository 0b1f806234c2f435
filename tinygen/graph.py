"""Capture: a whole training step as one CUDA graph, recorded once and then replayed without Python.

    step = tg.capture(VAEStep(encoder, decoder, likelihood, latent=20).to("cuda"))
    for batch in batches:
        metrics = step(batch)                    # the third call and later ones are one launch each

Forward, backward, optimizer, random numbers and metrics are recorded as the addresses they work on: batches are copied
into fixed inputs, results lie in fixed memory that the graph owns. What changes from step to step lives on the device:
learning rate, count of steps, place in the random sequence. A batch of another shape gets a graph of its own. Calls 1
(warm-up) and 2 run eagerly; call 2 also records, and compares what the graph computes with what the eager step did.

Players at different rates are a Step and a graph each; they share parameters by address. A step's parts are all that it
changes: a generator whose batch norm counts along while the critic learns is a part of the critic's Step too.

Not captured, and refused by name: whatever looks at a value (`.item()`, `if loss > 0`), generators other than the
default one. On the CPU there is nothing to gain, and capture(step) is the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import tape
from .backends import float32_matmul_precision
from .ops import random
from .optim import Optimizer
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
    """A step and its graphs, one for each shape of batch and precision of products; all else is the step's."""

    def __init__(self, step: Any, device: Any, compare: bool) -> None:
        self.step, self.device, self.compare = step, device, compare
        self.graphs: dict[Any, _Graph | None] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.step, name)

    def __call__(self, batch: Any) -> Any:
        key = _key(batch), float32_matmul_precision()
        if key not in self.graphs:
            self.graphs[key] = None  # the first call compiles, uploads tables, makes the optimizers' arrays
            return self.step(batch)
        graph = self.graphs[key]
        if graph is None or not graph.fits():
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
        self.first = _map(self.step(batch), _copy)  # eagerly: what the caller gets
        after = self._save()
        self._restore(start)
        self._record()
        self._restore(start)  # the emulator computes while it records
        replayed = self.replay(batch)
        if owner.compare:
            self._hold_to(after, replayed)

    # What a step changes: tensors, flat arrays of optimizers, and numbers on the host that are counted along.

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for title, module in self.step.networks().items():
            for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
                yield f"{title}.{name}", tensor

    def _optimizers(self) -> list[Optimizer]:
        return [part for part in self.step.parts().values() if isinstance(part, Optimizer)]

    def _flats(self) -> list[Any]:
        return [flat for o in self._optimizers() for group in o._flats for flat in group]

    def _save(self) -> dict[str, Any]:
        arrays = {name: (t.array, t.array.copy()) for name, t in self._tensors()}
        for i, flat in enumerate(self._flats()):
            params = {f"parameter {j}": p.array for j, p in enumerate(flat.params)}
            for name, array in {**flat.state, **params, "steps": flat.steps}.items():
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
        before, counts = dict(self._tensors()), [list(flat.counts) for flat in self._flats()]
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
            with _default_generator_only():
                self.metrics, self.launch = self.kernels.launcher.capture(run)
        except RuntimeError as error:
            raise CaptureFailed(f"capture: {_op_of(error)}{error}") from error
        finally:
            self.kernels.replayed = normal
        self.blocks = (self.generator.get_state()[2] - self.start) % 2**64
        self.counted = [
            [now - then for now, then in zip(flat.counts, old, strict=True)]
            for flat, old in zip(self._flats(), counts, strict=True)
        ]
        self.arrays = {name: t.array for name, t in self._tensors()}

    def fits(self) -> bool:
        """Whether what was recorded still is: the tensors lie where they lay, the random sequence is the same."""
        return self.generator.get_state()[:2] == self.identity and all(
            t.array is self.arrays.get(name) for name, t in self._tensors()
        )

    def replay(self, batch: Any) -> Any:
        _each(self.inputs, batch, lambda old, new: old.array.__setitem__(..., new.array))
        for optimizer in self._optimizers():
            optimizer.update_rates()
        _, _, offset = self.generator.get_state()
        since = (offset - self.start) % 2**64
        self.base.fill(since - 2**64 if since >= 2**63 else since)
        self.launch()
        self.generator.advance(4 * self.blocks)
        for flat, counted in zip(self._flats(), self.counted, strict=True):
            for i, more in enumerate(counted):
                flat.counts[i] += more
        for _, t in self._tensors():
            t._version[0] += 1
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
