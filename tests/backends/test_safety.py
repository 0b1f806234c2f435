"""No call of a kernel reads or writes beyond an array: shapes and indices are checked first, alike on every backend.

fuzz.py makes the calls that nobody thinks of; here it runs for a while. Beside it stand the cases that were found.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_backends import BACKENDS, CPU, F32, k, rng  # noqa: F401 # k and rng are fixtures

import tinygen as tg
from tinygen.backends import reference
from tinygen.backends.geometry import Geometry, Pieces, Taps
from tinygen.nn import functional as F

if CPU is not None:
    from tinygen import _cpu

PLACES = [b.id.removeprefix("cpu-") for b in BACKENDS if b.id != "reference" and b.id != "cuda"]
HUGE = [-1, -(10**9), 12, 2**31, 2**32, 2**62, -(2**63)]


@pytest.mark.parametrize("place", PLACES)
def test_nearly_valid_calls(place, tmp_path):
    at, calls = tmp_path / "at", 1000 if place != "cuda-emulated" else 200
    command = [sys.executable, str(Path(__file__).with_name("fuzz.py")), place, "--calls", str(calls), "--at", str(at)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"at call {at.read_text()}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("wrong", HUGE)
def test_an_index_outside_is_refused_in_the_same_words(k, wrong):  # noqa: F811
    x, y = np.ones((1, 2, 3, 4), F32), np.ones((1, 2, 2, 2), F32)
    index = np.zeros((1, 2, 2, 2), np.int64)
    index[0, 1, 1, 0] = wrong
    values, where = np.ones((3, 2), F32), np.array([0, wrong, 1])
    calls = {
        "take_plane": lambda: k.take_plane(x, index),
        "put_plane": lambda: k.put_plane(y, index, (3, 4)),
        "scatter_add": lambda: k.scatter_add(values, where, 12),
        "class_loss": lambda: k.class_loss(np.ones((3, 12), F32), where, 1.0, True),
    }
    for name, call in calls.items():
        if not k.name.startswith("cuda"):
            with pytest.raises(IndexError, match=rf"{name}: index {wrong} is outside \[0, 12\)"):
                call()
        elif name != "scatter_add":  # a GPU cannot raise: NaN, and nothing written
            result = call()
            assert np.isnan(result[0] if name == "class_loss" else result).sum() == (name != "put_plane")
    if k.name.startswith("cuda"):
        assert k.put_plane(y, index, (3, 4)).sum() == 7 and k.scatter_add(values, where, 12).sum() == 4


def test_indices_must_be_integers(k):  # noqa: F811
    with pytest.raises(TypeError, match=r"take_plane: index should hold integers, got float64"):
        k.take_plane(np.ones((1, 1, 2, 2)), np.zeros((1, 1, 1, 1)))
    with pytest.raises(TypeError, match=r"class_loss: index should hold integers, got bool"):
        k.class_loss(np.ones((2, 2)), np.zeros(2, bool), 1.0, False)


def test_shapes_that_do_not_fit_are_refused_in_the_same_words(k):  # noqa: F811
    one, x = (lambda *shape: np.ones(shape, F32)), np.ones((2, 3, 4), F32)
    geo = Geometry((1, 2, 4, 4), (3, 2, 3, 3), (1, 3, 2, 2))
    taps = Taps(np.array([[0], [-1]]), np.ones((2, 1)), 4)
    for call, error, words in [
        (lambda: k.conv(one(1, 2, 4, 3), one(3, 2, 3, 3), geo), ValueError, "conv: x should have shape (1, 2, 4, 4)"),
        (
            lambda: k.conv(one(1, 2, 4, 4), one(3, 2, 3, 3), geo, one(2)),
            ValueError,
            "conv: bias should have shape (3,)",
        ),
        (lambda: k.conv_weight(one(1, 2, 4, 4), one(1, 3, 2, 1), geo), ValueError, "conv_weight: y should have shape"),
        (lambda: k.resample(one(1, 1, 4, 4), taps, taps), IndexError, "resample: a tap with a weight has index -1"),
        (lambda: k.max_pool(one(1, 1, 4, 5), taps, taps), ValueError, "max_pool: x should have shape (1, 1, 4, 4)"),
        (
            lambda: k.sigmoid_backward(one(3), one(4)),
            ValueError,
            "sigmoid_backward: g should have shape (4,), got (3,)",
        ),
        (lambda: k.channel_norm(x, one(2), one(3), 0.1), ValueError, "channel_norm: weight should have shape (3,)"),
        (lambda: k.row_norm_backward(one(2, 3), one(2, 3), one(3)), ValueError, "row_norm_backward: rstd should have"),
        (
            lambda: k.squared_error(one(3), one(2), 1.0, True),
            ValueError,
            "squared_error: target should have shape (3,)",
        ),
        (lambda: k.sum(x, (1, 0)), ValueError, "sum: axes should ascend within [0, 3), got (1, 0)"),
        (lambda: k.sum(x, (3,)), ValueError, "sum: axes should ascend within [0, 3), got (3,)"),
        (
            lambda: k.matmul(one(2, 3), one(4, 3)),
            ValueError,
            "matmul: the shapes of the arrays do not fit together; got (2, 3)",
        ),
        (lambda: k.matmul(one(2, 2, 3), one(3, 3, 2)), ValueError, "matmul: the batch axes of (2, 2, 3) and (3, 3, 2)"),
        (lambda: k.linear(one(2, 3), one(4, 3), one(3)), ValueError, "linear: bias should have shape (4,), got (3,)"),
        (
            lambda: k.put_plane(one(1, 1, 2, 2), np.zeros((1, 1, 2, 1), int), (3, 3)),
            ValueError,
            "put_plane: index should",
        ),
        (lambda: k.scatter_add(one(3), np.zeros(2, int), 4), ValueError, "scatter_add: index should have shape (3,)"),
        (lambda: k.random_bits(0, 0, 0, -1), ValueError, "random_bits: sizes should not be negative, got (-1,)"),
        (lambda: k.leaky_relu(one(3), 0.0, one(4)), ValueError, "leaky_relu: out is (4,) float32, the result (3,)"),
        (lambda: k.softmax(np.ones((), F32)), ValueError, "softmax: x should have at least one axis"),
    ]:
        with pytest.raises(error) as caught:
            call()
        assert words in str(caught.value)


def outcome(call, *args):
    try:
        result = call(*args)
    except (ValueError, TypeError, IndexError) as error:
        return f"{type(error).__name__}: {error}"
    return [(np.shape(a), a.dtype) for a in (result if isinstance(result, tuple) else (result,)) if a is not None]


def test_shapes_and_dtypes_of_any_kind_give_the_reference_s_outcome(k):  # noqa: F811
    """Also where a table leaves the check to the kernel and finds the words when that has refused."""
    one = lambda shape, dtype=F32: np.ones(shape, dtype)
    shapes = [(), (0,), (3,), (2, 3), (3, 2), (0, 3), (3, 0), (1, 3), (2, 2, 3), (1, 1, 2, 3)]
    biases = [(), (1,), (2,), (3,), (2, 1), (1, 3), (0,), (0, 3)]
    dtypes = [F32, np.float64, np.float16, np.int64, bool, np.complex64]
    calls = []
    for x in shapes:
        calls += [("matmul", one(x), one(w)) for w in shapes] + [("linear", one(x), one(w), None) for w in shapes]
        calls += [("linear", one(x), one(w), one(b)) for w in ((2, 3), (1, 3), (0, 3)) for b in biases]
        calls += [("sum", one(x, d), axes) for d in dtypes for axes in ((), (0,), (1,), (0, 1), (1, 0), (-1,), (0, 0))]
        labels = [np.zeros(b, d) for b in biases for d in (np.int64, np.uint8, F32, bool)]
        calls += [("class_loss", one(x, d), at, 0.5, True) for d in (F32, np.float16, np.int64) for at in labels]
    for d in dtypes:
        for e in dtypes:
            for w in ((4, 3), (4, 2)):
                calls += [
                    ("linear", one((2, 3), d), one(w, e), one(4, e)),
                    ("linear", one((2, 3)), one(w, d), one(4, e)),
                ]
                calls += [("matmul", one((2, 3), d), one(w, e)), ("matmul", one((2, 3), d), one(w[::-1], e))]
    for name, *args in calls:
        said = [(a.shape, a.dtype) if isinstance(a, np.ndarray) else a for a in args]
        want = outcome(getattr(reference, name), *args)
        if not (k.name.startswith("cuda") and "is outside [" in want):  # a GPU cannot raise for an index
            assert outcome(getattr(k, name), *args) == want, (name, said)


def test_a_result_may_not_overlap_what_is_still_read(k):  # noqa: F811
    whole = np.linspace(-1, 1, 40).astype(F32)
    with pytest.raises(ValueError, match="leaky_relu: out overlaps an input"):
        k.leaky_relu(whole[:32], 0.2, whole[3:35])
    same = whole.copy()
    assert k.leaky_relu(same, 0.0, same) is same and same.min() == 0
    fixed = whole.copy()
    fixed.flags.writeable = False
    with pytest.raises(ValueError, match="leaky_relu: an update in place needs contiguous, writeable arrays"):
        k.leaky_relu(whole, 0.2, fixed)


def test_pieces_and_buffers_of_an_optimizer_lie_within(k):  # noqa: F811
    p, lr, step = np.ones(3), np.array(0.1), np.array(1.0)
    for start in (2**62, 2**63 - 1):  # without a state the end alone can be wrong: it overflows
        pieces = Pieces([p], [start])
        with pytest.raises(ValueError, match="sgd_step: g: the pieces should lie side by side within the state"):
            k.sgd_step(pieces, pieces, None, lr, step, 0.9, 0.0, 0.0, False)
    for start in (4, -1, 2**62, 2**63 - 1, -(2**62)):
        pieces = Pieces([p], [start])
        with pytest.raises(ValueError, match="sgd_step: g: the pieces should lie side by side within the state"):
            k.sgd_step(pieces, pieces, np.ones(6), lr, step, 0.9, 0.0, 0.0, False)
    pieces = Pieces([np.ones(6)], [0])
    with pytest.raises(ValueError, match="adam_step: g: the pieces should lie side by side within the state"):
        k.adam_step(pieces, pieces, np.ones(6), np.ones(5), lr, step, 0.9, 0.9, 1e-8, 0.0, False)


def test_geometry_and_taps_refuse_what_no_kernel_can_index():
    good = {"x_shape": (1, 2, 4, 4), "w_shape": (3, 2, 3, 3), "y_shape": (1, 3, 2, 2)}
    for bad in (
        {"groups": 0},
        {"groups": 2},
        {"stride": (0, 1)},
        {"dilation": (1, -1)},
        {"pad": (2**62, 0)},
        {"x_shape": (2, 2, 4, 4)},
        {"x_shape": (1, 2, -4, 4)},
        {"y_shape": (1, 2, 2, 2)},
        {"stride": (2**50, 1)},
    ):
        with pytest.raises(ValueError, match="Geometry: "):
            Geometry(**{**good, **bad})
    for index in ([[4]], [[-2]]):
        with pytest.raises(IndexError, match=r"Taps: index should lie in \[-1, 4\)"):
            Taps(np.array(index), np.ones((1, 1)), 4)
    with pytest.raises(ValueError, match="Taps: index"):
        Taps(np.zeros((2, 1), int), np.ones((1, 2)), 4)


@pytest.mark.parametrize("device", ["cpu", "cuda-emulated"])
@pytest.mark.parametrize("wrong", [-1, -(10**9), 16, 10**12])
def test_max_unpool2d_refuses_a_place_outside(device, wrong):
    x = tg.ones(1, 1, 2, 2, device=device)
    index = tg.tensor(np.array([[[[0, 1], [2, wrong]]]]), device=device)
    with pytest.raises(ValueError, match=rf"max_unpool2d: indices .*{wrong}.* lie outside an image of \(4, 4\)"):
        F.max_unpool2d(x, index, 2)
    with pytest.raises(TypeError, match="max_unpool2d: indices should be integers, got float32"):
        F.max_unpool2d(x, x, 2)
    with pytest.raises(ValueError, match=r"max_unpool2d: the result would have size \(0, 4\)"):
        F.max_unpool2d(x, index.clamp(0, 3), 2, output_size=(0, 4))


@pytest.mark.skipif(CPU is None, reason="built without a compiler")
def test_the_extension_itself_refuses_arrays_that_are_too_small():
    one = lambda *shape: np.ones(shape, F32)
    geo, fixed = _cpu.Geometry((1, 2, 4, 4), (3, 2, 3, 3), (1, 3, 2, 2), (1, 1), (1, 1), (0, 0), 1), one(4)
    fixed.flags.writeable = False
    for call, words in [
        (
            lambda: _cpu.conv(geo, one(1, 2, 4, 3), one(3, 2, 3, 3), None, one(1, 3, 2, 2)),
            "conv: x: expected 32 elements",
        ),
        (lambda: _cpu.conv(geo, one(1, 2, 4, 4), one(3, 2, 3, 3), None, one(1, 3, 2, 1)), "conv: result: expected 12"),
        (lambda: _cpu.sigmoid(one(4), one(3)), "sigmoid: expected 4 elements, got 3"),
        (lambda: _cpu.sigmoid(one(4), fixed), "sigmoid: the array is read-only"),
        (lambda: _cpu.sum(one(4), [1, 1, 1, 5], 1.0, one(5)), "sum: the extents do not fit x"),
        (lambda: _cpu.sum(one(4), [2**62, 4, 1, 1], 1.0, one(5)), "sum: the extents do not fit x"),
        (lambda: _cpu.channel_norm(one(4), one(1), one(1), 0.1, 1.0, one(4), one(1), one(1)), "expected 3 axes, got 1"),
        (
            lambda: _cpu.Geometry((1, 2, 4, 4), (3, 2, 3, 3), (1, 3, 2, 2), (0, 1), (1, 1), (0, 0), 1),
            "Geometry: the sizes",
        ),
    ]:
        with pytest.raises(ValueError) as caught:
            call()
        assert words in str(caught.value)
    with pytest.raises(TypeError, match="sigmoid: expected a NumPy array"):
        _cpu.sigmoid(one(4), None)
    with pytest.raises(TypeError, match="adam_step: v: expected a NumPy array"):
        _cpu.adam_step([one(4)], [one(4)], [0], one(4), None, 0.1, 1.0, 0.9, 0.9, 1e-8, 0.0, False)


def test_a_weight_gradient_of_images_without_pixels_is_zero(k):  # noqa: F811
    geo = Geometry((4, 9, 4, 0), (3, 3, 4, 4), (4, 3, 7, 3), (3, 2), (2, 1), (100, -3), 3)
    assert not k.conv_weight(np.ones(geo.x_shape, F32), np.ones(geo.y_shape, F32), geo).any()


@pytest.mark.parametrize("x, w", [((3, 10, 3, 4), (10, 5, 0, 3)), ((3, 10, 0, 4), (10, 5, 2, 3))], ids=str)
def test_a_convolution_with_nothing_to_add_up_is_its_bias(k, x, w):  # noqa: F811
    geo = Geometry(x, w, (3, 10, 7, 8), (2, 3), (3, 2), (3, 0), 2)
    bias = np.arange(10.0)
    y = k.conv(np.ones(x), np.ones(w), geo, bias)
    np.testing.assert_array_equal(y, np.broadcast_to(bias[:, None, None], geo.y_shape))
    if w[2] == 0:
        back = k.conv_transpose(np.ones(geo.y_shape), np.ones(w), geo, bias)
        np.testing.assert_array_equal(back, np.broadcast_to(bias[:, None, None], x))


@pytest.mark.parametrize("slope", [1.0, 0.2])
def test_a_dense_convolution_adds_its_bias(k, rng, slope):  # noqa: F811
    """A kernel as large as its image is one product of matrices, with a bias of its own path."""
    geo = Geometry((3, 5, 4, 4), (7, 5, 4, 4), (3, 7, 1, 1))
    assert geo.is_dense
    x, w, y, bias, back = (rng.standard_normal(s) for s in (geo.x_shape, geo.w_shape, geo.y_shape, 7, 5))
    activated = lambda v: np.where(v > 0, v, slope * v)
    want = np.einsum("nchw,kchw->nk", x, w)[:, :, None, None] + bias[:, None, None]
    np.testing.assert_allclose(k.conv(x, w, geo, bias, slope), activated(want), rtol=1e-12, atol=1e-12)
    want = np.einsum("nkij,kchw->nchw", y, w) + back[:, None, None]
    np.testing.assert_allclose(k.conv_transpose(y, w, geo, back, slope), activated(want), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(k.conv_moments(x, w, geo, bias, slope)[0], k.conv(x, w, geo, bias, slope))


def test_channel_norm_of_nothing(k):  # noqa: F811
    """Nothing comes out, the statistics are NaN, and no weight has a gradient."""
    weight = np.ones(3, F32)
    for shape in ((0, 3, 4), (2, 3, 0)):
        x = np.ones(shape, F32)
        y, mean, rstd = k.channel_norm(x, weight, weight, 0.1, 0.2)
        assert y.shape == shape and np.isnan(mean).all() and np.isnan(rstd).all() and mean.shape == (3,)
        gx, gweight, gbias = k.channel_norm_backward(x, x, weight, weight, mean, rstd)
        assert gx.shape == shape and not gweight.any() and not gbias.any()
