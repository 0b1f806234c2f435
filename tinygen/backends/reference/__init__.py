"""The kernel table in plain NumPy: the oracle of every test, and the backend where no compiler was.

Each function is its formula and nothing else: no blocking, no threads, no fusing. Given float64 it is as exact as
float64 is; given float32 it stays float32. Read these files, one for a family of kernels, to learn what a kernel
computes, and csrc/ to learn how it does so fast.

    from tinygen.backends import reference as k
    k.softmax(numpy.zeros((1, 4)))            # array([[0.25, 0.25, 0.25, 0.25]])
"""

# ruff: noqa: F401 # the imports are the table

from __future__ import annotations

import numpy as xp  # the array library of this table

from .. import thread_count
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
from .sums import bernoulli_loss, class_loss, squared_error, sum

name = "reference"


def set_num_threads(n: int) -> None:
    """Limits the threads of NumPy's BLAS to `n`, where threadpoolctl is installed; all else here runs on one thread."""
    n = thread_count(n)
    try:
        import threadpoolctl
    except ImportError:
        return
    threadpoolctl.threadpool_limits(n, user_api="blas")


def get_num_threads() -> int:
    """The number of threads of NumPy's BLAS; 1 where threadpoolctl is not there to tell."""
    try:
        import threadpoolctl
    except ImportError:
        return 1
    pools = threadpoolctl.threadpool_info()
    return max((pool["num_threads"] for pool in pools if pool["user_api"] == "blas"), default=1)


def set_winograd(enabled: bool) -> None:
    """Nothing: the oracle computes by definition."""


def get_winograd() -> bool:
    return False
