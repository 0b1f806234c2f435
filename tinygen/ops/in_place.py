"""Changes in place: `x += y`, `x.add_(y)`, `x[i] = y`, `x.fill_(0)`, `relu(x, inplace=True)`.

    data, or a parameter under no_grad     writes into its memory; all views see it
    what was recorded, or takes part       stands for the result of the same op from now on: `h += y` is h = h + y for
                                           everybody who holds h

A recorded value is never overwritten: a derivative may need it. After the second kind the views of one memory would no
longer agree, so it is refused while there are others. A leaf that requires grad does not change while operations are
recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..recording import is_grad_enabled
from ..tape import Leaf, Tensor
from . import indexing
from .creation import check_fit, fitting

_RANK = {"b": 0, "u": 1, "i": 1, "f": 2}  # a result is written into a dtype of its kind, or of a wider one

__all__ = ["changed", "in_place", "put", "setting"]


def in_place(name: str, function: Callable) -> Callable:
    """The method `name` that changes its tensor to `function(tensor, ...)`, and returns it."""

    def apply(self: Tensor, *args: Any, **options: Any) -> Tensor:
        if _is_recorded(name, self, (*args, *options.values())):
            return _rebind(name, self, function(_as_now(self), *args, **options))
        result = function(self.detach(), *args, **options)
        if _RANK[result.dtype.kind] > _RANK[self.dtype.kind] or "f" in self.dtype.kind != result.dtype.kind:
            raise TypeError(f"{name}: a result of {result.dtype} cannot be written into {self.dtype}; convert it first")
        return _write(name, self, result, (...,))

    apply.__name__, apply.__doc__ = name, f"`{name.removesuffix('_')}`, written into this tensor; returns it."
    return apply


def changed(function: Callable, input: Tensor, *args: Any, **options: Any) -> Tensor:
    """input itself, changed to `function(input, ...)`: what `inplace=True` asks for."""
    return in_place(f"{function.__name__}(inplace=True)", function)(input, *args, **options)


def setting(name: str, function: Callable) -> Callable:
    """The method `name` that sets every element of its tensor to `function(tensor, ...)`, broadcast; returns it."""

    def apply(self: Tensor, *args: Any, **options: Any) -> Tensor:
        if _is_recorded(name, self, args):
            return put(name, self, (...,), function(self.detach(), *args, **options))
        value = function(self.detach(), *args, **options)
        return _write(name, self, _assigned(name, self, value), (...,))

    apply.__name__, apply.__doc__ = name, f"`{name.removesuffix('_')}`, written into this tensor; returns it."
    return apply


def put(name: str, tensor: Tensor, index: tuple, value: Any) -> Tensor:
    """The tensor itself, with `value` at `index`."""
    if not _is_recorded(name, tensor, (value,)):
        return _write(name, tensor, _assigned(name, tensor, value), index)
    value = value if isinstance(value, Tensor) or np.ndim(value) == 0 else Tensor(np.asarray(value, tensor.dtype))
    return _rebind(name, tensor, indexing._put(_as_now(tensor), value, index=index))


def _assigned(name: str, tensor: Tensor, value: Any) -> Any:
    """The value; raises as `fitting` where integers of the tensor's dtype cannot hold it."""
    array = getattr(value, "array", value)
    array = np.asarray(array) if isinstance(array, list | tuple) else array
    if isinstance(array, np.ndarray):  # elsewhere a look would wait for the device
        check_fit(name, array, tensor.dtype)
    return value


def _is_recorded(name: str, tensor: Tensor, operands: tuple) -> bool:
    """Whether a change is an operation to record; raises where it is neither that nor a write into memory."""
    recording, leaf = is_grad_enabled(), type(tensor.node) is Leaf
    if leaf and recording:
        why = f"a leaf that requires grad {tensor.shape} cannot change while operations are recorded"
        raise RuntimeError(f"{name}: {why}; use `with tinygen.no_grad():`, or change its .data")
    if tensor.node is not None and not leaf and not recording:
        why = f"this tensor {tensor.shape} was computed by a recorded operation, whose derivative may need it"
        raise RuntimeError(f"{name}: {why}; compute a new one (x = x.add(y)), or change x.detach().clone()")
    joins = any(isinstance(t, Tensor) and t.node is not None for t in operands)
    return recording and (tensor.node is not None or joins)


def _as_now(tensor: Tensor) -> Tensor:
    """The value of a tensor that is about to stand for another one."""
    value = Tensor(tensor.array, tensor.node, tensor.device)
    value.name, value._version = tensor.name, tensor._version
    return value


def _rebind(name: str, tensor: Tensor, result: Tensor) -> Tensor:
    views = tensor._version[1:]
    others = [v() for v in views if v is not None and v() is not None and v() is not tensor]
    if others or None in views:  # None: a view, nobody knows where
        why = f"this tensor {tensor.shape} shares its memory with a view of it, or is one, and operations are recorded"
        raise RuntimeError(f"{name}: {why}; compute a new one (x = x.add(y)), or change x.clone()")
    if result.array.shape != tensor.shape:
        raise ValueError(f"{name}: the result {result.array.shape} does not fit into {tensor.shape}")
    tensor.array, tensor.node, tensor._version = result.array, result.node, [0]
    return tensor


def _write(name: str, tensor: Tensor, value: Any, index: tuple) -> Tensor:
    array = getattr(value, "array", value)
    if np.ndim(array) == 0 and not hasattr(array, "flags"):  # a number
        array = fitting(name, array, tensor.dtype)
    basic, advanced = indexing.separate(index, tensor.ndim)
    basic = (*basic, ...)
    target = tensor.array[basic]
    whole = len(index) == 1 and index[0] is ...
    if whole and np.broadcast_shapes(np.shape(array), tensor.shape) != tensor.shape:
        raise ValueError(f"{name}: a value {np.shape(array)} does not fit into {tensor.shape}")
    target[advanced] = array
    tensor._version[0] += 1
    return tensor
