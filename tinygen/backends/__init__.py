"""The kernel table: what every device must be able to compute, and the devices that can.

A backend is a table of functions on arrays, nothing more. `Kernels` below is the whole contract: the plain NumPy
backend (`reference`, the oracle of every test), the C++ one (`cpu`) and the CUDA one (`cuda/`) have exactly these
names with exactly these arguments, and a test holds them to it. `arrays.py` is what they share. Arithmetic that NumPy
and CuPy do equally well (add, exp, sum, reshape ...) is not in the table: ops reach it as `k.xp`. A kernel that a
backend lacks raises; nothing falls back in silence.

Arrays are float32 or float64 unless said otherwise, all floating inputs of one call share one dtype, and results are
freshly allocated and C-contiguous. Every table checks shapes and indices before it reads or writes, with the errors of
`arrays.py`; ops check earlier and say it in the user's words. A GPU cannot raise for an index without waiting: there
one that is outside reads NaN and writes nothing.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from ..errors import DeviceError, SettingError
from .arrays import Array, numeric
from .geometry import Geometry, Pieces, Shape, Taps


class Kernels(Protocol):
    """The functions of a backend module."""

    name: str  # "reference", "cpu", "cuda"
    xp: ModuleType  # numpy or cupy

    # Convolution: the three contractions of one trilinear form (see geometry.py). `bias` has one value per output
    # channel; behind it comes leaky_relu (slope 1: nothing, 0: ReLU).
    def conv(self, x: Array, w: Array, geo: Geometry, bias: Array | None = None, slope: float = 1.0) -> Array: ...
    def conv_transpose(
        self, y: Array, w: Array, geo: Geometry, bias: Array | None = None, slope: float = 1.0
    ) -> Array: ...
    def conv_weight(self, x: Array, y: Array, geo: Geometry) -> Array: ...

    # The same result, and sums over each of its channels, which spare channel_norm of exactly that array a pass over
    # it; None where the kernel that computes this shape makes no sums.
    def conv_moments(
        self, x: Array, w: Array, geo: Geometry, bias: Array | None = None, slope: float = 1.0
    ) -> tuple[Array, Array | None]: ...
    def conv_transpose_moments(
        self, y: Array, w: Array, geo: Geometry, bias: Array | None = None, slope: float = 1.0
    ) -> tuple[Array, Array | None]: ...

    # Planes: x is (N, C, H, W). resample: y[n,c,p,q] = sum over t,u of rows.weight[p,t] cols.weight[q,u]
    # x[n,c,rows.index[p,t],cols.index[q,u]].
    def resample(self, x: Array, rows: Taps, cols: Taps) -> Array: ...
    # max_pool: (values, winners), the maximum over the taps of each output (index -1 = outside, never wins; the first
    # maximum in row-major tap order wins a tie; NaN wins over everything). winners: int64 h * W + w.
    def max_pool(self, x: Array, rows: Taps, cols: Taps) -> tuple[Array, Array]: ...
    # take_plane: y[n,c,p,q] = x[n,c].flat[index[n,c,p,q]]; put_plane is its adjoint, (N, C, *size), repeated indices
    # add up.
    def take_plane(self, x: Array, index: Array) -> Array: ...
    def put_plane(self, y: Array, index: Array, size: tuple[int, int]) -> Array: ...
    # scatter_add: out (length, *values.shape[1:]), out[index[i]] += values[i], in the order of i; index int64 in [0,
    # length).
    def scatter_add(self, values: Array, index: Array, length: int) -> Array: ...

    # Products, of arrays with any strides. matmul: as numpy.matmul of two arrays with at least two axes each. linear:
    # x (M, K) times the transpose of w (N, K), plus bias (N,), then leaky_relu (slope 1: nothing, 0: ReLU).
    def matmul(self, a: Array, b: Array) -> Array: ...
    def linear(self, x: Array, w: Array, bias: Array | None = None, slope: float = 1.0) -> Array: ...

    # sum: scale * the sum over `axes` (ascending, not negative), which the result lacks.
    def sum(self, x: Array, axes: tuple[int, ...], scale: float = 1.0) -> Array: ...

    # Losses: (scale * sum of the loss of every element or row, 0-d; scale * its derivative by x, or None unless
    # `slope`). Of (x - target)^2; of binary cross entropy of sigmoid(x), as bce_with_logits; of cross entropy of
    # softmax(x), x (M, classes), labels (M,) int64 in [0, classes).
    def squared_error(self, x: Array, target: Array, scale: float, slope: bool) -> tuple[Array, Array | None]: ...
    def bernoulli_loss(self, x: Array, target: Array, scale: float, slope: bool) -> tuple[Array, Array | None]: ...
    def class_loss(self, x: Array, labels: Array, scale: float, slope: bool) -> tuple[Array, Array | None]: ...

    # Normalisation. channel_norm: x (N, C, S), statistics over N and S (variance biased): (y, mean, rstd), y = (x -
    # mean) * rstd * weight + bias, rstd = 1 / sqrt(variance + eps); weight and bias (C,). With a slope other than 1 y
    # passes leaky_relu (the backward kernel finds its sign again from x); `moments`: what conv_moments gave with x; gx
    # is written to `out`, which may be g, if that is given. row_norm: x (M, D), statistics over D: (y, rstd), y = (x -
    # mean) * rstd. The backward kernels return (gx, gweight, gbias) and gx.
    def channel_norm(
        self, x: Array, weight: Array, bias: Array, eps: float, slope: float = 1.0, moments: Array | None = None
    ) -> tuple[Array, Array, Array]: ...
    def channel_norm_backward(
        self, g: Array, x: Array, weight: Array, bias: Array, mean: Array, rstd: Array, slope: float = 1.0,
        out: Array | None = None,
    ) -> tuple[Array, Array, Array]: ...  # fmt: skip
    def row_norm(self, x: Array, eps: float) -> tuple[Array, Array]: ...
    def row_norm_backward(self, g: Array, y: Array, rstd: Array) -> Array: ...

    # Along the last axis.
    def softmax(self, x: Array) -> Array: ...
    def log_softmax(self, x: Array) -> Array: ...

    # Pointwise, any shape; each *_backward multiplies the incoming gradient g by the derivative. Given `out`, which may
    # be the first argument, the result is written there.
    def sigmoid(self, x: Array) -> Array: ...
    def sigmoid_backward(self, g: Array, out: Array) -> Array: ...
    def tanh(self, x: Array) -> Array: ...
    def tanh_backward(self, g: Array, out: Array) -> Array: ...
    # leaky_relu: relu has slope 0 (0, not NaN, at -inf); NaN stays NaN; the derivative is 1 where
    # x > 0, else `slope`; at NaN it is 1 of slope 0, and `slope` of another, as in torch.
    def leaky_relu(self, x: Array, slope: float, out: Array | None = None) -> Array: ...
    def leaky_relu_backward(self, g: Array, x: Array, slope: float, out: Array | None = None) -> Array: ...
    def elu(self, x: Array, alpha: float, scale: float) -> Array: ...  # scale * (x if x > 0 else alpha * expm1(x))
    def elu_backward(self, g: Array, x: Array, alpha: float, scale: float) -> Array: ...
    def softplus(self, x: Array) -> Array: ...  # log(1 + exp(x)), finite at any x
    def softplus_backward(self, g: Array, x: Array) -> Array: ...
    def silu(self, x: Array) -> Array: ...  # x * sigmoid(x)
    def silu_backward(self, g: Array, x: Array) -> Array: ...
    def gelu(self, x: Array, tanh: bool) -> Array: ...  # x * Phi(x), or its tanh approximation
    def gelu_backward(self, g: Array, x: Array, tanh: bool) -> Array: ...
    def erf(self, x: Array) -> Array: ...
    # max(x, 0) - x * target + log1p(exp(-|x|)): binary cross entropy of sigmoid(x), finite at any logit.
    def bce_with_logits(self, x: Array, target: Array) -> Array: ...
    def bce_with_logits_backward(self, g: Array, x: Array, target: Array) -> Array: ...  # g * (sigmoid(x) - target)

    # Optimizer steps, in place. p and g are contiguous parameters and their gradients, piece by piece, none
    # overlapping. The state lies in flat arrays, from `starts` on; what lies between there is padding, free to change.
    # `lr` and `step` (the count, from 1) are 0-d float64 arrays, so that a captured training step can change them.
    # Formulas as in torch.optim; buffers a backend must not touch are None.
    def sgd_step(
        self, p: Pieces, g: Pieces, buffer: Array | None, lr: Array, step: Array,
        momentum: float, dampening: float, weight_decay: float, nesterov: bool,
    ) -> None: ...  # fmt: skip
    def adam_step(
        self, p: Pieces, g: Pieces, m: Array, v: Array, lr: Array, step: Array,
        beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool,
    ) -> None: ...  # fmt: skip
    def rmsprop_step(
        self, p: Pieces, g: Pieces, v: Array, buffer: Array | None, mean: Array | None, lr: Array,
        alpha: float, eps: float, weight_decay: float, momentum: float,
    ) -> None: ...  # fmt: skip

    # Random numbers: Philox4x32-10 with key (seed low, seed high) and counter (block low, block high, stream, 0),
    # where block = offset + i // 4 and word i % 4 is 32-bit word i of the sequence. uniform in [0, 1): float32 (word
    # >> 8) * 2^-24; float64 ((word[2i] >> 5) * 2^26 + (word[2i+1] >> 6)) * 2^-53. normal: Box-Muller on consecutive
    # uniforms u, v of the same dtype: r = sqrt(-2 log(1 - u)), values 2j and 2j+1 are r cos(2 pi v) and r sin(2 pi
    # v).
    def random_bits(self, seed: int, stream: int, offset: int, count: int) -> Array: ...  # uint32 (count,)
    def random_uniform(self, seed: int, stream: int, offset: int, shape: Shape, dtype: Any) -> Array: ...
    def random_normal(self, seed: int, stream: int, offset: int, shape: Shape, dtype: Any) -> Array: ...


KERNEL_NAMES = tuple(n for n in vars(Kernels) if not n.startswith("_") and callable(vars(Kernels)[n]))


class Device:
    """Where a tensor lives: a name and the kernel table that computes there; `device("cpu")` is the one instance."""

    __slots__ = ("kernels", "name")

    def __init__(self, name: str, kernels: Any) -> None:
        self.name, self.kernels = name, kernels

    @property
    def type(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"device('{self.name}')"

    def __str__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, str) and other == self.name)

    def __hash__(self) -> int:
        return hash(self.name)


_MODULES = {"cpu": "cpu", "cuda": "cuda", "cuda-emulated": "cuda.emulated"}
DEVICE_NAMES = tuple(_MODULES)
_devices: dict[str, Device] = {}


def _load(name: str) -> Any:
    if name == "cpu" and os.environ.get("TINYGEN_CPU") == "reference":
        return importlib.import_module(".reference", __name__)
    try:
        module = importlib.import_module("." + _MODULES[name], __name__)
        return module.load() if hasattr(module, "load") else module
    except ImportError as error:
        if name == "cpu" and error.name in ("tinygen._cpu", "tinygen.backends.cpu"):  # installed without a compiler
            return importlib.import_module(".reference", __name__)
        remedy = {
            "cpu": "reinstall tinygen so that its extension is built anew, or set TINYGEN_CPU=reference",
            "cuda": "install CuPy with pip install 'tinygen[cuda13]' (or 'tinygen[cuda12]'), or use device='cpu'",
            "cuda-emulated": "install g++, or name a C++17 compiler in the environment variable CXX",
        }[name]
        raise DeviceError(f"device '{name}' cannot be used here: {error}; {remedy}") from error


def home(array: Any) -> tuple[Array, Device]:
    """A bare array as a tensor holds it, and its device, the CPU; TypeError for what is no array of numbers."""
    if not isinstance(array, np.ndarray | np.generic):
        raise TypeError(f"Tensor: expected an array, got {type(array).__name__}; write tensor(...)")
    return numeric("Tensor", array), device("cpu")


def device(name: str | Device = "cpu") -> Device:
    """The device "cpu", "cuda" or "cuda-emulated"; ValueError for an unknown name, RuntimeError where it cannot run.

    "cuda:0" is "cuda": tinygen uses one GPU, the first of those that CUDA_VISIBLE_DEVICES shows.
    """
    if isinstance(name, Device):
        return name
    if name.startswith("cuda:"):
        if name != "cuda:0":
            remedy = "set CUDA_VISIBLE_DEVICES to choose another, and use 'cuda'"
            raise SettingError(f"device: {name!r}: tinygen uses one GPU, the first it sees; {remedy}")
        name = "cuda"
    name = "cpu" if name == "cpu:0" else name
    if name not in _devices:
        if name not in _MODULES:
            raise SettingError(f"device: unknown device {name!r}; known devices are {', '.join(map(repr, _MODULES))}")
        _devices[name] = Device(name, _load(name))
    return _devices[name]


def is_device(target: Any) -> bool:
    """Whether a target of `to` is a device, not a dtype; ValueError for a word that is neither."""
    if not isinstance(target, str):
        return isinstance(target, Device)
    if target.split(":")[0] in DEVICE_NAMES:
        return True
    try:
        np.dtype(target)
    except TypeError:
        known = f"known devices are {', '.join(map(repr, DEVICE_NAMES))}, a dtype is such as 'float32'"
        raise SettingError(f"to: {target!r} is neither a device nor a dtype; {known}") from None
    return False


def thread_count(count: Any) -> int:
    """`count`, but at most four for each core of this machine: more only wait. ValueError for what is no count."""
    whole = isinstance(count, int | np.integer) and not isinstance(count, bool)
    if not whole or count < 1:
        raise ValueError(f"set_num_threads: expected an integer of at least 1, got {count!r}")
    return min(int(count), 4 * (os.cpu_count() or 1))


PRECISIONS = ("highest", "high", "medium")
_precision = ["highest"]


def set_float32_matmul_precision(precision: str) -> None:
    """See tinygen.set_float32_matmul_precision; tables look here at each product."""
    if precision not in PRECISIONS:
        raise ValueError(f"set_float32_matmul_precision: {precision!r} is none of {', '.join(PRECISIONS)}")
    _precision[0] = precision


def float32_matmul_precision() -> str:
    """What was set last."""
    return _precision[0]
