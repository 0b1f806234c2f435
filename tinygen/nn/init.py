"""Initial values, drawn into a parameter in place: torch's names, formulas and defaults, from tinygen's own generator.

    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")      # std = sqrt(2 / fan_in)
    nn.init.normal_(layer.weight, 0.0, 0.02)                        # DCGAN

The fans of a weight (out, in, *kernel) are in * prod(kernel) and out * prod(kernel). Each function returns its tensor.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..recording import no_grad
from ..tape import Tensor

__all__ = [
    "calculate_gain", "uniform_", "normal_", "trunc_normal_", "constant_", "zeros_", "ones_", "eye_", "dirac_",
    "sparse_", "xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_", "orthogonal_",
]  # fmt: skip


def calculate_gain(nonlinearity: str, param: Any = None) -> float:
    """What keeps the variance: tanh 5/3, relu sqrt(2), leaky_relu sqrt(2 / (1 + param^2)), linear and sigmoid 1."""
    if nonlinearity in (
        "linear",
        "sigmoid",
        "identity",
        *(f"conv{t}{d}d" for t in ("", "_transpose") for d in (1, 2, 3)),
    ):
        return 1.0
    if nonlinearity == "tanh":
        return 5.0 / 3
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, int | float):
            raise ValueError(f"calculate_gain: the slope of leaky_relu should be a number, got {param!r}")
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity == "selu":
        return 3.0 / 4
    raise ValueError(
        f"calculate_gain: unknown nonlinearity {nonlinearity!r}; known: linear, sigmoid, tanh, relu, leaky_relu, selu"
    )


def _fans(name: str, tensor: Tensor) -> tuple[int, int]:
    if tensor.ndim < 2:
        raise ValueError(
            f"{name}: fan in and fan out need a weight of at least 2 dimensions, got shape {tuple(tensor.shape)}"
        )
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _fan(name: str, tensor: Tensor, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"{name}: mode should be 'fan_in' or 'fan_out', got {mode!r}")
    return _fans(name, tensor)[mode == "fan_out"]


def _assign(tensor: Tensor, values: Any) -> Tensor:
    with no_grad():
        return tensor.copy_(Tensor(tensor.device.kernels.xp.asarray(values), None, tensor.device))


@no_grad()
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Uniform in [a, b)."""
    return tensor.uniform_(a, b)


@no_grad()
def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Normal with this mean and standard deviation."""
    return tensor.normal_(mean, std)


@no_grad()
def constant_(tensor: Tensor, val: float) -> Tensor:
    """Every element `val`."""
    return tensor.fill_(val)


def zeros_(tensor: Tensor) -> Tensor:
    """Every element 0."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """Every element 1."""
    return constant_(tensor, 1.0)


def trunc_normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> Tensor:
    """Normal conditioned on [a, b], by the inverse distribution function of a uniform number."""
    from scipy.special import ndtr, ndtri

    low, high = ndtr((a - mean) / std), ndtr((b - mean) / std)
    if not low < high:
        raise ValueError(f"trunc_normal_: the interval [{a}, {b}] has no probability under N({mean}, {std}^2)")
    uniform = uniform_(Tensor(np.empty(tensor.shape, np.float64)), 0.0, 1.0).array
    return _assign(tensor, np.clip(mean + std * ndtri(low + (high - low) * uniform), a, b))


def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix, cut or padded with zeros to the tensor's shape."""
    if tensor.ndim != 2:
        raise ValueError(f"eye_: only a matrix can be the identity, got shape {tuple(tensor.shape)}")
    return _assign(tensor, np.eye(tensor.shape[0], tensor.shape[1]))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """The convolution weight (out, in / groups, *kernel) that copies channel i of each group to its output i."""
    if tensor.ndim not in (3, 4, 5) or tensor.shape[0] % groups:
        raise ValueError(
            f"dirac_: expected a convolution weight with out divisible by groups={groups}, got {tuple(tensor.shape)}"
        )
    values = np.zeros(tensor.shape)
    per_group = tensor.shape[0] // groups
    centre = tuple(k // 2 for k in tensor.shape[2:])
    for g in range(groups):
        for i in range(min(per_group, tensor.shape[1])):
            at = (g * per_group + i, i, *centre)
            values[at] = 1.0
    return _assign(tensor, values)


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Uniform in [-a, a), a = gain * sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    bound = gain * math.sqrt(6.0 / sum(_fans("xavier_uniform_", tensor)))
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Normal with standard deviation gain * sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(_fans("xavier_normal_", tensor))))


def kaiming_uniform_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Uniform in [-b, b), b = gain * sqrt(3 / fan); `a` is the slope of leaky_relu (He et al. 2015)."""
    if 0 in tensor.shape:
        return tensor
    bound = calculate_gain(nonlinearity, a) * math.sqrt(3.0 / _fan("kaiming_uniform_", tensor, mode))
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Normal with standard deviation gain / sqrt(fan); `a` is the slope of leaky_relu (He et al. 2015)."""
    if 0 in tensor.shape:
        return tensor
    return normal_(tensor, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(_fan("kaiming_normal_", tensor, mode)))


def fan_in_(weight: Tensor, bias: Tensor | None) -> None:
    """Weight and bias of a linear layer or a convolution as torch starts them: uniform in +-1 / sqrt(fan_in)."""
    kaiming_uniform_(weight, a=math.sqrt(5))
    if bias is not None:
        fan_in = _fans("bias", weight)[0]
        bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
        uniform_(bias, -bound, bound)


def orthogonal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """gain * Q, as a matrix (shape[0], rest) with orthonormal rows or columns, uniform over such (Saxe et al. 2013)."""
    if tensor.ndim < 2:
        raise ValueError(f"orthogonal_: expected at least 2 dimensions, got shape {tuple(tensor.shape)}")
    if 0 in tensor.shape:
        return tensor
    rows, cols = tensor.shape[0], math.prod(tensor.shape[1:])
    gaussian = normal_(Tensor(np.empty((max(rows, cols), min(rows, cols)), np.float64))).array
    q, r = np.linalg.qr(gaussian)
    q = q * np.sign(np.diagonal(r))  # without the signs Q would not be uniform
    return _assign(tensor, gain * (q if rows >= cols else q.T).reshape(tensor.shape))


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01) -> Tensor:
    """A normal matrix, in each column of which the fraction `sparsity` (rounded up) of the rows is 0."""
    if tensor.ndim != 2:
        raise ValueError(f"sparse_: expected a matrix, got shape {tuple(tensor.shape)}")
    values = normal_(Tensor(np.empty(tensor.shape, np.float64)), 0.0, std).array
    order = uniform_(Tensor(np.empty(tensor.shape, np.float64))).array.argsort(0)
    values[order < math.ceil(sparsity * tensor.shape[0])] = 0.0
    return _assign(tensor, values)
