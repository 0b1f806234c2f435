"""Normalisations, activations behind them, losses: values, derivatives, and that each fast path equals its formula."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest

import tinygen as tg
from tinygen import observe
from tinygen.ops import fused
from tinygen.ops.conv import conv, conv_transpose
from tinygen.ops.fused import channel_norm, losses, row_norms
from tinygen.testing import gradcheck, gradgradcheck

EPS = 1e-3


def t(values, dtype=np.float64, grad=False):
    return tg.tensor(np.asarray(values, dtype)).requires_grad_(grad)


def normal(*shape, seed=0, scale=1.0, shift=0.5):
    return t(np.random.default_rng(seed).normal(shift, scale, shape))


X2, X3, X4 = normal(5, 4), normal(3, 4, 3), normal(2, 4, 3, 2)
WEIGHT, BIAS = normal(4, seed=1), normal(4, seed=2)
LOGITS, TARGETS = normal(3, 4, scale=2.0), t(np.random.default_rng(3).uniform(0.05, 0.95, (3, 4)))
LABELS = t([2, 0, 3], np.int64)

DIFFERENTIABLE = {
    "batch_norm": [
        *[(lambda x, w, b: fused.batch_norm(x, w, b, EPS), [x, WEIGHT, BIAS]) for x in (X2, X3, X4)],
        *[(lambda x, i=i: fused.batch_norm(x, eps=EPS)[i], [X4]) for i in range(3)],
        (lambda x, w, b: fused.batch_norm(x, w, b, EPS)[0], [X4, WEIGHT, BIAS]),
        (lambda x, w: fused.batch_norm(x, w, None, EPS)[0] * fused.batch_norm(x, w)[2].sum(), [X2, WEIGHT]),
        *[(lambda x, w, b, s=s: fused.batch_norm(x, w, b, EPS, s)[0], [X4, WEIGHT, BIAS]) for s in (0.0, 0.2)],
        (lambda x, w, b: fused.batch_norm(x, w, b, EPS, -0.5), [X3, WEIGHT, BIAS]),
    ],
    "linear_leaky_relu": [
        *[(lambda x, w, b, s=s: fused.linear_leaky_relu(x, w, b, s), [X2, normal(3, 4, seed=8), normal(3, seed=9)])
          for s in (0.0, 0.2, -0.5)],
        (lambda x, w: fused.linear_leaky_relu(x, w, None, 0.2), [X3.reshape(4, 3, 3), normal(5, 3, seed=8)]),
        (lambda x, w: fused.linear_leaky_relu(x, w, None, 0.0), [normal(4), normal(5, 4, seed=8)]),
        (lambda x: fused.linear_leaky_relu(x, x, x.sum(1), 0.2), [normal(4, 4)]),
        (lambda w: fused.linear_leaky_relu(X2.to(w.dtype), w, None, 0.2), [normal(3, 4, seed=8)]),
    ],
    "conv_layer": [
        *[(lambda x, w, b, s=s: fused.conv_layer(conv, 2, x, w, b, 1, 2, 1, 1, slope=s),
           [normal(2, 2, 5, 4), normal(3, 2, 3, 3, seed=8), normal(3, seed=9)]) for s in (0.0, 0.2, 1.0, -0.5)],
        (lambda x, w, b: fused.conv_layer(conv_transpose, 2, x, w, b, 2, 2, 0, 1, 1, None, slope=0.2),
         [normal(2, 2, 2, 3), normal(2, 2, 2, 2, seed=8), normal(4, seed=9)]),
        (lambda x, w: fused.conv_layer(conv, 1, x, w, None, 1, 1, 0, 1, slope=0.2), [normal(2, 6), normal(3, 2, 3)]),
    ],
    "conv_moments": [
        *[(lambda x, w, b, s=s: fused.conv_moments(conv, 2, x, w, b, 1, 2, 1, 1, slope=s)[0],
           [normal(2, 2, 5, 4), normal(3, 2, 3, 3, seed=8), normal(3, seed=9)]) for s in (0.0, 0.2, 1.0, -0.5)],
        (lambda x, w, b: fused.conv_moments(conv_transpose, 2, x, w, b, 2, 2, 0, 1, 1, None, slope=0.2)[0],
         [normal(2, 2, 2, 3), normal(2, 2, 2, 2, seed=8), normal(4, seed=9)]),
        (lambda x, w: fused.conv_moments(conv, 1, x, w, None, 1, 1, 0, 1)[0], [normal(2, 6), normal(3, 2, 3)]),
    ],
    "row_norm": [(lambda x: fused.row_norm(x, EPS), [X2])],
    "layer_norm": [
        (lambda x: fused.layer_norm(x, 4, eps=EPS), [X2]),
        (lambda x, w, b: fused.layer_norm(x, (3, 2), w, b, EPS), [X4, normal(3, 2), normal(3, 2, seed=1)]),
        (lambda x, w: fused.layer_norm(x, [4], w, None, EPS), [X2, WEIGHT]),
        (lambda x: fused.layer_norm(x, x.shape, eps=EPS), [X3]),
    ],
    "group_norm": [(lambda x, w, b, g=g: fused.group_norm(x, g, w, b, EPS), [X3, WEIGHT, BIAS]) for g in (1, 2, 4)]
    + [(lambda x: fused.group_norm(x, 2, eps=EPS), [X4])],
    "instance_norm": [
        (lambda x, w, b: fused.instance_norm(x, w, b, EPS), [X4, WEIGHT, BIAS]),
        (lambda x: fused.instance_norm(x, eps=EPS), [X3]),
    ],
    "bce_with_logits": [
        (tg.bce_with_logits, [LOGITS, TARGETS]), (lambda x: tg.bce_with_logits(x, TARGETS.to(x.dtype)), [LOGITS]),
    ],
    **{
        name: [(f, [LOGITS, TARGETS]), (lambda x, f=f: f(x, TARGETS.to(x.dtype), 0.3), [LOGITS]), (f, [X4, X4 * 0.3])]
        for name, f in (("squared_error", fused.squared_error), ("bernoulli_loss", fused.bernoulli_loss))
    },
    "class_loss": [
        (lambda x: fused.class_loss(x, LABELS), [LOGITS]), (lambda x: fused.class_loss(x, LABELS, 0.3), [LOGITS * 3]),
    ],
    "gaussian_kl": [(fused.gaussian_kl, [X3, X3 * 0.5]), (lambda mu: fused.gaussian_kl(mu, mu), [X2])],
    "reparameterize": [
        (fused.reparameterize, [X2, X2 * 0.5, normal(5, 4, seed=4)]),
        (lambda m, v: fused.reparameterize(m, v, X2.to(m.dtype)), [X2, X2]),
    ],
}  # fmt: skip
CASES = [
    pytest.param(f, xs, id=f"{name}-{i}") for name, cases in DIFFERENTIABLE.items() for i, (f, xs) in enumerate(cases)
]


def test_every_op_has_a_case():
    assert set(fused.__all__) == set(DIFFERENTIABLE)
    assert all(getattr(fused, name).__doc__ for name in fused.__all__)


@pytest.mark.parametrize("f, inputs", CASES)
def test_gradient(f, inputs):
    assert gradcheck(f, inputs)


@pytest.mark.parametrize("f, inputs", CASES)
def test_second_derivative(f, inputs):
    assert gradgradcheck(f, inputs)


@pytest.mark.parametrize("f, inputs", CASES)
def test_float32_stays_float32(f, inputs):
    """In the value and in the gradients of both orders, with numbers near float64's."""
    found = {}
    for dtype in (np.float32, np.float64):
        xs = [x.detach().to(dtype).requires_grad_() for x in inputs]
        y = f(*xs)
        y = y[0] if isinstance(y, tuple) else y
        first = tg.grad((y * y).sum(), xs, create_graph=True)
        second = tg.grad(sum((g * g).sum() for g in first), xs, allow_unused=True)
        found[dtype] = [v.detach().numpy() for v in (y, *first, *second) if v is not None]
        assert {v.dtype for v in found[dtype]} == {np.dtype(dtype)}
    for a, b in zip(found[np.float32], found[np.float64], strict=True):
        assert np.abs(a - b).max() <= 1e-3 * max(1, np.abs(b).max())


@pytest.mark.parametrize("name", ["batch_norm", "row_norm", "bce_with_logits", "bernoulli_loss", "gaussian_kl"])
def test_third_derivative(name):
    f, inputs = DIFFERENTIABLE[name][0]
    weights = normal(*inputs[0].shape, seed=7)

    def gradients(*xs):
        with tg.enable_grad():
            xs = [x if x.requires_grad else x.detach().requires_grad_() for x in xs]
            y = f(*xs)
            y = y[0] if isinstance(y, tuple) else y
            return tg.grad((y * weights if y.shape == weights.shape else y.square()).sum(), xs, create_graph=True)

    assert gradgradcheck(gradients, inputs, rtol=1e-4)


def test_the_rows_deviation_is_differentiable_too():
    """row_norm's second output, 1 / sqrt(var + eps), alone and together with the first."""
    assert gradcheck(lambda x: row_norms._row_norm(x, eps=EPS), [X2])
    assert gradgradcheck(lambda x: row_norms._row_norm(x, eps=EPS), [X2])
    assert gradgradcheck(lambda x: row_norms._row_norm(x, eps=EPS)[1], [X2])


# ---------------------------------------------------------------- the fast path equals the formula


def with_gradients(f, inputs, outputs=1):
    xs = [x.detach().requires_grad_() for x in inputs]
    y = f(*xs)
    y = y[:outputs] if isinstance(y, tuple) else (y,)
    weights = [normal(*o.shape, seed=9).to(o.dtype) for o in y]
    return [o.detach().numpy() for o in y], [g.numpy() for g in tg.grad(y, xs, weights)]


def close(a, b, tolerance):
    for x, y in zip(a, b, strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape
        assert np.abs(x - y).max() <= tolerance * np.abs(y).max()


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-4)])
@pytest.mark.parametrize("x", [X2, X3, X4, normal(64, 4, 7, 5, shift=3.0)], ids=lambda x: str(x.shape))
def test_batch_norm_equals_its_composite(x, dtype, tolerance):
    inputs = [v.to(dtype) for v in (x, WEIGHT, BIAS)]
    ran = []
    fast, reads = channel_norm._batch_norm.fast

    def watched(*args, **kwargs):
        result = fast(*args, **kwargs)
        ran.append(result is not NotImplemented)
        return result

    composite = channel_norm._batch_norm.composite
    for outputs in (1, 3):
        ran.clear()
        channel_norm._batch_norm.fast = (watched, reads)
        try:
            values, gradients = with_gradients(lambda *a: fused.batch_norm(*a, eps=EPS), inputs, outputs)
        finally:
            channel_norm._batch_norm.fast = (fast, reads)
        assert ran == [outputs == 1]  # with gradients of mean and var it leaves the work to the composite
        expected, expected_gradients = with_gradients(lambda *a: composite(*a, eps=EPS), inputs, outputs)
        close(values, expected, tolerance)
        close(gradients, expected_gradients, tolerance)


@pytest.mark.parametrize("slope", [0.0, 0.2, -0.5])
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-4)])
def test_batch_norm_with_an_activation_equals_the_two(slope, dtype, tolerance):
    for x in (X2, X3, normal(64, 4, 7, 5, shift=3.0), normal(33, 4, 16, 17)):
        inputs = [v.to(dtype) for v in (x, WEIGHT, BIAS)]
        got = with_gradients(lambda *a: fused.batch_norm(*a, EPS, slope), inputs)
        expected = with_gradients(lambda *a: tg.leaky_relu(fused.batch_norm(*a, EPS)[0], slope), inputs)
        close(got[0], expected[0], tolerance)
        close(got[1], expected[1], tolerance)


LOSSES = {
    losses._squared_error: (lambda s=1.0: lambda x: fused.squared_error(x, TARGETS.to(x.dtype), s)),
    losses._bernoulli_loss: (lambda s=1.0: lambda x: fused.bernoulli_loss(x, TARGETS.to(x.dtype), s)),
    losses._class_loss: (lambda s=1.0: lambda x: fused.class_loss(x, LABELS, s)),
}


@pytest.mark.parametrize("op", LOSSES, ids=lambda op: op.name)
def test_losses_equal_their_composites_and_leave_their_derivative(op):
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 1e-5)):
        loss = LOSSES[op](0.25)
        x = LOGITS.to(dtype).requires_grad_()
        settings = loss(x).node.attributes
        rest = [] if op is losses._class_loss else [TARGETS.to(dtype)]
        composite = functools.partial(lambda rest, x, **settings: op.composite(x, *rest, **settings), rest, **settings)
        fast, slow = with_gradients(loss, [x]), with_gradients(composite, [x])
        close(fast[0], slow[0], tolerance)
        close(fast[1], slow[1], tolerance)
        (recorded,), (plain,) = tg.grad(loss(x), x, create_graph=True), tg.grad(loss(x), x)
        assert recorded.node is not None and plain.node is None
        close([plain.numpy()], [recorded.detach().numpy()], tolerance)


def test_losses_make_no_derivative_that_nobody_can_want():
    x = LOGITS.detach().requires_grad_()
    for op in LOSSES:
        loss = LOSSES[op]()
        y = loss(x)
        assert y.node.saved["residuals"][0].shape == x.shape
        (a,), (b,) = tg.grad(y, x, retain_graph=True), tg.grad(y, x, tg.tensor(2.0, dtype=np.float64))
        np.testing.assert_array_equal(2 * a.numpy(), b.numpy())
    with tg.no_grad():
        assert not losses._wanted(x)
    assert losses._wanted(x) and not losses._wanted(x.detach()) and not losses._wanted(x, x)
    made = tg.bernoulli_loss(x, x.sigmoid()).node
    assert made.saved["residuals"][0] is None


def test_gaussians_of_an_autoencoder_equal_their_formulas():
    for mu, logvar, noise in [(X3, X3 * 0.5, normal(3, 4, 3, seed=5)), [normal(128, 20, seed=i) for i in range(3)]]:
        got = with_gradients(fused.gaussian_kl, [mu, logvar])
        want = with_gradients(lambda m, v: -0.5 * (1 + v - m.square() - v.exp()).sum(-1), [mu, logvar])
        drawn = with_gradients(fused.reparameterize, [mu, logvar, noise])
        formula = with_gradients(lambda m, v, e: m + (0.5 * v).exp() * e, [mu, logvar, noise])
        for a, b in ((got, want), (drawn, formula)):
            close(a[0], b[0], 1e-13)
            close(a[1], b[1], 1e-13)


# ---------------------------------------------------------------- behind a layer


@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 4), (4,), (0, 4)])
@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_a_linear_layer_and_its_activation_equal_the_two_apart(shape, slope):
    x, w, b = normal(*shape), normal(3, 4, seed=1), normal(3, seed=2)
    got = with_gradients(lambda *xs: fused.linear_leaky_relu(*xs, slope), [x, w, b])
    want = with_gradients(lambda *xs: tg.leaky_relu(tg.linear(*xs), slope), [x, w, b])
    for mine, formula in zip(got[0] + got[1], want[0] + want[1], strict=True):
        np.testing.assert_allclose(mine, formula, rtol=1e-12, atol=1e-12)


def test_a_linear_layer_with_activation_computes_no_gradient_that_nobody_needs():
    x, w = normal(5, 4).requires_grad_(), normal(3, 4, seed=1).requires_grad_()
    ran = []
    with observe.observing(lambda op, inputs, output, node: ran.append(op.name)):
        y = fused.linear_leaky_relu(x, w, None, 0.2)
        tg.grad(y.sum(), x, create_graph=True)
    assert "matmul" in ran and "matmul_tn" not in ran
    whole = fused.linear_leaky_relu(tg.ones(2, 3, dtype="int64"), tg.ones(1, 3, dtype="int64"), None, 0.5)
    assert whole.tolist() == [[3.0], [3.0]]


# ---------------------------------------------------------------- in place


def test_an_activation_behind_a_layer_overwrites_its_result_and_nothing_else():
    x, w = normal(5, 4).requires_grad_(), normal(3, 4).requires_grad_()
    for slope in (0.0, 0.2):
        layer = tg.linear(x, w)
        kept = layer.array
        y = fused.leaky_relu_over(layer, slope)
        assert y.array is kept
        plain = tg.leaky_relu(tg.linear(x, w), slope)
        np.testing.assert_array_equal(y.detach().numpy(), plain.detach().numpy())
        for a, b in zip(tg.grad((y * y).sum(), (x, w)), tg.grad((plain * plain).sum(), (x, w)), strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
        assert gradgradcheck(lambda x, w, s=slope: fused.leaky_relu_over(tg.linear(x, w), s), [x.detach(), w.detach()])
    for needed in (tg.sigmoid(x), x):  # a result that a derivative reads, and a leaf
        before = needed.detach().numpy().copy()
        assert fused.leaky_relu_over(needed, 0.2).array is not needed.array
        np.testing.assert_array_equal(needed.detach().numpy(), before)
    negative = tg.linear(x, w)
    assert fused.leaky_relu_over(negative, -0.2).array is not negative.array  # its sign is not that of its input


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_norms_over_rows_equal_their_formula(dtype, tolerance):
    x, w, b = (v.to(dtype) for v in (X4, WEIGHT, BIAS))
    channels = (1, 4, 1, 1)

    def formula(x, w, b, shape, axes):
        v = x.reshape(shape)
        centred = v - v.mean(axes, keepdim=True)
        y = centred / (centred.square().mean(axes, keepdim=True) + EPS).sqrt()
        return y.reshape(x.shape) * w.reshape(channels) + b.reshape(channels)

    for f, shape, axes in (
        (lambda *a: fused.instance_norm(*a, eps=EPS), (2, 4, 6), 2),
        (lambda x, w, b: fused.group_norm(x, 2, w, b, EPS), (2, 2, 12), 2),
        (lambda x, w, b: fused.group_norm(x, 1, w, b, EPS), (2, 24), 1),
    ):
        got = with_gradients(f, [x, w, b])
        expected = with_gradients(lambda x, w, b, s=shape, a=axes: formula(x, w, b, s, a), [x, w, b])
        close(got[0], expected[0], tolerance)
        close(got[1], expected[1], tolerance)


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_bce_with_logits_equals_its_formula(dtype, tolerance):
    x, target = (v.to(dtype) for v in (LOGITS, TARGETS))

    def formula(x, target):
        p = tg.sigmoid(x)
        return -(target * p.log() + (1 - target) * (1 - p).log())

    got, expected = with_gradients(tg.bce_with_logits, [x, target]), with_gradients(formula, [x, target])
    close(got[0], expected[0], tolerance)
    close(got[1], expected[1], tolerance * 10)


# ---------------------------------------------------------------- beside torch


@pytest.mark.parametrize("name", ["batch_norm", "layer_norm", "group_norm", "instance_norm", "bce_with_logits"])
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-10), (np.float32, 2e-4)])
def test_as_torch(name, dtype, tolerance):
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    x, w, b = (np.random.default_rng(i).normal(0.3, 1.2, s) for i, s in enumerate([(6, 4, 5, 3), 4, 4]))
    bce = F.binary_cross_entropy_with_logits
    pairs = {
        "batch_norm": (lambda *a: fused.batch_norm(*a)[0], lambda x, w, b: F.batch_norm(x, None, None, w, b, True)),
        "layer_norm": (lambda x, w, b: fused.layer_norm(x, 3, w, b), lambda x, w, b: F.layer_norm(x, [3], w, b)),
        "group_norm": (lambda x, w, b: fused.group_norm(x, 2, w, b), lambda x, w, b: F.group_norm(x, 2, w, b)),
        "instance_norm": (fused.instance_norm, lambda x, w, b: F.instance_norm(x, None, None, w, b)),
        "bce_with_logits": (tg.bce_with_logits, lambda x, y: bce(x, y, reduction="none")),
    }
    arrays = [x, w[:3], b[:3]] if name == "layer_norm" else [x, w, b]
    if name == "bce_with_logits":
        arrays = [x * 20, np.abs(np.sin(x))]
    arrays = [a.astype(dtype) for a in arrays]
    ours, theirs = [t(a, dtype, grad=True) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
    f, g = pairs[name]
    y, z = f(*ours), g(*theirs)
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=tolerance, atol=tolerance)
    weights = np.random.default_rng(5).normal(size=y.shape).astype(dtype)
    for p, q in zip(tg.grad(y, ours, tg.tensor(weights)), torch.autograd.grad(z, theirs, torch.tensor(weights))):
        np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=tolerance, atol=tolerance * max(1, q.abs().max().item()))


# ---------------------------------------------------------------- what they promise


def test_batch_norm_statistics():
    x = normal(8, 4, 3, 3, shift=2.0, scale=3.0)
    y, mean, var = fused.batch_norm(x)
    np.testing.assert_allclose(mean.numpy(), x.numpy().mean((0, 2, 3)), rtol=1e-13)
    np.testing.assert_allclose(var.numpy(), x.numpy().var((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(y.numpy().mean((0, 2, 3)), 0, atol=1e-14)
    np.testing.assert_allclose(y.numpy().var((0, 2, 3)), 1, rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batch_norm_of_constant_channels(dtype):
    x = t(np.full((4, 2, 3), 7.0), dtype, grad=True)
    y, _, var = fused.batch_norm(x, t([2.0, 3.0], dtype), t([0.5, -1.0], dtype))
    np.testing.assert_allclose(y.detach().numpy(), np.broadcast_to([[0.5], [-1.0]], (4, 2, 3)), atol=1e-5)
    assert (var.detach().numpy() >= 0).all() and var.detach().numpy().max() < 1e-9
    assert np.isfinite(tg.grad((y * y).sum(), x)[0].numpy()).all()


def test_every_row_has_mean_zero_and_variance_one():
    x = normal(6, 50, shift=4.0, scale=2.0)
    images = x.reshape(1, 6, 50)
    for y in (fused.row_norm(x), fused.layer_norm(x, 50), fused.group_norm(x, 1), fused.instance_norm(images)[0]):
        np.testing.assert_allclose(y.numpy().mean(1), 0, atol=1e-13)
        np.testing.assert_allclose(y.numpy().var(1), 1, rtol=1e-4)


def test_bce_with_logits_is_finite_at_any_logit():
    x = t([-1000.0, -50.0, 0.0, 50.0, 1000.0], np.float32, grad=True)
    y = tg.bce_with_logits(x, t([0, 0, 1, 1, 0], np.int64))
    np.testing.assert_allclose(y.detach().numpy(), [0, math.exp(-50), math.log(2), math.exp(-50), 1000], rtol=1e-6)
    (g,) = tg.grad(y.sum(), x, create_graph=True)
    np.testing.assert_allclose(g.detach().numpy(), [0, math.exp(-50), -0.5, 0, 1], rtol=1e-6, atol=1e-21)
    (gg,) = tg.grad(g.sum(), x)
    assert gg.dtype == np.float32 and np.isfinite(gg.numpy()).all() and gg.tolist()[2] == 0.25


def test_layouts():
    """Arrays that are not contiguous, and broadcast gradients, give the same numbers."""
    base = np.random.default_rng(0).normal(size=(4, 6, 4))
    for view in (base.transpose(2, 1, 0)[:, :4], base[::-1, ::2][:, :3].repeat(2, 1)[:, :4], base[:, 1:5, ::2]):
        x, y = t(view, grad=True), t(np.ascontiguousarray(view), grad=True)
        x.array = view
        for f in (
            lambda v: fused.batch_norm(v, WEIGHT, BIAS)[0], lambda v: fused.layer_norm(v, v.shape[1:]),
            lambda v: fused.group_norm(v, 2, WEIGHT), lambda v: fused.instance_norm(v, None, BIAS),
            lambda v: tg.bce_with_logits(v, tg.sigmoid(v.detach())), lambda v: fused.bernoulli_loss(v, v.detach()),
            lambda v: fused.class_loss(v[:, :, 0], t(range(len(v)), np.int64) % v.shape[1]), lambda v: v.sum((0, 2)),
        ):  # fmt: skip
            a, b = f(x), f(y)
            np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-13)
            (p,), (q,) = tg.grad((a * a).sum() + a.sum(), x), tg.grad((b * b).sum() + b.sum(), y)
            np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=1e-11, atol=1e-13)


def test_empty_batches():
    x = t(np.zeros((0, 4, 3)), grad=True)
    for y in (fused.layer_norm(x, 3), fused.group_norm(x, 2, WEIGHT, BIAS), fused.instance_norm(x)):
        assert y.shape == (0, 4, 3) and tg.grad(y.sum(), x)[0].shape == (0, 4, 3)


def test_memory_kept():
    """row_norm keeps its results and not x; batch_norm keeps x and not y."""
    x = X4.detach().requires_grad_()
    node = fused.layer_norm(x, 2, eps=EPS).node.parents[0].parents[0]
    assert node.op is row_norms._row_norm and node.saved == {} and node.out is not None
    y = fused.batch_norm(x)[0]
    assert sorted(y.node.parents[0].saved) == ["bias", "residuals", "weight", "x"] and y.node.parents[0].out is None


def test_backward_twice_through_batch_norm_wants_the_graph_retained():
    x = X4.detach().requires_grad_()
    y = (fused.batch_norm(x)[0] * normal(*x.shape, seed=4)).sum()
    (a,) = tg.grad(y, x, retain_graph=True)
    (b,) = tg.grad(y, x)
    np.testing.assert_array_equal(a.numpy(), b.numpy())
    with pytest.raises(RuntimeError, match="retain_graph"):
        tg.grad(y, x)


def test_errors():
    with pytest.raises(ValueError, match=r"batch_norm: weight should have shape \(4,\).*input 3x4x3, got \(3,\)"):
        fused.batch_norm(X3, t([1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match=r"batch_norm: input should be \(N, C, ...\), got shape \(4,\)"):
        fused.batch_norm(WEIGHT)
    with pytest.raises(ValueError, match="group_norm: num_groups=3 does not divide the 4 channels"):
        fused.group_norm(X4, 3)
    with pytest.raises(ValueError, match=r"instance_norm: input should be \(N, C, L, ...\)"):
        fused.instance_norm(X2)
    with pytest.raises(ValueError, match=r"layer_norm: input 3x4x3 should end in normalized_shape \(4,\)"):
        fused.layer_norm(X3, 4)
    with pytest.raises(ValueError, match=r"layer_norm: bias should have shape \(3,\)"):
        fused.layer_norm(X3, 3, None, BIAS)
    with pytest.raises(ValueError, match=r"row_norm: input should be \(M, D\)"):
        fused.row_norm(X3)
    with pytest.raises(ValueError, match=r"squared_error: input \(3, 4\) and target \(4,\)"):
        fused.squared_error(LOGITS, WEIGHT)
    with pytest.raises(ValueError, match=r"class_loss: .* got \(3, 4\) and \(4,\)"):
        fused.class_loss(LOGITS, WEIGHT)
    with pytest.raises(ValueError, match=r"gaussian_kl: mu \(3, 4\) and logvar \(4,\)"):
        fused.gaussian_kl(LOGITS, WEIGHT)
    with pytest.raises(ValueError, match=r"reparameterize: .*noise \(4,\) should have one shape"):
        fused.reparameterize(LOGITS, LOGITS, WEIGHT)
    with pytest.raises(ValueError, match=r"bce_with_logits: input \(logits\) \(3, 4\) and target \(4,\)"):
        tg.bce_with_logits(LOGITS, WEIGHT)
