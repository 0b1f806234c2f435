"""Tensors from data, and tensors of constants.

    tensor([[1, 2], [3, 4.5]])      float32: Python floats are single precision, integers int64
    tensor(np.zeros(3))             float64: an array keeps its own dtype (gradient checks want double precision)
    zeros(2, 3)  zeros((2, 3))      both spellings
    from_numpy(a), as_tensor(a)     share a's memory; tensor(a) copies

Everything takes dtype, device and requires_grad; a tensor that requires grad is a leaf, where gradients are collected.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backends import Device
from ..backends import device as get_device
from ..backends.arrays import numeric
from ..tape import Tensor, leaf
from .view import sizes_of

__all__ = [
    "tensor", "as_tensor", "asarray", "from_numpy", "from_dlpack",
    "zeros", "ones", "full", "empty", "zeros_like", "ones_like", "full_like", "empty_like",
    "arange", "linspace", "eye",
]  # fmt: skip


def _made(name: str, array: Any, device: Device, requires_grad: bool) -> Tensor:
    result = Tensor(numeric(name, array), None, device)
    if not requires_grad:
        return result
    if array.dtype.kind != "f":
        raise RuntimeError(
            f"{name}: only floating-point tensors can require gradients, this one is {array.dtype}; say dtype='float32'"
        )
    return leaf(result)


def _array_of(name: str, data: Any, dtype: Any) -> Any:
    """data as an array: arrays as they are; without a dtype Python floats in float32, integers in int64."""
    if isinstance(data, Tensor):
        return data.array
    if (hasattr(data, "dtype") and hasattr(data, "__array__")) or hasattr(data, "__cuda_array_interface__"):
        return data if hasattr(data, "__cuda_array_interface__") else np.asarray(data)
    first = data
    while isinstance(first, list | tuple) and len(first):
        first = first[0]
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise ValueError(f"{name}: the nested lists do not form a rectangular array ({error})") from None
    if (isinstance(first, int) or array.dtype.kind == "O") and _is_beyond(data, array, dtype):
        raise OverflowError(f"{name}: an integer leaves the range of int64; make it a float, such as 1e20")
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: cannot make numbers of {type(first).__name__} data")
    if not hasattr(first, "dtype") and dtype is None:
        array = array.astype({"f": np.float32, "i": np.int64}.get(array.dtype.kind, array.dtype), copy=False)
    return array


def _is_beyond(data: Any, array: np.ndarray, dtype: Any) -> bool:
    """Whether integers among the numbers of nested lists leave the range of int64.

    NumPy makes objects of them, or uint64, or floats where smaller ones stand beside them.
    """
    kind = array.dtype.kind
    if kind != "O" and (kind not in "uf" or dtype is not None or not array.size or not array.max() >= 2**63):
        return False
    numbers = [data]
    while numbers and isinstance(numbers[0], list | tuple):
        numbers = [number for row in numbers for number in row]
    return all(isinstance(number, int | float if kind == "O" else int) for number in numbers)


def fitting(name: str, value: Any, dtype: Any) -> Any:
    """A number as a tensor of this dtype holds it: for integers without its fraction, as in torch.

    OverflowError for one that is out of range, ValueError for NaN and infinity among integers.
    """
    value = value.item() if hasattr(value, "item") else value
    if dtype.kind not in "iu":
        return bool(value) if dtype.kind == "b" else float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name}: {value} is no {dtype.name}; choose a floating-point dtype")
    whole, limits = int(value), np.iinfo(dtype)
    if not limits.min <= whole <= limits.max:
        limit = f"{dtype.name} ({limits.min} to {limits.max})"
        raise OverflowError(f"{name}: {value} does not fit {limit}; widen the dtype")
    return whole


def check_fit(name: str, array: Any, dtype: Any) -> None:
    """Raises as `fitting` for a NumPy array with numbers that integers of this dtype cannot hold."""
    if dtype.kind in "iu" and dtype != array.dtype and array.dtype.kind in "fiu" and array.size:
        fitting(name, array.min(), dtype)  # NaN if there is one
        fitting(name, array.max(), dtype)


def _place(name: str, array: Any, dtype: Any, device: Device, copy: bool) -> Any:
    """The array with a dtype on a device; a copy, or the same memory where nothing changes."""
    xp = device.kernels.xp
    if xp is np and not isinstance(array, np.ndarray):
        array = array.get()  # from a GPU
    dtype = array.dtype if dtype is None else np.dtype(dtype)
    if isinstance(array, np.ndarray):
        check_fit(name, array, dtype)
    return xp.array(array, dtype=dtype, order="C") if copy else xp.asarray(array, dtype=dtype)


def tensor(data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A new tensor with a copy of `data`: a number, nested lists, an array or a tensor (whose history is left behind).

    Python floats become float32, integers int64; arrays and tensors keep their dtype. TypeError for data that are no
    numbers, ValueError for ragged lists and for NaN in an integer dtype, OverflowError for what is beyond it.
    """
    where = get_device(device) if device is not None else data.device if isinstance(data, Tensor) else get_device("cpu")
    return _made("tensor", _place("tensor", _array_of("tensor", data, dtype), dtype, where, True), where, requires_grad)


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """`data` as a tensor, sharing memory where neither dtype nor device changes; a fitting tensor is returned as is."""
    if isinstance(data, Tensor):
        return data if dtype is None and device is None else data.to(dtype=dtype, device=device)
    where = get_device(device or "cpu")
    array = _place("as_tensor", _array_of("as_tensor", data, dtype), dtype, where, False)
    return _made("as_tensor", array, where, False)


def asarray(
    data: Any, dtype: Any = None, device: Any = None, copy: bool | None = None, requires_grad: bool = False
) -> Tensor:
    """`as_tensor`, or with copy=True `tensor`."""
    if copy or requires_grad:
        return tensor(data, dtype, device, requires_grad)
    return as_tensor(data, dtype, device)


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares the memory of a NumPy array; TypeError for anything else, ValueError for foreign bytes."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy: expected a numpy.ndarray, got {type(array).__name__}; use tensor(...)")
    if not array.dtype.isnative:
        raise ValueError(f"from_numpy: {array.dtype} is not this machine's byte order, so memory cannot be shared; "
                         "use tensor(...), which copies")  # fmt: skip
    return _made("from_numpy", array, get_device("cpu"), False)


def from_dlpack(external: Any) -> Tensor:
    """A tensor that shares the memory of another library's array (torch, CuPy, JAX ...), on the CPU or the GPU."""
    if isinstance(external, Tensor):
        return external
    kind = int(external.__dlpack_device__()[0])
    if kind not in (1, 2, 3):  # CPU, CUDA, pinned memory
        raise RuntimeError(f"from_dlpack: DLPack device type {kind} is not supported; move the array to the CPU first")
    where = get_device("cuda" if kind == 2 else "cpu")
    array = where.kernels.xp.from_dlpack(external)
    if kind != 2 and not array.flags.writeable and hasattr(external, "__array_interface__"):
        array = np.asarray(external)  # some NumPy versions import DLPack memory as read-only
    return _made("from_dlpack", array, where, False)


# ---------------------------------------------------------------- constants


def _sizes(name: str, size: tuple) -> tuple[int, ...]:
    sizes = sizes_of(name, size)
    if min(sizes, default=0) < 0:
        raise ValueError(f"{name}: sizes should not be negative, got {sizes}")
    return sizes


def zeros(size: Any = (), *more: int, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False) -> Tensor:
    """Zeros, float32 by default."""
    where = get_device(device or "cpu")
    return _made(
        "zeros", where.kernels.xp.zeros(_sizes("zeros", (size, *more)), dtype or np.float32), where, requires_grad
    )


def ones(size: Any = (), *more: int, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False) -> Tensor:
    """Ones, float32 by default."""
    where = get_device(device or "cpu")
    return _made(
        "ones", where.kernels.xp.ones(_sizes("ones", (size, *more)), dtype or np.float32), where, requires_grad
    )


def empty(size: Any = (), *more: int, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False) -> Tensor:
    """Memory with whatever it holds, float32 by default."""
    where = get_device(device or "cpu")
    return _made(
        "empty", where.kernels.xp.empty(_sizes("empty", (size, *more)), dtype or np.float32), where, requires_grad
    )


def full(size: Any, fill_value: Any, *, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False) -> Tensor:
    """fill_value everywhere; without dtype, float32, int64 or bool as the value is."""
    where = get_device(device or "cpu")
    value = fill_value.item() if hasattr(fill_value, "item") else fill_value
    if dtype is None:
        dtype = bool if isinstance(value, bool) else np.int64 if isinstance(value, int) else np.float32
    value = fitting("full", value, np.dtype(dtype))
    sizes = _sizes("full", (size,) if isinstance(size, tuple | list) else ((size,),))
    return _made("full", where.kernels.xp.full(sizes, value, dtype), where, requires_grad)


def zeros_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros with the shape, dtype and device of input."""
    return zeros(
        tuple(input.shape), dtype=dtype or input.dtype, device=device or input.device, requires_grad=requires_grad
    )


def ones_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones with the shape, dtype and device of input."""
    return ones(
        tuple(input.shape), dtype=dtype or input.dtype, device=device or input.device, requires_grad=requires_grad
    )


def empty_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Uninitialised memory with the shape, dtype and device of input."""
    return empty(
        tuple(input.shape), dtype=dtype or input.dtype, device=device or input.device, requires_grad=requires_grad
    )


def full_like(
    input: Tensor, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """fill_value everywhere, with the shape, dtype and device of input."""
    return full(
        tuple(input.shape),
        fill_value,
        dtype=dtype or input.dtype,
        device=device or input.device,
        requires_grad=requires_grad,
    )


def arange(
    start: float,
    end: float | None = None,
    step: float = 1,
    *,
    dtype: Any = None,
    device: Any = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """start + i * step for i = 0, 1, ... below end (arange(end) starts at 0): int64 for integers, else float32.

    ValueError for a step of zero or away from end.
    """
    start, end = (0, start) if end is None else (start, end)
    start, end, step = (v.item() if hasattr(v, "item") else v for v in (start, end, step))
    if step == 0 or (end - start) * step < 0:
        raise ValueError(
            f"arange: from {start} to {end} the step {step} should be {'negative' if end < start else 'positive'}"
        )
    where = get_device(device or "cpu")
    whole = all(isinstance(v, int) for v in (start, end, step))
    if dtype is None:
        dtype = np.int64 if whole else np.float32
    count = -((start - end) // step) if whole else math.ceil((end - start) / step)
    if count:
        fitting("arange", start, np.dtype(dtype)), fitting("arange", start + (count - 1) * step, np.dtype(dtype))
    values = start + where.kernels.xp.arange(count, dtype=np.int64 if whole else np.float64) * step
    return _made("arange", values.astype(dtype, copy=False), where, requires_grad)


def linspace(
    start: float, end: float, steps: int, *, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False
) -> Tensor:
    """`steps` numbers from start to end, both included, equally spaced; float32 by default."""
    if steps < 0:
        raise ValueError(f"linspace: steps={steps} should not be negative")
    start, end = (v.item() if hasattr(v, "item") else v for v in (start, end))
    dtype = np.dtype(dtype or np.float32)
    if steps:
        fitting("linspace", start, dtype), fitting("linspace", end, dtype)
    where = get_device(device or "cpu")
    values = where.kernels.xp.linspace(start, end, steps, dtype=np.float64)
    return _made("linspace", values.astype(dtype), where, requires_grad)


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False) -> Tensor:
    """The n x m matrix (n x n by default) with ones on its diagonal."""
    where = get_device(device or "cpu")
    sizes = _sizes("eye", (n, n if m is None else m))
    return _made("eye", where.kernels.xp.eye(*sizes, dtype=dtype or np.float32), where, requires_grad)
