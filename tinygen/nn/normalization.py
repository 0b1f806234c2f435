"""Normalisation layers, and spectral normalisation of a layer's weight.

All compute (x - mean) / sqrt(var + eps) * weight + bias. In training BatchNorm takes the statistics of a channel over
the batch, and keeps running averages in its buffers; in eval it uses those. The others take them within each example.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backends.geometry import integers
from ..ops.random import randn
from ..recording import no_grad
from ..tape import Tensor
from . import functional as F
from . import init
from .arguments import refuse
from .conv import ConvTranspose2d
from .module import Module, Parameter, empty

__all__ = ["BatchNorm1d", "BatchNorm2d", "InstanceNorm1d", "InstanceNorm2d", "LayerNorm", "GroupNorm", "spectral_norm"]


class _ChannelNorm(Module):
    """What BatchNorm and InstanceNorm share: weight and bias per channel, and running statistics."""

    _ranks: tuple[int, ...] = (4,)
    _image = "(N, C, H, W)"

    def __init__(
        self, num_features: int, eps: float, momentum: float | None, affine: bool, track_running_stats: bool
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum, self.affine = num_features, eps, momentum, affine
        self.track_running_stats = track_running_stats
        self.register_parameter("weight", empty(num_features) if affine else None)
        self.register_parameter("bias", empty(num_features) if affine else None)
        statistics = (np.zeros(num_features, np.float32), np.ones(num_features, np.float32), np.zeros((), np.int64))
        for name, values in zip(("running_mean", "running_var", "num_batches_tracked"), statistics, strict=True):
            self.register_buffer(name, Tensor(values) if track_running_stats else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forgets the running statistics: mean 0, variance 1."""
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0, and forgotten statistics."""
        self.reset_running_stats()
        if self.affine:
            init.ones_(self.weight)
            init.zeros_(self.bias)

    def _check_input(self, input: Tensor) -> None:
        if (
            input.ndim not in self._ranks
            or input.shape[-self._ranks[-1] + 1 if input.ndim < self._ranks[-1] else 1] != self.num_features
        ):
            raise ValueError(
                f"{type(self).__name__}: input should be {self._image} with C={self.num_features}, "
                f"got {tuple(input.shape)}"
            )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm2d(_ChannelNorm):
    """(x - mean) / sqrt(var + eps) * weight + bias per channel of (N, C, H, W) (Ioffe and Szegedy 2015).

    In training mean and (biased) var are the batch's, and running_mean, running_var move towards them, the latter to
    the unbiased one, by the fraction `momentum` (None: plain averages over all batches). In eval the running ones are
    used. A `slope` given to forward, as Sequential does, is that of a leaky ReLU behind it (0: ReLU); `moments` is
    what the convolution in front of it found out (fused.conv_moments).
    """

    def __init__(
        self, num_features: int, *misplaced: Any, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:  # fmt: skip
        refuse(type(self).__name__, misplaced, "eps, momentum, affine, track_running_stats")
        super().__init__(num_features, eps, momentum, affine, track_running_stats)

    @property
    def uses_batch(self) -> bool:
        """Whether the statistics are those of the batch."""
        return self.training or not self.track_running_stats

    def forward(self, input: Tensor, slope: float = 1.0, moments: Any = None) -> Tensor:
        self._check_input(input)
        momentum: Any = self.momentum
        if self.training and self.track_running_stats and input.array.size:
            self.num_batches_tracked.array += 1
            if momentum is None:
                momentum = (1.0 / self.num_batches_tracked.array).astype(self.running_mean.dtype)
        return F.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, self.uses_batch, momentum, self.eps,
            slope, moments,
        )  # fmt: skip


class BatchNorm1d(BatchNorm2d):
    """BatchNorm2d for (N, C) or (N, C, L)."""

    _ranks = (2, 3)
    _image = "(N, C) or (N, C, L)"

    def _check_input(self, input: Tensor) -> None:
        if input.ndim not in (2, 3) or input.shape[1] != self.num_features:
            raise ValueError(
                f"BatchNorm1d: input should be {self._image} with C={self.num_features}, got {tuple(input.shape)}"
            )


class InstanceNorm2d(_ChannelNorm):
    """(x - mean) / sqrt(var + eps) per image and channel of (N, C, H, W) or (C, H, W) (Ulyanov et al. 2016).

    As in torch there are no weight, bias and running statistics unless asked for.
    """

    _ranks = (3, 4)
    _image = "(N, C, H, W) or (C, H, W)"

    def __init__(
        self, num_features: int, *misplaced: Any, eps: float = 1e-5, momentum: float = 0.1, affine: bool = False,
        track_running_stats: bool = False,
    ) -> None:  # fmt: skip
        refuse(type(self).__name__, misplaced, "eps, momentum, affine, track_running_stats")
        super().__init__(num_features, eps, momentum, affine, track_running_stats)

    def forward(self, input: Tensor) -> Tensor:
        self._check_input(input)
        alone = input.ndim < self._ranks[-1]
        x = input.unsqueeze(0) if alone else input
        own = self.training or not self.track_running_stats
        y = F.instance_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, own, self.momentum or 0.0, self.eps
        )
        return y.squeeze(0) if alone else y


class InstanceNorm1d(InstanceNorm2d):
    """InstanceNorm2d for (N, C, L) or (C, L)."""

    _ranks = (2, 3)
    _image = "(N, C, L) or (C, L)"


class LayerNorm(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias, statistics over the axes of `normalized_shape` (Ba et al. 2016)."""

    def __init__(
        self,
        normalized_shape: Any,
        *misplaced: Any,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        refuse("LayerNorm", misplaced, "eps, elementwise_affine, bias")
        super().__init__()
        self.normalized_shape = integers(normalized_shape, 1)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.register_parameter("weight", empty(*self.normalized_shape) if elementwise_affine else None)
        self.register_parameter("bias", empty(*self.normalized_shape) if elementwise_affine and bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias, statistics over space and each of num_groups groups of channels."""

    def __init__(
        self, num_groups: int, num_channels: int, *misplaced: Any, eps: float = 1e-5, affine: bool = True
    ) -> None:
        refuse("GroupNorm", misplaced, "eps, affine")
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(f"GroupNorm: num_groups={num_groups} should divide num_channels={num_channels}")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self.register_parameter("weight", empty(num_channels) if affine else None)
        self.register_parameter("bias", empty(num_channels) if affine else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        if self.affine:
            init.ones_(self.weight)
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


class SpectralNorm:
    """The hook of `spectral_norm`: sets module.weight = weight_orig / sigma before each forward."""

    def __init__(self, name: str, n_power_iterations: int, eps: float, dim: int) -> None:
        self.name, self.n_power_iterations, self.eps, self.dim = name, n_power_iterations, eps, dim

    def matrix(self, weight: Tensor) -> Tensor:
        """The weight as a matrix, its axis `dim` against all others."""
        return (weight if self.dim == 0 else weight.movedim(self.dim, 0)).flatten(1)

    def compute(self, module: Module, iterate: bool) -> Tensor:
        """weight_orig / sigma, sigma = u^T W v; u and v are constants, improved by power iterations if `iterate`."""
        weight, u, v = (getattr(module, self.name + suffix) for suffix in ("_orig", "_u", "_v"))
        W = self.matrix(weight)
        if iterate:
            with no_grad():
                for _ in range(self.n_power_iterations):
                    v.copy_(F.normalize(W.T @ u, dim=0, eps=self.eps))
                    u.copy_(F.normalize(W @ v, dim=0, eps=self.eps))
        # copies, because the next forward changes the buffers while this graph may still need them
        u, v = u.detach().clone(), v.detach().clone()
        return weight / (u * (W @ v)).sum()

    def __call__(self, module: Module, args: tuple) -> None:
        module.__dict__[self.name] = self.compute(module, module.training)


def spectral_norm(
    module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Module:
    """The module itself, its parameter `name` from now on divided by its largest singular value (Miyato et al. 2018).

    The parameter becomes `name`_orig, and buffers `name`_u and `name`_v hold the singular vectors, which every
    forward in training improves by `n_power_iterations` power iterations; in eval they stay. The weight is the matrix
    of axis `dim` (0; 1 for transposed convolutions) against the others. Gradients flow through sigma too, to any
    order. As torch.nn.utils.
    """
    weight = getattr(module, name)
    if not isinstance(weight, Parameter):
        raise ValueError(
            f"spectral_norm: '{name}' of {type(module).__name__} is not a parameter; was it normalised before?"
        )
    if weight.ndim < 2:
        raise ValueError(f"spectral_norm: '{name}' should have at least 2 dimensions, got {tuple(weight.shape)}")
    hook = SpectralNorm(name, n_power_iterations, eps, int(isinstance(module, ConvTranspose2d)) if dim is None else dim)
    rows = weight.shape[hook.dim]
    delattr(module, name)
    module.register_parameter(name + "_orig", weight)
    for suffix, size in (("_u", rows), ("_v", math.prod(weight.shape) // rows)):
        vector = randn(size, dtype=weight.dtype, device=weight.device)
        module.register_buffer(name + suffix, F.normalize(vector, dim=0, eps=eps))
    module.register_forward_pre_hook(hook)
    with no_grad():
        module.__dict__[name] = hook.compute(module, False)
    return module
