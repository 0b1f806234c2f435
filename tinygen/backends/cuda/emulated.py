"""The CUDA backend without a GPU: the kernels of csrc/cuda compiled by g++ and run on the CPU, thread by thread.

    tg.ones(3, device="cuda-emulated")

Everything but speed and the tensor cores' own instructions is the real thing: the same .cu files, tables and launches,
with NumPy where CuPy would be (device_array.py). csrc/cuda/cudacpu.h makes CUDA's undefined behaviour visible;
`set_seed` shuffles the order of threads and blocks. Kernels are compiled at first use into a cache folder. Settings:
TINYGEN_EMULATED names how ("fast", "debug" for gdb, "address" or "thread" for the sanitizers), TINYGEN_CACHE the
folder, CXX the compiler.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from . import Cuda, device_array
from .device_array import DeviceArray, Namespace, poisoned
from .sources import folder, kernel_files

FLAGS = {
    "fast": ["-O2"],
    "debug": ["-O0", "-g"],
    "address": ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
    "thread": ["-O1", "-g", "-fsanitize=thread"],
}
_WARNINGS = ["-Wall", "-Wextra", "-Wno-unknown-pragmas"]


def _cache_folder() -> Path:
    named = os.environ.get("TINYGEN_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "tinygen"


def compile_library(source: Path, *options: str, kind: str | None = None) -> Path:
    """`source` as a shared library for this machine, compiled unless the cache has it; RuntimeError if g++ objects."""
    compiler = shlex.split(os.environ.get("CXX") or "g++")
    if not shutil.which(compiler[0]):
        raise ImportError(f"the emulated device compiles kernels at run time, and there is no {compiler[0]}")
    # -fno-gnu-unique: the float and the double library of one file define the same names
    flags = ["-std=c++17", "-fPIC", "-shared", "-fno-gnu-unique", f"-I{folder()}", *_WARNINGS]
    flags += [*FLAGS[kind or mode()], *options]
    texts = [p.read_text() for p in (source, *sorted(folder().glob("*.h")))]
    key = hashlib.sha256("\0".join([*compiler, *flags, *texts]).encode()).hexdigest()[:20]
    target = _cache_folder() / "emulated" / f"{source.stem}-{key}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=target.parent, suffix=".part")
        os.close(handle)
        command = [*compiler, *flags, "-x", "c++", str(source), "-o", part]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            os.remove(part)
            raise RuntimeError(f"{shlex.join(command)}\n{done.stderr}")
        os.replace(part, target)  # processes that compile the same thing at once do not meet
    return target


def mode() -> str:
    """How kernels are compiled: TINYGEN_EMULATED, "fast" unless set."""
    name = os.environ.get("TINYGEN_EMULATED") or "fast"
    if name not in FLAGS:
        raise ValueError(f"TINYGEN_EMULATED={name!r}: known are {', '.join(FLAGS)}")
    return name


class _Entry(ctypes.Structure):  # cudacpu::Entry
    _fields_ = [("call", ctypes.c_void_p), ("signature", ctypes.c_char_p), ("threads", ctypes.c_int)]


_Sizes = ctypes.c_uint * 3


@cache  # a class made anew for each launch would be work for the garbage collector
def _pointers(count: int) -> type:
    return ctypes.c_void_p * count


_POINTERS = {"f": "float32", "d": "float64", "i": "int32", "l": "int64", "u": "uint32", "2": "int32", "4": "int32"}


class LaunchError(RuntimeError):
    """What the emulator found wrong with a launch."""


@cache
def _scheduler() -> ctypes.CDLL:
    library = ctypes.CDLL(str(compile_library(folder() / "cudacpu.cpp")), mode=ctypes.RTLD_GLOBAL)
    library.cudacpu_launch.restype = ctypes.c_char_p
    library.cudacpu_seed.argtypes = [ctypes.c_ulonglong]
    return library


class Library:
    """The kernels of one .cu file: `library[name](grid, block, arguments)`, as of a cupy.RawModule."""

    def __init__(self, source: Path, double: bool = False) -> None:
        _scheduler()
        self.library = ctypes.CDLL(str(compile_library(source, *(["-DDOUBLE"] if double else []))))

    def __getitem__(self, name: str) -> Any:
        entry = _Entry.in_dll(self.library, name + "_entry")
        signature = entry.signature.decode()

        def call(grid: tuple, block: tuple, arguments: tuple) -> None:
            if len(arguments) != len(signature):
                raise LaunchError(f"{name}: takes {len(signature)} arguments, got {len(arguments)}")
            boxes = [_box(name, i, kind, a) for i, (kind, a) in enumerate(zip(signature, arguments, strict=True))]
            pointers = _pointers(len(boxes))(*map(ctypes.addressof, boxes))
            sizes = [_Sizes(*(tuple(s) + (1, 1))[:3]) for s in (grid, block)]
            wrong = _scheduler().cudacpu_launch(ctypes.byref(entry), *sizes, pointers)
            if wrong:
                raise LaunchError(f"{name}: {wrong.decode()}")

        return call


def _box(name: str, i: int, kind: str, value: Any) -> Any:
    """One argument in memory; CuPy passes what it is given, so a wrong type here would be a wrong number there."""
    if isinstance(value, DeviceArray):
        value = value.values
    if kind in _POINTERS:
        if value is None or (type(value) is int and value == 0):  # 0 is how CuPy is told a null pointer
            return ctypes.c_void_p(None)
        if not isinstance(value, np.ndarray) or value.dtype != _POINTERS[kind]:
            got = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
            raise LaunchError(f"{name}: argument {i + 1} should be an array of {_POINTERS[kind]}, got {got}")
        return ctypes.c_void_p(value.ctypes.data)
    expected = int if kind == "L" else float
    if type(value) is not expected:
        raise LaunchError(f"{name}: argument {i + 1} should be of type {expected.__name__}, got {value!r}")
    return ctypes.c_longlong(int(value)) if kind == "L" else ctypes.c_double(value)


@cache
def _library(file: str, double: bool) -> Library:
    return Library(folder() / file, double)


@cache
def _kernel(name: str, double: bool) -> Callable:
    return _library(kernel_files()[name], double)[name]


class Emulator:
    """The launcher: compiles, counts and runs."""

    def __init__(self, wrap: Callable = DeviceArray) -> None:
        self.empty = lambda shape, dtype: wrap(poisoned(shape, dtype))
        self.processors = 4  # so that small tests, too, share out their sums
        self.tensor_cores = True
        self.wrap = wrap
        self.launches: Counter[str] = Counter()

    def upload(self, array: np.ndarray) -> Any:
        device_array.look("bringing a table to the device")
        return self.wrap(array.copy())

    def launch(self, kernel: str, double: bool, blocks: int, threads: int, arguments: tuple) -> None:
        self.launches[kernel] += 1
        device_array.recorded(lambda: _kernel(kernel, double)((blocks,), (threads,), arguments))

    def capture(self, function: Callable) -> tuple[Any, Callable]:
        return device_array.capture(function)


def set_seed(seed: int) -> None:
    """Shuffles the order of threads and blocks of later launches; 0 is the plain order."""
    _scheduler().cudacpu_seed(seed)


def load() -> Cuda:
    """The table of the device "cuda-emulated", on arrays that behave like CuPy's; ImportError without a compiler."""
    _scheduler()
    return Cuda("cuda-emulated", Namespace(), Emulator())


def on_numpy() -> Cuda:
    """The same table on plain NumPy arrays, for tests that hold every backend to the reference."""
    _scheduler()
    return Cuda("cuda-emulated", np, Emulator(lambda array: array))
