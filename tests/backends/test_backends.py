"""The kernel table: every kernel of every backend, on every instruction set of this machine, against NumPy in float64.

The three contractions of convolution have a test module of their own. Inputs are rounded to the dtype under test before
the oracle sees them, so a difference is the kernel's own rounding and nothing else.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import on_device
import pytest

from tinygen.backends import KERNEL_NAMES, Kernels, reference
from tinygen.backends.geometry import Pieces, Taps

F32, F64 = np.float32, np.float64
TOLERANCE = {F32: 4e-6, F64: 2e-13}


def _cpu_module():
    try:
        return importlib.import_module("tinygen.backends.cpu")
    except ImportError:
        return None


CPU = _cpu_module()
BACKENDS = [pytest.param((reference, ""), id="reference")]
if CPU is not None:
    from tinygen import _cpu

    BACKENDS += [pytest.param((CPU, isa), id=f"cpu-{isa}") for isa in _cpu.isas()]
if shutil.which("g++"):
    BACKENDS += [pytest.param((on_device.table(), ""), id=on_device.PLACE)]


@pytest.fixture(params=BACKENDS)
def k(request):
    """Each backend in turn, the C++ one once per instruction set."""
    module, isa = request.param
    if not isa:
        yield module
        return
    before = _cpu.isa()
    _cpu.select(isa)
    yield module
    _cpu.select(before)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# ---------------------------------------------------------------- the table itself


BACKENDS_DIR = Path(reference.__file__).parents[1]
NO_TABLES = ("__init__", "__pycache__", "arrays", "geometry")
TABLES = sorted(p.stem for p in BACKENDS_DIR.iterdir() if p.stem not in NO_TABLES)


def signatures(table, names, methods):
    """{name: (name, kind, default) of each parameter}, `self` left out."""
    found = {n: list(inspect.signature(getattr(table, n)).parameters.values())[methods:] for n in names}
    return {n: [(p.name, p.kind, p.default) for p in parameters] for n, parameters in found.items()}


def test_the_backends_are_these():
    assert TABLES == ["cpu", "cuda", "reference"]


@pytest.mark.parametrize("module", TABLES)
def test_names_and_signatures_are_those_of_the_protocol(module):
    try:
        backend = importlib.import_module("tinygen.backends." + module)
    except ImportError as error:
        pytest.skip(f"backend {module} is not available: {error}")
    in_class = module == "cuda"  # which needs a GPU, or the emulator, to be of use
    assert in_class or backend.name == module
    expected = signatures(Kernels, KERNEL_NAMES, methods=True)
    assert signatures(backend.Cuda if in_class else backend, KERNEL_NAMES, methods=in_class) == expected


def test_a_kernel_has_a_source_line():
    if CPU is None:
        pytest.skip("built without a compiler")
    where = CPU.sources()
    assert set(KERNEL_NAMES) <= set(where)
    assert all(place.rpartition(":")[2].isdigit() for place in where.values())


# ---------------------------------------------------------------- every kernel against the oracle


def window(size: int, kernel: int, stride: int = 1, pad: int = 0, dilation: int = 1, ceil: bool = False) -> Taps:
    """The taps of a pooling window: index -1 outside, weight 1 / kernel inside."""
    span = size + 2 * pad - dilation * (kernel - 1) - 1
    outputs = (-(-span // stride) if ceil else span // stride) + 1
    index = np.arange(outputs)[:, None] * stride - pad + np.arange(kernel) * dilation
    inside = (index >= 0) & (index < size)
    return Taps(np.where(inside, index, -1), np.where(inside, 1 / kernel, 0.0), size)


def valid(taps: Taps) -> Taps:
    """The same with a valid index for taps of weight 0, as resample expects."""
    return Taps(np.maximum(taps.index, 0), taps.weight, taps.size)


def linear(size: int, outputs: int) -> Taps:
    """Linear interpolation with half-pixel centres."""
    at = np.clip((np.arange(outputs) + 0.5) * size / outputs - 0.5, 0, size - 1)
    low = np.floor(at).astype(np.int64)
    weight = np.stack([1 - (at - low), at - low], 1)
    return Taps(np.minimum(np.stack([low, low + 1], 1), size - 1), weight, size)


def nearest(size: int, outputs: int) -> Taps:
    return Taps((np.arange(outputs) * size // outputs)[:, None], np.ones((outputs, 1)), size)


def scattered(rng, size: int, outputs: int, taps: int) -> Taps:
    """Any index, any order, some taps unused."""
    weight = rng.standard_normal((outputs, taps)) * (rng.random((outputs, taps)) < 0.7)
    return Taps(rng.integers(0, size, (outputs, taps)), weight, size)


SHAPES = [(), (1,), (0,), (3, 5), (2, 0, 4), (17,), (7, 33), (33, 1025)]
UNARY = {
    "sigmoid": [()], "tanh": [()], "softplus": [()], "silu": [()], "erf": [()], "gelu": [(True,), (False,)],
    "leaky_relu": [(0.0,), (0.2,)], "elu": [(1.0, 1.0), (1.6732632423543772, 1.0507009873554805)],
}  # fmt: skip


def pointwise_cases(rng):
    for name, settings in UNARY.items():
        for more, shape in itertools.product(settings, SHAPES):
            x, g = np.asarray(3 * rng.standard_normal(shape)), np.asarray(rng.standard_normal(shape))
            yield name, (x, *more)
            if name != "erf":
                y = np.asarray(getattr(reference, name)(x)) if name in ("sigmoid", "tanh") else x
                yield name + "_backward", (g, y, *more)
                yield name + "_backward", (np.broadcast_to(0.7, shape), y, *more)
    for shape in SHAPES:
        x, target, g = (np.asarray(a) for a in (3 * rng.standard_normal(shape), rng.random(shape), rng.random(shape)))
        yield "bce_with_logits", (x, target)
        yield "bce_with_logits_backward", (g, x, target)
        yield "bce_with_logits_backward", (np.broadcast_to(0.7, shape), x, target)


def row_cases(rng):
    for shape in [
        (3,),
        (1, 1),
        (5, 1),
        (0, 4),
        (4, 0),
        (3, 2, 10),
        (7, 16),
        (5, 17),
        (2, 33),
        (3, 100),
        (2, 1001),
        (300, 130),
    ]:
        yield "softmax", (4 * rng.standard_normal(shape),)
        yield "log_softmax", (4 * rng.standard_normal(shape),)
    yield "softmax", (np.array([[1e4, 1e4 - 1, -1e4], [-np.inf, 0.0, 1.0], [-1e30, -1e30, -1e30]]),)
    yield "log_softmax", (np.array([[1e4, 1e4 - 1, -1e4], [-np.inf, 0.0, 1.0], [-1e30, -1e30, -1e30]]),)
    for shape in [(1, 1), (0, 4), (3, 2), (5, 16), (4, 17), (3, 64), (7, 129), (2, 1001), (200, 200)]:
        x = rng.standard_normal(shape) + 3
        yield "row_norm", (x, 1e-5)
        y, rstd = reference.row_norm(x, 1e-5)
        yield "row_norm_backward", (rng.standard_normal(shape), y, rstd)


def channel_cases(rng):
    # (N, C, S): few and many channels, S below, at and above a vector; the last ones use several threads
    sizes = [
        (1, 1, 2),
        (4, 3, 5),
        (2, 16, 1),
        (64, 20, 1),
        (3, 5, 16),
        (3, 5, 17),
        (8, 3, 196),
        (2, 1, 5000),
        (70, 300, 1),
    ]
    sizes += [(5, 2, 4), (6, 9, 15), (1, 4, 33), (9000, 2, 1), (64, 16, 64), (40, 2, 1024), (2, 0, 3)]
    for n, c, s in sizes:
        x = rng.standard_normal((n, c, s)) * rng.uniform(0.5, 2, (c, 1)) + rng.standard_normal((c, 1))
        weight, bias = rng.standard_normal(c), rng.standard_normal(c)
        mean, rstd = reference.channel_norm(x, weight, bias, 1e-5)[1:]
        for slope in (1.0, 0.0, 0.2):
            yield "channel_norm", (x, weight, bias, 1e-5, slope)
            yield "channel_norm_backward", (rng.standard_normal(x.shape), x, weight, bias, mean, rstd, slope)


def sum_cases(rng):
    """Every arrangement of reduced and kept axes; rows and columns below, at and above a vector; several pieces."""
    for shape, axes in [
        ((3,), (0,)), ((1, 1), (0, 1)), ((0, 3), (0,)), ((3, 0), (0,)), ((3, 0), (1,)), ((4, 5), (0, 1)), ((2, 3), ()),
        ((128, 513), (0,)), ((5, 3), (0,)), ((70_000, 3), (0,)), ((3, 70_000), (1,)), ((200_003,), (0,)),
        ((9, 20), (1,)), ((64, 6, 14, 14), (0, 2, 3)), ((64, 20, 7, 7), (0, 2, 3)), ((30, 70, 3, 3), (0, 2, 3)),
        ((2, 1, 100, 100), (0, 2, 3)), ((1, 4, 9, 9), (0, 2, 3)), ((4, 3, 5, 6), (1,)), ((4, 3, 5, 6), (0, 2)),
        ((3, 40, 50, 2), (1, 3)),
        ((2, 3, 2, 3, 2, 3), (0, 2, 4)), ((2, 3, 2, 3, 2, 3), (1, 3, 5)), ((3, 1, 4), (1,)), ((300, 5, 70), (0, 1)),
    ]:  # fmt: skip
        yield "sum", (rng.standard_normal(shape), axes)
        yield "sum", (rng.standard_normal(shape), axes, 0.25)


def loss_cases(rng):
    for shape in SHAPES:
        x, target = np.asarray(3 * rng.standard_normal(shape)), np.asarray(rng.random(shape))
        for scale, slope in ((1.0, True), (1 / max(1, x.size), True), (0.5, False)):
            yield "squared_error", (x, target, scale, slope)
            yield "bernoulli_loss", (x, target, scale, slope)
    for rows, classes in [(1, 1), (0, 3), (5, 10), (3, 16), (4, 33), (2000, 10), (64, 1000)]:
        x, labels = 4 * rng.standard_normal((rows, classes)), rng.integers(0, classes, rows)
        yield "class_loss", (x, labels, 1.0, True)
        yield "class_loss", (x, labels, 1 / max(1, rows), True)
        yield "class_loss", (x, labels, 1.0, False)
    yield "class_loss", (np.array([[1e4, 1e4 - 1, -1e4], [-np.inf, 0.0, 1.0]]), np.array([1, 2]), 1.0, True)


def plane_cases(rng):
    for shape, rows, cols in [
        ((2, 3, 7, 9), valid(window(7, 3, 2, 1)), valid(window(9, 2, 2))),
        ((1, 1, 1, 1), nearest(1, 5), nearest(1, 3)),
        ((2, 2, 4, 5), nearest(4, 8), nearest(5, 10)),
        ((2, 2, 8, 10), nearest(4, 8).transposed, nearest(5, 10).transposed),
        ((2, 3, 8, 8), linear(8, 16), linear(8, 16)),
        ((2, 3, 13, 6), linear(13, 5), linear(6, 21)),
        ((2, 3, 13, 6), scattered(rng, 13, 5, 3), scattered(rng, 6, 21, 4)),
        ((2, 3, 40, 50), valid(window(40, 40)), valid(window(50, 50))),
        ((2, 3, 1, 1), valid(window(40, 40)).transposed, valid(window(50, 50)).transposed),
        ((3, 2, 20, 30), valid(window(20, 9, 3, 4)), valid(window(30, 11, 2, 5))),
        ((1, 20, 64, 64), linear(64, 33), linear(64, 100)),
        ((0, 3, 4, 4), nearest(4, 8), nearest(4, 8)),
    ]:
        size = (rows.size, cols.size)
        assert shape[2:] == size or 0 in shape[:2]
        yield "resample", (rng.standard_normal(shape), rows, cols)
    for shape, rows, cols in [
        ((2, 3, 7, 9), window(7, 3, 2, 1), window(9, 2, 2)),
        ((2, 3, 8, 8), window(8, 2, 2), window(8, 2, 2)),
        *[((2, 3, h, w), window(h, 2, 2), window(w, 2, 2)) for h, w in [(2, 2), (5, 15), (6, 10), (9, 34), (4, 65)]],
        ((1, 1, 1, 1), window(1, 1), window(1, 1)),
        ((2, 3, 7, 7), window(7, 3, 1, 1), window(7, 3, 2, 1, ceil=True)),
        ((2, 3, 12, 13), window(12, 3, 2, 1, 2), window(13, 2, 3, 0, 3)),
        ((4, 16, 28, 28), window(28, 2, 2), window(28, 2, 2)),
        ((0, 3, 8, 8), window(8, 2, 2), window(8, 2, 2)),
        (
            (2, 2, 6, 6),
            Taps(rng.integers(-1, 6, (5, 4)), np.ones((5, 4)), 6),
            Taps(rng.integers(-1, 6, (7, 3)), np.ones((7, 3)), 6),
        ),
    ]:
        yield "max_pool", (rng.standard_normal(shape), rows, cols)
        yield "max_pool", (rng.integers(0, 3, shape).astype(F64), rows, cols)  # many ties
        wild = rng.choice([np.nan, np.inf, -np.inf, 0.0, 1.0], shape)
        yield "max_pool", (wild, rows, cols)
    for n, c, size, out in [
        (2, 3, (5, 4), (3, 7)),
        (1, 1, (1, 1), (1, 1)),
        (3, 50, (16, 16), (20, 20)),
        (0, 2, (3, 3), (2, 2)),
    ]:
        index = rng.integers(0, math.prod(size), (n, c, *out))
        yield "take_plane", (rng.standard_normal((n, c, *size)), index)
        yield "put_plane", (rng.standard_normal((n, c, *out)), index, size)
    for count, tail, length in [
        (5, (), 3),
        (40, (7,), 10),
        (0, (3,), 4),
        (6, (2, 3), 1),
        (3000, (33,), 50),
        (4, (0,), 5),
    ]:
        yield "scatter_add", (rng.standard_normal((count, *tail)), rng.integers(0, length, count), length)


def layout(a: np.ndarray, how: str) -> np.ndarray:
    """The same values behind other strides."""
    if a.ndim == 0 or how == "contiguous" or not any(a.strides):
        return a
    if how == "strided":
        wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
        wide[..., ::2] = a
        return wide[..., ::2]
    if how == "reversed":
        return a[..., ::-1].copy()[..., ::-1]
    return np.asfortranarray(a)


def check(k, name: str, args: tuple, dtype: type, how: str = "contiguous") -> None:
    def ready(value, to, how):
        if not isinstance(value, np.ndarray):
            return value
        if value.dtype != F64:
            return layout(value, how)
        rounded = value.astype(dtype).astype(to) if any(value.strides) or value.ndim == 0 or value.size < 2 else (
            np.broadcast_to(to(dtype(value.flat[0])), value.shape))  # fmt: skip
        return layout(rounded, how)

    with np.errstate(all="ignore"):
        want = getattr(reference, name)(*(ready(a, F64, "contiguous") for a in args))
        got = getattr(k, name)(*(ready(a, dtype, how) for a in args))
    if not isinstance(want, tuple):
        want, got = (want,), (got,)
    for w, g in zip(want, got, strict=True):
        if w is None:
            assert g is None
            continue
        g = np.asarray(g)
        assert g.shape == np.shape(w)
        if np.asarray(w).dtype == np.int64:
            assert g.dtype == np.int64
            np.testing.assert_array_equal(g, w)
            continue
        assert g.dtype == dtype
        assert g.flags.c_contiguous or k is reference
        size = max(1.0, np.abs(w[np.isfinite(w)]).max(initial=0)) if name.endswith("norm_backward") else 1.0
        if name == "sum":  # terms cancel: what is to be expected of a sum is the root of their number
            size = math.sqrt(args[0].size / max(1, w.size))
        np.testing.assert_allclose(
            g, w, rtol=TOLERANCE[dtype], atol=size * TOLERANCE[dtype], err_msg=f"{name} {np.shape(args[0])}"
        )


FAMILIES = {
    "pointwise": pointwise_cases, "rows": row_cases, "channels": channel_cases, "planes": plane_cases,
    "sums": sum_cases, "losses": loss_cases,
}  # fmt: skip
ELSEWHERE = {"conv", "conv_transpose", "conv_moments", "conv_transpose_moments", "conv_weight", "matmul", "linear",
             "sgd_step", "adam_step", "rmsprop_step", "random_bits", "random_uniform", "random_normal"}  # fmt: skip


def test_no_kernel_is_left_out(rng):
    covered = {name for cases in FAMILIES.values() for name, _ in cases(rng)}
    assert covered | ELSEWHERE == set(KERNEL_NAMES)


@pytest.mark.parametrize("how", ["contiguous", "strided", "reversed", "fortran"])
@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("family", FAMILIES)
def test_against_reference(k, rng, family, dtype, how):
    for name, args in FAMILIES[family](rng):
        check(k, name, args, dtype, how)


@pytest.mark.parametrize("dtype", [F32, F64])
def test_infinities_and_nan_come_out_as_the_formula_says(k, rng, dtype):
    x = np.array(
        [np.inf, -np.inf, np.nan, 0.0, -0.0, 88.9, -88.9, 104, -104, 1e-30, -1e-30, 1e30, -1e30, 3e38, -3e38, 1.0, 2.0]
    )
    for name, settings in UNARY.items():
        for more in settings:
            check(k, name, (x, *more), dtype)
            if name not in ("erf", "sigmoid", "tanh"):
                check(k, name + "_backward", (np.ones_like(x), x, *more), dtype)
    check(k, "bce_with_logits", (x, np.linspace(0, 1, len(x))), dtype)
    check(k, "bce_with_logits_backward", (np.ones_like(x), x, np.linspace(0, 1, len(x))), dtype)


def test_relu_of_minus_infinity_is_zero_and_passes_no_gradient(k):
    x, g = np.array([-np.inf, -1, 0, 2, np.nan], F32), np.array([np.inf, np.nan, 1, 1, 1], F32)
    np.testing.assert_array_equal(k.leaky_relu(x, 0.0), np.array([0, 0, 0, 2, np.nan], F32))
    np.testing.assert_array_equal(k.leaky_relu_backward(g, x, 0.0), np.array([0, 0, 0, 1, 1], F32))
    finite = np.ones_like(x)
    np.testing.assert_array_equal(k.leaky_relu_backward(finite, x, 0.5), np.array([0.5, 0.5, 0.5, 1, 0.5], F32))


def test_elementary_functions_are_within_a_few_units_in_the_last_place(k, rng):
    """Over all exponents, and densely where the functions bend. NaN and infinities have a test of their own."""
    bits = np.linspace(0, 0x7F7FFFFF, 200_001).astype(np.uint32)
    x = np.concatenate([bits, bits | 0x80000000]).view(F32)
    x = np.concatenate([x, rng.uniform(-20, 20, 200_000).astype(F32), rng.uniform(-110, 110, 100_000).astype(F32)])
    one = np.ones_like(x)

    def worst(got, want):
        want = np.asarray(want)
        spacing = np.spacing(np.abs(want.astype(F32))).astype(F64)
        if k.name.startswith("cuda"):  # numbers below the smallest normal one are zeros there
            spacing[np.abs(want) < 4 * np.finfo(F32).tiny] = np.finfo(F32).tiny
        return np.max(np.abs(got.astype(F64) - want)[np.isfinite(spacing)] / spacing[np.isfinite(spacing)])

    with np.errstate(all="ignore"):
        below = np.minimum(x, 0).astype(F64)
        limit = 2 if k is not reference else 3  # NumPy's own exp of float32 is allowed a little more
        assert worst(k.elu_backward(one, np.minimum(x, 0), 1.0, 1.0), np.exp(below)) <= limit
        assert worst(k.elu(np.minimum(x, 0), 1.0, 1.0), np.expm1(below)) <= limit
        for name in ("tanh", "erf", "sigmoid", "softplus"):
            assert worst(getattr(k, name)(x), getattr(reference, name)(x.astype(F64))) <= 4, name
        for name in ("tanh", "erf", "sigmoid"):  # an excess of one ulp would make 1 - out^2 negative
            assert np.abs(getattr(k, name)(x)).max() <= 1, name


def test_erf_needs_no_scipy(monkeypatch):
    x = np.linspace(-6, 6, 1001)
    want = reference.erf(x)
    monkeypatch.setitem(sys.modules, "scipy", None)
    np.testing.assert_allclose(reference.erf(x), want, rtol=1e-14)
    assert reference.erf(x.astype(F32)).dtype == F32 and reference.erf(x[:0]).shape == (0,)


def test_channel_statistics_survive_a_large_mean(k, rng):
    """float32 around 1000 with spread 1: the statistics must be those of the rounded inputs, to float32 accuracy."""
    for shape in [(16, 4, 100), (200, 40, 1)]:
        x = (1000 + rng.standard_normal(shape)).astype(F32)
        y, mean, rstd = k.channel_norm(x, np.ones(shape[1], F32), np.zeros(shape[1], F32), 1e-5)
        want = reference.channel_norm(x.astype(F64), np.ones(shape[1]), np.zeros(shape[1]), 1e-5)
        tolerance = 1e-6 if k is not reference else 1e-3
        np.testing.assert_allclose(rstd, want[2], rtol=tolerance)
        np.testing.assert_allclose(mean, want[1], rtol=1e-6)
        np.testing.assert_allclose(y, want[0], atol=4 * tolerance, rtol=4 * tolerance)


def test_a_tap_of_weight_zero_does_not_touch_infinity(k):
    x = np.array([[[[np.inf, 1.0], [2.0, np.nan]]]], F32)
    keep = Taps(np.array([[0, 1], [1, 0]]), np.array([[1.0, 0.0], [1.0, 0.0]]), 2)
    np.testing.assert_array_equal(k.resample(x, keep, keep), x)
    half = Taps(np.array([[0, 1], [1, 0]]), np.array([[0.5, 0.5], [1.0, 0.0]]), 2)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(k.resample(x, keep, half), np.array([[[[np.inf, 1.0], [np.nan, np.nan]]]], F32))


@pytest.mark.parametrize("dtype", [F32, F64])
def test_repeated_indices_add_up_in_their_order(k, rng, dtype):
    """Bit for bit the sum that a loop over i makes: a sum that depends on timing would differ in the last place."""
    values, index = rng.standard_normal((20_000, 5)).astype(dtype), rng.integers(0, 12, 20_000)
    want = np.zeros((12, 5), dtype)
    np.add.at(want, index, values)
    np.testing.assert_array_equal(k.scatter_add(values, index, 12), want)
    y, at = rng.standard_normal((2, 40, 30, 30)).astype(dtype), rng.integers(0, 20, (2, 40, 30, 30))
    np.testing.assert_array_equal(k.put_plane(y, at, (4, 5)), reference.put_plane(y, at, (4, 5)))


# ---------------------------------------------------------------- identities


def test_resample_of_the_transposed_taps_is_the_adjoint(k, rng):
    for rows, cols in [
        (linear(9, 17), linear(8, 3)),
        (scattered(rng, 9, 6, 4), scattered(rng, 8, 11, 3)),
        (valid(window(9, 3, 2, 1)), valid(window(8, 2, 2))),
    ]:
        x = rng.standard_normal((2, 3, rows.size, cols.size))
        y = rng.standard_normal((2, 3, len(rows.index), len(cols.index)))
        forward, back = k.resample(x, rows, cols), k.resample(y, rows.transposed, cols.transposed)
        assert back.shape == x.shape
        np.testing.assert_allclose((forward * y).sum(), (back * x).sum(), rtol=1e-12)
        np.testing.assert_allclose(forward, rows.matrix() @ x @ cols.matrix().T, atol=1e-12)


def test_put_plane_is_the_adjoint_of_take_plane(k, rng):
    x, y = rng.standard_normal((2, 3, 5, 6)), rng.standard_normal((2, 3, 4, 9))
    index = rng.integers(0, 30, y.shape)
    np.testing.assert_allclose(
        (k.take_plane(x, index) * y).sum(), (k.put_plane(y, index, (5, 6)) * x).sum(), rtol=1e-12
    )


def test_winners_of_max_pool_point_at_the_values(k, rng):
    x = rng.standard_normal((2, 3, 11, 9)).astype(F32)
    values, winners = k.max_pool(x, window(11, 3, 2, 1), window(9, 3, 1, 1))
    np.testing.assert_array_equal(k.take_plane(x, winners), values)


LAYOUTS = {
    "rows": lambda rng, m, n: rng.standard_normal((m, n)),
    "columns": lambda rng, m, n: rng.standard_normal((n, m)).T,
    "rows of a wider matrix": lambda rng, m, n: rng.standard_normal((m, n + 5))[:, 2 : n + 2],
    "columns of a wider matrix": lambda rng, m, n: rng.standard_normal((n, m + 5))[:, 2 : m + 2].T,
    "rows backwards": lambda rng, m, n: rng.standard_normal((m, n))[::-1],
    "every second": lambda rng, m, n: rng.standard_normal((2 * m, 2 * n))[::2, 1::2],
    "one row for all": lambda rng, m, n: np.broadcast_to(rng.standard_normal(n), (m, n)),
}
# Each way through the kernel: empty, dots, few rows, whole and ragged panels, results transposed on their way out,
# depths of several blocks, (rows, depth, columns).
PRODUCTS = [
    (0, 3, 4), (3, 0, 4), (3, 4, 0), (1, 1, 1), (1, 70, 1), (3, 33, 40), (2, 500, 3), (7, 5, 9), (16, 16, 16),
    (9, 20, 50), (64, 40, 10), (10, 31, 64), (33, 100, 49), (130, 17, 97), (40, 1100, 30), (5, 1030, 61), (100, 9, 250),
]  # fmt: skip


def within_rounding(got, a, b, dtype, bias=0.0, slope=1.0):
    """Asserts got = leaky_relu(a b + bias, slope) up to the rounding of sums of that many terms."""
    a, b = a.astype(F64), b.astype(F64)
    exact = a @ b + bias
    error = np.abs(got - np.where(exact > 0, exact, slope * exact))
    assert got.dtype == dtype and got.shape == exact.shape
    assert np.all(error <= 4 * np.finfo(dtype).eps * (np.abs(a) @ np.abs(b) + np.abs(bias)))


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("shape", PRODUCTS, ids=lambda s: "x".join(map(str, s)))
def test_products_of_matrices_in_any_layout(k, rng, shape, dtype):
    m, depth, n = shape
    for left, right in itertools.product(LAYOUTS.values(), LAYOUTS.values()):
        a = left(rng, m, depth).astype(dtype, order="K", copy=False)
        b = right(rng, depth, n).astype(dtype, order="K", copy=False)
        within_rounding(k.matmul(a, b), a, b, dtype)
    for layout in LAYOUTS.values():
        x, w = (layout(rng, rows, depth).astype(dtype, order="K", copy=False) for rows in (m, n))
        bias = rng.standard_normal(n).astype(dtype)
        within_rounding(k.linear(x, w), x, w.T, dtype)
        for slope in (1.0, 0.0, 0.2):
            within_rounding(k.linear(x, w, bias, slope), x, w.T, dtype, bias, slope)


@pytest.mark.parametrize("dtype", [F32, F64])
def test_matmul_broadcasts_batches(k, rng, dtype):
    for left, right in [
        ((3, 1, 4, 5), (2, 5, 6)),
        ((4, 5), (7, 5, 6)),
        ((2, 3, 40, 50), (2, 3, 50, 60)),
        ((0, 3, 4), (4, 5)),
    ]:
        a, b = rng.standard_normal(left).astype(dtype), rng.standard_normal(right).astype(dtype)
        within_rounding(k.matmul(a, b), a, b, dtype)
        within_rounding(k.matmul(a, b[..., ::-1, :]), a, b[..., ::-1, :], dtype)
        turned = np.swapaxes(np.swapaxes(a, -1, -2).copy(), -1, -2)
        within_rounding(k.matmul(turned, b), a, b, dtype)


def test_linear_is_exact_where_numbers_are_not_finite(k):
    x = np.array([[1, np.nan], [np.inf, 1], [-np.inf, 1], [0, np.inf]], F32)
    w = np.eye(2, dtype=F32)
    w[:, 1] = 1
    with np.errstate(invalid="ignore"):
        expected = x @ w.T
        np.testing.assert_array_equal(k.linear(x, w), expected)
        np.testing.assert_array_equal(k.linear(x, w, None, 0.0), np.where(expected <= 0, 0, expected))


def test_products_of_other_dtypes_are_refused():
    if CPU is None:
        pytest.skip("built without a compiler")
    a = np.ones((3, 3), F32)
    with pytest.raises(TypeError, match="matmul: expected float32 or float64, got float16"):
        CPU.matmul(a.astype(np.float16), a)
    with pytest.raises(TypeError, match="matmul: arrays of float32 and float64"):
        CPU.matmul(a, a.astype(F64))
    with pytest.raises(ValueError, match="matmul: the shapes of the arrays do not fit together"):
        CPU.matmul(a, np.ones((4, 3), F32))


@pytest.mark.skipif(CPU is None, reason="built without a compiler")
@pytest.mark.parametrize("isa", _cpu.isas() if CPU else [])
def test_results_do_not_depend_on_the_number_of_threads(rng, isa):
    before, threads = _cpu.isa(), CPU.get_num_threads()
    _cpu.select(isa)
    cases = [
        (name, [a.astype(F32) if isinstance(a, np.ndarray) and a.dtype == F64 else a for a in args])
        for cases in FAMILIES.values()
        for name, args in cases(rng)
        if args[0].size > 20_000
    ]
    for m, depth, n in PRODUCTS:
        if m * depth * n > 20_000:
            a, b = rng.standard_normal((m, depth)).astype(F32), rng.standard_normal((n, depth)).astype(F32)
            cases += [("linear", [a, b]), ("matmul", [a, b.T.copy()])]
    assert {"sigmoid", "channel_norm", "channel_norm_backward", "softmax", "resample", "max_pool"} <= {
        name for name, _ in cases
    }
    try:
        for name, args in cases:
            results = []
            for count in (1, 2, 3):
                CPU.set_num_threads(count)
                out = getattr(CPU, name)(*args)
                results.append(out if isinstance(out, tuple) else (out,))
            for other in results[1:]:
                for a, b in zip(results[0], other, strict=True):
                    np.testing.assert_array_equal(a, b, err_msg=name)
    finally:
        CPU.set_num_threads(threads)
        _cpu.select(before)


# ---------------------------------------------------------------- optimizer steps

OPTIMIZERS = {
    "sgd": ("SGD", {"lr": 0.1}),
    "sgd-decay": ("SGD", {"lr": 0.1, "weight_decay": 0.3}),
    "sgd-momentum": ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.1}),
    "sgd-nesterov": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "adam": ("Adam", {"lr": 0.01}),
    "adam-decay": ("Adam", {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.2}),
    "adamw": ("AdamW", {"lr": 0.01, "weight_decay": 0.2}),
    "rmsprop": ("RMSprop", {"lr": 0.01}),
    "rmsprop-all": ("RMSprop", {"lr": 0.01, "alpha": 0.8, "momentum": 0.7, "centered": True, "weight_decay": 0.1}),
}


def run_steps(k, kind: str, options: dict, p: np.ndarray, gradients: list[np.ndarray]) -> None:
    """Updates p in place with the kernels, one step per gradient."""
    state = [np.zeros_like(p) for _ in range(3)]
    lr, decay = np.array(options["lr"]), options.get("weight_decay", 0.0)
    cut = min(len(p), 5)  # a scalar piece, a piece that begins unaligned, and the rest
    for number, whole in enumerate(gradients, 1):
        step = np.array(float(number))
        w, g = (
            Pieces([all[:1].reshape(()), all[1:cut], all[cut:].reshape(-1, 1)], [0, 1, cut]) for all in (p, whole)
        )
        if kind == "SGD":
            momentum = options.get("momentum", 0.0)
            buffer = state[0] if momentum else None
            k.sgd_step(
                w, g, buffer, lr, step, momentum, options.get("dampening", 0.0), decay, options.get("nesterov", False)
            )
        elif kind == "RMSprop":
            momentum = options.get("momentum", 0.0)
            buffer, mean = state[1] if momentum else None, state[2] if options.get("centered") else None
            k.rmsprop_step(w, g, state[0], buffer, mean, lr, options.get("alpha", 0.99), 1e-8, decay, momentum)
        else:
            beta1, beta2 = options.get("betas", (0.9, 0.999))
            k.adam_step(w, g, *state[:2], lr, step, beta1, beta2, options.get("eps", 1e-8), decay, kind == "AdamW")


@pytest.mark.parametrize("count", [1, 37, 40_000])
@pytest.mark.parametrize("case", OPTIMIZERS)
def test_three_steps_equal_the_reference(k, rng, case, count):
    kind, options = OPTIMIZERS[case]
    start, gradients = rng.standard_normal(count), [rng.standard_normal(count) for _ in range(3)]
    for dtype in (F32, F64):
        want, got = start.astype(dtype).astype(F64), start.astype(dtype)
        run_steps(reference, kind, options, want, [g.astype(dtype).astype(F64) for g in gradients])
        run_steps(k, kind, options, got, [g.astype(dtype) for g in gradients])
        np.testing.assert_allclose(got, want, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_pieces_must_lie_side_by_side_within_the_state(k):
    if k is reference:  # the oracle checks nothing
        return
    rest = np.ones(6), np.array(0.1), np.array(1.0), 0.9, 0.0, 0.0, False
    for pieces in (Pieces([np.ones(3)], [4]), Pieces([np.ones(3), np.ones(3)], [0, 2]), Pieces([np.ones(3)], [-1])):
        with pytest.raises(ValueError, match="sgd_step: g: the pieces should lie side by side within the state"):
            k.sgd_step(pieces, pieces, *rest)
    with pytest.raises(ValueError, match=r"sgd_step: g: .*4.* elements"):
        k.sgd_step(Pieces([np.ones(3)], [0]), Pieces([np.ones(4)], [0]), *rest)


def test_padding_between_pieces_disturbs_nobody(k, rng):
    """Pieces far apart, at places that are no multiples of a vector: each is updated as if it were alone."""
    sizes, starts = [1, 30, 17, 5000], [3, 16, 64, 128]
    values = rng.standard_normal(6000)
    parts = [rng.standard_normal(n) for n in sizes]
    p, m, v = values.copy(), np.zeros(6000), np.zeros(6000)
    params = [p[start : start + n] for start, n in zip(starts, sizes, strict=True)]
    p_and_g = Pieces(params, starts), Pieces(parts, starts)
    k.adam_step(*p_and_g, m, v, np.array(0.1), np.array(1.0), 0.9, 0.999, 1e-8, 0.0, False)
    for part, start in zip(parts, starts, strict=True):
        want = values[start : start + part.size].copy()
        alone = Pieces([part], [0])
        rest = (np.array(0.1), np.array(1.0), 0.9, 0.999, 1e-8, 0.0, False)
        reference.adam_step(Pieces([want], [0]), alone, np.zeros_like(want), np.zeros_like(want), *rest)
        np.testing.assert_allclose(p[start : start + part.size], want, rtol=1e-12)


@pytest.mark.parametrize("case", ["adam", "adamw", "rmsprop"])
def test_a_gradient_whose_square_overflows_does_not_stop_a_parameter(k, case):
    """(1 - beta2) g g is finite in single precision where g g is not; at infinity the parameter would stand still."""
    kind, options = OPTIMIZERS[case]
    gradients = [np.full(19, g, F32) for g in (1e20, 1.0, -1e20, 1e18)]
    want, got = np.ones(19), np.ones(19, F32)
    run_steps(reference, kind, options, want, [g.astype(F64) for g in gradients])
    run_steps(k, kind, options, got, gradients)
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("case", OPTIMIZERS)
def test_three_steps_equal_torch(k, rng, case):
    torch = pytest.importorskip("torch")
    kind, options = OPTIMIZERS[case]
    p, gradients = rng.standard_normal(19), [rng.standard_normal(19) for _ in range(3)]
    theirs = torch.tensor(p, requires_grad=True)
    optimizer = getattr(torch.optim, kind)([theirs], **options)
    for g in gradients:
        theirs.grad = torch.tensor(g)
        optimizer.step()
    run_steps(k, kind, options, p, gradients)
    np.testing.assert_allclose(p, theirs.detach().numpy(), rtol=1e-12)


# ---------------------------------------------------------------- random numbers


def test_philox_gives_the_published_numbers():
    """The known answers of Random123 for philox4x32-10."""
    ones = 0xFFFFFFFF
    pi = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    for key, counter, answer in [
        ((0, 0), (0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ones, ones), (ones,) * 4, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        ((0xA4093822, 0x299F31D0), pi, (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ]:
        words = reference.random._philox(key, [np.array([c], np.uint64) for c in counter])
        assert tuple(int(w[0]) for w in words) == answer
    assert [hex(w) for w in reference.random_bits(0, 0, 0, 2)] == ["0x6627e8d5", "0xe169c58d"]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 1023, 1024, 1025, 40_001])
def test_bits_and_uniforms_are_equal_everywhere_and_normals_nearly(k, count):
    for seed, stream, offset in [(0, 0, 0), (2**64 - 1, 2**32 - 1, 2**32 - 3), (1234567890123, 7, 2**40 + 5)]:
        bits = k.random_bits(seed, stream, offset, count)
        assert bits.dtype == np.uint32
        np.testing.assert_array_equal(bits, reference.random_bits(seed, stream, offset, count))
        for dtype in (F32, F64):
            u, want = (b.random_uniform(seed, stream, offset, (count, 1), dtype) for b in (k, reference))
            assert u.dtype == dtype
            assert u.shape == (count, 1)
            np.testing.assert_array_equal(u, want)
            z, want = (b.random_normal(seed, stream, offset, (1, count), dtype) for b in (k, reference))
            assert z.dtype == dtype
            assert z.shape == (1, count)
            np.testing.assert_array_less(np.abs(z - want), 4.5 * np.spacing(np.abs(want)))


def test_any_part_of_the_sequence_can_be_computed_alone(k):
    whole = k.random_bits(5, 6, 0, 4000)
    np.testing.assert_array_equal(k.random_bits(5, 6, 100, 77), whole[400:477])
    assert (k.random_bits(5, 7, 0, 4000) != whole).mean() > 0.99
    assert (k.random_bits(6, 6, 0, 4000) != whole).mean() > 0.99


@pytest.mark.parametrize("dtype", [F32, F64])
def test_moments_of_the_distributions(k, dtype):
    u, z = k.random_uniform(1, 0, 0, (400_000,), dtype), k.random_normal(2, 0, 0, (400_000,), dtype)
    assert u.min() >= 0
    assert u.max() < 1
    np.testing.assert_allclose([u.mean(), u.var()], [1 / 2, 1 / 12], atol=2e-3)
    np.testing.assert_allclose([z.mean(), z.var(), (z**3).mean(), (z**4).mean()], [0, 1, 0, 3], atol=4e-2)
    assert abs(np.corrcoef(z[::2], z[1::2])[0, 1]) < 0.01  # the two of a Box-Muller pair


# ---------------------------------------------------------------- what is refused


@pytest.mark.skipif(CPU is None, reason="built without a compiler")
def test_wrong_dtypes_are_refused_by_name():
    with pytest.raises(TypeError, match=r"sigmoid.*int64"):
        CPU.sigmoid(np.arange(3))
    with pytest.raises(TypeError, match=r"tanh_backward.*float32.*float64"):
        CPU.tanh_backward(np.ones(3, F32), np.ones(3))
    with pytest.raises(TypeError, match=r"random_normal.*float16"):
        CPU.random_normal(0, 0, 0, (3,), np.float16)


@pytest.mark.skipif(CPU is None, reason="built without a compiler")
def test_an_update_in_place_refuses_a_view_that_it_could_only_copy():
    with pytest.raises(ValueError, match=r"sgd_step.*contiguous"):
        p, g = Pieces([np.ones(6)[::2]], [0]), Pieces([np.ones(3)], [0])
        CPU.sgd_step(p, g, None, np.array(0.1), np.array(1.0), 0.0, 0.0, 0.0, False)


@pytest.mark.parametrize("module", [reference, *([CPU] if CPU else [])], ids=lambda m: m.name)
def test_threads_must_be_at_least_one(module):
    with pytest.raises(ValueError, match="at least 1"):
        module.set_num_threads(0)
    assert module.get_num_threads() >= 1
