"""NaN goes through: no comparison hides it. Every function that chooses, bounds or reduces, beside torch."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinygen as tg
from tinygen.nn import functional as F

torch = pytest.importorskip("torch")
TF = torch.nn.functional
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")

NAN = math.nan
BOUNDS = np.array([0.0, NAN, NAN, 1.0, -1.0, 1.0])
INPUTS = {
    "one": np.array([NAN, -1.0, 2.0, 3.0, -0.5, 0.0]),
    "two": np.array([1.0, -1.0, NAN, 3.0, NAN, 0.0]),
    "infinities": np.array([NAN, -1.0, math.inf, 2.0, -math.inf, 0.0]),
    "finite": np.array([1.0, -1.0, 2.5, 3.0, -0.5, 0.0]),
}


def bounds(L, x, values=BOUNDS):
    return L.tensor(values, dtype=x.dtype)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "softshrink", "hardsigmoid"])
def test_derivatives_at_nan_are_torchs(name):
    values = [NAN, 1.0, -1.0, 0.0, 0.5, -0.5, math.inf, -math.inf]
    x, theirs = tg.tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
    getattr(F, name)(x).sum().backward(), getattr(TF, name)(theirs).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), theirs.grad.numpy())


CASES = {  # (L, the functions of nn.functional, x) -> result
    "clamp min": lambda L, N, x: x.clamp(min=NAN),
    "clamp max": lambda L, N, x: x.clamp(max=NAN),
    "clamp both": lambda L, N, x: x.clamp(0.0, NAN),
    "clamp": lambda L, N, x: x.clamp(0.0, 1.0),
    "clamp tensor min": lambda L, N, x: x.clamp(min=bounds(L, x)),
    "clamp tensor max": lambda L, N, x: x.clamp(max=bounds(L, x)),
    "clamp tensors": lambda L, N, x: x.clamp(bounds(L, x), bounds(L, x, BOUNDS[::-1].copy())),
    "clamp_": lambda L, N, x: (x * 1).clamp_(0.0, NAN),
    "threshold": lambda L, N, x: N.threshold(x, 0, 9),
    "maximum": lambda L, N, x: L.maximum(x, bounds(L, x)),
    "minimum": lambda L, N, x: L.minimum(bounds(L, x), x),
    "where": lambda L, N, x: L.where(x > 0, x, bounds(L, x)),
    "masked_fill": lambda L, N, x: x.masked_fill(x > 0, NAN),
    "leaky_relu": lambda L, N, x: N.leaky_relu(x, 0.1),
    "leaky_relu negative": lambda L, N, x: N.leaky_relu(x, -0.1),
    **{
        name: lambda L, N, x, name=name: getattr(N, name)(x)
        for name in (
            "relu relu6 hardtanh elu selu gelu silu mish softplus softsign logsigmoid tanh sigmoid relu_".split()
        )
    },
    **{
        name: lambda L, N, x, name=name: getattr(L, name)(x)
        for name in (
            "abs floor ceil round trunc exp expm1 log log1p sqrt rsqrt square reciprocal sin cos erf neg isnan isinf "
            "isfinite logical_not nonzero sum mean prod var std max min amax amin argmax argmin any all norm"
        ).split()
    },
    **{
        f"{name} along {dim}": lambda L, N, x, name=name, dim=dim: getattr(L, name)(x.reshape(2, 3), dim=dim)
        for dim in (0, 1)
        for name in (
            "sum mean prod var std max min amax amin argmax argmin any all norm logsumexp softmax log_softmax cumsum "
            "cumprod sort argsort"
        ).split()
    },
    **{
        f"norm {p}": lambda L, N, x, p=p: L.norm(x.reshape(2, 3), p, dim=1)
        for p in (0, 0.5, 1, 1.5, 3, math.inf, -math.inf)
    },
    "topk": lambda L, N, x: x.topk(3)[0],
    "topk smallest": lambda L, N, x: x.topk(3, largest=False)[0],
    "normalize": lambda L, N, x: N.normalize(x.reshape(2, 3)),
    "max_pool1d": lambda L, N, x: N.max_pool1d(x.reshape(1, 1, 6), 3, 1, 1),
    "max_pool2d": lambda L, N, x: N.max_pool2d(x.reshape(1, 1, 2, 3), 2, 1),
    "adaptive_max_pool1d": lambda L, N, x: N.adaptive_max_pool1d(x.reshape(1, 1, 6), 4),
    "adaptive_max_pool2d": lambda L, N, x: N.adaptive_max_pool2d(x.reshape(1, 1, 3, 2), (2, 1)),
    "smooth_l1_loss": lambda L, N, x: N.smooth_l1_loss(x, L.ones_like(x), reduction="none"),
    "huber_loss": lambda L, N, x: N.huber_loss(x, L.ones_like(x), reduction="none"),
    "kl_div": lambda L, N, x: N.kl_div(L.zeros_like(x), x.clamp(-9, 9), reduction="none"),
    "hinge_embedding_loss": lambda L, N, x: N.hinge_embedding_loss(x, L.ones_like(x) * -1, reduction="none"),
    "margin_ranking_loss": lambda L, N, x: N.margin_ranking_loss(x, x + 1, L.ones_like(x), reduction="none"),
    "gaussian_nll_loss": lambda L, N, x: N.gaussian_nll_loss(x, x + 1, x.abs(), reduction="none"),
    "cosine_similarity": lambda L, N, x: N.cosine_similarity(x.reshape(2, 3), x.reshape(2, 3)),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("values", INPUTS)
@pytest.mark.parametrize("name", CASES)
def test_values_are_torch_s(name, values, dtype):
    results = []
    for L, N in ((tg, F), (torch, TF)):
        # Of infinity torch's gelu in single precision is NaN in a vector, on some processors, and infinite alone.
        kind = "float64" if name == "gelu" and L is torch else dtype
        y = CASES[name](L, N, L.tensor(INPUTS[values].astype(kind)))
        results.append([np.asarray(part) for part in (y if isinstance(y, tuple) else (y,))])
    for mine, his in zip(*results, strict=True):
        np.testing.assert_allclose(mine, his, rtol=1e-5 if dtype == "float32" else 1e-12, atol=1e-7)


@pytest.mark.parametrize("name", ["threshold", "max", "min", "relu", "hardtanh"])
@pytest.mark.parametrize("values", INPUTS)
def test_gradients_are_torch_s(name, values):
    results = []
    for L, N in ((tg, F), (torch, TF)):
        x = L.tensor(INPUTS[values], requires_grad=True)
        CASES[name](L, N, x).sum().backward()
        results.append(x.grad.numpy())
    np.testing.assert_allclose(*results, rtol=1e-12)
