"""What runs kernels: `Launcher` says what the table asks of it, `CupyLauncher` is the one for a GPU.

CuPy compiles a file by NVRTC at the first launch of one of its kernels, launches kernels, and records graphs. The other
launcher is the emulator (emulated.py). CuPy's module is handed in: nothing here imports it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, Protocol

import numpy as np

from ..arrays import Array
from ..geometry import Shape
from .sources import OPTIONS, kernel_files, source


class Launcher(Protocol):
    """What runs kernels: CuPy or the emulator."""

    processors: int  # multiprocessors of the GPU: how many blocks keep it busy
    tensor_cores: bool  # with tf32 and bf16

    def launch(self, kernel: str, double: bool, blocks: int, threads: int, arguments: tuple) -> None: ...
    def upload(self, array: np.ndarray) -> Array: ...  # a constant, to the device
    def empty(self, shape: Shape, dtype: Any) -> Array: ...  # where a kernel writes its result
    def capture(self, function: Callable) -> tuple[Any, Callable]: ...  # its result, and what launches it again


class CupyLauncher:
    """Compiles a .cu file once per number type, at the first launch of one of its kernels."""

    def __init__(self, cupy: Any) -> None:
        self.cupy = cupy
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        self.processors = properties["multiProcessorCount"]
        self.tensor_cores = properties["major"] >= 8
        self.empty = cupy.empty
        self._left: list[Any] = []  # the memory of graphs that are gone
        self._module = cache(self._compile)
        self._function = cache(lambda kernel, double: self._module(kernel_files()[kernel], double).get_function(kernel))

    def _compile(self, file: str, double: bool) -> Any:
        return self.cupy.RawModule(code=source(file), options=OPTIONS + (("-DDOUBLE",) if double else ()))

    def launch(self, kernel: str, double: bool, blocks: int, threads: int, arguments: tuple) -> None:
        self._function(kernel, double)((blocks,), (threads,), tuple(0 if a is None else a for a in arguments))

    def upload(self, array: np.ndarray) -> Array:
        return self.cupy.asarray(array)

    def capture(self, function: Callable) -> tuple[Any, Callable]:
        """The work of function() as a CUDA graph with memory of its own, launched on the then current stream."""
        cupy = self.cupy
        self._give_back()
        stream, pool = cupy.cuda.Stream(non_blocking=True), cupy.cuda.MemoryPool()
        with cupy.cuda.using_allocator(pool.malloc), stream:
            stream.begin_capture()
            try:
                result = function()
            except BaseException:
                with suppress(Exception):  # the capture is already invalid: its own error says less than this one
                    stream.end_capture()
                self._left.append(pool)
                raise
            graph = stream.end_capture()
        graph.upload(cupy.cuda.get_current_stream())

        def launch() -> None:
            graph.launch(cupy.cuda.get_current_stream())

        weakref.finalize(launch, self._left.append, pool).atexit = False  # the memory lives as long as the graph
        return result, launch

    def _give_back(self) -> None:
        """The memory of graphs that are gone goes to the driver; a pool of CuPy's that is dropped keeps its blocks.

        Arrays from there, such as gradients, may live on: their blocks wait for a later call.
        """
        for pool in self._left:
            pool.free_all_blocks()
        self._left[:] = [pool for pool in self._left if pool.total_bytes()]
