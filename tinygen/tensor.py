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
for _name, _dtype in {"float": "float32", "double": "float64", "long": "int64", "int": "int32", "bool": "bool"}.items():
    setattr(Tensor, _name, lambda self, dtype=np.dtype(_dtype): self.to(dtype))


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


def _write(self: Tensor, name: str, value: Any, at: Any = ..., others: Iterable = ()) -> Tensor:
    """Writes into this tensor's memory and counts its version up; raises where that could falsify a gradient."""
    if not self.is_leaf:
        raise RuntimeError(
            f"{name}: this tensor {self.shape} is the result of a recorded operation that backward() may need; compute a new "
            "tensor instead (x = x.add(y), not x.add_(y)), or change x.detach().clone()"
        )
    if self.node is not None and tape.is_grad_enabled():
        raise RuntimeError(
            f"{name}: a leaf that requires grad {self.shape} cannot be changed in place while operations are recorded; use "
            "`with tinygen.no_grad():`, or change its .data"
        )
    if tape.is_grad_enabled() and any(isinstance(t, Tensor) and t.node is not None for t in (value, *others)):
        raise RuntimeError(f"{name}: the other operand requires grad; compute a new tensor instead")
    array = _raw(value() if callable(value) else value)
    if at is ... and np.broadcast_shapes(np.shape(array), self.shape) != self.shape:
        raise ValueError(f"{name}: a value of shape {np.shape(array)} does not fit into {self.shape}")
    self.array[at] = array
    self._version[0] += 1
    return self


def _raw(value: Any) -> Any:
    return value.array if isinstance(value, Tensor) else value


def _in_place(name: str, function: Callable) -> Callable:
    def apply(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return _write(self, name, lambda: function(self.detach(), *args, **kwargs), ..., args)

    apply.__name__, apply.__doc__ = name, f"`{name[:-1]}`, written into this tensor's memory; returns the tensor."
    return apply


for _name in "add sub mul div pow neg exp log sqrt abs clamp tanh sigmoid relu floor ceil round lerp masked_fill".split():
    setattr(Tensor, _name + "_", _in_place(_name + "_", getattr(Tensor, _name)))
Tensor.normal_ = _in_place("normal_", random.normal_like)
Tensor.uniform_ = _in_place("uniform_", random.uniform_like)
Tensor.bernoulli_ = _in_place("bernoulli_", random.bernoulli_like)
Tensor.copy_ = _in_place("copy_", lambda self, source: source)
Tensor.fill_ = _in_place("fill_", lambda self, value: value)
Tensor.zero_ = _in_place("zero_", lambda self: 0)


def _augmented(name: str, function: Callable) -> Callable:
    """x += y: in place where that is legal (data, parameters under no_grad), otherwise x = x + y."""

    def apply(self: Tensor, other: Any) -> Any:
        joins = isinstance(other, Tensor) and (other.requires_grad and tape.is_grad_enabled() or other.ndim > self.ndim)
        if joins or not self.is_leaf or self.dtype.kind != "f":
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
def __setitem__(self: Tensor, index: Any, value: Any) -> None:
    at = tuple([_raw(i) for i in index]) if isinstance(index, tuple) else _raw(index)
    _write(self, "x[...] = y", value, (at,) if at is ... else at)


# Gradients.


def _set_requires_grad(self: Tensor, value: bool) -> None:
    if not self.is_leaf and not value:
        raise RuntimeError("requires_grad: this tensor was computed; use .detach() to stop gradients")
    if value and self.dtype.kind != "f":
        raise TypeError(f"requires_grad: only floating-point tensors have gradients, this one is {self.dtype}")
    if not value:
        self.node = None
    elif self.node is None:
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
Tensor.size = lambda self, dim=None: self.array.shape if dim is None else self.array.shape[dim]
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
        if not self.is_leaf:
            raise RuntimeError("to: a recorded tensor cannot change its device; use .detach() first")
        result = creation.tensor(self.detach().numpy(), device=device, requires_grad=self.requires_grad)
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
def __len__(self: Tensor) -> int:
    if self.ndim == 0:
        raise TypeError("len: a 0-dimensional tensor has no length")
    return self.array.shape[0]


Tensor.tolist = lambda self: self.array.tolist()
Tensor.__iter__ = lambda self: (self[i] for i in range(len(self)))
Tensor.__contains__ = lambda self, value: bool((self.array == _raw(value)).any())
Tensor.__bool__ = lambda self: bool(self.item())
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
def __reduce__(self: Tensor) -> tuple:  # for pickle and copy.deepcopy
    if not self.is_leaf:
        raise RuntimeError("deepcopy, pickle: only leaf tensors can be copied; use .detach().clone()")
    return _restore, (type(self), self.detach().cpu().array, self.node is not None, self.name, self.device.name)


def _restore(cls: type, array: Any, requires_grad: bool, name: str | None, device_name: str) -> Tensor:
    device, tensor = get_device(device_name), cls.__new__(cls)
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
