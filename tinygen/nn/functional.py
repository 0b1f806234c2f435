"""Layers as functions, under torch's names and argument orders: `import tinygen.nn.functional as F`.

Most are the ops themselves. What is added here is torch's calling convention: `training` flags, running statistics, and
`inplace` (what that does says ops/in_place.py).
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

from ..keywords import explained
from ..ops import activation, choosing, comparison, fused, pointwise, reduce
from ..ops.activation import log_sigmoid, sigmoid, tanh
from ..ops.attention import scaled_dot_product_attention
from ..ops.bilinear import bilinear
from ..ops.conv import conv1d, conv2d, conv_transpose1d, conv_transpose2d
from ..ops.embedding import embedding, one_hot
from ..ops.fold import fold, unfold
from ..ops.fused import gaussian_kl, group_norm, layer_norm, reparameterize
from ..ops.grid import affine_grid, grid_sample
from ..ops.in_place import changed
from ..ops.matmul import linear
from ..ops.padding import pad
from ..ops.pool import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    avg_pool1d,
    avg_pool2d,
    max_pool1d,
    max_pool2d,
    max_unpool2d,
)  # fmt: skip
from ..ops.random import dropout, dropout1d, dropout2d, rand_like
from ..ops.rearranging import pixel_shuffle, pixel_unshuffle
from ..ops.resize import interpolate, upsample
from ..ops.view import numpy_names
from ..recording import no_grad
from ..tape import Tensor
from .activations import celu, glu, hardsigmoid, hardswish, prelu, softshrink, tanhshrink
from .losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cosine_embedding_loss,
    cosine_similarity,
    cross_entropy,
    gaussian_nll_loss,
    hinge_embedding_loss,
    hinge_loss,
    huber_loss,
    kl_div,
    l1_loss,
    margin_ranking_loss,
    mse_loss,
    nll_loss,
    pairwise_distance,
    poisson_nll_loss,
    smooth_l1_loss,
    triplet_margin_loss,
)  # fmt: skip
from .norms import local_response_norm, rms_norm

__all__ = [
    "linear", "bilinear", "conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d", "embedding", "one_hot", "unfold",
    "fold", "max_pool1d", "max_pool2d", "max_unpool2d", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d",
    "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d", "interpolate", "upsample", "pad",
    "pixel_shuffle", "pixel_unshuffle", "batch_norm", "instance_norm", "layer_norm", "group_norm", "normalize",
    "dropout", "dropout1d", "dropout2d", "relu", "relu_", "leaky_relu", "elu", "selu", "gelu", "silu", "sigmoid",
    "tanh", "softplus", "softmax", "log_softmax", "logsigmoid", "softsign", "hardtanh", "relu6", "mish", "softmin",
    "gumbel_softmax", "threshold", "celu", "glu", "hardsigmoid", "hardswish", "prelu", "softshrink", "tanhshrink",
    "grid_sample", "affine_grid", "scaled_dot_product_attention", "rms_norm", "local_response_norm",
    "poisson_nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "cross_entropy", "nll_loss", "kl_div", "hinge_loss", "hinge_embedding_loss",
    "margin_ranking_loss", "triplet_margin_loss", "cosine_embedding_loss", "gaussian_nll_loss", "cosine_similarity",
    "pairwise_distance", "gaussian_kl", "reparameterize",
]  # fmt: skip

logsigmoid = log_sigmoid


# Activations.


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0)."""
    return changed(relu, input) if inplace else activation.relu(input)


def relu_(input: Tensor) -> Tensor:
    """`relu`, in place."""
    return relu(input, inplace=True)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, else negative_slope * x."""
    return changed(leaky_relu, input, negative_slope) if inplace else activation.leaky_relu(input, negative_slope)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha (e^x - 1)."""
    return changed(elu, input, alpha) if inplace else activation.elu(input, alpha)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """1.0507 * (x if x > 0 else 1.6733 (e^x - 1))."""
    return changed(selu, input) if inplace else activation.selu(input)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x * Phi(x), Phi the normal distribution function; 'tanh' for its approximation."""
    return activation.gelu(input, approximate)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x * sigmoid(x)."""
    return changed(silu, input) if inplace else activation.silu(input)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x * tanh(softplus(x))."""
    return changed(mish, input) if inplace else input * activation.tanh(activation.softplus(input))


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + e^(beta x)) / beta; x itself where beta x > threshold, as in torch."""
    scaled = input if beta == 1 else input * beta
    y = activation.softplus(scaled)
    return choosing.where(scaled > threshold, input, y if beta == 1 else y / beta)


def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return input / (1 + input.abs())


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x moved into [min_val, max_val]; on the bounds the derivative is 0, as in torch, where that of clamp is 1.

    ValueError where min_val is the larger.
    """
    if min_val > max_val:
        raise ValueError(f"hardtanh: min_val={min_val} should not be above max_val={max_val}")
    if inplace:
        return changed(hardtanh, input, min_val, max_val)
    moved = comparison.logical_or(input <= min_val, input >= max_val)
    return choosing.where(moved, choosing.clamp(input.detach(), min_val, max_val), input)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """x moved into [0, 6]."""
    return hardtanh(input, 0.0, 6.0, inplace)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where x > threshold, else value; NaN where x is NaN."""
    if inplace:
        return changed(globals()["threshold"], input, threshold, value)
    return choosing.where(input <= threshold, float(value), input)  # NaN stays


def _dim(name: str, dim: int | None) -> int:
    if dim is None:
        raise TypeError(f"{name}: say along which dim, for instance dim=1 for (N, classes)")
    return dim


@numpy_names
def softmax(input: Tensor, dim: int | None = None, dtype: Any = None) -> Tensor:
    """e^x / sum(e^x) along `dim`."""
    return reduce.softmax(input, _dim("softmax", dim), dtype)


@numpy_names
def softmin(input: Tensor, dim: int | None = None, dtype: Any = None) -> Tensor:
    """softmax(-x) along `dim`."""
    return reduce.softmax(-input, _dim("softmin", dim), dtype)


@numpy_names
def log_softmax(input: Tensor, dim: int | None = None, dtype: Any = None) -> Tensor:
    """x - log(sum(e^x)) along `dim`."""
    return reduce.log_softmax(input, _dim("log_softmax", dim), dtype)


def gumbel_softmax(logits: Tensor, tau: float = 1, hard: bool = False, *, dim: int = -1) -> Tensor:
    """softmax((logits + Gumbel noise) / tau): a relaxed sample; `hard` makes it one-hot, its gradient not."""
    uniform = choosing.clamp(rand_like(logits.detach()), 1e-7, 1 - 1e-7)
    soft = reduce.softmax((logits - (-uniform.log()).log()) / tau, dim)
    if not hard:
        return soft
    values = soft.detach()
    chosen = (values == values.amax(dim, keepdim=True)).to(soft.dtype)
    return chosen - values + soft


# Normalisation.


def batch_norm(
    input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
    bias: Tensor | None = None, training: bool = False, momentum: Any = 0.1, eps: float = 1e-5, slope: float = 1.0,
    moments: Any = None,
) -> Tensor:  # fmt: skip
    """(x - mean) / sqrt(var + eps) * weight + bias per channel of input (N, C, ...).

    Two options that torch does not have: with a slope other than 1 the result is leaky_relu of that (0: ReLU), in
    training by the same kernel; `moments` is what came with input from fused.conv_moments.

    In training the statistics are the batch's (biased variance), and running_mean, running_var move towards them
    (unbiased variance) by the fraction `momentum`; otherwise they are the running ones. A batch without values leaves
    them alone. Raises ValueError for one value per channel in training. As in torch, an input of shape (0,) is
    returned. Ioffe and Szegedy 2015.
    """
    if tuple(input.shape) == (0,):
        return input
    if not training:
        if running_mean is None or running_var is None:
            raise ValueError("batch_norm: outside training running_mean and running_var are needed")
        if input.ndim < 2 or input.shape[1] != running_mean.shape[0]:
            raise ValueError(
                f"batch_norm: input should be (N, {running_mean.shape[0]}, ...), as there are running means, "
                f"got {tuple(input.shape)}"
            )
        along = (-1,) + (1,) * (input.ndim - 2)
        scale = pointwise.rsqrt(running_var + eps)
        scale = scale if weight is None else scale * weight
        shift = -running_mean * scale if bias is None else bias - running_mean * scale
        y = input * scale.reshape(along) + shift.reshape(along)
        return y if slope == 1 else fused.leaky_relu_over(y, slope)
    if input.ndim >= 2 and input.array.size == input.shape[1]:
        raise ValueError(
            f"batch_norm: training needs more than one value per channel, got input {tuple(input.shape)}; use eval()"
        )
    y, mean, var = fused.batch_norm(input, weight, bias, eps, slope, moments)
    if not input.array.size:
        return y
    count = input.array.size // input.shape[1]
    _move(running_mean, mean.array, momentum)
    _move(running_var, var.array * (count / (count - 1)), momentum)
    return y


def _move(running: Tensor | None, batch: Any, momentum: Any) -> None:
    """running += momentum (batch - running), in the same memory; momentum is a number or a 0-d array."""
    if running is None:
        return
    running.array *= 1 - momentum
    running.array += momentum * batch
    running._version[0] += 1


def instance_norm(
    input: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None, weight: Tensor | None = None,
    bias: Tensor | None = None, use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """(x - mean) / sqrt(var + eps) * weight + bias per image and channel of input (N, C, L) or (N, C, H, W).

    With `use_input_stats` the statistics are each image's own, and given running ones move towards their average over
    the batch; otherwise the running ones are used. Ulyanov et al. 2016.
    """
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    if input.ndim > 2 and input.array.size and input.array.size == input.shape[0] * input.shape[1]:
        raise ValueError(
            f"instance_norm: needs more than one value per image and channel, got input {tuple(input.shape)}"
        )
    if input.array.size and (running_mean is not None or running_var is not None):
        axes = tuple(range(2, input.ndim))
        with no_grad():
            _move(running_mean, reduce.mean(input, axes).mean(0).array, momentum)
            _move(running_var, reduce.var(input, axes).mean(0).array, momentum)
    return fused.instance_norm(input, weight, bias, eps)


@numpy_names
def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x / max(|x|_p, eps) along `dim`."""
    return input / choosing.clamp(reduce.norm(input, p, dim, keepdim=True), min=eps)


for _name in __all__:
    if isinstance(globals()[_name], FunctionType):
        globals()[_name] = explained(globals()[_name], Tensor)
