"""How much memory is free, and a refusal in words instead of a process that the system kills.

    require(needed, "images (1797, 1, 2000, 2000) uint8", "give a smaller --size")    # TooLarge, a MemoryError
    with limited(): ...          # an array that does not fit raises MemoryError at once

Linux promises memory that it does not have, and ends whoever uses it. `limited` lowers the limit of this process's data
to what is free now, so that NumPy hears of it and names the array. Elsewhere nothing is known, and nothing refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError

CGROUPS = (  # limit and use of a container: version 2, version 1
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
SPARE, SPARE_PER_CORE = 64 << 20, 10 << 20  # bytes that are promised and never used, such as the stacks of threads


class TooLarge(UserError, MemoryError):
    """What needs more memory than is free; the message names array, need, what is free, and the remedy."""


def available() -> int | None:
    """Bytes that this process can still get: of the machine with its swap, and of its container. None: not known."""
    found = []
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        found.append(sum(int(lines[name].split()[0]) for name in ("MemAvailable", "SwapFree")) * 1024)
    except (OSError, ValueError, KeyError):
        pass
    for limit, used in CGROUPS:
        try:
            found.append(max(0, int(Path(limit).read_text()) - int(Path(used).read_text())))
        except (OSError, ValueError):  # no such file, or the word "max"
            continue
    return min(found, default=None)


def require(needed: float, what: str, remedy: str) -> None:
    """Raises TooLarge where `needed` bytes for `what` are more than are free."""
    free = available()
    if free is not None and needed > free:
        raise TooLarge(f"{what}: {size(needed)} of memory are needed, {size(free)} are free; {remedy}")


def size(count: float) -> str:
    """Bytes in words: 3.2 GB."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
    raise AssertionError


@contextmanager
def limited() -> Iterator[None]:
    """Context manager in which this process gets no more memory than is free at its beginning."""
    free, used = available(), _data()
    if free is None or used is None:
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    limit = used + free + SPARE + SPARE_PER_CORE * (os.cpu_count() or 1)
    soft = limit if before[0] == resource.RLIM_INFINITY else min(limit, before[0])
    resource.setrlimit(resource.RLIMIT_DATA, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _data() -> int | None:
    """Bytes of this process that count against the limit of its data."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData"))
    except (OSError, StopIteration):
        return None
