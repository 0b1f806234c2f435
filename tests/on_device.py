"""Where the CUDA tests run: on the emulator, or, with TINYGEN_TEST_PLACE=cuda, on a GPU (benchmarks.gpu_check).

`table()` is the CUDA kernel table as the tests of all backends call it: with NumPy arrays. Memory that a kernel is to
fill starts as NaN, on a GPU too; TINYGEN_TEST_POISON=0 leaves it as it is, for compute-sanitizer's initcheck.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tinygen.backends import device
from tinygen.backends.cuda import emulated
from tinygen.backends.cuda.device_array import DeviceArray
from tinygen.backends.geometry import Pieces

PLACE = os.environ.get("TINYGEN_TEST_PLACE") or "cuda-emulated"


def poison(kernels: Any) -> None:
    """Makes the memory that results are written to start as NaN, or -1."""

    def empty(shape: Any, dtype: Any) -> Any:
        array = kernels.xp.empty(shape, dtype)
        array.reshape(-1).view(np.uint8).fill(0xFF)
        return array

    kernels.launcher.empty = empty


if PLACE == "cuda" and os.environ.get("TINYGEN_TEST_POISON") != "0":
    poison(device(PLACE).kernels)


def table() -> Any:
    """The table of PLACE; on the emulator its arrays are NumPy's, unless the environment names that place."""
    return OnHost(device(PLACE).kernels) if "TINYGEN_TEST_PLACE" in os.environ else emulated.on_numpy()


def upload(a: np.ndarray, xp: Any) -> Any:
    """`a` on the device with the same strides: asarray of CuPy would make a view contiguous, and so test less."""
    if a.flags.c_contiguous or a.size == 0:
        return xp.asarray(a)
    assert all(step % a.itemsize == 0 for step in a.strides), f"no array of whole elements has strides {a.strides}"
    lowest = a[tuple(slice(n - 1 if step < 0 else 0, None) for n, step in zip(a.shape, a.strides, strict=True))]
    reaches = [abs(step) // a.itemsize * (n - 1) for n, step in zip(a.shape, a.strides, strict=True)]
    offset = sum(reach for reach, step in zip(reaches, a.strides, strict=True) if step < 0)
    memory = as_strided(lowest, (1 + sum(reaches),), (a.itemsize,))  # all between the first and the last element
    there = xp.asarray(memory)[offset:]
    if isinstance(there, DeviceArray):
        return DeviceArray(as_strided(there.values, a.shape, a.strides))
    return xp.lib.stride_tricks.as_strided(there, a.shape, a.strides)


class OnHost:
    """A table that takes and gives NumPy arrays: it brings them to the device and back, those written in place too."""

    def __init__(self, kernels: Any) -> None:
        object.__setattr__(self, "kernels", kernels)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.kernels, name, value)

    def __getattr__(self, name: str) -> Any:
        attribute, xp = getattr(self.kernels, name), self.kernels.xp
        if not callable(attribute) or name.startswith("_"):
            return np if name == "xp" else attribute

        def call(*arguments: Any) -> Any:
            given = [x for a in arguments for x in (a.arrays if isinstance(a, Pieces) else [a])]
            given = [a for a in given if isinstance(a, np.ndarray)]
            there = {id(a): upload(a, xp) for a in given}

            def move(a: Any) -> Any:
                if isinstance(a, Pieces):
                    return Pieces([there[id(x)] for x in a.arrays], a.starts)
                return there.get(id(a), a)

            result = attribute(*map(move, arguments))
            if name.endswith("_step") or name in ("leaky_relu", "leaky_relu_backward", "channel_norm_backward"):
                for a in given:
                    if a.flags.writeable:
                        a[...] = there[id(a)].get()
            back = lambda r: r.get() if hasattr(r, "get") else r
            return tuple(map(back, result)) if isinstance(result, tuple) else back(result)

        return call  # what has an `out` may have written there
