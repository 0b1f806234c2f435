"""Pooling and interpolation: torch's values and gradients, exact adjoints, and the facts that define each method."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import tinygen as tg
from tinygen import observe
from tinygen.ops import pool, resize
from tinygen.ops.resize import interpolation_taps, mean_taps, resample
from tinygen.tape import Op
from tinygen.testing import adjoint_check, gradcheck, gradgradcheck

INDEX = [[[[0, 3], [8, 11]]]]

# `name: [(call, input shape)]`; in a call, L is tinygen or torch.nn.functional.
CASES = {
    "max_pool2d": [
        (lambda L, x: L.max_pool2d(x, 2), (2, 3, 4, 6)),
        (lambda L, x: L.max_pool2d(x, 2), (3, 5, 4)),
        (lambda L, x: L.max_pool2d(x, (3, 2), (2, 1), (1, 0)), (2, 2, 7, 5)),
        (lambda L, x: L.max_pool2d(x, 3, 1, 1, 2), (1, 2, 7, 8)),
        (lambda L, x: L.max_pool2d(x, 3, 2, 1, 1, True), (1, 2, 6, 7)),
        (lambda L, x: L.max_pool2d(x, kernel_size=2, ceil_mode=True), (1, 1, 5, 7)),
        (lambda L, x: L.max_pool2d(x, 3, return_indices=True)[0], (2, 2, 6, 6)),
        (lambda L, x: L.max_pool2d(x, 2), (0, 3, 4, 6)),
    ],
    "max_pool1d": [
        (lambda L, x: L.max_pool1d(x, 2), (2, 3, 7)),
        (lambda L, x: L.max_pool1d(x, 3, 2, 1, 2, True), (2, 8)),
    ],
    "avg_pool2d": [
        (lambda L, x: L.avg_pool2d(x, 2), (2, 3, 4, 6)),
        (lambda L, x: L.avg_pool2d(x, 3), (3, 7, 6)),
        (lambda L, x: L.avg_pool2d(x, (3, 2), (2, 1), (1, 0)), (2, 2, 7, 5)),
        (lambda L, x: L.avg_pool2d(x, 3, 2, 1, True), (1, 2, 6, 7)),
        (lambda L, x: L.avg_pool2d(x, 3, 2, 1, True, False), (1, 2, 6, 7)),
        (lambda L, x: L.avg_pool2d(x, 3, 2, 1, count_include_pad=False), (1, 2, 6, 7)),
        (lambda L, x: L.avg_pool2d(x, 2, divisor_override=3), (1, 2, 6, 6)),
        (lambda L, x: L.avg_pool2d(x, 4, 3, 2, True, True), (1, 1, 5, 8)),
    ],
    "avg_pool1d": [
        (lambda L, x: L.avg_pool1d(x, 2), (2, 3, 7)),
        (lambda L, x: L.avg_pool1d(x, 3, 2, 1, True, False), (2, 8)),
    ],
    "adaptive_avg_pool2d": [
        (lambda L, x: L.adaptive_avg_pool2d(x, 1), (2, 3, 4, 6)),
        (lambda L, x: L.adaptive_avg_pool2d(x, (3, 5)), (2, 3, 7, 8)),
        (lambda L, x: L.adaptive_avg_pool2d(x, (None, 2)), (3, 4, 5)),
        (lambda L, x: L.adaptive_avg_pool2d(x, 5), (1, 1, 3, 3)),
    ],
    "adaptive_avg_pool1d": [(lambda L, x: L.adaptive_avg_pool1d(x, 3), (2, 3, 8))],
    "adaptive_max_pool2d": [
        (lambda L, x: L.adaptive_max_pool2d(x, 1), (2, 3, 4, 6)),
        (lambda L, x: L.adaptive_max_pool2d(x, (3, 5)), (2, 3, 7, 8)),
    ],
    "adaptive_max_pool1d": [(lambda L, x: L.adaptive_max_pool1d(x, 3), (2, 3, 8))],
    "max_unpool2d": [
        (lambda L, x: L.max_unpool2d(x, _int(L, INDEX), 2), (1, 1, 2, 2)),
        (lambda L, x: L.max_unpool2d(x, _int(L, INDEX), 2, output_size=(5, 5)), (1, 1, 2, 2)),
    ],
    "interpolate": [
        (lambda L, x: L.interpolate(x, 7), (2, 3, 5, 4)),
        (lambda L, x: L.interpolate(x, (3, 9), mode="nearest"), (2, 3, 5, 4)),
        (lambda L, x: L.interpolate(x, scale_factor=2), (2, 3, 5, 4)),
        (lambda L, x: L.interpolate(x, scale_factor=1.00001), (2, 3, 5, 4)),
        (lambda L, x: L.interpolate(x, scale_factor=1.04), (2, 3, 9, 4)),
        (lambda L, x: L.interpolate(x, scale_factor=2.04), (2, 3, 9, 4)),
        (lambda L, x: L.interpolate(x, scale_factor=1.00001, mode="bilinear"), (2, 3, 5, 4)),
        (lambda L, x: L.interpolate(x, scale_factor=1.04, mode="bilinear"), (2, 3, 9, 4)),
        (lambda L, x: L.interpolate(x, scale_factor=1.04, mode="nearest-exact"), (2, 3, 9, 4)),
        (lambda L, x: L.interpolate(x, scale_factor=(1.7, 0.6)), (1, 2, 7, 9)),
        (lambda L, x: L.interpolate(x, 7, mode="nearest-exact"), (2, 3, 5, 4)),
        (lambda L, x: L.interpolate(x, 7), (2, 3, 5)),
        (lambda L, x: L.interpolate(x, 7, mode="linear"), (2, 3, 5)),
        (lambda L, x: L.interpolate(x, scale_factor=1.3, mode="linear"), (2, 3, 8)),
        (lambda L, x: L.interpolate(x, 7, mode="linear", align_corners=True), (2, 3, 5)),
        (lambda L, x: L.interpolate(x, (8, 3), mode="bilinear"), (2, 3, 5, 4)),
        (lambda L, x: L.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False), (2, 3, 5, 4)),
        (lambda L, x: L.interpolate(x, scale_factor=(1.3, 2.6), mode="bilinear"), (1, 2, 5, 7)),
        (lambda L, x: L.interpolate(x, scale_factor=1.3, mode="bilinear", recompute_scale_factor=True), (1, 2, 5, 7)),
        (lambda L, x: L.interpolate(x, (8, 1), mode="bilinear", align_corners=True), (2, 3, 5, 4)),
        (lambda L, x: L.interpolate(x, (5, 4), mode="bilinear"), (2, 3, 5, 4)),
        (lambda L, x: L.interpolate(x, (8, 3), mode="bicubic"), (2, 3, 5, 4)),
        (lambda L, x: L.interpolate(x, scale_factor=0.7, mode="bicubic"), (1, 2, 9, 7)),
        (lambda L, x: L.interpolate(x, (9, 6), mode="bicubic", align_corners=True), (2, 3, 5, 4)),
        (lambda L, x: L.interpolate(x, (3, 6), mode="area"), (2, 3, 5, 4)),
        (lambda L, x: L.interpolate(x, 3, mode="area"), (2, 3, 5)),
        (lambda L, x: L.interpolate(x, 3), (1, 1, 1, 1)),
    ],
    "upsample": [(lambda L, x: L.upsample(x, scale_factor=2, mode="bilinear"), (2, 3, 5, 4))],
}
FLAT = [pytest.param(call, s, id=f"{name}{i}") for name, cases in CASES.items() for i, (call, s) in enumerate(cases)]


def _int(L, values):
    if L is tg:
        return tg.tensor(values)
    return pytest.importorskip("torch").tensor(values)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def test_every_function_has_a_case():
    assert {*pool.__all__, *resize.__all__} == set(CASES)


def test_the_cases_reach_every_op_of_the_module():
    """Private ops too: those that are somebody's adjoint run in a first derivative."""
    declared = {
        f
        for module in (pool, resize)
        for f in vars(module).values()
        if isinstance(f, Op) and f.forward.__module__ == module.__name__
    }
    reached = set()
    with observe.observing(lambda op, inputs, output, node: reached.add(op)):
        for case in FLAT:
            call, shapes = case.values
            xs = [tg.tensor(x, requires_grad=True) for x in [np.ones(shapes)]]
            outputs = call(tg, *xs)
            outputs = list(outputs) if isinstance(outputs, tuple | list) else [outputs]
            tg.grad(outputs, xs, [tg.ones_like(y) for y in outputs])
    assert not {f.name for f in declared - reached}


@pytest.mark.parametrize("call, shape", FLAT)
def test_derivatives_of_both_orders(call, shape):
    x = np.random.default_rng(0).standard_normal(shape)
    gradcheck(lambda x: call(tg, x), x, directions=2)
    gradgradcheck(lambda x: call(tg, x), x, directions=1)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("call, shape", FLAT)
def test_values_and_gradients_are_torchs(torch, call, shape, dtype):
    rng = np.random.default_rng(1)
    values = rng.standard_normal(shape).astype(dtype)
    x, u = tg.tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
    y, v = call(tg, x), call(torch.nn.functional, u)
    assert y.shape == tuple(v.shape) and str(y.dtype) == dtype
    close = {"rtol": 2e-5, "atol": 3e-6} if dtype == "float32" else {"rtol": 1e-12, "atol": 1e-13}
    np.testing.assert_allclose(y.detach().numpy(), v.detach().numpy(), **close)
    w = rng.standard_normal(y.shape).astype(dtype)
    y.backward(tg.tensor(w))
    v.backward(torch.tensor(w))
    np.testing.assert_allclose(x.grad.numpy(), u.grad.numpy(), **close)


# ---------------------------------------------------------------- pooling


def test_max_pool_over_all_windows_like_torch(torch):
    """Sizes, ceil_mode's rule, padding and indices, with many ties: a small range of integers."""
    rng = np.random.default_rng(0)
    for n, k, s, p, d, ceil in itertools.product((5, 8), (1, 2, 3), (1, 2, 3), (0, 1), (1, 2), (False, True)):
        if p > k // 2 or n + 2 * p < d * (k - 1) + 1:
            continue
        x = rng.integers(0, 3, (2, 2, n, n + 1)).astype(np.float32)
        a, b = tg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        y, i = tg.max_pool2d(a, k, s, p, d, ceil, True)
        z, j = torch.nn.functional.max_pool2d(b, k, s, p, d, ceil, True)
        assert np.array_equal(y.detach().numpy(), z.detach().numpy())
        assert np.array_equal(i.numpy(), j.numpy()) and i.dtype == np.int64 and not i.requires_grad
        y.sum().backward()
        z.sum().backward()
        assert np.array_equal(a.grad.numpy(), b.grad.numpy())


def test_avg_pool_over_all_windows_like_torch(torch):
    rng = np.random.default_rng(0)
    F = torch.nn.functional
    for n, k, s, p, ceil, include in itertools.product(
        (5, 8), (1, 2, 3), (1, 2, 3), (0, 1), (False, True), (False, True)
    ):
        if p > k // 2:
            continue
        x = rng.standard_normal((2, 2, n, n + 1))
        y, z = (
            tg.avg_pool2d(tg.tensor(x), k, s, p, ceil, include),
            F.avg_pool2d(torch.tensor(x), k, s, p, ceil, include),
        )
        np.testing.assert_allclose(y.numpy(), z.numpy(), rtol=1e-12, atol=1e-14)


def test_adaptive_pools_like_torch(torch):
    F = torch.nn.functional
    for n, m in itertools.product((1, 2, 5, 7, 12), (1, 2, 3, 5, 7)):
        x = np.random.default_rng(n).standard_normal((1, 2, n, 2 * n))
        for name in ("adaptive_avg_pool2d", "adaptive_max_pool2d"):
            y, z = getattr(tg, name)(tg.tensor(x), (m, 3)), getattr(F, name)(torch.tensor(x), (m, 3))
            np.testing.assert_allclose(y.numpy(), z.numpy(), rtol=1e-13)
        _, i = tg.adaptive_max_pool2d(tg.tensor(x), m, return_indices=True)
        assert np.array_equal(i.numpy(), F.adaptive_max_pool2d(torch.tensor(x), m, True)[1].numpy())


def test_one_winner_on_ties_and_the_gradient_is_preserved():
    x = tg.ones(1, 1, 4, 4, requires_grad=True)
    y, where = tg.max_pool2d(x, 2, return_indices=True)
    (y * tg.tensor([[1.0, 2.0], [3.0, 4.0]])).sum().backward()
    assert x.grad.tolist() == [[[[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]]]
    assert where.tolist() == [[[[0, 2], [8, 10]]]]


def test_overlapping_windows_add_up():
    x = tg.zeros(1, 1, 3, requires_grad=True)
    x.data[0, 0, 1] = 1.0
    tg.max_pool1d(x, 2, 1).sum().backward()
    assert x.grad.tolist() == [[[0, 2, 0]]]


def test_nan_is_a_maximum_and_padding_is_not():
    x = tg.tensor([[[[-5.0, -3.0], [float("nan"), -4.0]]]])
    assert np.isnan(tg.max_pool2d(x, 2).item())
    assert tg.max_pool2d(x[:, :, :1], (1, 2), 1, (0, 1)).tolist() == [[[[-5, -3, -3]]]]
    infinite = tg.full((1, 1, 2, 2), float("-inf"))
    assert tg.max_pool2d(infinite, 2).item() == float("-inf")


def test_of_values_that_meet_in_unpooling_one_stays(torch):
    t, values = torch.full((1, 2, 2, 2), 15), np.arange(8.0).reshape(1, 2, 2, 2)
    x, theirs = tg.tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
    y, wanted = tg.max_unpool2d(x, tg.tensor(t.numpy()), 2), torch.nn.functional.max_unpool2d(theirs, t, 2)
    assert y.detach().numpy().tolist() == wanted.tolist()
    weight = np.arange(32.0).reshape(1, 2, 4, 4)
    (y * tg.tensor(weight)).sum().backward(), (wanted * torch.tensor(weight)).sum().backward()
    assert x.grad.tolist() == theirs.grad.tolist()
    assert tg.max_unpool2d(tg.ones(0, 2, 2, 2), tg.zeros(0, 2, 2, 2).long(), 2).shape == (0, 2, 4, 4)


def test_unpooling_returns_the_maxima_to_their_places():
    x = tg.randn(2, 3, 6, 6)
    y, where = tg.max_pool2d(x, 2, return_indices=True)
    back = tg.max_unpool2d(y, where, 2)
    assert back.shape == x.shape
    kept = back.numpy() != 0
    assert kept.sum() == y.numel()
    assert np.array_equal(back.numpy()[kept], x.numpy()[kept])


# ---------------------------------------------------------------- interpolation

MODES = [
    ("nearest", False),
    ("nearest-exact", False),
    ("linear", False),
    ("linear", True),
    ("cubic", False),
    ("cubic", True),
]


@pytest.mark.parametrize("mode, corners", MODES)
def test_weights_of_each_output_sum_to_one(mode, corners):
    for size, outputs in itertools.product((1, 2, 3, 7, 14), (1, 2, 5, 14, 28)):
        for a in (-0.75, -0.5):
            taps = interpolation_taps(size, outputs, mode, corners, None, a)
            assert taps.matrix().shape == (outputs, size)
            np.testing.assert_allclose(taps.matrix().sum(1), 1, atol=1e-14)


@pytest.mark.parametrize("mode, corners", MODES)
def test_transposed_taps_are_the_transposed_matrix(mode, corners):
    for size, outputs in ((1, 4), (5, 3), (7, 14), (14, 7)):
        taps = interpolation_taps(size, outputs, mode, corners)
        assert np.array_equal(taps.transposed.matrix(), taps.matrix().T)
        np.testing.assert_array_equal(taps.transposed.transposed.matrix(), taps.matrix())


def test_resample_and_its_vjp_are_adjoint():
    for rows in (interpolation_taps(5, 9, "cubic"), mean_taps(5, 3), pool._mean_taps(5, 3, 2, 1, 1, 3, "inside")):
        cols = interpolation_taps(4, 7, "linear", True)
        adjoint_check(
            lambda x, rows=rows, cols=cols: resample(x, rows=rows, cols=cols),
            lambda y, rows=rows, cols=cols: resample(y, rows=rows.transposed, cols=cols.transposed),
            (2, 3, 5, 4), (2, 3, len(rows.index), 7),
        )  # fmt: skip


def centres(size, outputs, corners):
    p = np.arange(outputs)
    return p * (size - 1) / (outputs - 1) if corners else (p + 0.5) * size / outputs - 0.5


@pytest.mark.parametrize("mode, corners", MODES[2:])
@pytest.mark.parametrize("a", [-0.75, -0.5])
def test_ramps_are_reproduced_inside(mode, corners, a):
    """Linear interpolation reproduces a ramp; Keys' kernel does so with a = -0.5 alone."""
    size, outputs = 10, 25
    at = centres(size, outputs, corners)
    inside = (at >= 1) & (at <= size - 2)
    error = np.abs(interpolation_taps(size, outputs, mode, corners, None, a).matrix() @ np.arange(10.0) - at)[
        inside
    ].max()
    exact = mode == "linear" or a == -0.5
    assert (error < 1e-13) == exact


def test_keys_kernel_reproduces_quadratics_with_minus_one_half():
    at = centres(10, 25, False)
    inside = (at >= 1) & (at <= 8)
    y = interpolation_taps(10, 25, "cubic", False, None, -0.5).matrix() @ np.arange(10.0) ** 2
    np.testing.assert_allclose(y[inside], at[inside] ** 2, rtol=1e-13)


def test_bicubic_a_changes_the_kernel():
    x = tg.randn(1, 1, 4, 4)
    torch_like, keys = tg.interpolate(x, 8, mode="bicubic"), tg.interpolate(x, 8, mode="bicubic", a=-0.5)
    assert np.abs((torch_like - keys).numpy()).max() > 1e-3


def test_nearest_picks_torchs_pixels_at_every_size(torch):
    line = np.arange(1.0, 65.0, dtype=np.float32)
    for mode in ("nearest", "nearest-exact"):
        for size, outputs in itertools.product(range(1, 65), range(1, 81)):
            for x in (line[:size].reshape(1, 1, size), line[:size].reshape(1, 1, 1, size)):
                new = outputs if x.ndim == 3 else (1, outputs)
                for dtype in ("float32", "float64") if outputs % 8 == 1 else ("float32",):
                    y = tg.interpolate(tg.tensor(x.astype(dtype)), new, mode=mode).numpy()
                    z = torch.nn.functional.interpolate(torch.tensor(x.astype(dtype)), new, mode=mode).numpy()
                    assert np.array_equal(y, z), (mode, dtype, x.shape, outputs)


def test_doubling_nearest_repeats_each_pixel():
    x = tg.randn(2, 3, 4, 5)
    y = tg.interpolate(x, scale_factor=2)
    assert np.array_equal(y.numpy(), x.numpy().repeat(2, 2).repeat(2, 3))


def test_infinities_stay_where_their_weight_is_not_zero():
    x = tg.zeros(1, 1, 1, 4)
    x[0, 0, 0, 0] = float("inf")
    y = tg.interpolate(x, (1, 7), mode="bilinear", align_corners=True)
    assert np.isinf(y.numpy()[0, 0, 0]).tolist() == [True, True, False, False, False, False, False]


def test_random_sizes_like_torch(torch):
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies

    @hypothesis.settings(max_examples=100, deadline=None)
    @hypothesis.given(
        st.integers(1, 9), st.integers(1, 9), st.integers(1, 20), st.integers(1, 20), st.booleans(), st.data()
    )
    def check(h, w, p, q, corners, data):
        mode = data.draw(st.sampled_from(["bilinear", "bicubic"]))
        x = np.random.randn(1, 2, h, w)
        y = tg.interpolate(tg.tensor(x), (p, q), mode=mode, align_corners=corners)
        z = torch.nn.functional.interpolate(torch.tensor(x), (p, q), mode=mode, align_corners=corners)
        np.testing.assert_allclose(y.numpy(), z.numpy(), rtol=1e-10, atol=1e-12)

    check()


# ---------------------------------------------------------------- errors

X = tg.zeros(1, 2, 4, 4)
BAD = {
    "max_pool2d": (lambda: tg.max_pool2d(X, 2, padding=2), "half the kernel"),
    "max_pool2d ": (lambda: tg.max_pool2d(X, 5), "larger than the padded input"),
    "max_pool2d  ": (lambda: tg.max_pool2d(tg.zeros(4, 4), 2), r"\(N, C, H, W\)"),
    "max_pool1d": (lambda: tg.max_pool1d(X, 2), r"\(N, C, L\)"),
    "avg_pool2d": (lambda: tg.avg_pool2d(X, (2, 2, 2)), "kernel_size"),
    "avg_pool2d ": (lambda: tg.avg_pool2d(X, 2, 0), "stride"),
    "avg_pool2d  ": (lambda: tg.avg_pool2d(X, 2, divisor_override=0), "divisor"),
    "adaptive_avg_pool2d": (lambda: tg.adaptive_avg_pool2d(X, 0), "output_size"),
    "adaptive_max_pool2d": (lambda: tg.adaptive_max_pool2d(X, (1, 2, 3)), "output_size"),
    "max_unpool2d": (lambda: tg.max_unpool2d(X, tg.tensor([0]), 2), "indices"),
    "interpolate": (lambda: tg.interpolate(X), "size or scale_factor"),
    "interpolate ": (lambda: tg.interpolate(X, 2, 2.0), "size or scale_factor"),
    "interpolate  ": (lambda: tg.interpolate(X, 2, mode="linear"), "3 dimensions"),
    "interpolate   ": (lambda: tg.interpolate(X, 2, mode="cubic"), "'bicubic'"),
    "interpolate    ": (lambda: tg.interpolate(X, 2, align_corners=True), "align_corners"),
    "interpolate     ": (lambda: tg.interpolate(X, 0), "at least 1"),
    "interpolate      ": (lambda: tg.interpolate(X, 2, mode="bilinear", antialias=True), "antialias"),
}


@pytest.mark.parametrize("name", BAD)
def test_errors_name_the_op_and_what_was_wrong(name):
    call, words = BAD[name]
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert str(caught.value).startswith(name.strip())


@pytest.mark.parametrize("scale", [1.00001, 0.99999999, 2.00001, 2.0, 1.0])
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_line_is_resized_by_the_scale_given_also_to_a_size_that_needs_none(scale, mode, dtype):
    torch = pytest.importorskip("torch")
    for n in (3, 20):
        x = np.arange(n, dtype=dtype).reshape(1, 1, n)
        theirs = torch.nn.functional.interpolate(torch.tensor(x), scale_factor=scale, mode=mode).numpy()
        ours = resize.interpolate(tg.tensor(x), scale_factor=scale, mode=mode).numpy()
        np.testing.assert_allclose(ours, theirs, 1e-5, 2e-3 if mode == "linear" else 0)
        image = np.broadcast_to(x[..., None, :], (1, 1, 2, n)).copy()
        theirs = torch.nn.functional.interpolate(torch.tensor(image), scale_factor=scale).numpy()
        assert np.array_equal(resize.interpolate(tg.tensor(image), scale_factor=scale).numpy(), theirs)
