"""tinygen: from the equation on a lecture slide to the kernel that computes it.

`import tinygen as tg` gives the tensor library under torch's names; `tg.nn`, `tg.optim` build and train models on it;
`tg.data`, `tg.networks`, `tg.models`, `tg.training` and `tg.recipes` are loaded when first used.
From `tinygen train dcgan` to the kernel, door by door:
    cli.py                 reads the options and calls recipes.start
    recipes/gans.py        the recipe dcgan builds two networks and hands them, with a game, to a Step
    networks/dcgan.py      the generator, a stack of layers
    training/loop.py       the loop calls the Step once for each batch
    models/gan.py          the Step is the slide: D's loss, D's update, G's loss, G's update
    nn/conv.py             the layer holds the weight and calls conv_transpose2d
    ops/conv.py            one trilinear form, three operations, six one-line derivatives
    tape.py                records the operation, and walks back when loss.backward() asks
    backends/cpu/          the table of kernels hands arrays to C++
    csrc/cpu/              the kernel; csrc/cpu/tour explains it from seven loops on
"""

import importlib as _importlib
from types import FunctionType as _Function
from types import SimpleNamespace as _Namespace
from typing import Any as _Any

import numpy as _numpy

from . import autograd as autograd
from . import tensor as _tensor
from .backends import KERNEL_NAMES, Device, device
from .backends import float32_matmul_precision as _get_precision
from .backends import set_float32_matmul_precision as _set_precision
from .keywords import explained as _explained
from .ops import linalg as linalg
from .ops.activation import *
from .ops.arithmetic import *
from .ops.bilinear import *
from .ops.choosing import *
from .ops.comparison import *
from .ops.conv import *
from .ops.convolve import *
from .ops.creation import *
from .ops.diagonals import *
from .ops.distances import *
from .ops.embedding import *
from .ops.fused import *
from .ops.gathering import *
from .ops.indexing import *
from .ops.joining import *
from .ops.masking import *
from .ops.matmul import *
from .ops.padding import *
from .ops.pointwise import *
from .ops.pool import *
from .ops.random import *
from .ops.rearranging import *
from .ops.reduce import *
from .ops.resize import *
from .ops.sorting import *
from .ops.special import *
from .ops.view import *
from .recording import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from .tape import Tensor, backward, grad
from .tensor import frozen

for _name, _value in [*globals().items()]:
    if isinstance(_value, _Function) and _value.__module__.startswith(f"{__name__}.ops."):
        globals()[_name] = _explained(_value, Tensor)

__version__ = "0.1.0"

float16, float32, float64 = _numpy.dtype("float16"), _numpy.dtype("float32"), _numpy.dtype("float64")
uint8, int32, int64, bool = _numpy.dtype("uint8"), _numpy.dtype("int32"), _numpy.dtype("int64"), _numpy.dtype("bool")
float, double, long, int = float32, float64, int64, int32


def _cuda_is_available() -> _Any:
    """True where device("cuda") can be used."""
    try:
        return device("cuda").kernels is not None
    except RuntimeError:
        return False


cuda = _Namespace(is_available=_cuda_is_available)


def set_num_threads(count: _Any) -> None:
    """Use `count` threads in the CPU kernels (and in NumPy's BLAS, where threadpoolctl is installed)."""
    device("cpu").kernels.set_num_threads(count)


def get_num_threads() -> _Any:
    """The number of threads the CPU kernels use."""
    return device("cpu").kernels.get_num_threads()


def set_winograd(enabled: _Any) -> None:
    """Whether the CPU kernels may compute float32 convolutions by Winograd's F(4x4, 3x3) and F(4x4, 2x2).

    3x3 kernels at stride 1, 2x2, and 4x4 to 6x6 at stride 2 then take fewer multiplications, and round about twice as
    coarsely (csrc/cpu/TUNING.md has both figures). The error is relative to everything that a tile of 4x4 results
    reads: a zero among large values may come out as a small number, a number beside an infinity as NaN. On by default,
    for layers where it is faster; off also by the environment variable TINYGEN_WINOGRAD=0. float64 never uses it.
    Lavin and Gray, 2015.
    """
    device("cpu").kernels.set_winograd(enabled)


def get_winograd() -> _Any:
    """Whether the CPU kernels may use Winograd's algorithm."""
    return device("cpu").kernels.get_winograd()


def set_float32_matmul_precision(precision: str) -> None:
    """How products of float32 arrays (matrices, convolutions) are computed on a GPU; torch's names and meaning.

    "highest" (at the start): float32's accuracy. "high": factors rounded to TensorFloat-32 (10 bits of fraction).
    "medium": to bfloat16 (7 bits). Sums are float32 in all three; the CPU always computes "highest".
    """
    _set_precision(precision)


def get_float32_matmul_precision() -> str:
    """The precision that was set last: "highest", "high" or "medium"."""
    return _get_precision()


# Loaded on first use, so that `import tinygen` needs NumPy alone.
_MODULES = (
    "data", "errors", "metrics", "models", "networks", "nn", "observe", "optim", "recipes", "step", "studies",
    "testing", "training",
)  # fmt: skip
_FUNCTIONS = {
    "save": "serialization", "load": "serialization", "explain": "observe", "detect_anomaly": "observe",
    "load_run": "recipes", "capture": "graph",
}  # fmt: skip


def __getattr__(name: str) -> _Any:
    if name in _MODULES:
        return _importlib.import_module("." + name, __name__)
    if name in _FUNCTIONS:
        return getattr(_importlib.import_module("." + _FUNCTIONS[name], __name__), name)
    raise AttributeError(f"module 'tinygen' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_FUNCTIONS})
