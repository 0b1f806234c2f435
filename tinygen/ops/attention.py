"""Scaled dot-product attention: each query reads the values, weighted by how well their keys fit it.

    P = softmax(Q K^T / sqrt(E) + bias)        O = P V

One op with a fast VJP, which the forward pass hands the matrix P:

    dV = P^T dO      dP = dO V^T      dS = P (dP - rowsum(dP P))      dQ = dS K / sqrt(E)      dK = dS^T Q / sqrt(E)

The composite below defines it and gives higher orders. Vaswani et al. 2017. Deliberately absent: tiles that spare the
memory of P, which is L S numbers per head.
"""

from __future__ import annotations

import math
from typing import Any

from ..tape import Tensor, op
from .choosing import where
from .matmul import matmul
from .random import dropout
from .rearranging import repeat_interleave
from .reduce import softmax
from .view import transpose

__all__ = ["scaled_dot_product_attention"]


def _past(xp: Any, shape: tuple) -> Any:
    """True where key j is not later than query i, for scores of this shape (..., L, S)."""
    return xp.arange(shape[-1]) <= xp.arange(shape[-2])[:, None]


def _weights(query: Tensor, key: Tensor, bias: Tensor | None, scale: float, causal: bool) -> Tensor:
    """P, in plain ops; a query that may read nothing has weights of 0."""
    scores = matmul(query, transpose(key, -1, -2)) * scale
    xp = scores.device.kernels.xp
    if causal:
        scores = where(Tensor(_past(xp, scores.shape), None, scores.device), scores, -math.inf)
    if bias is None:
        return softmax(scores, -1)
    scores = scores + bias
    blind = Tensor((scores.array == -math.inf).all(-1, keepdims=True), None, scores.device)
    return where(blind, 0.0, softmax(where(blind, 0.0, scores), -1))


def _composite(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float, causal: bool) -> Tensor:
    return matmul(_weights(query, key, bias, scale, causal), value)


@op(composite=_composite, residuals=True)
def _attention(k, query, key, value, bias=None, *, scale, causal):
    """(softmax(scale * query key^T + bias) value, the softmax)."""
    scores = k.matmul(query, key.swapaxes(-1, -2))
    scores *= scale  # this op's own
    if causal:
        scores = k.xp.where(_past(k.xp, scores.shape), scores, scores.dtype.type(-math.inf))
    if bias is None:
        weights = k.softmax(scores)
    else:
        scores = scores + bias
        blind = (scores == -math.inf).all(-1, keepdims=True)
        weights = k.softmax(k.xp.where(blind, scores.dtype.type(0), scores))
        weights = k.xp.where(blind, scores.dtype.type(0), weights)
    return k.matmul(weights, value), weights


@_attention.fused_vjp
def _(k, g, query, key, value, scale, residuals, wanted):
    weights = residuals
    gradients = [None, None, k.matmul(weights.swapaxes(-1, -2), g) if 2 in wanted else None, None]
    if wanted != [2]:
        through = k.matmul(g, value.swapaxes(-1, -2)) * weights
        by_score = through - weights * k.sum(through, (through.ndim - 1,))[..., None]
        gradients[0] = k.matmul(by_score, key) * scale if 0 in wanted else None
        gradients[1] = k.matmul(by_score.swapaxes(-1, -2), query) * scale if 1 in wanted else None
        gradients[3] = by_score
    return gradients


def _as_bias(mask: Tensor, like: Tensor) -> Tensor:
    """A mask as what is added to the scores: booleans say what may be read."""
    if mask.dtype.kind != "b":
        return mask
    xp = like.device.kernels.xp
    return Tensor(xp.where(mask.array, 0, -math.inf).astype(like.dtype), None, like.device)


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """softmax(scale * query key^T + mask) value, the softmax over the keys: (..., L, F).

    query (..., L, E), key (..., S, E), value (..., S, F); the leading axes broadcast. A boolean mask (..., L, S) is
    true where a query may read a key, a float mask is added to the scores. `is_causal` hides later keys. scale is
    1 / sqrt(E) by default. `enable_gqa` repeats the heads (axis -3) of key and value for those of query. ValueError for
    other shapes, and for a mask beside is_causal.
    """
    name = "scaled_dot_product_attention"
    shapes = f"query {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}"
    fits = min(query.ndim, key.ndim, value.ndim) > 1
    if not fits or query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        raise ValueError(f"{name}: expected query (..., L, E), key (..., S, E), value (..., S, F), got {shapes}")
    if attn_mask is not None and is_causal:
        raise ValueError(f"{name}: say either attn_mask or is_causal=True; a mask may hide later keys too")
    if enable_gqa:
        heads = [t.shape[-3] if t.ndim > 2 else 0 for t in (query, key, value)]
        if not all(heads) or heads[0] % heads[1] or heads[0] % heads[2]:
            raise ValueError(f"{name}: the heads (axis -3) of query should be a multiple of the others', got {shapes}")
        key = repeat_interleave(key, heads[0] // heads[1], -3)
        value = repeat_interleave(value, heads[0] // heads[2], -3)
    scale = float(scale) if scale is not None else 1 / math.sqrt(max(1, query.shape[-1]))
    if attn_mask is not None and attn_mask.dtype.kind in "iu":
        remedy = "make it boolean with .bool(), or a float to be added to the scores"
        raise TypeError(f"{name}: attn_mask should be bool or {query.dtype}, got {attn_mask.dtype}; {remedy}")
    bias = None if attn_mask is None else _as_bias(attn_mask, query)
    if dropout_p > 0:
        return matmul(dropout(_weights(query, key, bias, scale, is_causal), dropout_p), value)
    return _attention(query, key, value, bias, scale=scale, causal=bool(is_causal))[0]
