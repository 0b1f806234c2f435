"""Winograd's F(4x4, 3x3): both contractions on any size and pad, its rounding error, its rule and its switch."""

from __future__ import annotations

import numpy as np
import pytest

import tinygen as tg
from tinygen.backends import reference
from tinygen.backends.geometry import Geometry

cpu = pytest.importorskip("tinygen.backends.cpu", reason="the C++ kernels are not built here")
from tinygen import _cpu  # noqa: E402

SHAPES = [  # x, w: one pixel more or less than whole tiles, fewer and more channels than a register tile holds
    ((1, 1, 5, 5), (1, 1, 3, 3)),
    ((3, 5, 14, 13), (9, 5, 3, 3)),
    ((5, 7, 7, 7), (17, 7, 3, 3)),
    ((2, 16, 9, 31), (8, 16, 3, 3)),
    ((1, 3, 70, 66), (5, 3, 3, 3)),
    ((33, 2, 3, 4), (3, 2, 3, 3)),
    ((2, 40, 12, 12), (70, 40, 3, 3)),
]
PADS = [0, 1, 2, (1, 0), ((0, 2), (1, 3)), ((3, 0), (-1, 2))]


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


def contraction(geo, transposed, dtype, rng, biased=True):
    """(Winograd's result, the definition's in float64)."""
    source = rng.standard_normal(geo.y_shape if transposed else geo.x_shape).astype(dtype)
    w = rng.standard_normal(geo.w_shape).astype(dtype)
    bias = rng.standard_normal(geo.w_shape[1 if transposed else 0]).astype(dtype) if biased else None
    result = np.full(geo.x_shape if transposed else geo.y_shape, np.nan, dtype)
    _cpu.conv_winograd(cpu._geometry(geo), source, w, bias, transposed, result)
    exact = reference.conv_transpose if transposed else reference.conv
    wide = [None if a is None else a.astype(np.float64) for a in (source, w, bias)]
    return result, exact(wide[0], wide[1], geo, wide[2])


@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "conv_transpose"])
@pytest.mark.parametrize("pad", PADS, ids=str)
@pytest.mark.parametrize("shapes", SHAPES, ids=lambda s: "x".join(map(str, s[0])))
def test_equals_the_definition(isa, shapes, pad, transposed):
    geo = Geometry.of_convolution("conv2d", *shapes, 1, 1, pad, 1)
    rng = np.random.default_rng(0)
    for dtype, tolerance in ((np.float32, 2e-5), (np.float64, 5e-14)):
        for biased in (False, True):
            result, exact = contraction(geo, transposed, dtype, rng, biased)
            assert np.abs(result - exact).max() <= tolerance * np.abs(exact).max()


@pytest.mark.parametrize("shapes", [((3, 6, 21, 18), (13, 6, 3, 3)), ((1, 20, 13, 9), (150, 20, 3, 3))], ids=str)
def test_does_not_depend_on_the_threads(two_threads, shapes):
    """Threads share images and rows, and where there are few of these the filters too (second shape)."""
    geo = Geometry.of_convolution("conv2d", *shapes, 1, 1, 1, 1)
    results = []
    for threads in (1, 2, 5):
        _cpu.set_num_threads(threads)
        results.append(contraction(geo, False, np.float32, np.random.default_rng(0))[0])
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])


@pytest.mark.parametrize("x_shape, w_shape, pad", [
    ((0, 3, 6, 6), (4, 3, 3, 3), (1, 1)),  # no images
    ((2, 0, 6, 6), (4, 0, 3, 3), (1, 1)),  # no channels: the bias alone
    ((1, 2, 1, 300), (3, 2, 3, 3), (1, 1)),  # wider than a panel
    ((1, 2, 2, 2), (3, 2, 3, 3), (9, 7)),  # most tiles see nothing but padding
])  # fmt: skip
def test_sizes_at_the_edge(isa, x_shape, w_shape, pad):
    y_shape = (x_shape[0], w_shape[0], *(n + 2 * p - 2 for n, p in zip(x_shape[2:], pad)))
    geo = Geometry(x_shape, w_shape, y_shape, pad=pad)
    for transposed in (False, True):
        result, exact = contraction(geo, transposed, np.float64, np.random.default_rng(0))
        assert result.shape == exact.shape and np.abs(result - exact).max(initial=0) < 1e-13


def test_rounding_error_is_what_the_docstring_says():
    geo = Geometry.of_convolution("conv2d", (2, 256, 28, 28), (64, 256, 3, 3), 1, 1, 1, 1)
    result, exact = contraction(geo, False, np.float32, np.random.default_rng(0))
    error = result - exact
    largest, rms = np.abs(error).max() / np.abs(exact).max(), np.sqrt((error**2).mean() / (exact**2).mean())
    assert 1e-7 < largest < 5e-6 and rms < 2e-6, (largest, rms)


def layer(x_shape, w_shape, pad=1, stride=1, dilation=1, groups=1):
    return Geometry.of_convolution("conv2d", x_shape, w_shape, groups, stride, pad, dilation)


def test_is_chosen_where_it_wins():
    assert cpu._winograd_wins(layer((16, 64, 56, 56), (64, 64, 3, 3)))
    assert cpu._winograd_wins(layer((128, 64, 7, 7), (128, 64, 3, 3)))
    assert cpu._winograd_wins(layer((1, 64, 16, 16), (64, 64, 3, 3)))
    for other in (
        layer((16, 64, 56, 56), (64, 64, 3, 3), stride=2),
        layer((16, 64, 56, 56), (64, 64, 3, 3), dilation=2),
        layer((16, 64, 56, 56), (64, 32, 3, 3), groups=2),
        layer((16, 64, 56, 56), (64, 64, 5, 5)),
        layer((16, 3, 56, 56), (64, 3, 3, 3)),
        layer((16, 64, 5, 5), (64, 64, 3, 3)),
        layer((1, 512, 7, 7), (512, 512, 3, 3)),
        layer((2, 16, 8, 8), (16, 16, 3, 3)),
    ):
        assert not cpu._winograd_wins(other)


@pytest.mark.skipif(tg.device("cpu").kernels.name != "cpu", reason="TINYGEN_CPU=reference")
def test_switch_turns_it_on_and_off():
    x, w = tg.randn(4, 16, 16, 16), tg.randn(16, 16, 3, 3)
    before = tg.get_winograd()
    try:
        tg.set_winograd(False)
        direct, wide = tg.conv2d(x, w, padding=1), tg.conv2d(x.double(), w.double(), padding=1).numpy()
        tg.set_winograd(True)
        assert tg.get_winograd() is True
        fast = tg.conv2d(x, w, padding=1)
        tg.set_winograd(True)
        assert np.array_equal(tg.conv2d(x, w, padding=1).numpy(), fast.numpy())
    finally:
        tg.set_winograd(before)
    errors = [np.abs(y.numpy() - wide).max() for y in (direct, fast)]
    assert errors[0] < errors[1] < 2e-5 * np.abs(wide).max()
    with pytest.raises(TypeError, match=r"set_winograd: expected True or False, got 'on'"):
        tg.set_winograd("on")
