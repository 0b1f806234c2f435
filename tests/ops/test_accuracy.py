"""Every reduction adds up as `sum` does: as exactly as the result's dtype can say, along whatever axis."""

from __future__ import annotations

import numpy as np
import pytest

import tinygen as tg
import tinygen.nn.functional as F
from tinygen.backends import reference

R = np.random.default_rng(0)
LAYOUTS = {  # (array, axes to reduce): rows, columns, both ends, the middle, all
    "rows": ((3, 100_000), (1,)),
    "columns": ((100_000, 3), (0,)),
    "one column": ((300_000, 1), (0,)),
    "ends": ((400, 3, 500), (0, 2)),
    "middle": ((2, 100_000, 2), (1,)),
    "channels": ((64, 3, 40, 40), (0, 2, 3)),
    "all": ((400, 500), (0, 1)),
}
REDUCTIONS = {  # name: (tinygen's, the same in float64, inputs that hurt)
    "sum": (lambda x, d: x.sum(d), lambda x, d: x.sum(d), "shifted"),
    "mean": (lambda x, d: x.mean(d), lambda x, d: x.mean(d), "shifted"),
    "var": (lambda x, d: x.var(d), lambda x, d: x.var(d, ddof=1), "shifted"),
    "std": (lambda x, d: x.std(d), lambda x, d: x.std(d, ddof=1), "shifted"),
    "norm": (lambda x, d: x.norm(dim=d), lambda x, d: np.sqrt((x * x).sum(d)), "shifted"),
    "norm 1": (lambda x, d: x.norm(1, d), lambda x, d: abs(x).sum(d), "shifted"),
    "norm 3": (lambda x, d: x.norm(3, d), lambda x, d: (abs(x) ** 3).sum(d) ** (1 / 3), "shifted"),
    "logsumexp": (lambda x, d: x.logsumexp(d), lambda x, d: np.log(np.exp(x - x.max()).sum(d)) + x.max(), "unit"),
    "sum of broadcast": (lambda x, d: broadcast_gradient(x, d), lambda x, d: x.sum(d), "shifted"),
}


def broadcast_gradient(x, axes):
    """The derivative by w of sum(w * x), w of length one along the axes."""
    w = tg.ones([1 if i in axes else n for i, n in enumerate(x.shape)], dtype=x.dtype, requires_grad=True)
    (g,) = tg.grad((w * x), w, x * 0 + 1)
    return g.reshape([n for i, n in enumerate(x.shape) if i not in axes])


def inputs(kind, shape, dtype):
    x = R.standard_normal(shape) + (100 if kind == "shifted" and dtype != np.float16 else 0)
    return (0.01 * x if dtype == np.float16 else x).astype(dtype)


BOUND = {np.float16: 2e-3, np.float32: 4e-7, np.float64: 1e-12}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_a_reduction_is_as_exact_as_its_dtype(name, layout, dtype):
    shape, axes = LAYOUTS[layout]
    ours, theirs, kind = REDUCTIONS[name]
    x = inputs(kind, shape, dtype)
    found = ours(tg.tensor(x), axes)
    exact = theirs(x.astype(np.float64), axes)
    assert found.dtype == dtype
    scale = abs(exact) + (1e-2 if name in ("sum", "mean", "sum of broadcast") else 0)  # what cancels
    bound = BOUND[dtype] * (50 if name in ("var", "std") and dtype != np.float64 else 1)  # x - mean is rounded
    spacing = np.spacing(dtype(abs(x).max())) if dtype == np.float16 else 0
    assert (abs(found.numpy() - exact) <= bound * scale + spacing).all()


SHIFTED = np.full((2**18, 2), 0.1, np.float32)


@pytest.mark.parametrize("dim", [0, 1])
def test_cumulative_sums_and_products(dim):
    x = SHIFTED if dim == 0 else np.ascontiguousarray(SHIFTED.T)
    exact = x.astype(np.float64).cumsum(dim)
    np.testing.assert_allclose(tg.tensor(x).cumsum(dim).numpy(), exact, rtol=1e-7)
    t = tg.tensor(x, requires_grad=True)
    t.cumsum(dim).backward(tg.tensor(x))
    backward = np.flip(np.flip(x, dim).astype(np.float64).cumsum(dim), dim)
    np.testing.assert_allclose(t.grad.numpy(), backward, rtol=1e-7)
    near = (1 + 1e-5 * (x - 0.05)).astype(np.float32)
    np.testing.assert_allclose(tg.tensor(near).cumprod(dim).numpy(), near.astype(np.float64).cumprod(dim), rtol=1e-7)
    np.testing.assert_allclose(tg.tensor(near).prod(dim).numpy(), near.astype(np.float64).prod(dim), rtol=1e-7)


@pytest.mark.parametrize("function", ["softmax", "log_softmax"])
@pytest.mark.parametrize("dim", [0, 1])
def test_denominators_of_long_rows(function, dim):
    x = np.full((2**20, 1), 0.1, np.float32)
    x = x if dim == 0 else x.T
    exact = -np.log(2.0**20)
    for kernels in (None, reference):
        if kernels is None:
            y = getattr(F, function)(tg.tensor(x), dim).numpy()
        else:
            y = getattr(kernels, function)(np.ascontiguousarray(x.reshape(1, -1)))
        np.testing.assert_allclose(np.log(y) if function == "softmax" else y, exact, rtol=1e-7)


def test_statistics_of_norms_and_of_gradients():
    x = (R.standard_normal((4, 2, 200, 200)) * 1e-2 + 10).astype(np.float32)
    exact = x.astype(np.float64)
    mean, var = exact.mean((0, 2, 3)), exact.var((0, 2, 3))
    for k in (tg.device("cpu").kernels, reference):
        flat = np.ascontiguousarray(x.reshape(4, 2, -1))
        _, found, rstd = k.channel_norm(flat, np.ones(2, np.float32), np.zeros(2, np.float32), 0.0)
        np.testing.assert_allclose(found, mean, rtol=1e-7)
        np.testing.assert_allclose(rstd, 1 / np.sqrt(var), rtol=2e-4)  # the mean is rounded to single
        _, rstd = k.row_norm(np.ascontiguousarray(x.reshape(8, -1)), 0.0)
        np.testing.assert_allclose(rstd, 1 / np.sqrt(exact.reshape(8, -1).var(1)), rtol=2e-4)
    running, spread = tg.zeros(2), tg.zeros(2)
    F.instance_norm(tg.tensor(x), running, spread, momentum=1.0)
    np.testing.assert_allclose(running.numpy(), mean, rtol=1e-7)
    p = tg.ones(2_000_000, requires_grad=True)
    for power in (2.0, 3.0):
        p.grad = tg.full((2_000_000,), 0.1)
        norm = tg.nn.utils.clip_grad_norm_([p], 1e9, power)
        np.testing.assert_allclose(norm.item(), float(np.float32(0.1)) * 2e6 ** (1 / power), rtol=3e-7)


def test_the_examples_of_half_precision_and_of_many_rows():
    half = tg.ones(100_000, dtype=tg.float16)
    assert half.mean().item() == 1 and tg.ones(3000, 2, dtype=tg.float16).sum(0).tolist() == [3000, 3000]
    assert tg.full((4,), 300.0, dtype=tg.float16).norm().item() == 600  # the squares would be infinite
    assert tg.tensor([-300.0, 300.0], dtype=tg.float16).var(correction=0).item() == np.inf  # 90,000 is none of them
    assert tg.tensor([-300.0, 300.0], dtype=tg.float16).std(correction=0).item() == 300
    x = tg.tensor(np.tile(np.float32([100, -100]), (10**6, 1)))
    assert x.std(0).tolist() == [0, 0] and x.var(0, keepdim=True).tolist() == [[0, 0]]
    w = tg.ones(1, requires_grad=True)
    (w * tg.ones(2**24 + 2)).sum().backward()
    assert w.grad.item() == 2**24 + 2


COUNT = 3_000_000
MEETING = {  # sums that are no reductions by name: many values meet at one place
    "scatter_add": lambda x, at: tg.zeros(2).scatter_add(0, at, x),
    "index_add": lambda x, at: tg.zeros(2).index_add(0, at, x),
    "embedding": lambda x, at: gradient(tg.zeros(2, 1), lambda w: F.embedding(at, w), x.unsqueeze(1))[:, 0],
    "x[index]": lambda x, at: gradient(tg.zeros(2), lambda w: w[at], x),
    "gather": lambda x, at: gradient(tg.zeros(2), lambda w: w.gather(0, at), x),
    "repeat_interleave": lambda x, at: gradient(tg.zeros(2), lambda w: w[:1].repeat_interleave(COUNT), x),
    "einsum": lambda x, at: tg.einsum("ij->j", x.unsqueeze(1)),
    "einsum of two": lambda x, at: tg.einsum("ij,k->k", x.unsqueeze(1), tg.ones(1)),
    "adaptive_avg_pool1d": lambda x, at: F.adaptive_avg_pool1d(x.reshape(1, 1, -1), 1)[0, 0] * COUNT,
    "adaptive_avg_pool2d": lambda x, at: F.adaptive_avg_pool2d(x.reshape(1, 1, 1000, -1), 1)[0, 0, 0] * COUNT,
}


def gradient(w, f, g):
    w.requires_grad_()
    f(w).backward(g)
    return w.grad


@pytest.mark.parametrize("name", MEETING)
def test_values_that_meet_at_one_place(name):
    x = (R.standard_normal(COUNT) + 100).astype(np.float32)
    found = MEETING[name](tg.tensor(x), tg.zeros(COUNT, dtype=tg.int64)).numpy()
    np.testing.assert_allclose(found[0], x.astype(np.float64).sum(), rtol=2e-7)


LARGE_ROWS = np.array([[1000, -1000, 0], [300, 400, -60000]], np.float16)


@pytest.mark.parametrize("p", [1.5, 3, 4, -2])
@pytest.mark.parametrize("dim", [None, 1])
def test_powers_beyond_half_precision_are_added_up_in_single(p, dim):
    x = LARGE_ROWS[:, :2]
    want = np.sum(np.abs(x.astype(np.float64)) ** p, dim) ** (1 / p)
    y = tg.tensor(x).norm(p, dim)
    assert y.dtype == np.float16 and np.allclose(y.numpy(), want, 1e-3)
    assert tg.tensor(x[0, 0]).norm(p).item() == 1000


def test_squares_beyond_half_precision_do_not_make_a_row_zero():
    torch = pytest.importorskip("torch")
    x, theirs = tg.tensor(LARGE_ROWS, requires_grad=True), torch.tensor(LARGE_ROWS, requires_grad=True)
    w = np.array([1, 2, 0.5], np.float16)
    y, expected = F.rms_norm(x, (3,), tg.tensor(w)), torch.nn.functional.rms_norm(theirs, (3,), torch.tensor(w))
    assert y.dtype == np.float16 and np.allclose(y.detach().numpy(), expected.detach().numpy(), 2e-3)
    y.sum().backward()
    expected.sum().backward()
    assert x.grad.dtype == np.float16 and np.allclose(x.grad.numpy(), theirs.grad.numpy(), 1e-2, 1e-6)
    single = F.local_response_norm(tg.tensor(LARGE_ROWS[None].astype(np.float32)), 2)
    half = F.local_response_norm(tg.tensor(LARGE_ROWS[None]), 2)  # torch's is 0: its squares are infinite
    assert half.dtype == np.float16 and np.allclose(half.numpy(), single.numpy(), 1e-3)
