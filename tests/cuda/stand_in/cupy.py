"""In CuPy's place: the part of CuPy that tinygen uses, on the emulator (tinygen/backends/cuda/emulated.py).

With this folder first on Python's path, device "cuda" runs as on a GPU, from the text of a kernel file to the launch of
a graph, on a machine without one: `benchmarks.gpu_check --rehearse`. A kernel's arguments are taken as CuPy takes them
(its function.pyx): an int fills 64 bits, a float 64, and None would be no argument at all.
"""

import hashlib
import tempfile
import time
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tinygen.backends.cuda import device_array, emulated

__version__ = "(a stand-in)"
_numpy = device_array.Namespace()


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(_numpy, name)


class RawModule:
    def __init__(self, code: str, options: tuple[str, ...] = ()) -> None:
        self.code, self.options = code, options

    @cache  # noqa: B019
    def _library(self) -> emulated.Library:
        folder = Path(tempfile.gettempdir()) / "tinygen-stand-in"
        folder.mkdir(exist_ok=True)
        path = folder / f"{hashlib.sha256(self.code.encode()).hexdigest()[:20]}.cu"
        path.write_text(f'#include "cudacpu.h"\n{self.code}')
        return emulated.Library(path, "-DDOUBLE" in self.options)

    def get_function(self, name: str) -> Any:
        kernel = self._library()[name]

        def launch(grid: tuple[int, ...], block: tuple[int, ...], arguments: tuple) -> None:
            assert not any(a is None for a in arguments), f"{name}: CuPy passes no null pointer for None"
            device_array.recorded(lambda: kernel(grid, block, arguments))

        return launch


class CUDARuntimeError(RuntimeError):
    pass


class Device:
    id = 0

    def synchronize(self) -> None:
        device_array.look("synchronize()")


class Event:
    def record(self, stream: Any = None) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        device_array.look("synchronize()")


class Graph:
    def __init__(self, steps: list) -> None:
        self.steps = steps

    def upload(self, stream: Any = None) -> None: ...

    def launch(self, stream: Any = None) -> None:
        assert device_array.tape is None
        for step in self.steps:
            step()


class Stream:
    def __init__(self, non_blocking: bool = False) -> None: ...

    def __enter__(self) -> "Stream":
        _streams.append(self)
        return self

    def __exit__(self, *_: Any) -> None:
        _streams.pop()

    def synchronize(self) -> None:
        device_array.look("synchronize()")

    def begin_capture(self) -> None:
        if len(_streams) == 1:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        device_array.tape = []

    def end_capture(self) -> Graph:
        steps, device_array.tape = device_array.tape, None
        return Graph(steps)


class MemoryPool:
    """As CuPy's: what was allocated is the pool's until free_all_blocks(), and lost if the pool is dropped before."""

    kept = 0  # bytes of all pools

    def __init__(self) -> None:
        self.held = 0

    def malloc(self, size: int) -> None:
        self.held += size
        MemoryPool.kept += size

    def total_bytes(self) -> int:
        return self.held

    def free_all_blocks(self) -> None:
        MemoryPool.kept -= self.held
        self.held = 0


@contextmanager
def _using_allocator(allocator: Any) -> Any:
    allocator(512)
    yield


_streams = [Stream()]
cuda = SimpleNamespace(
    runtime=SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        getDeviceCount=lambda: 1,
        getDeviceProperties=lambda device: {"name": b"stand-in", "multiProcessorCount": 4, "major": 9},
    ),
    Device=Device, Event=Event, Stream=Stream, MemoryPool=MemoryPool, using_allocator=_using_allocator,
    set_allocator=lambda allocator: None, get_current_stream=lambda: _streams[-1],
    get_elapsed_time=lambda begin, end: 1e3 * (end.at - begin.at),
)  # fmt: skip
