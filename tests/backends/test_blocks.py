"""One case just above every block constant of the C++ kernels, on each path, against the reference in float64.

A kernel cuts its work into blocks, and a fault at a seam shows only where there is more than one. `CASES` names every
constant of csrc/cpu by file, with a call that crosses it; a test reads the sources and finds those that are missing.
Beside that: extremes in the last partial vector, NaN in parameters, and long sums in float32.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tinygen.backends import reference
from tinygen.backends.geometry import Geometry, Pieces, Taps

cpu = pytest.importorskip("tinygen.backends.cpu", reason="the C++ kernels are not built here")
from tinygen import _cpu  # noqa: E402

SOURCES = Path(__file__).resolve().parents[2] / "csrc" / "cpu"
F32 = np.float32


@pytest.fixture(params=_cpu.isas())
def isa(request):
    before, threads, winograd = _cpu.isa(), cpu.get_num_threads(), cpu.get_winograd()
    _cpu.select(request.param)
    cpu.set_num_threads(2)
    yield request.param
    _cpu.select(before)
    cpu.set_num_threads(threads)
    cpu.set_winograd(winograd)


def layer(x, w, pad=0, stride=1):
    return Geometry.of_convolution("blocks", x, w, 1, stride, pad, 1)


def conv(x, w, pad=0, stride=1, winograd=False):
    """All three contractions of one layer, with a bias."""
    geo = layer(x, w, pad, stride)

    def run(k, draw):
        xs, ws, ys = draw(*geo.x_shape), draw(*geo.w_shape), draw(*geo.y_shape)
        cpu.set_winograd(winograd)
        yield k.conv(xs, ws, geo, draw(geo.w_shape[0]))
        yield k.conv_transpose(ys, ws, geo, draw(geo.x_shape[1]))
        yield k.conv_weight(xs, ys, geo)

    return run


def sums(shape, *axes):
    return lambda k, draw: iter([k.sum(draw(*shape), axes)])


def losses(*shape):
    def run(k, draw):
        x, target = draw(*shape), draw(*shape)
        yield from k.squared_error(x, target, 1 / x.size, True)
        yield from k.bernoulli_loss(x, target, 1 / x.size, True)

    return run


def channels(*shape):
    def run(k, draw):
        x, weight, bias, g = draw(*shape), draw(shape[1]), draw(shape[1]), draw(*shape)
        y, mean, rstd = k.channel_norm(x, weight, bias, 0.1, 0.2)
        yield from (y, mean, rstd)
        yield from k.channel_norm_backward(g, x, weight, bias, mean, rstd, 1.0)

    return run


def rows(*shape):
    def run(k, draw):
        x = draw(*shape)
        yield from (k.softmax(x), k.log_softmax(x))
        yield from k.row_norm(x, 0.1)

    return run


def products(m, depth, n):
    def run(k, draw):
        a, b = draw(m, depth), draw(n, depth)
        yield k.linear(a, b, draw(n), 0.2)
        yield k.matmul(a, b.T)
        yield k.matmul(a, np.ascontiguousarray(b.T))
        yield k.matmul(np.ascontiguousarray(a.T).T, np.ascontiguousarray(b.T))

    return run


def pointwise(count):
    def run(k, draw):
        x, g = draw(count), draw(count)
        yield from (k.leaky_relu(x, 0.2), k.sigmoid(x), k.erf(x), k.gelu(x, False), k.bce_with_logits(x, g))
        yield from (k.tanh_backward(g, x), k.silu_backward(g, x), k.elu_backward(g, x, 1.0, 1.0))

    return run


def steps(*sizes):
    def run(k, draw):
        starts = [0, *(int(s) for s in np.cumsum([size + 3 for size in sizes[:-1]]))]
        count = starts[-1] + sizes[-1]
        p, g = (Pieces([draw(size) for size in sizes], starts) for _ in "pg")
        m, v = draw(count), draw(count) ** 2
        k.adam_step(p, g, m, v, np.array(0.1), np.array(2.0), 0.9, 0.99, 1e-3, 0.0, False)
        yield from (*p.arrays, *p.parts(m), *p.parts(v))

    return run


def planes(*shape):
    n, c, h, w = shape
    window = lambda size: Taps(np.arange(size - 2)[:, None] + np.arange(3), np.full((size - 2, 3), 1 / 3), size)

    def run(k, draw):
        x = draw(*shape)
        values, winners = k.max_pool(x, window(h), window(w))
        yield from (values, winners, k.resample(x, window(h), window(w)))
        yield from (k.take_plane(x, winners), k.put_plane(values, winners, (h, w)))
        index = np.arange(n * c * h) * 7919 % (h + 1)
        yield k.scatter_add(x.reshape(-1, w), index, h + 1)

    return run


def bits(count):
    return lambda k, draw: iter([k.random_bits(1, 2, 3, count), k.random_uniform(1, 2, 3, (count,), F32)])


CASES = {  # file: {constant: a call that crosses it}
    "sums.h": {
        "kRun": [sums((3, 2049), 1), sums((2 * 2048 + 70,), 0)],
        "kColumnRun": [sums((17, 70), 0), sums((33, 5), 0)],
    },
    "reduce.cpp": {
        "kGrain": [sums((3, 16400), 1), losses(2 * 16384 + 5)],
        "kPiece": [sums((2 * 8192 + 5,), 0), losses(2 * 8192 + 5)],
        "kMostPieces": [sums((17 * 8192 + 5,), 0)],
        "kColumns": [
            sums((40, 1025), 0),
            sums((3, 9, 2051), 1),
            sums((64, 32, 7, 7), 0, 2, 3),
            sums((9, 521, 2, 1), 0, 2, 3),
        ],
    },
    "norm.cpp": {
        "kGrain": [channels(3, 2, 16400), rows(300, 130), rows(3, 16400)],
        "kAtOnce": [channels(5, 2, 70), channels(9, 40, 3)],
        "kColumns": [channels(3, 1025, 1), channels(5, 300, 7), channels(2, 1100, 64)],
        "kCached": [channels(70, 9, 801)],
    },
    "pointwise.cpp": {"kCheap": [pointwise(2 * 16384 + 5)], "kCostly": [pointwise(2 * 8192 + 5)]},
    "optimizer.cpp": {
        "kGrain": [steps(2 * 8192 + 5), steps(9, 9000, 70, 8200)],
        "kAhead": [steps(129), steps(131, 7)],
        "kLine": [steps(17), steps(2 * 8192 + 17)],
    },
    "random.cpp": {"kBlocks": [bits(33)], "kWords": [bits(1025)], "kGrain": [bits(2 * 8192 + 5)]},
    "planes.cpp": {"kGrain": [planes(2, 3, 9, 1900), planes(70, 9, 11, 12), planes(1, 2, 130, 131)]},
    "gemm.cpp": {
        "kDepth": [products(9, 833, 20), products(40, 1665, 70)],
        "kBlockBytes": [products(20, 833, 131), products(70, 300, 700)],
        "kLine": [products(70, 128, 90)],
        "kCopiedRows": [products(65, 40, 70), products(49, 40, 70), products(33, 40, 70)],
        "kFewRows": [products(17, 90, 70), products(13, 90, 70), products(9, 90, 70), products(70, 90, 17)],
        "kDots": [products(5, 300, 4), products(4, 300, 5), products(5, 300, 5)],
        "kGrain": [products(70, 50, 65)],
        "kReading": [products(130, 70, 600)],
        "kSharedLine": [products(600, 70, 17), products(9, 300, 33)],
    },
    "exact.h": {
        "kImageResults": [conv((16, 3, 5, 5), (c, 3, 3, 3)) for c in (5, 7, 15)],
        "kResultVectors": [conv((1, 9, 6, 6), (c, 9, 3, 3), 1) for c in (9, 17, 33, 65)],
        "kSourceBytes": [conv((16, 4, 130, 131), (5, 4, 3, 3), 1, 2)],
        "kUnitPixels": [conv((16, 9, 1, 131), (9, 9, 1, 3))],
        "kGroupPixels": [conv((1, 9, 17, 18), (20, 9, 3, 3), 1), conv((1, 9, 1, 262), (20, 9, 1, 3))],
        "kMostSpots": [conv((1, 9, 9, 11), (20, 9, 3, 3), 1, 2), conv((1, 9, 12, 13), (20, 9, 2, 2), 0, 3)],
    },
    "pixels.h": {
        "kWindowBytes": [conv((1, 20, 80, 81), (3, 20, 3, 3), 1)],
        "kTileBytes": [conv((1, 3, 130, 301), (3, 3, 5, 5), 2)],
    },
    "product.h": {
        "kPointResults": [conv((3, 9, 7, 9), (c, 9, 1, 1)) for c in (5, 7, 15, 29)],
        "kUnrolledResults": [conv((1, 3, 17, 18), (c, 3, 3, 3), 1) for c in (33, 37, 41)],
        "kUnrolledVectors": [conv((1, 3, 5, 70), (40, 3, 3, 3), 1)],
        "kUnrolledBytes": [conv((1, 3, 130, 131), (40, 3, 3, 3), 1)],
        "kUnrolledSteps": [conv((1, 11, 17, 18), (40, 11, 3, 3), 1), conv((1, 4, 17, 18), (40, 4, 5, 5), 2)],
    },
    "tile.h": {
        "kRows": [conv((1, 20, 9, 9), (c, 20, 3, 3), 1) for c in (5, 7, 9)],
        "kVectors": [conv((1, 20, 9, 9), (49, 20, 3, 3), 1)],
    },
    "choose.h": {"kDotsBytes": [conv((2, 30, 9, 9), (30, 30, 3, 3), 1)]},
    "weight_tiles.h": {
        "kWeightRows": [conv((2, c, 9, 9), (40, c, 3, 3), 1) for c in (5, 7, 9)],
        "kWeightVectors": [conv((2, 9, 9, 9), (c, 9, 3, 3), 1) for c in (9, 17, 33, 49)],
        "kInterleaved": [conv((2, 17, 9, 9), (40, 17, 3, 3), 1)],
    },
    "conv_weight.cpp": {
        "kBandBytes": [conv((1, 9, 90, 91), (33, 9, 3, 3), 1)],
        "kChunkBytes": [conv((2, 70, 40, 41), (70, 70, 3, 3), 1)],
        "kDotsPixels": [conv((1, 2, 66, 67), (3, 2, 3, 3), 1), conv((300, 2, 5, 5), (3, 2, 3, 3), 1)],
        "kPrivateBytes": [conv((2, 66, 6, 6), (512, 66, 3, 3), 1)],
    },
    "winograd.h": {"kSide": [conv((4, 20, 9, 9), (20, 20, 3, 3), 1, winograd=True)]},
    "winograd.cpp": {
        "kMaxStride": [conv((4, 40, 18, 18), (40, 40, 4, 4), 1, 2, winograd=True)],
        "kMaxTaps": [conv((4, 40, 18, 18), (40, 40, 6, 6), 2, 2, winograd=True)],
        "kPanelTiles": [
            conv((1, 33, 45, 13), (34, 33, 3, 3), 1, winograd=True),
            conv((9, 33, 9, 9), (34, 33, 3, 3), 1, winograd=True),
        ],
        "kKeptFilters": [conv((1, 264, 16, 16), (450, 264, 3, 3), 1, winograd=True)],
        "kSharedInputs": [conv((3, 150, 61, 50), (150, 150, 3, 3), 1, winograd=True)],
    },
    "winograd_weight.cpp": {
        "kLeastChunkBytes": [conv((9, 33, 30, 30), (34, 33, 3, 3), 1, winograd=True)],
        "kMostChunkBytes": [conv((40, 130, 14, 14), (130, 130, 3, 3), 1, winograd=True)],
        "kMostSliceBytes": [conv((70, 132, 8, 8), (260, 132, 4, 4), 1, 2, winograd=True)],
        "kDepth": [conv((3, 17, 28, 29), (18, 17, 3, 3), 1, winograd=True)],
        "kCopyBytes": [conv((1, 17, 9, 900), (18, 17, 3, 3), 1, winograd=True)],
        "kAheadPixels": [conv((9, 17, 12, 12), (18, 17, 3, 3), 1, winograd=True)],
        "kPrivateBytes": [conv((9, 200, 8, 8), (210, 200, 3, 3), 1, winograd=True)],
        "kSumBytes": [conv((9, 130, 8, 8), (70, 130, 3, 3), 1, winograd=True)],
        "kPanelChannels": [conv((4, 25, 13, 13), (33, 25, 3, 3), 1, winograd=True)],
    },
}
NO_BLOCKS = {  # of a type or a tile; of the probe, which computes nothing
    *("kParts", "kPitch", "kPatch", "kTapsSide", "kPatchSide", "kFrequencies"),
    *("kChains", "kUnroll"),
}


def test_every_block_constant_has_a_case():
    found = {}
    for path in [*SOURCES.glob("kernels/*.cpp"), *SOURCES.glob("conv/*.h"), SOURCES / "sums.h"]:
        lines = [line for line in path.read_text().splitlines() if line.strip().startswith("constexpr")]
        names = set(re.findall(r"\b(k[A-Z]\w*)(?:<\w+>)? =", "\n".join(lines))) - NO_BLOCKS
        if names:
            found[path.name] = names
    assert found == {file: set(cases) for file, cases in CASES.items()}


@pytest.mark.parametrize("file", CASES)
def test_equals_the_reference_just_above_the_block(isa, file):
    for constant, cases in CASES[file].items():
        for i, case in enumerate(cases):
            results = []
            # Winograd's algorithm is float32's alone: in float64 the direct kernels, which are fast, are an oracle too.
            oracle = cpu if file.startswith("winograd") else reference
            for k, dtype in ((cpu, F32), (oracle, np.float64)):
                rng = np.random.default_rng(0)
                draw = lambda *shape, rng=rng, dtype=dtype: rng.standard_normal(shape).astype(F32).astype(dtype)
                results.append(list(case(k, draw)))
            for got, want in zip(*results, strict=True):
                if want.dtype.kind != "f":
                    np.testing.assert_array_equal(got, want)
                    continue
                error = np.abs(got - want).max(initial=0) / max(1.0, np.abs(want).max(initial=0))
                assert got.shape == want.shape and error < 2e-5, (constant, i, error)


# ---------------------------------------------------------------- extremes, NaN, long sums


@pytest.mark.parametrize("value", [50.0, -50.0, np.inf, np.nan])
def test_an_extreme_in_the_last_partial_vector(isa, value):
    """At the last place of a row of every length up to a few vectors, and at the first of the last vector."""
    with np.errstate(all="ignore"):
        for width in range(1, 68):
            for at in {width - 1, width - 1 - (width - 1) % 16, width - 1 - (width - 1) % 8}:
                x = np.zeros((2, width))
                x[1, at] = value
                labels = np.array([width - 1, at])
                taps = Taps(np.arange(width)[None], np.ones((1, width)), width)
                one = Taps(np.array([[0]]), np.ones((1, 1)), 1)
                for name, args in {
                    "softmax": (x,),
                    "log_softmax": (x,),
                    "row_norm": (x, 0.1),
                    "class_loss": (x, labels, 1.0, True),
                    "sum": (x, (1,)),
                    "squared_error": (x, 0 * x + 1, 1.0, True),
                    "relu": (x, 0.0),
                    "sigmoid": (x,),
                    "bernoulli_loss": (x, 0 * x + 1, 1.0, True),
                    "channel_norm": (x[:, None], np.ones(1), np.ones(1), 0.1),
                    "max_pool": (x[:, None, None], one, taps),
                    "resample": (x[:, None, None], one, taps),
                }.items():
                    name = "leaky_relu" if name == "relu" else name
                    single = [a.astype(F32) if isinstance(a, np.ndarray) and a.dtype == float else a for a in args]
                    got, want = getattr(cpu, name)(*single), getattr(reference, name)(*args)
                    pairs = zip(*(r if isinstance(r, tuple) else (r,) for r in (got, want)), strict=True)
                    for g, w in pairs:
                        np.testing.assert_allclose(g, w, rtol=3e-5, atol=3e-5, err_msg=f"{name} {width} {at}")


@pytest.mark.parametrize("slope", [1.0, 0.0, 0.2])
@pytest.mark.parametrize("what", ["weight", "bias", "x", "mean", "rstd", "g"])
@pytest.mark.parametrize("shape", [(5, 3, 70), (9, 40, 3), (70, 20, 1)], ids=str)
def test_nan_in_a_parameter_of_channel_norm(isa, rng, shape, what, slope):
    """Where it stands decides what it reaches: the gate of a fused ReLU lets a gradient pass where y is NaN."""
    x, g, weight, bias = (rng.standard_normal(s) for s in (shape, shape, shape[1], shape[1]))
    mean, rstd = reference.channel_norm(x, weight, bias, 0.1)[1:]
    arrays = {"g": g, "x": x, "weight": weight, "bias": bias, "mean": mean, "rstd": rstd}
    arrays[what][(2, 1, -1) if what in ("x", "g") else 1] = np.nan
    single = {name: a.astype(F32) for name, a in arrays.items()}
    with np.errstate(all="ignore"):
        want = reference.channel_norm_backward(*arrays.values(), slope)
        got = cpu.channel_norm_backward(*single.values(), slope)
        if what not in ("mean", "rstd", "g"):
            forward = [x, weight, bias]
            want += reference.channel_norm(*forward, 0.1, slope)
            got += cpu.channel_norm(*(a.astype(F32) for a in forward), 0.1, slope)
    for w, g in zip(want, got, strict=True):
        np.testing.assert_array_equal(np.isnan(g), np.isnan(w))
        np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("slope", [1.0, 0.0, 0.2])
@pytest.mark.parametrize(
    "x_shape, w_shape, pad",
    [
        ((3, 5, 6, 7), (9, 5, 3, 3), 1),
        ((16, 5, 6, 7), (9, 5, 3, 3), 1),
        ((1, 3, 20, 20), (3, 3, 3, 3), 1),
        ((2, 5, 6, 7), (9, 5, 1, 1), 0),
        ((3, 5, 4, 4), (9, 5, 4, 4), 0),
        ((4, 20, 16, 16), (32, 20, 3, 3), 1),
    ],
    ids=str,
)
def test_nan_in_a_bias_survives_a_fused_activation(isa, rng, x_shape, w_shape, pad, slope):
    geo = layer(x_shape, w_shape, pad)
    bias, back = rng.standard_normal(w_shape[0]).astype(F32), rng.standard_normal(x_shape[1]).astype(F32)
    x, w, y = (rng.standard_normal(s).astype(F32) for s in (geo.x_shape, geo.w_shape, geo.y_shape))
    bias[1] = back[1] = np.nan
    wide = [a.astype(float) for a in (x, w, y, bias, back)]
    for got, want in [
        (cpu.conv(x, w, geo, bias, slope), reference.conv(wide[0], wide[1], geo, wide[3], slope)),
        (cpu.conv_transpose(y, w, geo, back, slope), reference.conv_transpose(wide[2], wide[1], geo, wide[4], slope)),
    ]:
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    rows, matrix = x.reshape(len(x), -1)[:, :40], rng.standard_normal((w_shape[0], 40)).astype(F32)
    got = cpu.linear(rows, matrix, bias, slope)
    assert np.isnan(got[:, 1]).all() and np.isnan(got).sum() == len(got)


@pytest.mark.parametrize(
    "shape, axes",
    [
        ((1 << 22,), (0,)),
        ((1 << 20, 4), (0,)),
        ((1 << 20, 2), (0, 1)),
        ((2, 1 << 21), (1,)),
        ((1 << 15, 3, 7, 7), (0, 2, 3)),
        ((4096, 32, 6, 6), (0, 2, 3)),
        ((1 << 20, 1, 3), (0, 2)),
    ],
    ids=str,
)
def test_long_float_sums_are_widened(isa, shape, axes):
    x = np.full(shape, 0.1, F32)
    count = np.prod([shape[i] for i in axes])
    np.testing.assert_allclose(cpu.sum(x, axes), float(F32(0.1)) * count, rtol=2e-6)


def test_long_losses_and_statistics_are_widened(isa):
    x, zero = np.full(1 << 22, 0.1, F32), np.zeros(1 << 22, F32)
    square = float(F32(0.1)) ** 2
    np.testing.assert_allclose(cpu.squared_error(x, zero, 1.0, False)[0], square * x.size, rtol=1e-5)
    np.testing.assert_allclose(cpu.bernoulli_loss(zero, zero, 1.0, False)[0], np.log(2) * x.size, rtol=3e-6)
    x = np.tile(np.array([100, -100], F32), 1 << 20).reshape(-1, 1, 64)
    one = np.ones(1, F32)
    _, mean, rstd = cpu.channel_norm(x, one, 0 * one, 1e-5)
    assert abs(mean[0]) < 1e-4 and abs(rstd[0] * 100 - 1) < 1e-6
    gweight, gbias = cpu.channel_norm_backward(np.full_like(x, 0.1), x, one, 0 * one, mean, rstd)[1:]
    np.testing.assert_allclose(gbias, float(F32(0.1)) * x.size, rtol=5e-6)
    assert abs(gweight[0]) < 1e-1
