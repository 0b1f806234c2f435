"""Calls and seconds of every op, every fused VJP and every kernel.

    with observe.profile() as p:
        loss.backward()
    print(p)
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..backends import KERNEL_NAMES, Device
from ..backends import device as get_device
from ..tape import Call
from .flops import nominal_flops
from .observer import Observer, attached, named


class Profile(Observer):
    """Calls and seconds per op and per kernel. `print(profile)` is the table; `ops` and `kernels` hold the numbers.

    `ops[name]` and `kernels[name]` are [calls, seconds, flops]; `seconds` is the time from entering to leaving the
    block. A fused op's derivative is the row "name vjp". What no op accounts for (Python between the ops, optimizer
    steps) is the line "between ops".
    """

    def __init__(self, table: Any) -> None:
        self.ops: dict[str, list] = {}
        self.kernels: dict[str, list] = {}
        self.seconds = 0.0
        self._table, self._started = table, 0.0

    def before(self, call: Call) -> None:
        """Looks at the clock: ops do not run inside one another."""
        self._started = time.perf_counter()

    def after(self, call: Call) -> None:
        """Adds what the op took."""
        _wait(self._table)
        seconds = time.perf_counter() - self._started
        if call.output is not None:
            self.add(self.ops, named(call), seconds, nominal_flops(call) or 0)

    def add(self, table: dict[str, list], name: str, seconds: float, flops: int = 0) -> None:
        """Adds one call to a row of `ops` or `kernels`."""
        row = table.setdefault(name, [0, 0.0, 0])
        row[0] += 1
        row[1] += seconds
        row[2] += flops

    def __str__(self) -> str:
        spent = sum(row[1] for row in self.ops.values())
        ops = self._lines("op", self.ops)
        ops.append(f"{'between ops':<26}{'':>8}{1e3 * (self.seconds - spent):>12.3f}")
        ops.append(f"{'total':<26}{'':>8}{1e3 * self.seconds:>12.3f}\n")
        return "\n".join([*ops, *self._lines("kernel", self.kernels)])

    def _lines(self, title: str, table: dict[str, list]) -> list[str]:
        lines = [f"{title:<26}{'calls':>8}{'ms':>12}{'us/call':>12}{'share':>8}{'GFLOP/s':>10}"]
        for name, (calls, seconds, flops) in sorted(table.items(), key=lambda item: -item[1][1]):
            share = f"{seconds / self.seconds:.0%}" if self.seconds else ""
            rate = f"{flops / seconds / 1e9:.1f}" if flops and seconds else ""
            each = 1e6 * seconds / calls
            lines.append(f"{name:<26}{calls:>8}{1e3 * seconds:>12.3f}{each:>12.1f}{share:>8}{rate:>10}")
        return lines


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
            self._profile.add(self._profile.kernels, name, time.perf_counter() - start)
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

    The device's kernel table is replaced by one that measures. On a GPU each op is waited for: the times are true, and
    the overlap of host and device is lost.
    """
    place = get_device(device)
    table = place.kernels
    result = Profile(table)
    place.kernels = _TimedKernels(table, result)
    start = time.perf_counter()
    try:
        with attached(result):
            yield result
    finally:
        result.seconds = time.perf_counter() - start
        place.kernels = table
