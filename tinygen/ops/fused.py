"""Normalisations, activations behind them, and losses: several formulas in one kernel, one pass over memory, not five.

All normalisations are y = (x - mean) / sqrt(variance + eps) * weight + bias. They differ in what the mean is over:

    batch_norm     batch and space, one mean per channel      instance_norm  space, per image and channel
    layer_norm     the last axes, per row                     group_norm     space and a group of channels

`batch_norm` is a fused op, and `_batch_norm_composite` is its definition; so are a linear layer with the activation
behind it (a convolution with it is two nodes, one kernel: `conv_layer`), and the losses, which end in one number and
make their derivative on the way. The other three norms are one op on rows, `row_norm`, and an affine map; its
derivative needs only its results, so the tape does not keep x. Running averages are the business of nn.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..memory import may_overwrite
from ..tape import Op, Tensor, is_grad_enabled, op
from .conv import contract
from .gathering import gather
from .matmul import linear, linear_forward, rows_of
from .pointwise import _leaky_relu_backward, _real, _sigmoid_backward, exp, leaky_relu, rsqrt, sigmoid
from .reduce import log_softmax

__all__ = [
    "batch_norm", "row_norm", "layer_norm", "group_norm", "instance_norm", "linear_leaky_relu", "conv_layer",
    "bce_with_logits",
    "squared_error", "bernoulli_loss", "class_loss", "gaussian_kl", "reparameterize",
]  # fmt: skip


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _along_channels(parameter: Tensor, ndim: int) -> Tensor:
    """(C,) as (C, 1, ...), to broadcast against (N, C, ...)."""
    return parameter.reshape((parameter.shape[0],) + (1,) * (ndim - 2))


def _check_channels(name: str, x: Tensor, weight: Tensor | None, bias: Tensor | None, least: int) -> None:
    shape = x.array.shape
    if len(shape) < least:
        expected = "(N, C, L, ...)" if least == 3 else "(N, C, ...)"
        raise ValueError(f"{name}: input should be {expected}, got shape {shape}; add an axis with unsqueeze")
    for what, t in (("weight", weight), ("bias", bias)):
        if t is not None and t.array.shape != (shape[1],):
            raise ValueError(
                f"{name}: {what} should have shape ({shape[1]},), one per channel of input {_by(shape)}, "
                f"got {t.array.shape}"
            )


# ---------------------------------------------------------------- over the batch


def _batch_norm_composite(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, slope: float = 1.0, kept: Any = None, moments: Any = None
) -> tuple:
    axes = (0, *range(2, x.ndim))
    mean = x.mean(axes, keepdim=True)
    centred = x - mean
    var = (centred * centred).mean(axes, keepdim=True)
    y = centred * rsqrt(var + eps) * _along_channels(weight, x.ndim) + _along_channels(bias, x.ndim)
    return y if slope == 1 else leaky_relu(y, slope), mean.reshape(weight.shape), var.reshape(weight.shape)


@op(composite=_batch_norm_composite)
def _batch_norm(k, x, weight, bias, *, eps, slope=1.0, kept=None, moments=None):
    """(y, mean, biased variance) per channel of x (N, C, ...); y has passed leaky_relu unless slope is 1.

    The fast VJP needs mean and rstd but not y, and a rule that reads `out` would keep y too, as large as x. So the
    forward leaves the two small arrays in the list `kept`.
    """
    y, mean, rstd = k.channel_norm(_images(x), weight, bias, eps, slope, moments)
    if kept is not None:
        kept[:] = mean, rstd
    # The variance from rstd costs no pass over x; what rounding adds is below 1e-7 * (var + eps).
    return y.reshape(x.shape), mean, k.xp.maximum(1 / (rstd * rstd) - eps, 0)


@_batch_norm.fused_vjp
def _(k, g, x, weight, bias, slope, kept):
    if g[0] is None or g[1] is not None or g[2] is not None or not kept:
        return NotImplemented
    images = _images(g[0])
    out = images if may_overwrite(g[0]) else None
    gx, gweight, gbias = k.channel_norm_backward(images, _images(x), weight, bias, *kept, slope, out)
    return gx.reshape(x.shape), gweight, gbias


def _images(x: Any) -> Any:
    """(N, C, ...) as (N, C, S)."""
    return x.reshape(x.shape[0], x.shape[1], math.prod(x.shape[2:]))


def batch_norm(
    input: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, slope: float = 1.0,
    moments: list | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """(y, mean, var): y = (x - mean) / sqrt(var + eps) * weight + bias, statistics per channel over batch and space.

    input (N, C, ...), weight and bias (C,) (None: ones and zeros); y as input, mean and the biased variance var (C,),
    both differentiable. With a slope other than 1, y is leaky_relu(y, slope) (0: ReLU) in the same kernel. `moments` is
    what conv_layer left there when it made input. Raises ValueError for shapes that do not fit. Ioffe and Szegedy 2015.
    """
    _check_channels("batch_norm", input, weight, bias, 2)
    xp, channels = input.device.kernels.xp, input.array.shape[1]
    if weight is None:
        weight = Tensor(xp.ones(channels, input.array.dtype), None, input.device)
    if bias is None:
        bias = Tensor(xp.zeros(channels, input.array.dtype), None, input.device)
    return _batch_norm(input, weight, bias, eps=float(eps), slope=float(slope), kept=[], moments=moments)


# ---------------------------------------------------------------- over rows


@op
def _row_norm(k, x, *, eps):
    """(y, rstd) of x (M, D): y = (x - mean) * rstd, rstd = 1 / sqrt(var + eps) (M,), statistics per row."""
    return k.row_norm(x, eps)


@op
def _row_norm_backward(k, dy, y, rstd):
    """rstd * (dy - avg(dy) - y * avg(dy * y)), averages per row: linear in dy, and its own adjoint."""
    return k.row_norm_backward(dy, y, rstd)


def _row_norm_vjp(g: tuple, out: tuple) -> Tensor:
    dy, drstd = g
    y, rstd = out
    if drstd is None:
        return _row_norm_backward(dy, y, rstd)
    through_rstd = y * (drstd * rstd * rstd).unsqueeze(1) * (-1 / max(1, y.shape[1]))  # d rstd / dx = -rstd^2 y / D
    return through_rstd if dy is None else _row_norm_backward(dy, y, rstd) + through_rstd


def _row_norm_backward_by_y(g: Tensor, dy: Tensor, y: Tensor, rstd: Tensor) -> Tensor:
    return (g * (dy * y).mean(1, keepdim=True) + dy * (g * y).mean(1, keepdim=True)) * -rstd.unsqueeze(1)


def _row_norm_backward_by_rstd(g: Tensor, dy: Tensor, y: Tensor) -> Tensor:
    centred = dy - dy.mean(1, keepdim=True) - y * (dy * y).mean(1, keepdim=True)
    return (g * centred).sum(1)


_row_norm.vjp("x")(_row_norm_vjp)
_row_norm_backward.vjp("dy")(lambda g, y, rstd: _row_norm_backward(g, y, rstd))
_row_norm_backward.vjp("y")(_row_norm_backward_by_y)
_row_norm_backward.vjp("rstd")(_row_norm_backward_by_rstd)


def row_norm(input: Tensor, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(var + eps) per row of x (M, D), with the biased variance; ValueError unless input is 2-D."""
    if input.array.ndim != 2:
        raise ValueError(f"row_norm: input should be (M, D), got shape {input.array.shape}; reshape it first")
    return _row_norm(input, eps=float(eps))[0]


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def layer_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, the statistics over the last axes, which are `normalized_shape`.

    weight and bias have that shape, or are None. Raises ValueError for shapes that do not fit. Ba et al. 2016.
    """
    last = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    shape = input.array.shape
    if not last or shape[-len(last) :] != last:
        raise ValueError(f"layer_norm: input {_by(shape)} should end in normalized_shape {last}; pass input.shape[-n:]")
    for what, t in (("weight", weight), ("bias", bias)):
        if t is not None and t.array.shape != last:
            raise ValueError(f"layer_norm: {what} should have shape {last}, as normalized_shape, got {t.array.shape}")
    rows = input.reshape((math.prod(shape[: -len(last)]), math.prod(last)))
    return _affine(row_norm(rows, eps).reshape(shape), weight, bias)


def _grouped(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    shape = x.array.shape
    rows = x.reshape((shape[0] * groups, shape[1] // groups * math.prod(shape[2:])))
    y = row_norm(rows, eps).reshape(shape)
    return _affine(y, *[None if t is None else _along_channels(t, len(shape)) for t in (weight, bias)])


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, statistics over space and each of `num_groups` groups of channels.

    input (N, C, ...), weight and bias (C,) or None. Raises ValueError unless num_groups divides C. Wu and He 2018.
    """
    _check_channels("group_norm", input, weight, bias, 2)
    if num_groups < 1 or input.array.shape[1] % num_groups:
        raise ValueError(
            f"group_norm: num_groups={num_groups} does not divide the {input.array.shape[1]} channels of input "
            f"{_by(input.array.shape)}; choose a divisor"
        )
    return _grouped(input, num_groups, weight, bias, eps)


def instance_norm(input: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, the statistics over space, for each image and channel by itself.

    input (N, C, L, ...), weight and bias (C,) or None. Raises ValueError for shapes that do not fit. Ulyanov et al.
    2016.
    """
    _check_channels("instance_norm", input, weight, bias, 3)
    return _grouped(input, input.array.shape[1], weight, bias, eps)


# ---------------------------------------------------------------- activation behind a layer


@op(composite=lambda input, weight, bias, slope: leaky_relu(linear(input, weight, bias), slope))
def _linear_leaky_relu(k, input, weight, bias, *, slope):
    """leaky_relu(input weight^T + bias, slope), slope >= 0: the result has the sign of what it is made of."""
    return linear_forward(k, input, weight, bias, slope)


@_linear_leaky_relu.fused_vjp
def _(k, g, input, weight, bias, out, slope, wanted):
    g = rows_of(k.leaky_relu_backward(g, out, slope, g if may_overwrite(g) else None))
    return (
        k.matmul(g, weight).reshape(input.shape) if 0 in wanted else None,
        k.matmul(g.T, rows_of(input)) if 1 in wanted else None,
        k.sum(g, (0,)) if 2 in wanted else None,
    )


def linear_leaky_relu(input: Tensor, weight: Tensor, bias: Tensor | None, slope: float) -> Tensor:
    """leaky_relu(linear(input, weight, bias), slope), one kernel and one node of the tape unless slope is negative."""
    if slope < 0 or input.array.dtype.kind != "f":
        return leaky_relu(linear(input, weight, bias), slope)
    return _linear_leaky_relu(input, weight, bias, slope=float(slope))


@op(view=True)
def _leaky_relu_over(k, x, *, slope, done=False):
    """leaky_relu(x, slope), slope >= 0, written over x; nothing is left to do where x is that already."""
    return x if done else k.leaky_relu(x, slope, x)


_leaky_relu_over.vjp("x")(lambda g, out, slope: _leaky_relu_backward(g, out, slope=slope))


def leaky_relu_over(input: Tensor, slope: float) -> Tensor:
    """leaky_relu(input, slope) in the memory of input, which nobody else may hold: for layers that have just made it.

    Where the op that made input keeps its result for its derivative, or slope is negative, the result is a new array.
    """
    kept = getattr(input.node, "out", input.node) is not None
    return leaky_relu(input, slope) if kept or slope < 0 else _leaky_relu_over(input, slope=float(slope))


def conv_layer(
    op: Op, axes: int, input: Tensor, weight: Tensor, bias: Tensor | None, groups: int, *law: Any, slope: float = 1.0,
    moments: list | None = None,
) -> Tensor:  # fmt: skip
    """leaky_relu(conv or conv_transpose, slope) by one kernel; op, axes and the rest as in `conv.contract`.

    `moments`, a list, may receive sums over the channels of the result, for batch_norm of exactly this tensor.
    """
    if getattr(input, "ndim", 0) == axes + 1:  # one image: nobody may take its channels for another axis
        moments = None
    if slope == 1:
        return contract(op, axes, input, weight, bias, groups, *law, moments=moments)
    if slope < 0:  # the derivative could not be told from the result
        return leaky_relu(contract(op, axes, input, weight, bias, groups, *law), slope)
    y = contract(op, axes, input, weight, bias, groups, *law, slope=float(slope), moments=moments)
    return _leaky_relu_over(y, slope=float(slope), done=True)


# ---------------------------------------------------------------- losses


@op
def _bce_with_logits(k, x, target):
    """max(x, 0) - x * target + log(1 + e^-|x|), elementwise."""
    return k.bce_with_logits(_real(x), _real(target))


@op
def _bce_with_logits_backward(k, dy, x, target):
    """dy * (sigmoid(x) - target)."""
    return k.bce_with_logits_backward(dy, x, target)


_bce_with_logits.vjp("x")(lambda g, x, target: _bce_with_logits_backward(g, x, target))
_bce_with_logits.vjp("target")(lambda g, x: -(g * x))
_bce_with_logits_backward.vjp("dy")(lambda g, x, target: _bce_with_logits_backward(g, x, target))
_bce_with_logits_backward.vjp("x")(lambda g, dy, x: _sigmoid_backward(g * dy, sigmoid(x)))
_bce_with_logits_backward.vjp("target")(lambda g, dy: -(g * dy))


def bce_with_logits(input: Tensor, target: Tensor) -> Tensor:
    """-(target log sigmoid(x) + (1 - target) log(1 - sigmoid(x))), elementwise and finite at any logit x.

    input and target of one shape, else ValueError; target in [0, 1]. Differentiable in both.
    """
    if input.array.shape != target.array.shape:
        raise ValueError(
            f"bce_with_logits: input (logits) {input.array.shape} and target {target.array.shape} should have one "
            "shape; use reshape or expand_as"
        )
    return _bce_with_logits(input, target)


# A loss that ends in one number: its derivative by x shares nearly all of the work with its value, so the forward pass
# makes both where a gradient by x alone can be wanted, and leaves the derivative in the list `kept`.


def _kept_for(x: Tensor, *constants: Tensor) -> list | None:
    """Where the forward pass is to leave its derivative, if there will be use for it."""
    return [] if is_grad_enabled() and x.node and not any(t.node for t in constants) else None


def _left(kept: list | None, result: tuple) -> Any:
    """The value of a loss kernel's result, whose derivative is left in `kept`."""
    if kept is not None:
        kept[:] = result[1:]
    return result[0]


def _pull_loss(k: Any, g: Any, kept: list | None) -> Any:
    if not kept:
        return NotImplemented
    unscaled = isinstance(g, np.ndarray) and g == 1  # as `backward` starts; nobody waits for a value on a GPU
    return (kept[0] if unscaled else g * kept[0]), None


def _squared_error_composite(x: Tensor, target: Tensor, scale: float, kept: list | None = None) -> Tensor:
    return (x - target).square().sum() * scale


@op(composite=_squared_error_composite)
def _squared_error(k, x, target, *, scale, kept=None):
    """scale * sum of (x - target)^2."""
    return _left(kept, k.squared_error(_real(x), _real(target), scale, kept is not None))


def _bernoulli_loss_composite(x: Tensor, target: Tensor, scale: float, kept: list | None = None) -> Tensor:
    return _bce_with_logits(x, target).sum() * scale


@op(composite=_bernoulli_loss_composite)
def _bernoulli_loss(k, x, target, *, scale, kept=None):
    """scale * sum of bce_with_logits(x, target)."""
    return _left(kept, k.bernoulli_loss(_real(x), _real(target), scale, kept is not None))


def _class_loss_composite(x: Tensor, labels: Tensor, scale: float, kept: list | None = None) -> Tensor:
    return gather(log_softmax(x, 1), 1, labels.unsqueeze(1)).sum() * -scale


@op(composite=_class_loss_composite)
def _class_loss(k, x, *, labels, scale, kept=None):
    """-scale * sum over i of log_softmax(x)[i, labels[i]]."""
    return _left(kept, k.class_loss(_real(x), labels.array, scale, kept is not None))


for _loss in (_squared_error, _bernoulli_loss, _class_loss):
    _loss.fused_vjp(_pull_loss)


def _same_shape(name: str, input: Tensor, target: Tensor) -> None:
    if input.array.shape != target.array.shape:
        raise ValueError(
            f"{name}: input {input.array.shape} and target {target.array.shape} should have one shape; use reshape or "
            "expand_as"
        )


def squared_error(input: Tensor, target: Tensor, scale: float = 1.0) -> Tensor:
    """scale * sum of (input - target)^2, a scalar; both of one shape, else ValueError."""
    _same_shape("squared_error", input, target)
    return _squared_error(input, target, scale=float(scale), kept=_kept_for(input, target))


def bernoulli_loss(input: Tensor, target: Tensor, scale: float = 1.0) -> Tensor:
    """scale * sum of bce_with_logits(input, target), a scalar; both of one shape, else ValueError."""
    _same_shape("bernoulli_loss", input, target)
    return _bernoulli_loss(input, target, scale=float(scale), kept=_kept_for(input, target))


def class_loss(input: Tensor, labels: Tensor, scale: float = 1.0) -> Tensor:
    """-scale * sum over i of log_softmax(input)[i, labels[i]], a scalar: cross entropy of logits.

    input (N, classes), labels (N,) integers in [0, classes), which are not checked; ValueError for other shapes.
    """
    if input.array.ndim != 2 or labels.array.shape != input.array.shape[:1]:
        raise ValueError(
            f"class_loss: input should be (N, classes) and labels (N,), got {input.array.shape} and "
            f"{labels.array.shape}"
        )
    return _class_loss(input, labels=labels, scale=float(scale), kept=_kept_for(input))


# ---------------------------------------------------------------- Gaussians of a variational autoencoder


@op(composite=lambda mu, logvar: (mu.square() + exp(logvar) - 1 - logvar).sum(-1) * 0.5)
def _gaussian_kl(k, mu, logvar):
    """1/2 sum over the last axis of mu^2 + e^logvar - 1 - logvar."""
    return k.sum((mu * mu + k.xp.exp(logvar)) - (logvar + 1), (mu.ndim - 1,), 0.5)


@_gaussian_kl.fused_vjp
def _(k, g, mu, logvar):
    g = g[..., None]
    return g * mu, (0.5 * g) * (k.xp.exp(logvar) - 1)


def gaussian_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, e^logvar) || N(0, 1)) over the last axis, in nats: -1/2 sum(1 + logvar - mu^2 - e^logvar).

    mu and logvar (..., D), else ValueError; result (...). Kingma and Welling 2014, appendix B.
    """
    if not mu.array.ndim or mu.array.shape != logvar.array.shape:
        raise ValueError(
            f"gaussian_kl: mu {mu.array.shape} and logvar {logvar.array.shape} should have one shape, of one axis or "
            "more"
        )
    return _gaussian_kl(mu, logvar)


@op(composite=lambda mu, logvar, noise: mu + exp(logvar * 0.5) * noise)
def _reparameterize(k, mu, logvar, noise):
    """mu + e^(logvar / 2) * noise."""
    return mu + k.xp.exp(logvar * 0.5) * noise


@_reparameterize.fused_vjp
def _(k, g, logvar, noise):
    sigma = k.xp.exp(logvar * 0.5)
    return g, (0.5 * g) * (sigma * noise), g * sigma


def reparameterize(mu: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    """mu + e^(logvar / 2) * noise: a draw from N(mu, e^logvar), if noise is one from N(0, 1), differentiable in mu and
    logvar. All of one shape, else ValueError. Kingma and Welling 2014.
    """
    if not mu.array.shape == logvar.array.shape == noise.array.shape:
        shapes = ", ".join(f"{n} {t.array.shape}" for n, t in (("mu", mu), ("logvar", logvar), ("noise", noise)))
        raise ValueError(f"reparameterize: {shapes} should have one shape")
    return _reparameterize(mu, logvar, noise)
