"""The CUDA backend: the kernel table on CuPy arrays, computed by the kernels of csrc/cuda.

`Cuda` is the table, a class for each family of kernels on top of `Table` (table.py); it knows an array library `xp` and
a launcher, no more. `load()` gives it CuPy and the kernels that CuPy compiles at first use; `emulated.load()` gives it
NumPy and the same .cu files compiled by g++. So all that is here runs, and is tested, on a machine without a GPU.

Results are reproducible: no kernel adds with atomics, a sum that is shared out is gathered in a fixed order. Products
are computed in full precision unless `set_float32_matmul_precision` says otherwise. Deliberately absent: cuBLAS, cuDNN
and cuRAND, which cannot be captured into a graph through CuPy, and any fallback.
"""

from __future__ import annotations

from .contraction import Contraction
from .launcher import CupyLauncher
from .normalization import Normalization
from .optimizer import Optimizer
from .planes import Planes
from .pointwise import Pointwise
from .random import Random
from .sums import Sums


class Cuda(Contraction, Planes, Sums, Normalization, Pointwise, Optimizer, Random):
    """The kernel table (see `Kernels` in backends/__init__.py) on one array library and one launcher."""


def load() -> Cuda:
    """The table on CuPy; ImportError, naming the extra to install, without CuPy or a GPU that works."""
    try:
        import cupy
    except ImportError as error:
        raise ImportError("CuPy is not installed") from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise ImportError(f"CuPy {cupy.__version__} finds no usable GPU or driver ({error})") from error
    if not count:
        raise ImportError(f"CuPy {cupy.__version__} finds no GPU")
    return Cuda("cuda", cupy, CupyLauncher(cupy))
