"""What users touch: operators, methods and in-place changes, attached to the one Tensor class of tape.py.

Every differentiable operation is a function of tinygen.ops whose first argument is the tensor, so a method is that same
function assigned to the class. In-place methods (`add_`, `normal_`, ...) are for constants, and for parameters under
`no_grad` or through `.data`; anywhere else they raise and say what to write instead.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from . import tape
from .backends import Device
from .backends import device as get_device
from .ops import conv, creation, fused, matmul, pointwise, pool, random, reduce, resize, shape
from .tape import Tensor, leaf

_METHODS: dict[Any, str] = {
    pointwise: "add sub mul div pow neg exp log log1p expm1 sqrt rsqrt reciprocal square abs sign maximum minimum clamp sin cos erf "
    "tanh sigmoid relu eq ne lt le gt ge logical_not logical_and logical_or isnan isinf isfinite floor ceil round trunc cast lerp",
    reduce: "sum mean var std max min amax amin logsumexp softmax log_softmax cumsum prod norm argmax argmin any all",
    shape: "reshape view transpose permute flatten unflatten squeeze unsqueeze split chunk unbind gather scatter_add index_select "
    "flip roll tile repeat tril triu sort argsort topk masked_fill clone contiguous movedim",
    matmul: "mm bmm dot outer",
}
for _module, _names in _METHODS.items():
    for _name in _names.split():
        setattr(Tensor, _name, getattr(_module, _name))
Tensor.matmul = matmul.matmul
Tensor.t = matmul.t
Tensor.expand = shape.expand
Tensor.where = lambda self, condition, other: pointwise.where(condition, self, other)
Tensor.float = lambda self: self.to(np.float32)
Tensor.double = lambda self: self.to(np.float64)
Tensor.long = lambda self: self.to(np.int64)
Tensor.int = lambda self: self.to(np.int32)
Tensor.bool = lambda self: self.to(np.bool_)


# Operators. NumPy arrays on either side become constants; anything unknown is left to Python to refuse.


def _operator(function: Callable, reflected: bool = False) -> Callable:
    def apply(self: Tensor, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            other = Tensor(other, None, self.device)
        elif not isinstance(other, Tensor | int | float | np.generic):
            return NotImplemented
        return function(other, self) if reflected else function(self, other)

    return apply


for _name, _function in {
    "add": pointwise.add, "sub": pointwise.sub, "mul": pointwise.mul, "truediv": pointwise.div, "pow": pointwise.pow,
    "matmul": matmul.matmul, "mod": pointwise.remainder,
}.items():  # fmt: skip
    setattr(Tensor, f"__{_name}__", _operator(_function))
    setattr(Tensor, f"__r{_name}__", _operator(_function, reflected=True))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Tensor, f"__{_name}__", _operator(getattr(pointwise, _name)))
Tensor.__neg__ = pointwise.neg
Tensor.__abs__ = pointwise.abs
Tensor.__invert__ = pointwise.logical_not
Tensor.__and__ = _operator(pointwise.logical_and)
Tensor.__or__ = _operator(pointwise.logical_or)
Tensor.__getitem__ = shape.getitem
Tensor.__hash__ = object.__hash__
Tensor.__array_ufunc__ = None  # NumPy's operators then hand over to ours
Tensor.__array_priority__ = 1000


# In-place changes.


def _may_change(self: Tensor, name: str, others: Iterable = ()) -> None:
    """Raises unless changing this tensor's memory can be neither recorded nor needed."""
    if isinstance(self.node, tape.Node | tape.Output):
        raise RuntimeError(
            f"{name}: this tensor {tuple(self.shape)} is the result of a recorded operation and may be needed by backward(); "
            f"write x = x.{name.strip('_')}(...) instead, or change x.detach().clone()"
        )
    if self.node is not None and tape.is_grad_enabled():
        raise RuntimeError(
            f"{name}: a leaf that requires grad {tuple(self.shape)} cannot be changed in place while operations are recorded; "
            "use `with tinygen.no_grad():` or change its .data"
        )
    if tape.is_grad_enabled() and any(isinstance(t, Tensor) and t.node is not None for t in others):
        raise RuntimeError(f"{name}: the other operand requires grad; write x = x.{name.strip('_')}(...) instead")


def _write(self: Tensor, value: Any, at: Any = ...) -> Tensor:
    self.array[at] = value
    self._version[0] += 1
    return self


def _in_place(name: str, function: Callable) -> Callable:
    def apply(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        _may_change(self, name, args)
        with tape.no_grad():
            result = function(self, *args, **kwargs)
        if tuple(result.shape) != tuple(self.shape):
            raise ValueError(f"{name}: the result has shape {tuple(result.shape)}, the tensor {tuple(self.shape)}")
        return _write(self, result.array)

    apply.__name__, apply.__doc__ = name, f"`{name[:-1]}` written into this tensor's memory; returns the tensor."
    return apply


for _name in "add sub mul div pow neg exp log sqrt abs clamp tanh sigmoid relu floor ceil round lerp masked_fill".split():
    setattr(Tensor, _name + "_", _in_place(_name + "_", getattr(Tensor, _name)))


def _fill(name: str, function: Callable) -> Callable:
    def apply(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        _may_change(self, name)
        function(self, *args, **kwargs)
        self._version[0] += 1
        return self

    apply.__name__, apply.__doc__ = name, function.__doc__
    return apply


Tensor.normal_ = _fill("normal_", random.fill_normal)
Tensor.uniform_ = _fill("uniform_", random.fill_uniform)
Tensor.bernoulli_ = _fill("bernoulli_", random.fill_bernoulli)


def _augmented(name: str, function: Callable) -> Callable:
    """x += y: in place where that is legal (data, parameters under no_grad), otherwise x = x + y."""

    def apply(self: Tensor, other: Any) -> Any:
        recorded = isinstance(self.node, tape.Node | tape.Output)
        grows = isinstance(other, Tensor) and (
            (other.node is not None and tape.is_grad_enabled()) or other.ndim > self.ndim or other.dtype != self.dtype
        )
        if recorded or grows or self.dtype.kind != "f":
            return _operator(function)(self, other)
        return getattr(self, name)(other)

    return apply


for _name, _method, _function in (
    ("__iadd__", "add_", pointwise.add), ("__isub__", "sub_", pointwise.sub),
    ("__imul__", "mul_", pointwise.mul), ("__itruediv__", "div_", pointwise.div),
):  # fmt: skip
    setattr(Tensor, _name, _augmented(_method, _function))


def _method(function: Callable) -> Callable:
    setattr(Tensor, function.__name__, function)
    return function


@_method
def fill_(self: Tensor, value: Any) -> Tensor:
    """Every element set to `value`; returns the tensor."""
    _may_change(self, "fill_", (value,))
    return _write(self, value.array if isinstance(value, Tensor) else value)


@_method
def zero_(self: Tensor) -> Tensor:
    """Every element set to zero; returns the tensor."""
    return self.fill_(0)


@_method
def copy_(self: Tensor, other: Any) -> Tensor:
    """The elements of `other` (broadcast, converted to this dtype) written into this tensor; returns the tensor."""
    _may_change(self, "copy_", (other,))
    return _write(self, other.array if isinstance(other, Tensor) else other)


@_method
def __setitem__(self: Tensor, index: Any, value: Any) -> None:
    _may_change(self, "x[...] = ", (value,))
    at = tuple(i.array if isinstance(i, Tensor) else i for i in index) if isinstance(index, tuple) else index
    _write(self, value.array if isinstance(value, Tensor) else value, at.array if isinstance(at, Tensor) else at)


# Gradients.


def _set_requires_grad(self: Tensor, value: bool) -> None:
    if isinstance(self.node, tape.Node | tape.Output):
        if not value:
            raise RuntimeError("requires_grad: this tensor was computed; use .detach() to stop gradients")
    elif not value:
        self.node = None
    elif self.node is None:
        if self.dtype.kind != "f":
            raise TypeError(f"requires_grad: only floating-point tensors have gradients, this one is {self.dtype}")
        leaf(self)


Tensor.requires_grad = property(
    lambda self: self.node is not None, _set_requires_grad, doc="True where operations on this tensor are recorded."
)
Tensor.is_leaf = property(lambda self: not isinstance(self.node, tape.Node | tape.Output))
Tensor.grad_fn = property(lambda self: self.node if isinstance(self.node, tape.Node | tape.Output) else None)


@_method
def requires_grad_(self: Tensor, requires_grad: bool = True) -> Tensor:
    """The tensor itself, made a leaf (or a constant again)."""
    self.requires_grad = requires_grad
    return self


@_method
def backward(self: Tensor, gradient: Any = None, retain_graph: Any = None, create_graph: bool = False, inputs: Any = None) -> None:
    """Add the gradient of this scalar (or of sum(self * gradient)) to `.grad` of every leaf it depends on."""
    tape.backward(self, gradient, retain_graph, create_graph, inputs)


@_method
def detach(self: Tensor) -> Tensor:
    """The same memory as a constant."""
    alias = Tensor(self.array, None, self.device)
    alias._version = self._version
    return alias


def _set_data(self: Tensor, value: Tensor) -> None:
    self.array = value.array
    self._version[0] += 1


Tensor.data = property(detach, _set_data, doc="The same memory as a constant, free to be changed in place; assignable.")


@contextmanager
def frozen(*modules: Any) -> Iterator[None]:
    """Context manager: the parameters of these modules (or these tensors) are constants for operations inside.

    A generator's step neither computes nor accumulates the gradients of the discriminator's weights; gradients still flow
    through the discriminator to its input.
    """
    tensors = [t for m in modules for t in ([m] if isinstance(m, Tensor) else m.parameters() if hasattr(m, "parameters") else m)]
    nodes = [t.node for t in tensors]
    for t in tensors:
        t.node = None
    try:
        yield
    finally:
        for t, node in zip(tensors, nodes, strict=True):
            t.node = node


# Shape, dtype, device, conversion.

Tensor.shape = property(lambda self: self.array.shape, doc="The lengths of all dimensions, a tuple.")
Tensor.ndim = property(lambda self: self.array.ndim)
Tensor.dtype = property(lambda self: self.array.dtype)
Tensor.T = property(lambda self: self.permute(tuple(range(self.ndim))[::-1]), doc="All dimensions in reverse order.")
Tensor.mT = property(lambda self: self.transpose(-2, -1), doc="The last two dimensions exchanged.")
Tensor.is_cuda = property(lambda self: self.device.name.startswith("cuda"))
Tensor.dim = lambda self: self.array.ndim
Tensor.numel = lambda self: int(self.array.size)
Tensor.element_size = lambda self: int(self.array.itemsize)
Tensor.is_floating_point = lambda self: self.array.dtype.kind == "f"
Tensor.is_contiguous = lambda self: bool(self.array.flags.c_contiguous)
Tensor.cpu = lambda self: self.to("cpu")
Tensor.cuda = lambda self: self.to("cuda")
Tensor.type_as = lambda self, other: self.to(other.dtype)
Tensor.view_as = lambda self, other: self.view(other.shape)
Tensor.expand_as = lambda self, other: self.expand(other.shape)


@_method
def size(self: Tensor, dim: int | None = None) -> Any:
    """The shape, or the length of one dimension."""
    return self.array.shape if dim is None else self.array.shape[dim]


@_method
def to(self: Tensor, *targets: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """This tensor with another dtype, on another device, or like another tensor; itself where nothing changes."""
    for target in targets:
        if isinstance(target, Tensor):
            dtype, device = target.dtype, target.device
        elif isinstance(target, str | Device) and not (isinstance(target, str) and target in np.sctypeDict):
            device = target
        else:
            dtype = target
    result = self
    if device is not None and get_device(device) is not self.device:
        if self.node is not None and tape.is_grad_enabled() and not self.is_leaf:
            raise RuntimeError("to: moving a recorded tensor between devices is not differentiable; use .detach() first")
        result = creation.tensor(np.asarray(self.numpy() if self.node is None else self.detach().numpy()), device=device)
        if self.node is not None:
            leaf(result)
    return pointwise.cast(result, dtype=np.dtype(dtype)) if dtype is not None and np.dtype(dtype) != result.dtype else result


@_method
def numpy(self: Tensor) -> np.ndarray:
    """The memory as a NumPy array (shared on the CPU); raises for a tensor that requires grad, like torch."""
    if self.node is not None:
        raise RuntimeError("numpy: this tensor requires grad; use .detach().numpy()")
    return self.array if isinstance(self.array, np.ndarray) else self.array.get()


@_method
def item(self: Tensor) -> Any:
    """The value of a one-element tensor as a Python number."""
    if self.array.size != 1:
        raise ValueError(f"item: only a tensor with one element has a single value, this one has shape {self.shape}")
    return self.array.item()


@_method
def tolist(self: Tensor) -> Any:
    """The values as nested lists of Python numbers."""
    return self.array.tolist()


@_method
def __len__(self: Tensor) -> int:
    if self.ndim == 0:
        raise TypeError("len() of a 0-dimensional tensor")
    return self.array.shape[0]


@_method
def __iter__(self: Tensor) -> Iterator[Tensor]:
    return (self[i] for i in range(len(self)))


@_method
def __contains__(self: Tensor, value: Any) -> bool:
    return bool((self.array == (value.array if isinstance(value, Tensor) else value)).any())


@_method
def __bool__(self: Tensor) -> bool:
    return bool(self.item())


Tensor.__float__ = lambda self: float(self.item())
Tensor.__int__ = lambda self: int(self.item())
Tensor.__index__ = lambda self: operator.index(self.item())
Tensor.__dlpack__ = lambda self, **options: self.detach().array.__dlpack__(**options)
Tensor.__dlpack_device__ = lambda self: self.array.__dlpack_device__()


@_method
def __array__(self: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    """What numpy.asarray and matplotlib see: the values, without a copy where possible."""
    array = self.detach().numpy()
    return np.array(array, dtype=dtype) if copy else array.astype(dtype or array.dtype, copy=False)


@_method
def __deepcopy__(self: Tensor, memo: dict) -> Tensor:
    if not self.is_leaf:
        raise RuntimeError("deepcopy: only leaf tensors can be copied; use .detach().clone()")
    return _restore(type(self), self.array.copy(), self.node is not None, self.name, self.device.name)


@_method
def __reduce__(self: Tensor) -> tuple:
    return _restore, (type(self), self.detach().cpu().numpy(), self.node is not None, self.name, self.device.name)


def _restore(cls: type, array: Any, requires_grad: bool, name: str | None, device_name: str) -> Tensor:
    device = get_device(device_name)
    tensor = Tensor.__new__(cls)
    Tensor.__init__(tensor, device.kernels.xp.asarray(array), None, device)
    tensor.name = name
    return leaf(tensor) if requires_grad else tensor


@_method
def __repr__(self: Tensor) -> str:
    body = np.array2string(self.detach().cpu().array, separator=", ", prefix="tensor(", precision=4, threshold=200)
    extras = [] if self.dtype in (np.float32, np.int64, np.bool_) else [f"dtype={self.dtype}"]
    extras += [f"shape={self.shape}"] if self.array.size > 200 or self.array.size == 0 else []
    extras += [f"device='{self.device}'"] if self.device.name != "cpu" else []
    extras += [f"op={self.node.op.name}"] if isinstance(self.node, tape.Node) else ["requires_grad=True"] if self.node else []
    return f"tensor({', '.join([body, *extras])})"


@_method
def _repr_html_(self: Tensor) -> str:
    """What a notebook shows: shape, dtype and range above the values."""
    from html import escape

    values = self.detach().cpu().array
    spread = f", {values.min():.4g} to {values.max():.4g}" if values.size and values.dtype.kind in "fiu" else ""
    grad = ", requires grad" if self.node is not None else ""
    head = f"tensor {' x '.join(map(str, self.shape)) or 'scalar'}, {self.dtype}, {self.device}{spread}{grad}"
    return f"<div><b>{escape(head)}</b><pre>{escape(np.array2string(values, precision=4, threshold=200))}</pre></div>"


@_method
def __format__(self: Tensor, spec: str) -> str:
    return format(self.item(), spec) if spec else repr(self)
