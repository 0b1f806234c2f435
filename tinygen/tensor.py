"""What users touch: operators, methods and in-place changes, attached to the one Tensor class.

Every differentiable operation is a function of tinygen.ops whose first argument is the tensor, so
a method is that same function assigned to the class. What in-place methods (`add_`, `normal_`,
...) do says ops/in_place.py.
"""

# ruff: noqa: I001 # a line for each import of ops would fill the page

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import numpy as np

from . import tape
from .backends import is_device
from .backends import device as get_device
from .backends.arrays import native
from .memory import share
from .ops import activation, arithmetic, choosing, comparison, creation, diagonals, gathering
from .ops import indexing, joining, masking, matmul, pointwise, random, rearranging, reduce
from .ops import sorting, special, view
from .ops.in_place import in_place, put, setting
from .tape import Tensor, leaf

for _module, _names in {
    arithmetic: "add sub mul div pow neg lerp remainder fmod floor_divide addcmul addcdiv",
    pointwise: "square reciprocal exp log log1p expm1 sqrt rsqrt abs sign sin cos erf floor ceil "
    "round trunc cast",
    choosing: "maximum minimum clamp",
    comparison: " ".join(comparison.__all__),
    activation: "tanh sigmoid relu",
    reduce: "sum mean var std max min amax amin logsumexp softmax log_softmax cumsum cumprod prod "
    "norm argmax argmin any all",
    view: "reshape view transpose permute flatten unflatten squeeze unsqueeze expand clone "
    "contiguous movedim swapaxes broadcast_to",
    joining: "split chunk unbind narrow",
    indexing: "index_select index_add select",
    masking: "masked_fill masked_select nonzero",
    gathering: "gather scatter scatter_add take_along_dim",
    rearranging: "flip rot90 roll tile repeat repeat_interleave",
    diagonals: "tril triu diagonal",
    sorting: "sort argsort topk",
    special: "erfinv",
    matmul: "matmul mm mv bmm dot outer t addmm trace",
}.items():
    for _name in _names.split():
        setattr(Tensor, _name, getattr(_module, _name))


_OPERANDS = (Tensor, int, float, np.generic)


def _operator(function: Callable, reflected: bool = False) -> Callable:
    """An operator's method: NumPy arrays become constants, what is unknown is left to Python."""

    def apply(self: Tensor, other: Any) -> Any:
        if not isinstance(other, _OPERANDS):
            if not isinstance(other, np.ndarray):
                return NotImplemented
            other = Tensor(native(other), None, self.device)
        return function(other, self) if reflected else function(self, other)

    return apply


for _name, _dunder in arithmetic.OPERATORS.items():
    _function = getattr(arithmetic, f"_{_name}", getattr(Tensor, _name))  # without alpha
    setattr(Tensor, f"__{_dunder}__", _operator(_function))
    setattr(Tensor, f"__r{_dunder}__", _operator(_function, reflected=True))
    _changing = _function if _name == "matmul" else in_place(f"{_name}_", _function)
    setattr(Tensor, f"__i{_dunder}__", _operator(_changing))  # x @= y is x = x @ y: another shape
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Tensor, f"__{_name}__", _operator(getattr(comparison, _name)))


for _name in (
    "add sub mul div pow neg exp log sqrt abs clamp tanh sigmoid relu floor ceil round lerp "
    "masked_fill remainder floor_divide"
).split():
    setattr(Tensor, f"{_name}_", in_place(f"{_name}_", getattr(Tensor, _name)))


class Methods(Tensor):
    """Everything else, attached to Tensor below."""

    __neg__, __abs__, __invert__ = arithmetic.neg, pointwise.abs, comparison.bitwise_not
    __getitem__ = indexing.getitem
    backward = tape.backward
    normal_ = setting("normal_", random.normal_like)
    uniform_ = setting("uniform_", random.uniform_like)
    bernoulli_ = setting("bernoulli_", random.bernoulli_like)
    copy_ = setting("copy_", lambda self, s: s.to(self.device) if isinstance(s, Tensor) else s)
    fill_ = setting("fill_", lambda self, value: value)
    zero_ = setting("zero_", lambda self: 0)
    where = lambda self, condition, other: choosing.where(condition, self, other)
    shape = property(lambda self: self.array.shape, doc="The lengths of all dimensions, a tuple.")
    ndim = property(lambda self: self.array.ndim)
    dtype = property(lambda self: self.array.dtype)
    T = property(lambda self: self.permute(tuple(range(self.ndim))[::-1]), doc="Axes reversed.")
    mT = property(lambda self: self.transpose(-2, -1), doc="The last two dimensions exchanged.")
    is_leaf = property(lambda self: not isinstance(self.node, tape.Node | tape.Output))
    grad_fn = property(lambda self: None if self.is_leaf else self.node)
    is_cuda = property(lambda self: self.device.name == "cuda")
    size = lambda self, dim=None: self.array.shape if dim is None else self.array.shape[dim]
    dim = lambda self: self.array.ndim
    numel = lambda self: int(self.array.size)
    is_floating_point = lambda self: self.array.dtype.kind == "f"
    is_contiguous = lambda self: bool(self.array.flags.c_contiguous)
    tolist = lambda self: self.array.tolist()
    cpu = lambda self: self.to("cpu")
    cuda = lambda self, device=0: self.to(device if is_device(device) else f"cuda:{device}")
    float = lambda self: self.to("float32")
    double = lambda self: self.to("float64")
    long = lambda self: self.to("int64")
    int = lambda self: self.to("int32")
    bool = lambda self: self.to("bool")
    view_as = lambda self, other: self.view(other.shape)
    expand_as = lambda self, other: self.expand(other.shape)
    __len__ = lambda self: len(self.array)
    __iter__ = lambda self: (self[i] for i in range(len(self)))
    __contains__ = lambda self, value: (self.array == getattr(value, "array", value)).any().item()
    __bool__ = lambda self: operator.truth(self.item())
    __float__ = lambda self: float(self.item())
    __int__ = lambda self: int(self.item())
    __index__ = lambda self: operator.index(self.item())
    __dlpack__ = lambda self, **options: self.detach().array.__dlpack__(**options)
    __dlpack_device__ = lambda self: self.array.__dlpack_device__()

    def __setitem__(self: Tensor, index: Any, value: Any) -> None:
        put("x[...] = y", self, indexing.raw_index(self, index), value)

    def detach(self: Tensor) -> Tensor:
        """The same memory as a constant."""
        alias = Tensor(self.array, None, self.device)
        share(self, alias)
        return alias

    def _set_data(self: Tensor, value: Tensor) -> None:
        self.array, self.device = value.array, value.device
        self._version[0] += 1  # graphs that kept the old values must not run
        share(value, self)

    data = property(detach, _set_data, doc="The same memory as a constant, free to be changed.")

    def requires_grad_(self: Tensor, requires_grad: Any = True) -> Tensor:
        """The tensor itself, made a leaf (or a constant again)."""
        if not requires_grad and not self.is_leaf:
            raise RuntimeError("requires_grad: this tensor was computed; use .detach() instead")
        if requires_grad and self.dtype.kind != "f":
            raise TypeError(f"requires_grad: only floats have gradients, this is {self.dtype}")
        if not requires_grad or self.node is None:
            self.node = tape.Leaf(self) if requires_grad else None
        return self

    requires_grad = property(lambda self: self.node is not None, requires_grad_)  # type: ignore

    def to(self: Tensor, *targets: Any, dtype: Any = None, device: Any = None) -> Tensor:
        """This tensor with another dtype, on another device, or like another tensor."""
        for target in targets:
            if isinstance(target, Tensor):
                dtype, device = target.dtype, target.device
            elif is_device(target):
                device = target
            else:
                dtype = target
        result = self
        if device is not None and get_device(device) is not self.device:
            if not self.is_leaf:
                raise RuntimeError("to: a recorded tensor cannot change its device; detach() it")
            result = creation.tensor(self.detach().numpy(), None, device, self.requires_grad)
        return result if dtype is None else pointwise.cast(result, dtype)

    def numpy(self: Tensor) -> np.ndarray:
        """The memory as a NumPy array (shared on the CPU); raises if the tensor requires grad."""
        if self.requires_grad:
            raise RuntimeError("numpy: this tensor requires grad; use .detach().numpy()")
        return self.array if isinstance(self.array, np.ndarray) else self.array.get()

    def item(self: Tensor) -> Any:
        """The value of a one-element tensor as a Python number."""
        if self.array.size != 1:
            raise ValueError(f"item: a tensor {self.shape} has no single value; index or reduce it")
        return self.array.item()

    def __array__(self: Tensor, dtype: Any = None, copy: Any = None) -> np.ndarray:
        """What numpy.asarray and matplotlib see: the values, without a copy where possible."""
        array = self.detach().numpy()
        return np.array(array, dtype) if copy else array.astype(dtype or array.dtype, copy=False)

    def __reduce__(self: Tensor) -> tuple:  # for pickle and copy.deepcopy
        if not self.is_leaf:
            raise RuntimeError("copy: only a leaf can be copied; use .detach().clone()")
        array = self.detach().cpu().array
        return _restore, (type(self), array, self.requires_grad, self.name, self.device.name)

    def __repr__(self: Tensor) -> str:
        values, plain = self.detach().cpu().array, ("float32", "int64", "bool")
        text = np.array2string(values, separator=", ", prefix="tensor(", precision=4, threshold=200)
        extras = [] if self.dtype.name in plain else [f"dtype={self.dtype}"]
        extras += [f"shape={self.shape}"] if values.size > 200 or values.size == 0 else []
        extras += [] if self.device.name == "cpu" else [f"device='{self.device}'"]
        if self.node is not None:
            made = isinstance(self.node, tape.Node)
            extras.append(f"op={self.node.op.name}" if made else "requires_grad=True")
        return f"tensor({', '.join([text, *extras])})"

    def _repr_html_(self: Tensor) -> str:
        """What a notebook shows: shape, dtype and range above the values."""
        values = self.detach().cpu().array
        some = values.size and values.dtype.kind in "fiu"
        spread = f", {values.min():.4g} to {values.max():.4g}" if some else ""
        head = f"tensor {' x '.join(map(str, self.shape)) or 'scalar'}, {self.dtype}{spread}"
        body = np.array2string(values, precision=4, threshold=200)
        return f"<div><b>{escape(head)}</b><pre>{escape(body)}</pre></div>"

    def __format__(self: Tensor, spec: str) -> str:
        return format(self.item(), spec) if spec else repr(self)


for _name, _function in vars(Methods).items():
    if _name not in ("__dict__", "__weakref__", "__module__", "__doc__", "__qualname__"):
        setattr(Tensor, _name, _function)
Tensor.__hash__ = object.__hash__  # type: ignore[method-assign]
Tensor.__array_ufunc__ = None  # type: ignore # NumPy's operators then hand over to ours


def _restore(cls: type, array: Any, requires_grad: bool, name: str | None, place: str) -> Tensor:
    device, tensor = get_device(place), cls.__new__(cls)  # type: ignore
    Tensor.__init__(tensor, device.kernels.xp.asarray(array), None, device)
    tensor.name = name
    return leaf(tensor) if requires_grad else tensor


@contextmanager
def frozen(*modules: Any) -> Iterator[None]:
    """Context manager: the parameters of these modules (or these tensors) are constants inside.

    A generator's step neither computes nor accumulates the gradients of the discriminator's
    weights; gradients still flow through the discriminator to its input.
    """
    nodes: dict[Tensor, Any] = {}
    for m in modules:
        every = m.parameters() if hasattr(m, "parameters") else m
        nodes |= {t: t.node for t in ([m] if isinstance(m, Tensor) else every)}
    for t in nodes:
        t.node = None
    try:
        yield
    finally:
        for t, node in nodes.items():
            t.node = node
