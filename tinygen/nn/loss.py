"""The losses of losses.py as modules: the options are given once, the tensors at each call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..tape import Tensor
from . import losses
from .module import Module

__all__ = [
    "MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss", "NLLLoss",
    "KLDivLoss", "HingeEmbeddingLoss", "MarginRankingLoss", "TripletMarginLoss", "CosineEmbeddingLoss",
    "GaussianNLLLoss", "CosineSimilarity", "PairwiseDistance", "PoissonNLLLoss",
]  # fmt: skip


class _Loss(Module):
    """A loss with its options; `weight` and `pos_weight` are buffers, so that they move with the module."""

    _function: Callable

    def __init__(self, reduction: str = "mean", **options: Any) -> None:
        super().__init__()
        self.reduction = reduction
        self._options = [name for name, value in options.items() if not isinstance(value, Tensor)]
        for name, value in options.items():
            if isinstance(value, Tensor):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    def forward(self, *inputs: Tensor) -> Tensor:
        options = {**{name: getattr(self, name) for name in self._options}, **self._buffers}
        return type(self)._function(*inputs, reduction=self.reduction, **options)

    def extra_repr(self) -> str:
        shown = {name: getattr(self, name) for name in self._options}
        return ", ".join(f"{k}={v!r}" for k, v in {**shown, "reduction": self.reduction}.items() if v is not None)


class MSELoss(_Loss):
    """`mse_loss`."""

    _function = staticmethod(losses.mse_loss)

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__(reduction)


class L1Loss(_Loss):
    """`l1_loss`."""

    _function = staticmethod(losses.l1_loss)

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__(reduction)


class SmoothL1Loss(_Loss):
    """`smooth_l1_loss`."""

    _function = staticmethod(losses.smooth_l1_loss)

    def __init__(self, *, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction, beta=beta)


class HuberLoss(_Loss):
    """`huber_loss`."""

    _function = staticmethod(losses.huber_loss)

    def __init__(self, *, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction, delta=delta)


class BCELoss(_Loss):
    """`binary_cross_entropy`."""

    _function = staticmethod(losses.binary_cross_entropy)

    def __init__(self, weight: Tensor | None = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction, weight=weight)


class BCEWithLogitsLoss(_Loss):
    """`binary_cross_entropy_with_logits`."""

    _function = staticmethod(losses.binary_cross_entropy_with_logits)

    def __init__(
        self, weight: Tensor | None = None, *, reduction: str = "mean", pos_weight: Tensor | None = None
    ) -> None:
        super().__init__(reduction, weight=weight, pos_weight=pos_weight)


class CrossEntropyLoss(_Loss):
    """`cross_entropy`."""

    _function = staticmethod(losses.cross_entropy)

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction, weight=weight, ignore_index=ignore_index, label_smoothing=label_smoothing)


class NLLLoss(_Loss):
    """`nll_loss`."""

    _function = staticmethod(losses.nll_loss)

    def __init__(self, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction, weight=weight, ignore_index=ignore_index)


class KLDivLoss(_Loss):
    """`kl_div`."""

    _function = staticmethod(losses.kl_div)

    def __init__(self, *, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction, log_target=log_target)


class HingeEmbeddingLoss(_Loss):
    """`hinge_embedding_loss`."""

    _function = staticmethod(losses.hinge_embedding_loss)

    def __init__(self, margin: float = 1.0, *, reduction: str = "mean") -> None:
        super().__init__(reduction, margin=margin)


class MarginRankingLoss(_Loss):
    """`margin_ranking_loss`."""

    _function = staticmethod(losses.margin_ranking_loss)

    def __init__(self, margin: float = 0.0, *, reduction: str = "mean") -> None:
        super().__init__(reduction, margin=margin)


class TripletMarginLoss(_Loss):
    """`triplet_margin_loss`."""

    _function = staticmethod(losses.triplet_margin_loss)

    def __init__(
        self, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6, swap: bool = False, *, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction, margin=margin, p=p, eps=eps, swap=swap)


class CosineEmbeddingLoss(_Loss):
    """`cosine_embedding_loss`."""

    _function = staticmethod(losses.cosine_embedding_loss)

    def __init__(self, margin: float = 0.0, *, reduction: str = "mean") -> None:
        super().__init__(reduction, margin=margin)


class GaussianNLLLoss(_Loss):
    """`gaussian_nll_loss`."""

    _function = staticmethod(losses.gaussian_nll_loss)

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(reduction, full=full, eps=eps)


class PoissonNLLLoss(_Loss):
    """`poisson_nll_loss`."""

    _function = staticmethod(losses.poisson_nll_loss)

    def __init__(
        self, log_input: bool = True, full: bool = False, *, eps: float = 1e-8, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction, log_input=log_input, full=full, eps=eps)


class CosineSimilarity(Module):
    """`cosine_similarity` along `dim`."""

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return losses.cosine_similarity(x1, x2, self.dim, self.eps)


class PairwiseDistance(Module):
    """`pairwise_distance`."""

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        super().__init__()
        self.p, self.eps, self.keepdim = p, eps, keepdim

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return losses.pairwise_distance(x1, x2, self.p, self.eps, self.keepdim)
