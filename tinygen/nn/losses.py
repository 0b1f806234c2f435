"""Losses, under torch's names (as modules in loss.py); every one has derivatives of all orders.

`reduction` says what becomes of the losses of single elements l_i: "mean" (their average), "sum", or "none" (returned
as they are). In a VAE use "sum" and divide by the batch: a mean over pixels would make the KL term a thousand times
too strong.

    loss = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)

Input and target must have the same shape: broadcasting (N, 1) against (N,) is nearly always a mistake, so it is an
error here. At the kink of a hinge, max(0, x) at 0, the derivative is 1, as in torch.
"""

from __future__ import annotations

import numpy as np

from ..ops import activation, choosing, fused, reduce
from ..ops.gathering import gather
from ..tape import Tensor, op

__all__ = [
    "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits",
    "cross_entropy", "nll_loss", "kl_div", "hinge_loss", "hinge_embedding_loss", "margin_ranking_loss",
    "triplet_margin_loss", "cosine_embedding_loss", "gaussian_nll_loss", "cosine_similarity", "pairwise_distance",
    "poisson_nll_loss",
]  # fmt: skip


def _same_shape(name: str, input: Tensor, target: Tensor, what: str = "target") -> None:
    for given, role in ((input, "input"), (target, what)):
        if not isinstance(given, Tensor):
            raise TypeError(
                f"{name}: {role} should be a tensor, got {type(given).__name__}; use tinygen.full_like for a constant"
            )
    if input.shape != target.shape:
        raise ValueError(
            f"{name}: input {tuple(input.shape)} and {what} {tuple(target.shape)} should have one shape; "
            "use view_as, squeeze or expand_as, whichever is meant"
        )


def _reduced(name: str, losses: Tensor, reduction: str) -> Tensor:
    if reduction == "mean":
        return losses.mean()
    if reduction == "sum":
        return losses.sum()
    if reduction == "none":
        return losses
    raise ValueError(f"{name}: reduction should be 'mean', 'sum' or 'none', got {reduction!r}")


def _hinge(x: Tensor) -> Tensor:
    """max(0, x), with derivative 1 at 0."""
    return x.clamp(min=0)


def _at_least(x: Tensor, least: float) -> Tensor:
    """max(x, least) with derivative 1 everywhere: torch's floor below a variance or a length."""
    return choosing.where(x < least, x - x.detach() + least, x)


def _share(count: int, reduction: str) -> float:
    """What a sum over `count` losses is multiplied by."""
    return 1 / count if reduction == "mean" else 1.0


# Distances between numbers.


def mse_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """(input - target)^2, reduced. Both of one shape, else ValueError."""
    _same_shape("mse_loss", input, target)
    if reduction in ("sum", "mean") and input.array.size:
        return fused.squared_error(input, target, _share(input.array.size, reduction))
    return _reduced("mse_loss", (input - target).square(), reduction)


def l1_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """|input - target|, reduced; derivative 0 where they are equal."""
    _same_shape("l1_loss", input, target)
    return _reduced("l1_loss", (input - target).abs(), reduction)


def smooth_l1_loss(input: Tensor, target: Tensor, *, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """With d = |input - target|: d^2 / (2 beta) where d < beta, else d - beta / 2; reduced. beta = 0 is l1_loss."""
    _same_shape("smooth_l1_loss", input, target)
    if beta < 0:
        raise ValueError(f"smooth_l1_loss: beta={beta} should not be negative")
    d = (input - target).abs()
    losses = d if beta == 0 else choosing.where(d < beta, d.square() * (0.5 / beta), d - 0.5 * beta)
    return _reduced("smooth_l1_loss", losses, reduction)


def huber_loss(input: Tensor, target: Tensor, *, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """With d = |input - target|: d^2 / 2 where d < delta, else delta (d - delta / 2); reduced (Huber 1964)."""
    _same_shape("huber_loss", input, target)
    if delta <= 0:
        raise ValueError(f"huber_loss: delta={delta} should be positive")
    d = (input - target).abs()
    return _reduced("huber_loss", choosing.where(d < delta, d.square() * 0.5, (d - 0.5 * delta) * delta), reduction)


def gaussian_nll_loss(
    input: Tensor, target: Tensor, var: Tensor, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Tensor:
    """(log v + (input - target)^2 / v) / 2 with v = max(var, eps); `full` adds log(2 pi) / 2; reduced.

    target broadcasts to input's shape. So does var, which may also lack the last axis, or be a number.
    Where it is below eps it still receives the gradient by v, as in torch. ValueError for a negative var.
    """
    name = "gaussian_nll_loss"
    if not isinstance(var, Tensor):
        var = Tensor(input.device.kernels.xp.full(input.shape, var, input.dtype), None, input.device)
    if var.shape != input.shape and var.shape == input.shape[:-1]:
        var = var.unsqueeze(-1)
    _broadcasts(name, target, "target", input)
    _broadcasts(name, var, "var", input)
    if isinstance(var.array, np.ndarray) and (var.array < 0).any():  # elsewhere the check would wait for the device
        raise ValueError(f"{name}: var {tuple(var.shape)} is negative somewhere; take its exp()")
    v = _at_least(var, eps)
    losses = (v.log() + (input - target).square() / v) * 0.5
    return _reduced(name, losses + 0.5 * float(np.log(2 * np.pi)) if full else losses, reduction)


def _broadcasts(name: str, given: Tensor, role: str, input: Tensor) -> None:
    lead = input.ndim - given.ndim
    if lead < 0 or any(n not in (1, m) for n, m in zip(given.shape, input.shape[lead:], strict=True)):
        raise ValueError(
            f"{name}: {role} {tuple(given.shape)} does not broadcast to input {tuple(input.shape)}; use unsqueeze"
        )


def poisson_nll_loss(
    input: Tensor, target: Tensor, log_input: bool = True, full: bool = False, *, eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """rate - target log(rate), where input is log(rate) or, without `log_input`, the rate (plus eps in the logarithm).

    `full` adds Stirling's log(target!) where target > 1: t log t - t + log(2 pi t) / 2. Both of one shape; reduced.
    """
    _same_shape("poisson_nll_loss", input, target)
    losses = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if full:
        t = choosing.where(target > 1, target, 1.0)
        stirling = t * t.log() - t + (t * (2 * np.pi)).log() * 0.5
        losses = losses + choosing.where(target > 1, stirling, 0.0)
    return _reduced("poisson_nll_loss", losses, reduction)


# Probabilities.


@op
def _binary_cross_entropy(k, p, target):
    """-(target log p + (1 - target) log(1 - p)), each logarithm at least -100, elementwise."""
    xp = k.xp
    with np.errstate(divide="ignore"):
        log_p, log_q = xp.maximum(xp.log(p), -100.0), xp.maximum(xp.log1p(-p), -100.0)
    return (target - 1) * log_q - target * log_p


@_binary_cross_entropy.vjp("p")
def _(
    g, p, target
):  # bounded where p is 0 or 1, as in torch; the derivative of the clamped logarithm would be 0 or NaN
    return g * (p - target) / ((1 - p) * p).clamp(min=1e-12)


@_binary_cross_entropy.vjp("target")
def _(g, p):
    return g * (_clamped_log(1 - p) - _clamped_log(p))


def _clamped_log(p: Tensor) -> Tensor:
    """max(log p, -100), with derivative 0 where it is clamped."""
    tiny = p <= 3.8e-44  # exp(-100)
    return choosing.where(tiny, -100.0, choosing.where(tiny, 1.0, p).log())


def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str = "mean"
) -> Tensor:
    """-weight (target log input + (1 - target) log(1 - input)), logarithms clamped at -100 as in torch; reduced.

    input: probabilities, for instance after a sigmoid; binary_cross_entropy_with_logits does both at once, more
    accurately. Raises ValueError for different shapes and, on the CPU, for an input outside [0, 1].
    """
    name = "binary_cross_entropy"
    _same_shape(name, input, target)
    if input.array.size and isinstance(input.array, np.ndarray):  # elsewhere the check would wait for the device
        low, high = input.array.min(), input.array.max()
        if not (low >= 0 and high <= 1):
            why = "it contains NaN" if np.isnan(low) else "for logits use binary_cross_entropy_with_logits"
            raise ValueError(
                f"{name}: input should be probabilities in [0, 1], but lies in [{low:.4g}, {high:.4g}]; {why}"
            )
    losses = _binary_cross_entropy(input, target)
    return _reduced(name, losses if weight is None else losses * weight, reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """-weight (pos_weight target log s + (1 - target) log(1 - s)) with s = sigmoid(input), everywhere finite."""
    name = "binary_cross_entropy_with_logits"
    _same_shape(name, input, target)
    if weight is None and pos_weight is None and reduction in ("sum", "mean") and input.array.size:
        return fused.bernoulli_loss(input, target, _share(input.array.size, reduction))
    if pos_weight is None:
        losses = fused.bce_with_logits(input, target)
    else:
        losses = (1 - target) * input + ((pos_weight - 1) * target + 1) * activation.softplus(-input)
    return _reduced(name, losses if weight is None else losses * weight, reduction)


def kl_div(input: Tensor, target: Tensor, *, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """target (log target - input), where input are log-probabilities (and target too, with log_target); reduced.

    "batchmean" divides the sum by the length of the first axis and is the Kullback-Leibler divergence; "mean" is not. A
    target of 0 contributes 0, a negative one NaN.
    """
    _same_shape("kl_div", input, target)
    if log_target:
        losses = target.exp() * (target - input)
    else:
        losses = target * (choosing.where(target == 0, 1.0, target).log() - input)
    if reduction == "batchmean":
        return losses.sum() / input.shape[0]
    return _reduced("kl_div", losses, reduction)


# Classes.


def _classes(name: str, input: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor | None]:
    """The class indices with a channel axis, ignored ones replaced by 0; and where they count (None: everywhere)."""
    expected = input.shape[:1] + input.shape[2:] if input.ndim > 1 else ()
    if target.dtype.kind not in "iu" or tuple(target.shape) != tuple(expected):
        raise ValueError(
            f"{name}: for input {tuple(input.shape)} (N, classes, ...) the target should be integers of shape "
            f"{tuple(expected)}, got {target.dtype} {tuple(target.shape)}"
        )
    xp, labels, count = input.device.kernels.xp, target.array, input.shape[1 if input.ndim > 1 else 0]
    counted = labels != ignore_index
    if isinstance(labels, np.ndarray):
        wrong = labels[counted & ((labels < 0) | (labels >= count))]
        if wrong.size:
            raise IndexError(
                f"{name}: class {wrong[0]} does not exist: input {tuple(input.shape)} has classes 0..{count - 1}"
            )
        if counted.all():
            return Tensor(labels.astype(np.int64), None, target.device).unsqueeze(min(1, target.ndim)), None
    safe = Tensor(xp.where(counted, labels, 0).astype(np.int64), None, target.device)
    return safe.unsqueeze(min(1, target.ndim)), Tensor(counted, None, target.device)


def nll_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """-weight[t] input[n, t, ...] with t = target[n, ...], reduced.

    input (N, C, ...) or (C,) holds log-probabilities, target (N, ...) or () integers. "mean" divides by the sum of
    the weights of the targets; targets equal to `ignore_index` count nowhere.
    """
    name = "nll_loss"
    _check_classes(name, input)
    labels, counted = _classes(name, input, target, ignore_index)
    dim = min(1, input.ndim - 1)
    losses = -gather(input, dim, labels).squeeze(dim)
    factor = None if weight is None else _class_weight(name, input, weight)[labels].squeeze(dim)
    if counted is not None:
        factor = counted.to(input.dtype) if factor is None else factor * counted
    if factor is None:
        return _reduced(name, losses, reduction)
    if counted is not None:  # an ignored loss of infinity must not become NaN
        losses = choosing.where(counted, losses, 0.0)
    losses = losses * factor
    return losses.sum() / factor.sum() if reduction == "mean" else _reduced(name, losses, reduction)


def _check_classes(name: str, input: Tensor) -> None:
    if input.ndim == 0:
        raise ValueError(f"{name}: input should be (classes,) or (N, classes, ...), got a scalar")


def _class_weight(name: str, input: Tensor, weight: Tensor) -> Tensor:
    count = input.shape[min(1, input.ndim - 1)]
    if tuple(weight.shape) != (count,):
        raise ValueError(
            f"{name}: weight should have shape ({count},), one per class of input {tuple(input.shape)}, "
            f"got {tuple(weight.shape)}"
        )
    return weight


def cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    """-log softmax(input)[target], reduced.

    input (N, C, ...) or (C,) holds logits, target class indices (N, ...) or (), or probabilities in the shape of
    input. Label smoothing e replaces the target distribution t by (1 - e) t + e / C. `weight` (C,) weighs classes;
    "mean" divides by the weights of the targets (for probabilities by N). Raises ValueError for shapes that do not
    fit, IndexError for a class outside 0..C-1.
    """
    name = "cross_entropy"
    _check_classes(name, input)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{name}: label_smoothing={label_smoothing} should lie in [0, 1]")
    if weight is None and not label_smoothing and reduction in ("sum", "mean") and _plain(input, target, ignore_index):
        try:
            return fused.class_loss(input, target, _share(len(input), reduction))
        except IndexError:  # a label that is ignored, or an error that `_classes` explains
            pass
    dim = min(1, input.ndim - 1)
    log_p = reduce.log_softmax(input, dim)
    count = input.shape[dim]
    per_class = (
        None if weight is None else _class_weight(name, input, weight).reshape((-1,) + (1,) * (input.ndim - 1 - dim))
    )
    if target.dtype.kind == "f":
        _same_shape(name, input, target)
        t = target * (1 - label_smoothing) + label_smoothing / count if label_smoothing else target
        losses = -(t * log_p if per_class is None else t * log_p * per_class).sum(dim)
        return _reduced(name, losses, reduction)
    losses = nll_loss(log_p, target, weight, ignore_index=ignore_index, reduction=reduction)
    if not label_smoothing:
        return losses
    labels, counted = _classes(name, input, target, ignore_index)
    spread = -(log_p if per_class is None else log_p * per_class).sum(dim)
    if counted is not None:
        spread = choosing.where(counted, spread, 0.0)
    if reduction == "mean":
        factor = Tensor(input.device.kernels.xp.ones(spread.shape, input.dtype), None, input.device)
        factor = factor if weight is None else weight[labels].squeeze(dim)
        spread = spread.sum() / (factor if counted is None else factor * counted).sum()
    else:
        spread = _reduced(name, spread, reduction)
    return losses * (1 - label_smoothing) + spread * (label_smoothing / count)


def _plain(input: Tensor, target: Tensor, ignore_index: int) -> bool:
    """Whether these are (N, classes) logits and N classes, of which none is ignored."""
    if input.ndim != 2 or not input.array.size or tuple(target.shape) != tuple(input.shape[:1]):
        return False
    if target.dtype.kind not in "iu" or not isinstance(target.array, np.ndarray):  # a GPU cannot refuse a label
        return False
    return not 0 <= ignore_index < input.shape[1]


def hinge_loss(input: Tensor, target: Tensor, *, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """max(0, margin - target input) for scores and targets of -1 or 1, reduced: the hinge of SVMs and GAN critics."""
    _same_shape("hinge_loss", input, target)
    return _reduced("hinge_loss", activation.relu(margin - target * input), reduction)


def hinge_embedding_loss(input: Tensor, target: Tensor, margin: float = 1.0, *, reduction: str = "mean") -> Tensor:
    """input where target is 1, max(0, margin - input) where it is -1, and the sum of both elsewhere; reduced."""
    _same_shape("hinge_embedding_loss", input, target)
    losses = choosing.where(target != -1, input, 0.0) + choosing.where(target != 1, _hinge(margin - input), 0.0)
    return _reduced("hinge_embedding_loss", losses, reduction)


# Similarity of vectors.


def margin_ranking_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, *, reduction: str = "mean"
) -> Tensor:
    """max(0, margin - target (input1 - input2)): with target 1 the first should be larger, with -1 the second."""
    _same_shape("margin_ranking_loss", input1, input2, "input2")
    _same_shape("margin_ranking_loss", input1, target)
    return _reduced("margin_ranking_loss", _hinge(margin - target * (input1 - input2)), reduction)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """<x1, x2> / (max(|x1|, eps) max(|x2|, eps)) along `dim` of both, broadcast against each other."""
    shape = np.broadcast_shapes(x1.shape, x2.shape)
    x1, x2 = x1.expand(shape), x2.expand(shape)
    lengths = [_at_least(reduce.norm(x, 2, dim, keepdim=True), eps) for x in (x1, x2)]
    return ((x1 / lengths[0]) * (x2 / lengths[1])).sum(dim)


def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """The p-norm of x1 - x2 + eps along the last axis."""
    return reduce.norm(x1 - x2 + eps, p, -1, keepdim)


def triplet_margin_loss(
    anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0, p: float = 2, eps: float = 1e-6,
    swap: bool = False, *, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """max(0, d(anchor, positive) - d(anchor, negative) + margin), d the p-norm over the last axis; reduced.

    With `swap` the negative is measured from whichever of anchor and positive is nearer (Balntas et al. 2016).
    Lecture 3.
    """
    name = "triplet_margin_loss"
    _same_shape(name, anchor, positive, "positive")
    _same_shape(name, anchor, negative, "negative")
    if margin <= 0:
        raise ValueError(f"{name}: margin={margin} should be positive")
    far = pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = choosing.minimum(far, pairwise_distance(positive, negative, p, eps))
    return _reduced(name, _hinge(pairwise_distance(anchor, positive, p, eps) - far + margin), reduction)


def cosine_embedding_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, *, reduction: str = "mean"
) -> Tensor:
    """1 - cos(input1, input2) where target is 1, max(0, cos(input1, input2) - margin) where it is -1; reduced.

    input1 and input2 (N, D) with target (N,), or (D,) with a scalar target.
    """
    name = "cosine_embedding_loss"
    _same_shape(name, input1, input2, "input2")
    if tuple(target.shape) != tuple(input1.shape[:-1]):
        raise ValueError(
            f"{name}: target should have shape {tuple(input1.shape[:-1])}, one per row of {tuple(input1.shape)}, "
            f"got {tuple(target.shape)}"
        )
    eps = 1e-12
    cos = (input1 * input2).sum(-1) / ((input1.square().sum(-1) + eps) * (input2.square().sum(-1) + eps)).sqrt()
    losses = choosing.where(target == 1, 1 - cos, 0.0) + choosing.where(target == -1, _hinge(cos - margin), 0.0)
    return _reduced(name, losses, reduction)
