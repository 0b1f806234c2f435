"""NumPy in CuPy's place: arrays that refuse what arrays on a GPU refuse, for the emulated device.

An array on a GPU is not a NumPy array: it cannot be mixed with one, becomes one only by `.get()`, its reductions are
0-d arrays, and looking at a value (`float(x)`, `if x > 0:`, `.item()`) waits for the device, which a graph that is
being captured forbids. Code that works here by accident only, as NumPy would forgive it, fails here as it would there.

    xp = Namespace()
    xp.ones(3) + numpy.ones(3)      # TypeError, as in CuPy
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from sys import getrefcount
from typing import Any, NamedTuple

import numpy as np

tape: list[Callable[[], Any]] | None = None  # while a graph is being captured: what a replay does


class CaptureError(RuntimeError):
    """Something that a graph cannot hold, while one is being captured."""


def look(what: str) -> None:
    """Called wherever the host would wait for the device."""
    outside_graphs(f"{what} waits for the device, which")


def outside_graphs(what: str) -> None:
    """Called where CuPy refuses to be captured."""
    if tape is not None:
        raise CaptureError(f"{what} cannot be part of a captured graph")


def capture(function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
    """(function(), a function that does again, in the same memory, all that was done to device arrays meanwhile)."""
    global tape
    steps: list[Callable[[], Any]] = []
    tape = steps
    try:
        result = function()
    finally:
        tape = None

    def replay() -> None:
        for step in steps:
            step()

    return result, replay


def recorded(function: Callable[[], Any], sources: Any = ()) -> Any:
    """function(), done again in a replay, its result then written where it lies now; but not a view of a source."""
    result = function()
    if tape is None:
        return result
    several = isinstance(result, tuple | list)
    held = list(result) if several else [result]
    if any(isinstance(r, np.ndarray) and np.may_share_memory(r, s) for r in held for s in sources):
        return result

    def again() -> None:
        value = function()
        for old, fresh in zip(held, value if several else [value], strict=True):
            if isinstance(old, np.ndarray):
                np.copyto(old, fresh)

    tape.append(again)
    return result


def _arrays(values: Any) -> list[np.ndarray]:
    """All NumPy arrays in nested tuples and lists."""
    if isinstance(values, tuple | list):
        return [a for v in values for a in _arrays(v)]
    return [values] if isinstance(values, np.ndarray) else []


def unwrap(value: Any, what: str = "an operation") -> Any:
    """The NumPy arrays inside `value`; TypeError where a NumPy array stands beside them."""
    if isinstance(value, DeviceArray):
        return value.values
    if isinstance(value, np.ndarray):
        raise TypeError(f"{what}: a NumPy array {value.shape} among device arrays; bring it over with xp.asarray")
    if isinstance(value, tuple | list) and not hasattr(value, "_fields"):
        return type(value)(unwrap(v, what) for v in value)
    return value


def wrap(value: Any) -> Any:
    """NumPy results as device arrays, scalars as arrays of no dimension."""
    if isinstance(value, np.ndarray):
        return DeviceArray(value)
    if isinstance(value, np.generic):
        return DeviceArray(np.asarray(value))
    if type(value) in (tuple, list):
        return type(value)(wrap(v) for v in value)
    return value


def as_array(value: Any) -> Any:
    """A scalar as an array of no dimension: it lies somewhere."""
    return np.asarray(value) if isinstance(value, np.generic) else value


def _index(index: Any) -> Any:
    """An index may be a NumPy array: CuPy copies it over."""
    if isinstance(index, tuple):
        return tuple(_index(i) for i in index)
    if isinstance(index, np.ndarray | list):
        look("copying an index to the device")
    return index.values if isinstance(index, DeviceArray) else index


class Flags(NamedTuple):
    """What CuPy knows of an array's layout; no array on a GPU is read-only."""

    c_contiguous: bool
    f_contiguous: bool


class DeviceArray(np.lib.mixins.NDArrayOperatorsMixin):
    """One array; `values` is the memory."""

    __slots__ = ("__weakref__", "values")

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    shape = property(lambda self: self.values.shape)
    ndim = property(lambda self: self.values.ndim)
    size = property(lambda self: self.values.size)
    dtype = property(lambda self: self.values.dtype)
    strides = property(lambda self: self.values.strides)
    itemsize = property(lambda self: self.values.itemsize)
    nbytes = property(lambda self: self.values.nbytes)
    flags = property(lambda self: Flags(self.values.flags.c_contiguous, self.values.flags.f_contiguous))
    T = property(lambda self: wrap(self.values.T))
    flat = property(lambda self: self.values.flat)

    @property
    def base(self) -> Any:
        """Whose memory a view shows; of an array that views look at, the memory: it has more holders than this one."""
        if self.values.base is not None:
            return self.values.base
        return None if getrefcount(self.values) == 2 else self.values

    def get(self) -> np.ndarray:
        """A copy on the host."""
        look("copying an array to the host")
        return self.values.copy()

    def item(self, *at: Any) -> Any:
        look("item()")
        return self.values.item(*at)

    def tolist(self) -> Any:
        look("tolist()")
        return self.values.tolist()

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("implicit conversion of a device array to a NumPy array; use .get()")

    def __bool__(self) -> bool:
        look("the truth of an array")
        return bool(self.values)

    def __float__(self) -> float:
        look("float()")
        return float(self.values)

    def __int__(self) -> int:
        look("int()")
        return int(self.values)

    def __index__(self) -> int:
        look("an index")
        return self.values.__index__()

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        index = _index(index)
        if any(a.dtype == bool for a in _arrays(index)):
            look("the length of what an index of true and false picks")
        return wrap(recorded(lambda: np.asarray(self.values[index]), [self.values]))

    def __setitem__(self, index: Any, value: Any) -> None:
        index, value = _index(index), unwrap(value, "x[...] = y")
        recorded(lambda: self.values.__setitem__(index, value))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        inputs = tuple(unwrap(x, ufunc.__name__) for x in inputs)
        _check_captured(ufunc.__name__, [*inputs])
        given = options.pop("out", None)
        if given is not None:
            options["out"] = tuple(unwrap(x, ufunc.__name__) for x in given)
        result = recorded(lambda: as_array(getattr(ufunc, method)(*inputs, **options)))
        return given[0] if given is not None and len(given) == 1 else wrap(result)

    def __array_function__(self, function: Any, types: Any, inputs: Any, options: Any) -> Any:
        return _called(function, inputs, options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        method = getattr(self.values, name)
        if not callable(method):
            raise AttributeError(f"a device array has no {name!r}")
        return lambda *inputs, **options: _called(method, inputs, options)

    def __repr__(self) -> str:
        return f"device {self.values!r}"


def _called(function: Callable, inputs: Any, options: dict) -> Any:
    name = getattr(function, "__name__", "a function")
    out = options.get("out")
    given = {k: unwrap(v, name) for k, v in options.items()}
    arguments = tuple(unwrap(x, name) for x in inputs)
    operands = [*_arrays([getattr(function, "__self__", None)]), *arguments]
    _check_captured(name, operands)
    sources = [] if out is not None else _arrays(operands)
    result = recorded(lambda: as_array(function(*arguments, **given)), sources)
    return out if out is not None else wrap(result)


def poisoned(shape: Any, dtype: Any = np.float32, **options: Any) -> np.ndarray:
    """numpy.empty, filled with NaN or -1: a result that a kernel did not write shows."""
    array = np.empty(shape, dtype, **options)
    array.reshape(-1).view(np.uint8).fill(0xFF)
    return array


# What CuPy does not capture, besides copies to and from the host: a result whose length depends on values; Thrust,
# which sorts; cuBLAS, which multiplies floats; and joining more than eight arrays, whose addresses it copies over.
_DEPEND_ON_VALUES = ("nonzero", "flatnonzero", "argwhere", "unique", "extract", "compress")
_SORT = ("sort", "argsort", "lexsort", "partition", "argpartition", "median", "percentile", "quantile")
_MULTIPLY = ("dot", "vdot", "inner", "matmul", "tensordot", "einsum")
_JOIN = ("concatenate", "stack", "hstack", "vstack", "dstack")


def _check_captured(name: str, inputs: list[Any]) -> None:
    if tape is None:
        return
    factors = [a for a in _arrays(inputs) if a.dtype.kind == "f"]
    if name in _DEPEND_ON_VALUES:
        look(f"the length of {name}'s result")
    elif name in _SORT or (name in _MULTIPLY and len(factors) > 1):
        outside_graphs(f"{name}, which CuPy leaves to {'Thrust' if name in _SORT else 'cuBLAS'},")
    elif name in _JOIN and len(inputs[0]) > 8:
        outside_graphs(f"{name} of more than eight arrays")


class Namespace:
    """What `cupy` is to CuPy's arrays: NumPy's functions on device arrays."""

    ndarray = DeviceArray

    def __init__(self) -> None:
        self.empty = lambda *args, **options: wrap(poisoned(*args, **options))
        self.asarray = self._from_host
        whole = lambda a: a.flags.c_contiguous and a.ndim  # an array of no dimension gets one, as in NumPy and CuPy
        self.ascontiguousarray = lambda a: a if whole(a) else DeviceArray(np.ascontiguousarray(a.values))
        self._function = cache(self._wrapped)

    def _from_host(self, values: Any, dtype: Any = None, **options: Any) -> DeviceArray:
        if isinstance(values, DeviceArray):
            return values if dtype in (None, values.dtype) else DeviceArray(np.asarray(values.values, dtype, **options))
        look("copying an array to the device")
        return DeviceArray(np.array(values.get() if hasattr(values, "get") else values, dtype))

    def array(self, values: Any, dtype: Any = None, **options: Any) -> DeviceArray:
        own = self._from_host(values, dtype, **options)
        return DeviceArray(own.values.copy()) if isinstance(values, DeviceArray) else own

    @staticmethod
    def asnumpy(array: DeviceArray) -> np.ndarray:
        return array.get()

    @staticmethod
    def _wrapped(name: str) -> Callable:
        function = getattr(np, name)

        def call(*inputs: Any, **options: Any) -> Any:
            return _called(function, inputs, options)

        if isinstance(function, np.ufunc):
            call.at = lambda a, index, values: recorded(  # type: ignore[attr-defined]
                lambda: function.at(unwrap(a), _index(index), unwrap(values))
            )
        return call

    def __getattr__(self, name: str) -> Any:
        value = getattr(np, name)
        return value if isinstance(value, type) or not callable(value) else self._function(name)
