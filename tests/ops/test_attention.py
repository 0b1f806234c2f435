"""Attention: torch's values and gradients for every option, and a fast VJP that equals the composite."""

from __future__ import annotations

import numpy as np
import pytest

import tinygen as tg
import tinygen.nn.functional as F
from tinygen import observe
from tinygen.ops import attention
from tinygen.testing import gradcheck, gradgradcheck

torch = pytest.importorskip("torch")
R = np.random.default_rng(5)
Q, K, V = R.standard_normal((2, 4, 3, 8)), R.standard_normal((2, 4, 6, 8)), R.standard_normal((2, 4, 6, 5))
BIAS = R.standard_normal((4, 3, 6))
ALLOWED = R.random((2, 1, 3, 6)) < 0.6
BLIND = ALLOWED.copy()
BLIND[0, 0, 1] = False  # a query that may read nothing
CASES = {
    "plain": ((Q, K, V), {}),
    "causal": ((Q, K, V), {"is_causal": True}),
    "causal with more queries": ((K, Q, V[..., :3, :]), {"is_causal": True}),
    "scale": ((Q, K, V), {"scale": 0.3}),
    "bias": ((Q, K, V), {"attn_mask": BIAS}),
    "mask": ((Q, K, V), {"attn_mask": ALLOWED}),
    "mask that hides all": ((Q, K, V), {"attn_mask": BLIND}),
    "one head": ((Q[0, 0], K[0, 0], V[0, 0]), {}),
    "broadcast": ((Q[:, :1], K[:1], V), {}),
    "groups": ((Q, K[:, :2], V[:, :1]), {"enable_gqa": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_torchs(case):
    inputs, options = CASES[case]
    ours, theirs = [tg.tensor(a).requires_grad_() for a in inputs], [torch.tensor(a) for a in inputs]
    theirs = [t.requires_grad_() for t in theirs]
    given = {k: (tg.tensor(v), torch.tensor(v)) if isinstance(v, np.ndarray) else (v, v) for k, v in options.items()}
    y = F.scaled_dot_product_attention(*ours, **{k: a for k, (a, _) in given.items()})
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        r = torch.nn.functional.scaled_dot_product_attention(*theirs, **{k: b for k, (_, b) in given.items()})
    np.testing.assert_allclose(y.detach().numpy(), r.detach().numpy(), rtol=1e-10, atol=1e-12)
    g = R.standard_normal(y.shape)
    y.backward(tg.tensor(g))
    r.backward(torch.tensor(g))
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", [c for c in CASES if c != "groups"])
def test_two_orders_of_derivatives(case):
    inputs, options = CASES[case]
    given = {k: tg.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    f = lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **given)
    tensors = [tg.tensor(a) for a in inputs]
    assert gradcheck(f, tensors, directions=1) and gradgradcheck(f, tensors, directions=1)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("bias", [None, BIAS, np.where(BLIND, BIAS, -np.inf)])
def test_fast_vjp_equals_the_composite(bias, causal):
    fixed = tg.tensor(bias) if bias is not None else None
    for wanted in ([0], [1], [2], [0, 2], [0, 1, 2]):
        xs = [tg.tensor(a).requires_grad_(i in wanted) for i, a in enumerate((Q, K, V))]
        targets = [xs[i] for i in wanted]
        y = attention._attention(*xs, fixed, scale=0.4, causal=causal)[0]
        r = attention._composite(*xs, fixed, 0.4, causal)
        fast, slow = (tg.grad(out.square().sum(), targets) for out in (y, r))
        for a, b in zip([y.detach(), *fast], [r.detach(), *slow]):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, atol=1e-12)


def test_a_bias_has_a_gradient():
    bias = tg.tensor(BIAS).requires_grad_()
    f = lambda b: F.scaled_dot_product_attention(tg.tensor(Q), tg.tensor(K), tg.tensor(V), b)
    assert gradcheck(f, [bias]) and gradgradcheck(f, [bias])


def test_forward_and_backward_are_one_op_each():
    seen = []
    xs = [tg.tensor(a).requires_grad_() for a in (Q, K, V)]
    with observe.observing(lambda op, inputs, output, node: seen.append(op.name)):
        F.scaled_dot_product_attention(*xs).sum().backward()
    assert seen.count("attention") and not {"matmul", "softmax"} & set(seen)


def test_single_precision_stays_single():
    xs = [tg.tensor(a.astype(np.float32)).requires_grad_() for a in (Q, K, V)]
    for options in ({}, {"is_causal": True}, {"attn_mask": tg.tensor(BLIND)}):
        y = F.scaled_dot_product_attention(*xs, **options)
        assert {g.dtype for g in (y, *tg.grad(y.sum(), xs))} == {np.dtype("float32")}


def test_dropout_keeps_the_mean():
    tg.manual_seed(0)
    q, k, v = (tg.tensor(a) for a in (Q, K, V))
    mean = sum(F.scaled_dot_product_attention(q, k, v, dropout_p=0.3) for _ in range(3000)) / 3000
    expected = F.scaled_dot_product_attention(q, k, v)
    assert abs(mean - expected).max().item() < 0.1 and abs(mean - expected).max().item() > 0


@pytest.mark.parametrize("dtype", ["int64", "uint8", "int32"])
def test_a_mask_of_integers_is_refused_as_by_torch(dtype):
    q, mask = Q[0, 0], np.zeros((Q.shape[-2],) * 2, dtype)
    with pytest.raises(RuntimeError, match="attn_mask"):
        torch.nn.functional.scaled_dot_product_attention(*[torch.tensor(q)[None]] * 3, torch.tensor(mask))
    with pytest.raises(TypeError, match=f"attn_mask should be bool or float64, got {dtype}"):
        F.scaled_dot_product_attention(*[tg.tensor(q)] * 3, tg.tensor(mask))


def test_errors_say_what_was_expected():
    q, k, v = (tg.tensor(a) for a in (Q, K, V))
    for call, match in (
        (lambda: F.scaled_dot_product_attention(q[..., :4], k, v), r"query \(\.\.\., L, E\)"),
        (lambda: F.scaled_dot_product_attention(q, k, v[..., :3, :]), r"value \(\.\.\., S, F\)"),
        (lambda: F.scaled_dot_product_attention(q[0, 0, 0], k, v), "expected query"),
        (lambda: F.scaled_dot_product_attention(q, k, v, tg.tensor(BIAS), is_causal=True), "either"),
        (lambda: F.scaled_dot_product_attention(q, k[:, :3], v, enable_gqa=True), "multiple"),
        (lambda: F.scaled_dot_product_attention(q[0, 0], k[0, 0], v[0, 0], enable_gqa=True), "multiple"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
