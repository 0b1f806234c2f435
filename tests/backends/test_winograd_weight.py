"""conv_weight by Winograd, 3x3 at stride 1 and 4x4 at stride 2: any size and pad, every division of the work, rule."""

from __future__ import annotations

import numpy as np
import pytest

import tinygen as tg
from tinygen.backends import reference
from tinygen.backends.geometry import Geometry

cpu = pytest.importorskip("tinygen.backends.cpu", reason="the C++ kernels are not built here")
from tinygen import _cpu  # noqa: E402

SHAPES = [  # x (N, C, H, W), k: ragged tiles, fewer and more channels than a register block, a panel or a vector holds
    ((1, 1, 6, 6), 1),
    ((3, 5, 14, 13), 9),
    ((5, 7, 9, 7), 17),
    ((2, 16, 9, 31), 8),
    ((33, 2, 4, 5), 3),
    ((2, 40, 12, 12), 70),
    ((1, 3, 70, 66), 5),
]
PADS = [0, 1, 2, (1, 0), ((0, 2), (1, 3)), ((3, 0), (-1, 2)), ((-1, 2), (0, 4))]
KERNELS = {1: (3, 3), 2: (4, 4)}  # by stride


@pytest.fixture(params=_cpu.isas())
def isa(request):
    before = _cpu.isa()
    _cpu.select(request.param)
    yield request.param
    _cpu.select(before)


@pytest.fixture
def threads():
    before = _cpu.get_num_threads()
    yield _cpu.set_num_threads
    _cpu.set_num_threads(before)


def layer(x_shape, k, stride, pad=1):
    return Geometry.of_convolution("conv2d", x_shape, (k, x_shape[1], *KERNELS[stride]), 1, stride, pad, 1)


def by_definition(*arguments):
    """conv_weight with Winograd's algorithm switched off."""
    before = cpu.get_winograd()
    cpu.set_winograd(False)
    try:
        _cpu.conv_weight(*arguments)
    finally:
        cpu.set_winograd(before)


def both(geo, dtype, seed=0):
    """(Winograd's weights, the definition's in float64)."""
    rng = np.random.default_rng(seed)
    x, y = (rng.standard_normal(shape).astype(dtype) for shape in (geo.x_shape, geo.y_shape))
    w = np.full(geo.w_shape, np.nan, dtype)
    _cpu.conv_weight_winograd(cpu.contraction._geometry(geo), x, y, w)
    return w, reference.conv_weight(x.astype(np.float64), y.astype(np.float64), geo)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("pad", PADS, ids=str)
@pytest.mark.parametrize("x_shape, k", SHAPES, ids=str)
def test_equals_the_definition(isa, threads, x_shape, k, pad, stride):
    geo = layer(x_shape, k, stride, pad)
    for count in (1, 3):
        threads(count)
        for dtype, tolerance in ((np.float32, 2e-5), (np.float64, 5e-14)):
            result, exact = both(geo, dtype)
            assert np.abs(result - exact).max() <= tolerance * np.abs(exact).max()


@pytest.mark.parametrize("x_shape, k, stride", [
    ((70, 16, 30, 30), 24, 1),  # several chunks of tiles, of which threads share the rows
    ((40, 40, 32, 32), 40, 2),
    ((70, 260, 12, 12), 130, 1),  # several chunks, and threads share the sums
    ((9, 200, 8, 8), 210, 1),  # one chunk: each thread restores what it has summed
    ((2, 132, 8, 8), 260, 2),
])  # fmt: skip
@pytest.mark.parametrize("count", [1, 2, 5])
def test_large_problems_in_every_division_of_the_work(threads, x_shape, k, stride, count):
    threads(count)
    geo = layer(x_shape, k, stride)
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal(shape, dtype=np.float32) for shape in (geo.x_shape, geo.y_shape))
    results = []
    for kernel in (_cpu.conv_weight_winograd, _cpu.conv_weight_winograd, by_definition):
        results.append(np.full(geo.w_shape, np.nan, np.float32))
        kernel(cpu.contraction._geometry(geo), x, y, results[-1])
    first, again, direct = results
    assert not np.array_equal(first, direct)
    assert np.array_equal(first, again)
    assert np.abs(first - direct).max() <= 2e-5 * np.abs(direct).max()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_value_that_is_not_finite_reaches_only_the_weights_that_meet_it(isa, rng, stride, value):
    geo = layer((9, 24, 14 * stride, 14 * stride), 32, stride)
    assert _cpu.conv_weight_plan(cpu.contraction._geometry(geo)) == "winograd"
    for which, place in [(0, (4, 7, 0, 5)), (0, (2, 3, 6, 7)), (1, (5, 9, 6, 7))]:
        arrays = [rng.standard_normal(shape).astype(np.float32) for shape in (geo.x_shape, geo.y_shape)]
        arrays[which][place] = value
        want = reference.conv_weight(*(a.astype(np.float64) for a in arrays), geo)
        got, finite = cpu.conv_weight(*arrays, geo), np.isfinite(want)
        np.testing.assert_array_equal(np.isfinite(got), finite)
        assert np.array_equal(got[~finite], want[~finite].astype(np.float32), equal_nan=True)
        assert np.abs(got[finite] - want[finite]).max() < 3e-5 * np.abs(want[finite]).max()


@pytest.mark.parametrize("x_shape, w_shape, y_shape, stride, pad", [
    ((0, 3, 6, 6), (4, 3, 3, 3), (0, 4, 6, 6), 1, (1, 1)),  # no images: zeros
    ((2, 0, 6, 6), (4, 0, 3, 3), (2, 4, 6, 6), 1, (1, 1)),  # no channels: nothing
    ((1, 2, 1, 900), (3, 2, 3, 3), (1, 3, 1, 900), 1, (1, 1)),  # one row of many tiles
    ((1, 2, 2, 2), (3, 2, 3, 3), (1, 3, 18, 14), 1, (9, 7)),  # most tiles see nothing but padding
    ((1, 2, 2, 2), (3, 2, 3, 3), (1, 3, 120, 40), 1, (60, 20)),  # and most bands of rows
    ((2, 3, 9, 11), (4, 3, 4, 4), (2, 4, 3, 3), 2, (1, 0)),  # rows of x that no output reads
    ((2, 3, 4, 4), (4, 3, 4, 4), (2, 4, 5, 6), 2, (1, 1)),  # outputs beyond x
])  # fmt: skip
def test_sizes_at_the_edge(isa, x_shape, w_shape, y_shape, stride, pad):
    geo = Geometry(x_shape, w_shape, y_shape, (stride, stride), pad=pad)
    result, exact = both(geo, np.float64)
    assert result.shape == exact.shape and np.abs(result - exact).max(initial=0) < 1e-12


@pytest.mark.parametrize("count, factor", [(1, 1.5), (2, 1.0)])  # a thread's sums are longer where there are fewer
def test_rounding_error_is_what_the_docstring_says(threads, count, factor):
    """Relative to the gradient's rms, on normal data."""
    threads(count)
    for x_shape, k, stride, limit in (((64, 16, 28, 28), 16, 1, 4e-6), ((256, 16, 16, 16), 16, 2, 2e-6)):
        geo, limit = layer(x_shape, k, stride), factor * limit
        result, exact = both(geo, np.float32)
        error = np.sqrt(((result - exact) ** 2).mean() / (exact**2).mean())
        assert 1e-7 < error < limit, error


def is_chosen(geo):
    return _cpu.conv_weight_plan(cpu.contraction._geometry(geo)) == "winograd"


def test_is_chosen_where_it_wins():
    for geo in (
        layer((16, 64, 56, 56), 64, 1),
        layer((128, 64, 7, 7), 128, 1),
        layer((1, 64, 16, 16), 64, 1),
        layer((64, 256, 8, 8), 512, 2),
        layer((64, 64, 14, 14), 128, 2),
    ):
        assert is_chosen(geo)
    for geo in (
        layer((16, 3, 56, 56), 64, 1),  # lanes idle
        layer((64, 64, 32, 32), 3, 2),
        layer((64, 64, 5, 5), 64, 1),  # tiles mostly outside
        layer((64, 64, 18, 18), 64, 2),
        layer((1, 512, 4, 4), 512, 1),  # few tiles
        layer((2, 16, 8, 8), 16, 1),  # little work
        Geometry.of_convolution("conv2d", (16, 64, 56, 56), (64, 64, 3, 3), 1, 2, 1, 1),
        Geometry.of_convolution("conv2d", (16, 64, 56, 56), (64, 64, 4, 4), 1, 1, 1, 1),
        Geometry.of_convolution("conv2d", (16, 64, 56, 56), (64, 64, 3, 3), 1, 1, 1, 2),
        Geometry.of_convolution("conv2d", (16, 64, 56, 56), (64, 32, 3, 3), 2, 1, 1, 1),
        Geometry.of_convolution("conv2d", (16, 64, 56, 56), (64, 64, 4, 4), 1, (2, 1), 1, 1),
    ):
        assert not is_chosen(geo)


# The limits of the rule (csrc/cpu/conv/choose.h): stride, and (x, k) just within and just beyond, other limits kept.
LIMITS = {
    "work": (1, ((1, 16, 6, 181), 16), ((1, 16, 5, 217), 16)),
    "channels": (1, ((4, 12, 32, 32), 32), ((4, 11, 32, 32), 32)),
    "results": (1, ((4, 32, 32, 32), 12), ((4, 32, 32, 32), 11)),
    "tiles": (1, ((1, 64, 4, 32), 64), ((1, 64, 4, 28), 64)),
    "inside": (1, ((16, 64, 6, 6), 64), ((16, 64, 5, 7), 64)),
    "halved: work": (2, ((1, 16, 24, 346), 16), ((1, 16, 50, 166), 16)),
    "halved: tiles": (2, ((1, 128, 8, 96), 128), ((1, 128, 8, 88), 128)),
    "halved: inside": (2, ((16, 64, 12, 22), 64), ((16, 64, 14, 18), 64)),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_the_limits_of_the_rule(isa, limit):
    stride, within, beyond = LIMITS[limit]
    assert is_chosen(layer(*within, stride))
    assert not is_chosen(layer(*beyond, stride))


@pytest.mark.parametrize("stride", [1, 2])
def test_switch_turns_it_on_and_off(stride):
    geo = layer((16, 16, 32 * stride, 32 * stride), 16, stride)
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal(shape, dtype=np.float32) for shape in (geo.x_shape, geo.y_shape))
    assert is_chosen(geo) and _cpu.conv_weight_plan(cpu.contraction._geometry(geo), itemsize=8) != "winograd"
    expected = {}
    for enabled, kernel in ((False, by_definition), (True, _cpu.conv_weight_winograd)):
        expected[enabled] = np.empty(geo.w_shape, np.float32)
        kernel(cpu.contraction._geometry(geo), x, y, expected[enabled])
    assert not np.array_equal(expected[False], expected[True])
    before = tg.get_winograd()
    try:
        for enabled in (False, True):
            cpu.set_winograd(enabled)
            assert np.array_equal(cpu.conv_weight(x, y, geo), expected[enabled])
    finally:
        cpu.set_winograd(before)
