"""Every public function on the device gives what it gives on the CPU, values and gradients.

The arrays of the emulated device refuse to meet NumPy's (tinygen/backends/cuda/device_array.py): a mask, an index or a
constant that a function leaves on the host shows here, as it would on a GPU.
"""

from __future__ import annotations

import shutil
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from on_device import PLACE

import tinygen as tg
from tinygen.nn import functional as F

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="the emulator needs g++")

# x, y (3, 4), positive p (3, 4), square s (4, 4), images i (2, 4, 6, 6), w (5, 4, 3, 3), sequence q (2, 4, 7), labels
# l (3,), index n (2, 4) in [0, 3), mask m (3, 4)
CALLS = """
add(x, y) | sub(x, y) | mul(x, 2.5) | div(x, y) | div(x, y, rounding_mode="floor") | neg(x) | pow(p, 1.5) | pow(p, y)
square(x) | reciprocal(p) | floor_divide(x, p) | fmod(x, p) | remainder(x, p) | lerp(x, y, 0.3) | addcmul(x, y, p)
addcdiv(x, y, p) | exp(x) | log(p) | log1p(p) | expm1(x) | sqrt(p) | rsqrt(p) | sin(x) | cos(x) | erf(x) | abs(x)
sign(x)
maximum(x, y) | minimum(x, y) | clamp(x, -0.5, 0.5) | clamp(x, y, p) | where(m, x, y) | where(m, x, 0.0)
cast(x, np.float64) | floor(x) | ceil(x) | round(x, decimals=1) | trunc(x) | eq(x, y) | ne(x, y) | lt(x, 0) | le(x, y)
gt(x, y) | ge(x, y) | logical_and(m, x > 0) | logical_or(m, x > 0) | logical_xor(m, x > 0) | logical_not(m) | isnan(x)
bitwise_and(n, 3) | bitwise_or(n, n) | bitwise_xor(n, 5) | bitwise_not(n) | bitwise_left_shift(n, 2) | ~m & (x > 0)
bitwise_right_shift(n, 1) | masked_fill(x, m, x.sum()) | x.diagonal() | scatter(x, 0, n, y) | gather(x, 0, n)
isinf(x) | isfinite(x) | tanh(x) | sigmoid(x) | softplus(x) | log_sigmoid(x) | relu(x) | leaky_relu(x, 0.1) | elu(x)
selu(x)
gelu(x) | gelu(x, approximate="tanh") | silu(x)
tensor(x) | as_tensor(x) | asarray(x) | zeros_like(x) | ones_like(x) | full_like(x, 3.0)
matmul(x, s) | mm(x, s) | bmm(i[0], i[1]) | mv(x, s[0]) | dot(s[0], s[1]) | outer(s[0], s[1]) | linear(x, s, s[0])
einsum("ij,kj->ik", x, y) | einsum("ii->i", s) | einsum("ij,jk,kl->il", x, s, s) | einsum("ij->j", x)
addmm(s[0], x, s) | trace(s) | t(x) | linear_leaky_relu(x, s, s[0], 0.2)
conv1d(q, w[:, :, 0]) | conv2d(i, w, stride=2, padding=1) | conv2d(i, w[:4, :1], groups=4)
conv2d(i, w, padding="same")
conv_layer(tg.ops.conv.conv, 2, i, w, s[0][:1].expand(5), 1, 2, 1, 1, slope=0.2)
conv_moments(tg.ops.conv.conv, 2, i, w, s[0][:1].expand(5), 1, 2, 1, 1, slope=0.2)[0]
conv_transpose1d(q, w[:4, :, 0]) | conv_transpose2d(i, w[:4], stride=2, padding=1, output_padding=1)
max_pool1d(q, 2) | max_pool2d(i, 2) | max_pool2d(i, 3, 2, 1, return_indices=True) | avg_pool1d(q, 2)
avg_pool2d(i, 3, 2, 1)
adaptive_avg_pool1d(q, 3) | adaptive_avg_pool2d(i, 4) | adaptive_max_pool1d(q, 3) | adaptive_max_pool2d(i, (4, 3))
max_unpool2d(*max_pool2d(i, 2, return_indices=True), 2) | interpolate(i, scale_factor=2) | upsample(i, 9)
interpolate(i, (9, 4), mode="bilinear") | interpolate(i, (9, 4), mode="bicubic")
sum(x) | sum(x, 0) | mean(x, 1, keepdim=True) | var(x, 0) | std(x, 1) | prod(p, 1) | norm(x) | norm(x, 1, 1) | max(x)
max(x, 1)
min(x, 0) | amax(x, 1) | amin(x) | argmax(x, 1) | argmin(x) | any(m, 0) | all(m) | logsumexp(x, 1) | softmax(x, 0)
log_softmax(x, 1) | cumsum(x, 1) | cumprod(p, 1) | sum(n) | cumsum(n, 1)
reshape(x, 2, 6) | view(x, 12) | transpose(x, 0, 1) | swapaxes(x, 0, 1) | swapdims(x, 0, 1) | permute(i, 1, 0, 3, 2)
movedim(i, 1, -1) | flatten(i, 1) | unflatten(x, 1, (2, 2)) | squeeze(x[:, :1]) | unsqueeze(x, 1)
expand(x[:1], 3, 4)
expand_as(x[:1], x) | broadcast_to(x[:1], (3, 4)) | clone(x) | contiguous(x.T) | cat([x, y]) | concat([x, y], 1)
concatenate([x, y]) | stack([x, y], 1) | cat([x] * 9) | split(x, 2, 1) | chunk(x, 2, 1) | unbind(x)
narrow(x, 1, 1, 2)
select(x, 1, 2) | getitem(x, n[0, :2]) | x[m] | x[l, l] | x[[0, 2]] | x[:, None, ::2] | gather(x, 0, n) | n[n > 0]
take_along_dim(x, n, 0) | scatter(x, 0, n, y[:2]) | scatter(x, 0, n, 7.0) | scatter_add(x, 0, n, y)
index_select(x, 0, l)
scatter_add(n, 0, n % 2, n) | index_add(x, 0, l, y) | masked_fill(x, m, 2.0) | masked_select(x, m) | nonzero(m)
nonzero(x > 0, as_tuple=True) | embedding(n, x) | one_hot(n) | one_hot(n, 5) | pad(i, (1, 2, 0, 1))
pad(i, (1, 2, 0, 1), mode="reflect")
pad(i, (1, 2), mode="replicate") | pad(i, (1, 2, 1, 1), mode="circular") | flip(x, (0, 1)) | roll(x, 1, 1)
tile(x, (2, 1))
repeat(x, 2, 1) | repeat_interleave(x, 2, 1) | pixel_shuffle(i, 2) | pixel_unshuffle(i, 2) | tril(s) | triu(s, 1)
diagonal(s) | diag(s[0]) | diag(s) | sort(x, 1) | sort(x, 0, descending=True) | argsort(x, 1) | topk(x, 2)
meshgrid(x[0], y[0])
rand_like(x) | randn_like(x) | randint_like(n, 0, 9) | multinomial(p, 2) | bernoulli(sigmoid(x)) | dropout1d(q, 0.5)
dropout2d(i, 0.5) | dropout(x, 0.3) | normal(x, p) | normal(x, 0.5)
batch_norm(i, s[0], s[1]) | row_norm(x) | layer_norm(x, (4,), s[0], s[1]) | group_norm(i, 2, s[0], s[1])
instance_norm(i) | bce_with_logits(x, p) | squared_error(x, y) | bernoulli_loss(x, sigmoid(y)) | class_loss(x, l)
gaussian_kl(x, y) | reparameterize(x, y, p)
F.relu_(x.detach() + 0) | F.logsigmoid(x) | F.softsign(x) | F.hardtanh(x) | F.relu6(x) | F.mish(x) | F.softmin(x, 1)
F.normalize(x)
F.gumbel_softmax(x, hard=True) | F.threshold(x, 0.1, 20.0) | F.mse_loss(x, y) | F.l1_loss(x, y)
F.smooth_l1_loss(x, y)
F.huber_loss(x, y) | F.binary_cross_entropy(sigmoid(x), sigmoid(y)) | F.cross_entropy(x, l)
F.binary_cross_entropy_with_logits(x, sigmoid(y), weight=p, pos_weight=s[0].abs()) | F.nll_loss(log_softmax(x, 1), l)
F.cross_entropy(x, l, weight=s[0].abs(), label_smoothing=0.1) | F.cross_entropy(x, l, ignore_index=1)
F.cross_entropy(x, softmax(y, 1))
F.nll_loss(log_softmax(x, 1), l, weight=s[0].abs()) | F.kl_div(log_softmax(x, 1), softmax(y, 1))
F.hinge_loss(x, sign(y))
F.hinge_embedding_loss(x, sign(y)) | F.margin_ranking_loss(x, y, sign(p)) | F.triplet_margin_loss(x, y, p)
F.cosine_embedding_loss(x, y, sign(y[:, 0])) | F.gaussian_nll_loss(x, y, p)
F.batch_norm(i, None, None, s[0], s[1], True)
F.cosine_similarity(x, y) | F.pairwise_distance(x, y) | F.poisson_nll_loss(x, p)
F.celu(x, 0.7) | F.glu(x, 1) | F.hardsigmoid(x) | F.hardswish(x) | F.prelu(i, s[0]) | F.softshrink(x) | F.tanhshrink(x)
F.rms_norm(x, (4,), s[0]) | F.local_response_norm(i, 3)
bilinear(x, y, w[:, :, 0, :1] * s[0])
unfold(i, 3, padding=1) | fold(unfold(i, 3), (6, 6), 3) | affine_grid(w[:2, :2, 0], (2, 4, 5, 5), False)
erfinv(x * 0.1)
grid_sample(i, affine_grid(w[:2, :2, 0], (2, 4, 5, 5), False), "bilinear", "border", False) | rot90(i, 1, (2, 3))
scaled_dot_product_attention(i, i * 0.5, i[:, :, :, :2], is_causal=True) | cdist(x, y) | pdist(x) | svdvals(x)
cholesky(s @ s.T + eye(4, dtype=np.float64, device=D)) | solve(s, s[0]) | inv(s) | slogdet(s) | eigh(s + s.T)[0]
svd(x, full_matrices=False)[1] | convolve1d(q, w[:, :, 0]) | convolve2d(i, w, padding=1)
x.copy_ and tg.zeros_like(x).copy_(y.detach().cpu()) | (x > 0).any() and tg.ones_like(x).masked_fill_(m, 0) | x.to(y)
x.tolist()
zeros(2, device=D) | ones(2, device=D) | full((2,), 3.0, device=D) | arange(5, device=D) | linspace(0, 1, 5, device=D)
eye(3, device=D)
rand(3, device=D) | randn(3, device=D) | randint(0, 5, (4,), device=D) | randperm(6, device=D)
normal(0.0, 1.0, (3,), device=D)
"""
EXPRESSIONS = [call.strip() for line in CALLS.strip().splitlines() for call in line.split("|")]
MODULES = (
    "linalg",  # first: norm is the one of reduce
    "arithmetic", "pointwise", "comparison", "choosing", "activation",
    "creation", "matmul", "pool", "random", "reduce", "resize", "fused", "conv",
    "view", "joining", "indexing", "masking", "gathering", "embedding", "padding", "rearranging", "diagonals",
    "sorting", "attention", "bilinear", "convolve", "distances", "fold", "grid", "special",
)  # fmt: skip
PUBLIC = {name: getattr(module, name) for m in MODULES for module in [import_module(f"tinygen.ops.{m}")]
          for name in module.__all__}  # fmt: skip


def operands(place: str) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    shapes = {"x": (3, 4), "y": (3, 4), "s": (4, 4), "i": (2, 4, 6, 6), "w": (5, 4, 3, 3), "q": (2, 4, 7)}
    values = {name: draw.standard_normal(shape) for name, shape in shapes.items()}
    values["p"] = draw.random((3, 4)) + 0.5
    found = {name: tg.tensor(v, device=place, requires_grad=True) for name, v in values.items()}
    others = {"l": draw.integers(0, 3, 3), "n": draw.integers(0, 3, (2, 4)), "m": draw.random((3, 4)) < 0.5}
    return found | {name: tg.tensor(v, device=place) for name, v in others.items()}


def flat(result: Any) -> list[Any]:
    return [v for r in result for v in flat(r)] if isinstance(result, tuple | list) else [result]


def evaluated(expression: str, place: str) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """All results, and the gradient of a weighted sum of those that are differentiable."""
    tg.manual_seed(5)
    names, given = {**PUBLIC, "F": F, "np": np, "tg": tg, "D": place}, operands(place)
    results = flat(eval(expression, {**names, **given}))
    for r in results:
        assert not isinstance(r, tg.Tensor) or str(r.device) == place, expression
    seeds = [r for r in results if isinstance(r, tg.Tensor) and r.requires_grad]
    if seeds:
        tg.backward(sum((r * r).sum() for r in seeds))
    host = lambda r: r.detach().cpu().numpy() if isinstance(r, tg.Tensor) else np.asarray(r)
    return [host(r) for r in results], {n: host(t.grad) for n, t in given.items() if t.grad is not None}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_function_gives_what_it_gives_on_the_cpu(expression):
    (want, gradients), (got, there) = evaluated(expression, "cpu"), evaluated(expression, PLACE)
    assert gradients.keys() == there.keys()
    for a, b in [*zip(want, got, strict=True), *((gradients[n], there[n]) for n in gradients)]:
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(b, a, rtol=1e-9 if a.dtype == np.float64 else 1e-6, atol=1e-9)


def test_no_public_function_was_forgotten():
    said = "\n".join(EXPRESSIONS)
    rest = ("Generator", "default_generator", "manual_seed", "initial_seed", "get_rng_state", "set_rng_state",
            "from_numpy", "from_dlpack", "empty", "empty_like", "conv_matrix")  # fmt: skip
    called = lambda name: name + "(" in said.replace("F.", "") or name in rest
    assert not [name for name in (*PUBLIC, *F.__all__) if not called(name)]
