"""Bytes of results that are alive, after every op.

    with observe.memory_timeline() as m:
        loss.backward()
    m.peak, m.peak_op; print(m)     # the course of it as a row of bars
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..tape import Call
from .observer import Observer, attached, named, tensors


class MemoryTimeline(Observer):
    """Bytes of results that are alive, after every op: `events` [(op, bytes)], `live` now, `peak` and `peak_op`.

    Views share their base's memory and count once. Parameters, data and arrays made outside ops are not included.
    """

    def __init__(self) -> None:
        self.live, self.peak, self.peak_op = 0, 0, ""
        self.events: list[tuple[str, int]] = []
        self._alive: dict[int, weakref.ref] = {}

    def after(self, call: Call) -> None:
        """Adds the arrays that are new."""
        known = {id(base_of(t.array)) for t in tensors(call.inputs)}
        for t in tensors(call.output):
            base = base_of(t.array)
            if id(base) not in known and id(base) not in self._alive:
                self._watch(base)
        self.events.append((named(call), self.live))
        if self.live > self.peak:
            self.peak, self.peak_op = self.live, named(call)

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
        peak = f"peak {in_bytes(self.peak)} after {self.peak_op or 'none'}"
        return f"[{bars}] {len(self.events)} ops, {peak}, now {in_bytes(self.live)}"


def base_of(array: Any) -> Any:
    """The array that owns the memory of a view."""
    while isinstance(getattr(array, "base", None), type(array)):
        array = array.base
    return array


def in_bytes(n: float) -> str:
    """A size as people write it: 1.2 kB."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000 or unit == "GB":
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    raise AssertionError


@contextmanager
def memory_timeline() -> Iterator[MemoryTimeline]:
    """Context manager that gives a MemoryTimeline of the results of the ops run inside."""
    with attached(MemoryTimeline()) as timeline:
        yield timeline
