"""Winograd's F(4x4, ...): both contractions on any size and pad, its rounding error, its rule and its switch."""

from __future__ import annotations

import numpy as np
import pytest
import test_conv

import tinygen as tg
from benchmarks import cases
from tinygen.backends import reference
from tinygen.backends.geometry import Geometry

cpu = pytest.importorskip("tinygen.backends.cpu", reason="the C++ kernels are not built here")
from tinygen import _cpu  # noqa: E402

KERNELS = [(3, 1), (2, 1), (4, 2), (5, 2), (3, 2)]  # size and stride
SHAPES = [  # x, results: one pixel more or less than whole tiles, fewer and more channels than a register tile holds
    ((1, 1, 5, 5), 1),
    ((3, 5, 14, 13), 9),
    ((5, 7, 7, 7), 17),
    ((2, 16, 9, 31), 8),
    ((1, 3, 70, 66), 5),
    ((33, 2, 5, 6), 3),
    ((2, 40, 12, 12), 70),
]
PADS = [0, 1, 2, 3, (1, 0), ((0, 2), (1, 3)), ((3, 0), (-1, 2))]


@pytest.fixture(params=_cpu.isas())
def isa(request):
    before = _cpu.isa()
    _cpu.select(request.param)
    yield request.param
    _cpu.select(before)


@pytest.fixture
def two_threads():
    before = _cpu.get_num_threads()
    yield
    _cpu.set_num_threads(before)


def layer(x_shape, w_shape, pad=1, stride=1, dilation=1, groups=1):
    return Geometry.of_convolution("conv2d", x_shape, w_shape, groups, stride, pad, dilation)


def contraction(geo, transposed, dtype, rng, biased=True):
    """(Winograd's result, the definition's in float64)."""
    source = rng.standard_normal(geo.y_shape if transposed else geo.x_shape).astype(dtype)
    w = rng.standard_normal(geo.w_shape).astype(dtype)
    bias = rng.standard_normal(geo.w_shape[1 if transposed else 0]).astype(dtype) if biased else None
    result = np.full(geo.x_shape if transposed else geo.y_shape, np.nan, dtype)
    _cpu.conv_winograd(cpu.contraction._geometry(geo), source, w, bias, transposed, result)
    exact = reference.conv_transpose if transposed else reference.conv
    wide = [None if a is None else a.astype(np.float64) for a in (source, w, bias)]
    return result, exact(wide[0], wide[1], geo, wide[2])


@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "conv_transpose"])
@pytest.mark.parametrize("shapes", SHAPES, ids=lambda s: "x".join(map(str, s[0])))
@pytest.mark.parametrize("kernel, stride", KERNELS)
def test_equals_the_definition(isa, kernel, stride, shapes, transposed):
    x_shape, results = shapes
    w_shape = (results, x_shape[1], kernel, kernel)
    rng = np.random.default_rng(0)
    for pad in PADS:
        geo = layer(x_shape, w_shape, pad, stride)
        for dtype, tolerance in ((np.float32, 2e-5), (np.float64, 5e-14)):
            for biased in (False, True):
                result, exact = contraction(geo, transposed, dtype, rng, biased)
                assert np.abs(result - exact).max() <= tolerance * np.abs(exact).max(), (pad, dtype, biased)


@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "conv_transpose"])
@pytest.mark.parametrize("kernel, stride", [(3, 1), (4, 2)])
@pytest.mark.parametrize("x_shape, results", [
    ((3, 6, 21, 18), 13),  # threads share images and rows
    ((1, 20, 13, 9), 150),  # few of these: they share the filters too
    ((70, 3, 16, 16), 20),  # each takes its panels through all stages
    ((1, 150, 8, 8), 300),  # filters too large to be kept (at stride 2)
    ((3, 150, 61, 50), 300),  # and more panels than are transformed at a time
], ids=lambda s: "x".join(map(str, s)) if isinstance(s, tuple) else None)  # fmt: skip
def test_does_not_depend_on_the_threads(two_threads, kernel, stride, x_shape, results, transposed):
    geo = layer(x_shape, (results, x_shape[1], kernel, kernel), 1, stride)
    rng = np.random.default_rng(0)
    source = rng.standard_normal(geo.y_shape if transposed else geo.x_shape).astype(np.float32)
    w = rng.standard_normal(geo.w_shape).astype(np.float32)
    out_shape = geo.x_shape if transposed else geo.y_shape
    got = [np.full(out_shape, np.nan, np.float32) for _ in range(3)]
    for threads, result in zip((1, 2, 5), got, strict=True):
        _cpu.set_num_threads(threads)
        _cpu.conv_winograd(cpu.contraction._geometry(geo), source, w, None, transposed, result)
    assert np.array_equal(got[0], got[1]) and np.array_equal(got[0], got[2])
    exact = (cpu.conv_transpose if transposed else cpu.conv)(source.astype(np.float64), w.astype(np.float64), geo)
    assert np.abs(got[0] - exact).max() <= 2e-5 * np.abs(exact).max()


@pytest.mark.parametrize("x_shape, w_shape, pad", [
    ((0, 3, 6, 6), (4, 3, 3, 3), (1, 1)),  # no images
    ((2, 0, 6, 6), (4, 0, 3, 3), (1, 1)),  # no channels: the bias alone
    ((1, 2, 1, 300), (3, 2, 3, 3), (1, 1)),  # wider than a panel
    ((1, 2, 2, 2), (3, 2, 3, 3), (9, 7)),  # most tiles see nothing but padding
])  # fmt: skip
def test_sizes_at_the_edge(isa, x_shape, w_shape, pad):
    for stride in (1, 2):  # at stride 2 x has rows that no result reads
        y_shape = (x_shape[0], w_shape[0], *((n + 2 * p - 3) // stride + 1 for n, p in zip(x_shape[2:], pad)))
        geo = Geometry(x_shape, w_shape, y_shape, stride=(stride, stride), pad=pad)
        for transposed in (False, True):
            result, exact = contraction(geo, transposed, np.float64, np.random.default_rng(0))
            assert result.shape == exact.shape and np.abs(result - exact).max(initial=0) < 1e-13


@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "conv_transpose"])
@pytest.mark.parametrize("kernel, stride", [(3, 1), (4, 2)])
def test_rounding_error_is_what_the_docstring_says(kernel, stride, transposed):
    shape, other = (2, 256, 28 // stride, 28 // stride), 64
    w_shape = (256, other, kernel, kernel) if transposed else (other, 256, kernel, kernel)
    x_shape = (2, other, 28, 28) if transposed else shape
    result, exact = contraction(layer(x_shape, w_shape, 1, stride), transposed, np.float32, np.random.default_rng(0))
    error = result - exact
    largest, rms = np.abs(error).max() / np.abs(exact).max(), np.sqrt((error**2).mean() / (exact**2).mean())
    assert 1e-7 < largest < 5e-6 and rms < 2.2e-6, (largest, rms)


def is_chosen(geo, transposed):
    return _cpu.conv_plan(cpu.contraction._geometry(geo), transposed) == "winograd"


def test_is_chosen_where_it_wins():
    both = (False, True)
    for geo, chosen in (
        (layer((16, 64, 56, 56), (64, 64, 3, 3)), both),
        (layer((128, 64, 7, 7), (128, 64, 3, 3)), both),
        (layer((1, 64, 16, 16), (64, 64, 3, 3)), both),
        (layer((1, 512, 7, 7), (512, 512, 3, 3)), both),
        (layer((64, 64, 32, 32), (128, 64, 4, 4), stride=2), both),
        (layer((64, 256, 8, 8), (512, 256, 4, 4), stride=2), both),
        (layer((64, 64, 14, 14), (128, 64, 4, 4), stride=2), both),
        (layer((1, 64, 128, 128), (128, 64, 4, 4), stride=2), both),
        (layer((64, 64, 14, 14), (128, 64, 5, 5), 2, stride=2), both),
        (layer((64, 16, 32, 32), (16, 16, 2, 2)), both),
        (layer((64, 3, 64, 64), (64, 3, 4, 4), stride=2), (False,)),
        (layer((4, 256, 8, 8), (512, 256, 4, 4), stride=2), (False,)),
        (layer((64, 3, 64, 64), (32, 3, 4, 4), stride=2), ()),
        (layer((1, 256, 8, 8), (512, 256, 4, 4), stride=2), ()),
        (layer((64, 64, 12, 12), (128, 64, 4, 4), stride=2), ()),
        (layer((2, 16, 16, 16), (16, 16, 4, 4), stride=2), ()),
        (layer((16, 64, 56, 56), (64, 64, 3, 3), stride=2), ()),
        (layer((16, 64, 56, 56), (64, 64, 4, 4), stride=(2, 1)), ()),
        (layer((16, 64, 56, 56), (64, 64, 4, 3), stride=2), ()),
        (layer((16, 64, 56, 56), (64, 64, 4, 4), stride=2, dilation=2), ()),
        (layer((16, 64, 56, 56), (64, 64, 3, 3), dilation=2), ()),
        (layer((16, 64, 56, 56), (64, 32, 3, 3), groups=2), ()),
        (layer((16, 64, 56, 56), (64, 64, 5, 5)), ()),
        (layer((16, 3, 56, 56), (64, 3, 3, 3)), ()),
        (layer((16, 64, 5, 5), (64, 64, 3, 3)), ()),
        (layer((2, 512, 4, 4), (512, 512, 3, 3)), ()),
        (layer((2, 16, 8, 8), (16, 16, 3, 3)), ()),
    ):
        assert tuple(t for t in both if is_chosen(geo, t)) == chosen, geo


FLAT, HALVED = layer, lambda x, w: layer(x, w, 1, stride=2)
# The limits of the rule (csrc/cpu/conv/choose.h): a layer just within and one just beyond, other limits kept.
LIMITS = {  # transposed, (x, w) of both
    "work": (FLAT, False, ((1, 16, 4, 163), (16, 16, 3, 3)), ((1, 16, 3, 217), (16, 16, 3, 3))),
    "channels": (FLAT, False, ((4, 16, 16, 16), (32, 16, 3, 3)), ((4, 15, 16, 16), (32, 15, 3, 3))),
    "results": (FLAT, False, ((4, 32, 16, 16), (16, 32, 3, 3)), ((4, 32, 16, 16), (15, 32, 3, 3))),
    "tiles": (FLAT, False, ((1, 64, 4, 16), (64, 64, 3, 3)), ((1, 64, 4, 12), (64, 64, 3, 3))),
    "inside": (FLAT, False, ((16, 64, 6, 6), (64, 64, 3, 3)), ((16, 64, 5, 7), (64, 64, 3, 3))),
    "inside, 2 taps": (FLAT, True, ((16, 64, 6, 11), (64, 64, 2, 2)), ((16, 64, 7, 9), (64, 64, 2, 2))),
    "kernel at stride 1": (FLAT, False, ((16, 64, 28, 28), (64, 64, 3, 3)), ((16, 64, 28, 28), (64, 64, 4, 4))),
    "no 1x1": (FLAT, False, ((16, 64, 28, 28), (64, 64, 2, 2)), ((16, 64, 28, 28), (64, 64, 1, 1))),
    "largest kernel": (HALVED, False, ((16, 64, 32, 32), (64, 64, 6, 6)), ((16, 64, 32, 32), (64, 64, 7, 7))),
    "halved: results": (HALVED, False, ((16, 64, 32, 32), (16, 64, 4, 4)), ((16, 64, 32, 32), (15, 64, 4, 4))),
    "halved: pairs": (HALVED, False, ((16, 8, 32, 32), (16, 8, 4, 4)), ((16, 7, 32, 32), (18, 7, 4, 4))),
    "halved: tiles": (HALVED, False, ((1, 64, 8, 32), (64, 64, 4, 4)), ((1, 64, 8, 24), (64, 64, 4, 4))),
    "halved: inside": (HALVED, False, ((16, 64, 12, 22), (64, 64, 4, 4)), ((16, 64, 14, 18), (64, 64, 4, 4))),
    "doubled: results": (HALVED, True, ((16, 12, 32, 32), (64, 12, 4, 4)), ((16, 11, 32, 32), (64, 11, 4, 4))),
    "doubled: channels": (HALVED, True, ((16, 64, 32, 32), (12, 64, 4, 4)), ((16, 64, 32, 32), (11, 64, 4, 4))),
    "doubled: pairs": (HALVED, True, ((16, 16, 32, 32), (16, 16, 4, 4)), ((16, 17, 32, 32), (15, 17, 4, 4))),
    "doubled: tiles": (HALVED, True, ((1, 64, 32, 32), (64, 64, 4, 4)), ((1, 64, 24, 40), (64, 64, 4, 4))),
    "doubled: inside": (HALVED, True, ((16, 64, 12, 22), (64, 64, 4, 4)), ((16, 64, 14, 18), (64, 64, 4, 4))),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_the_limits_of_the_rule(isa, limit):
    of, transposed, within, beyond = LIMITS[limit]
    assert is_chosen(of(*within), transposed)
    assert not is_chosen(of(*beyond), transposed)


# Layers of benchmarks/cases.py, by which of conv, conv_transpose and conv_weight Winograd's algorithm computes.
MEASURED = {
    (False, False, False): "lenet1 lenet2 cae1 cae2 dc28_d1 pw1x1 dc28_g2 dc64_g1",
    (True, False, False): "dc64_d1 dc64_g5",
    (True, True, True): (
        "cae3 dc28_d2 dc64_d2 dc64_d3 dc64_d4 vgg56 vgg14 pix2pix cyclegan dc28_g1 dc64_g2 dc64_g3 dc64_g4"
    ),
}


def chosen(geo):
    weight = _cpu.conv_weight_plan(cpu.contraction._geometry(geo)) == "winograd"
    return is_chosen(geo, False), is_chosen(geo, True), weight


def test_the_choice_for_measured_layers(isa):
    found = {}
    for one in cases.LAYERS:
        x, y = (one.y_shape, one.x_shape) if one.transposed else (one.x_shape, one.y_shape)
        found[one.name] = chosen(Geometry(x, one.weight_shape, y, (one.stride,) * 2, pad=(one.pad,) * 2))
    assert found == {name: passes for passes, names in MEASURED.items() for name in names.split()}


def test_the_choice_for_the_geometries_of_all_backends(isa):
    found = {geo.x_shape: chosen(geo) for geo in test_conv.GEOMETRIES if any(chosen(geo))}
    assert found == {(1, 33, 19, 21): (True, True, True)}


@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "conv_transpose"])
def test_what_is_chosen_runs(isa, transposed):
    geo, rng, before = layer((4, 32, 16, 16), (32, 32, 3, 3)), np.random.default_rng(0), tg.get_winograd()
    x, w = (rng.standard_normal(shape, dtype=np.float32) for shape in (geo.x_shape, geo.w_shape))
    expected = np.empty_like(x)  # y has the shape of x
    _cpu.conv_winograd(cpu.contraction._geometry(geo), x, w, None, transposed, expected)
    compute = cpu.conv_transpose if transposed else cpu.conv
    assert "winograd" not in _cpu.conv_plan(cpu.contraction._geometry(geo), transposed, itemsize=8)
    try:
        for enabled in (False, True):
            cpu.set_winograd(enabled)
            assert is_chosen(geo, transposed) == enabled
            assert np.array_equal(compute(x, w, geo), expected) == enabled
    finally:
        cpu.set_winograd(before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "conv_transpose"])
@pytest.mark.parametrize("kernel, stride, size", [(3, 1, 14), (2, 1, 15), (4, 2, 28), (5, 2, 29)])
def test_a_value_that_is_not_finite_reaches_only_the_results_whose_window_holds_it(
    isa, two_threads, rng, kernel, stride, size, transposed, value
):
    geo = layer((9, 24, size, size), (32, 24, kernel, kernel), 1, stride)
    assert is_chosen(geo, transposed)
    compute, define = [(cpu.conv, reference.conv), (cpu.conv_transpose, reference.conv_transpose)][transposed]
    shape = geo.y_shape if transposed else geo.x_shape
    w, bias = rng.standard_normal(geo.w_shape).astype(np.float32), np.ones(24 if transposed else 32, np.float32)
    for place in [(0, 0, 0, 0), (4, 7, 5, 6), (8, shape[1] - 1, shape[2] - 1, shape[3] - 1), None]:
        source = rng.standard_normal(shape).astype(np.float32)
        if place:
            source[place] = value
        else:  # in a weight: it reaches one result of all images
            w[3, 2, 1, 0] = value
        cpu.set_num_threads(1 + bool(place))
        with np.errstate(invalid="ignore"):
            want = define(source.astype(np.float64), w.astype(np.float64), geo, bias.astype(np.float64))
        got = compute(source, w, geo, bias)
        # Where a tap is padding, infinity times zero may be counted or not.
        finite = np.isfinite(want)
        assert not finite.all() and (np.isfinite(got) == finite).mean() > (0.9999 if place else 0.98)
        if place:
            np.testing.assert_array_equal(np.isfinite(got), finite)
            assert np.array_equal(got[~finite], want[~finite].astype(np.float32), equal_nan=True)
        both = finite & np.isfinite(got)
        assert np.abs(got[both] - want[both]).max() < 3e-5 * np.abs(want[finite]).max()
        images = [n for n in range(9) if place and n != place[0]]
        clean = compute(np.nan_to_num(source, posinf=0, neginf=0), np.nan_to_num(w, posinf=0, neginf=0), geo, bias)
        assert np.array_equal(got[images], clean[images])  # the others keep their bits


kernels_in_use = pytest.mark.skipif(tg.device("cpu").kernels.name != "cpu", reason="TINYGEN_CPU=reference")


@kernels_in_use
@pytest.mark.parametrize("f, size, stride", [(tg.conv2d, 3, 1), (tg.conv2d, 4, 2), (tg.conv_transpose2d, 4, 2)])
def test_switch_turns_it_on_and_off(f, size, stride):
    x, w = tg.randn(4, 32, 16, 16), tg.randn(32, 32, size, size)
    conv = lambda x, w: f(x, w, stride=stride, padding=1).numpy()
    before = tg.get_winograd()
    try:
        tg.set_winograd(False)
        direct, wide = conv(x, w), conv(x.double(), w.double())
        tg.set_winograd(True)
        assert tg.get_winograd() is True
        fast = conv(x, w)
        assert np.array_equal(conv(x, w), fast)
    finally:
        tg.set_winograd(before)
    errors = [np.sqrt(((y - wide) ** 2).mean()) for y in (direct, fast)]
    assert errors[0] < errors[1] < 5e-6 * np.sqrt((wide**2).mean())


@kernels_in_use
def test_switch_takes_a_bool():
    with pytest.raises(TypeError, match=r"set_winograd: expected True or False, got 'on'"):
        tg.set_winograd("on")
