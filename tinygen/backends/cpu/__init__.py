"""The C++ backend: the kernel table on NumPy arrays, computed by the extension `tinygen._cpu` (csrc/cpu).

Each function checks dtypes, makes its arrays contiguous, allocates the result and calls one C++ kernel, which releases
the GIL. The kernels exist for several instruction sets; the best one that the machine has is used unless TINYGEN_CPU
names another (baseline, avx2, avx512, or `reference` for plain NumPy). What was measured, and decides which kernel
runs, stands in csrc/cpu/TUNING.md. This package is the table; a file holds a family of kernels.

Threads: `set_num_threads` sets the kernels and NumPy's BLAS together; a fixed number gives bit-identical results.
Absent: formulas (backends/reference/ has them), and any fallback.
"""

# ruff: noqa: F401 # the imports are the table
# Each file says `import tinygen._cpu`, not `from tinygen import`: where it is missing, the error must name it.

from __future__ import annotations

import numpy as xp  # the array library of this table

from .contraction import (
    conv,
    conv_moments,
    conv_transpose,
    conv_transpose_moments,
    conv_weight,
    linear,
    matmul,
)
from .normalization import (
    channel_norm,
    channel_norm_backward,
    log_softmax,
    row_norm,
    row_norm_backward,
    softmax,
)
from .optimizer import adam_step, rmsprop_step, sgd_step
from .planes import max_pool, put_plane, resample, scatter_add, take_plane
from .pointwise import (
    bce_with_logits,
    bce_with_logits_backward,
    elu,
    elu_backward,
    erf,
    gelu,
    gelu_backward,
    leaky_relu,
    leaky_relu_backward,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    softplus,
    softplus_backward,
    tanh,
    tanh_backward,
)
from .random import random_bits, random_normal, random_uniform
from .runtime import get_num_threads, get_winograd, isa, set_num_threads, set_winograd, sources
from .sums import bernoulli_loss, class_loss, squared_error, sum

name = "cpu"
