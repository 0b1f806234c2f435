"""Convolution: three contractions of one form, on every backend, over more than 600 geometries.

Three independent witnesses: the adjoint identity (exact to rounding, and it needs no oracle), the definition written as
an explicit sum over taps, and torch. Then the functions that users call, and the lecture's numbers.
"""

from __future__ import annotations

import itertools
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygen as tg
from tinygen import tape
from tinygen.backends import reference
from tinygen.backends.geometry import Geometry
from tinygen.ops.conv import conv, conv_transpose, conv_weight
from tinygen.testing import adjoint_check, gradcheck, gradgradcheck

# ---------------------------------------------------------------------------------- backends


def cpu_backend(isa):
    """The C++ kernel table fixed to one instruction set, whatever the process runs with."""
    from tinygen import _cpu
    from tinygen.backends import cpu

    def with_isa(kernel):
        def call(*args):
            before = _cpu.isa()
            _cpu.select(isa)
            try:
                return kernel(*args)
            finally:
                _cpu.select(before)

        return call

    names = ("conv", "conv_transpose", "conv_weight", "conv_moments", "conv_transpose_moments", "channel_norm")
    return SimpleNamespace(**{n: with_isa(getattr(cpu, n)) for n in names})


def backends():
    yield "reference", lambda: reference
    try:
        from tinygen import _cpu
    except ImportError:  # installed without a compiler
        return
    for isa in _cpu.isas():
        yield f"cpu-{isa}", lambda isa=isa: cpu_backend(isa)


every_backend = pytest.mark.parametrize("k", [pytest.param(make, id=name) for name, make in backends()])

# ---------------------------------------------------------------------------------- geometries


def output_size(size, kernel, stride, dilation, pads):
    return (size + sum(pads) - dilation * (kernel - 1) - 1) // stride + 1


def make_geometries():
    """Every stride x dilation x kernel x padding, walking through channels, groups, batches and ragged image sizes."""
    strides = [(1, 1), (2, 2), (3, 3), (2, 1), (1, 3)]
    dilations = [(1, 1), (2, 2), (1, 3)]
    kernels = [(1, 1), (3, 3), (2, 3), (4, 4), (5, 5), (3, 1)]
    paddings = [
        ((0, 0), (0, 0)),
        ((1, 1), (1, 1)),
        ((2, 2), (2, 2)),
        ((0, 1), (2, 0)),
        ((3, -1), (-1, 2)),
        "same",
        (5, 4),
    ]
    channels = itertools.cycle(
        [(1, 1, 1), (2, 3, 1), (4, 4, 4), (4, 6, 2), (3, 6, 3), (5, 2, 1), (1, 9, 1), (6, 6, 6), (8, 4, 4)]
    )
    sizes = itertools.cycle(
        [(5, 5), (6, 7), (7, 9), (9, 6), (8, 8), (11, 5), (5, 12), (10, 17), (12, 1), (1, 13), (7, 33)]
    )
    batches = itertools.cycle([1, 2, 1, 3])
    for s, d, r, pad in itertools.product(strides, dilations, kernels, paddings):
        size, (c, kk, groups), n = next(sizes), next(channels), next(batches)
        if pad == "same":
            pads = []
            for m, a, b, e in zip(size, r, s, d):
                total = max((-(-m // b) - 1) * b + e * (a - 1) + 1 - m, 0)
                pads.append((total // 2, total - total // 2))
        elif isinstance(pad[0], int):  # as wide as the kernel or wider: some outputs see nothing but padding
            pads = [(pad[0], pad[1]), (pad[1], pad[0])]
        else:
            pads = list(pad)
        # Small images grow until one output fits; the ragged rest is what output_padding restores.
        size = tuple(max(m, e * (a - 1) + 1 - sum(p)) for m, a, e, p in zip(size, r, d, pads))
        out = tuple(output_size(m, a, b, e, p) for m, a, b, e, p in zip(size, r, s, d, pads))
        yield Geometry((n, c, *size), (kk, c // groups, *r), (n, kk, *out), s, d, (pads[0][0], pads[1][0]), groups)


def larger_geometries():
    """Sizes at which blocked kernels have full blocks and remainders in every direction."""
    for n, c, kk, size, r, s, d, p, groups in [
        (2, 1, 32, (28, 28), 3, 1, 1, 1, 1),
        (2, 32, 1, (28, 28), 3, 1, 1, 1, 1),
        (1, 33, 40, (19, 21), 3, 1, 1, 1, 1),
        (3, 16, 17, (14, 14), 4, 2, 1, 1, 1),
        (2, 17, 16, (13, 15), 5, 2, 1, 2, 1),
        (1, 64, 48, (7, 7), 1, 1, 1, 0, 1),
        (1, 24, 36, (15, 16), 3, 1, 2, 2, 4),
        (2, 32, 32, (16, 18), 3, 1, 1, 1, 32),
        (1, 20, 40, (17, 16), 5, 2, 1, 2, 20),
        (1, 3, 8, (40, 37), 7, 2, 1, 3, 1),
        (9, 2, 3, (6, 6), 3, 1, 1, 1, 1),
        (1, 128, 8, (4, 4), 4, 1, 1, 0, 1),
        (1, 8, 130, (4, 4), 4, 1, 1, 3, 1),
        (1, 4, 8, (9, 70), 3, 3, 2, 2, 1),
        (1, 2, 4, (1, 300), 9, 1, 1, 4, 1),
        (2, 7, 11, (31, 3), 3, 1, 1, 1, 1),
    ]:
        rr = (min(r, size[0]), r)
        pp = (p if size[0] > 1 else 0, p)
        out = tuple(output_size(m, a, s, d, (b, b)) for m, a, b in zip(size, rr, pp))
        yield Geometry((n, c, *size), (kk, c // groups, *rr), (n, kk, *out), (s, s), (d, d), pp, groups)


def touches(geo):
    """Whether any output sees a pixel; where none does every result is zero, and equality would prove nothing."""
    return all(
        any(0 <= s * p + d * r - pad < n for p in range(y) for r in range(w))
        for s, d, pad, n, y, w in zip(
            geo.stride, geo.dilation, geo.pad, geo.x_shape[2:], geo.y_shape[2:], geo.w_shape[2:]
        )
    )


GEOMETRIES = [g for g in (*make_geometries(), *larger_geometries()) if touches(g)]
CHUNKS = [pytest.param(range(i, len(GEOMETRIES), 20), id=f"part{i}") for i in range(20)]


def test_there_are_600_different_geometries():
    assert len(set(GEOMETRIES)) >= 600
    grouped = [g for g in GEOMETRIES if g.groups > 1]
    assert (
        sum(g.w_shape[1] == 1 for g in grouped) > 100 and sum(g.w_shape[1] > 1 for g in grouped) > 50
    )  # depthwise or not
    ragged = [  # rows at the end that no output reads: conv_transpose needs output_padding to return to this size
        g for g in GEOMETRIES
        if g.stride[0] * (g.y_shape[2] - 1) + g.dilation[0] * (g.w_shape[2] - 1) - g.pad[0] < g.x_shape[2] - 1
    ]  # fmt: skip
    assert len(ragged) > 100


# ---------------------------------------------------------------------------------- witnesses


def columns(x, geo):
    """x[n, c, s*p + d*t - pad] as an array (n, c, p, r, q, s), and the indices it was taken at; zero outside x."""
    index = []
    for axis in (0, 1):
        at = geo.stride[axis] * np.arange(geo.y_shape[2 + axis])[:, None]
        at = at + geo.dilation[axis] * np.arange(geo.w_shape[2 + axis]) - geo.pad[axis]
        index.append(np.where((at >= 0) & (at < geo.x_shape[2 + axis]), at, geo.x_shape[2 + axis]))
    extended = np.zeros((*x.shape[:2], x.shape[2] + 1, x.shape[3] + 1))
    extended[:, :, :-1, :-1] = x
    at = (slice(None), slice(None), index[0][:, :, None, None], index[1][None, None])
    return extended[at], at


def naive(geo, x, w, y):
    """The three contractions from their definition, in float64: (conv, conv_transpose, conv_weight)."""
    cols, at = columns(x, geo)
    g = geo.groups
    cols = cols.reshape(cols.shape[0], g, -1, *cols.shape[2:])
    ww, yy = w.reshape(g, -1, *w.shape[1:]), y.reshape(y.shape[0], g, -1, *y.shape[2:])
    out = np.einsum("ngcprqs,gkcrs->ngkpq", cols, ww, optimize=True).reshape(y.shape)
    out_w = np.einsum("ngcprqs,ngkpq->gkcrs", cols, yy, optimize=True).reshape(w.shape)
    back = np.einsum("ngkpq,gkcrs->ngcprqs", yy, ww, optimize=True)
    extended = np.zeros((*x.shape[:2], x.shape[2] + 1, x.shape[3] + 1))
    np.add.at(extended, at, back.reshape(*x.shape[:2], *back.shape[3:]))
    return out, extended[:, :, :-1, :-1], out_w


def example(index):
    rng = np.random.default_rng(index)
    geo = GEOMETRIES[index]
    return geo, [rng.standard_normal(s) for s in (geo.x_shape, geo.w_shape, geo.y_shape)]


@cache
def expected(index):
    geo, arrays = example(index)
    results = naive(geo, *arrays)
    assert all(r.any() for r in results), f"{geo}: an expected result is zero everywhere, it would prove nothing"
    return results


@cache
def torch_results(index):
    torch = pytest.importorskip("torch")
    geo, arrays = example(index)
    x, w, y = (torch.from_numpy(a).requires_grad_(i < 2) for i, a in enumerate(arrays))
    after = [  # the padding that makes torch compute exactly y_shape; negative: rows that no output reads
        s * (p - 1) + d * (r - 1) + 1 - n - before
        for s, p, d, r, n, before in zip(
            geo.stride, geo.y_shape[2:], geo.dilation, geo.w_shape[2:], geo.x_shape[2:], geo.pad
        )
    ]
    padded = torch.nn.functional.pad(x, (geo.pad[1], after[1], geo.pad[0], after[0]))
    out = torch.nn.functional.conv2d(padded, w, None, geo.stride, 0, geo.dilation, geo.groups)
    gx, gw = torch.autograd.grad(out, (x, w), y)
    return [t.detach().numpy() for t in (out, gx, gw)]


def test_the_explicit_sums_are_the_definition():
    """The oracle itself, against loops that nobody can misread."""
    for index in range(0, len(GEOMETRIES) - 16, 23):
        geo, (x, w, y) = example(index)
        out, gx, gw = np.zeros_like(y), np.zeros_like(x), np.zeros_like(w)
        per_group = geo.w_shape[0] // geo.groups
        spots = itertools.product(*(range(m) for m in (geo.y_shape[0], *geo.w_shape, *geo.y_shape[2:])))
        for n, k, c, r, s, p, q in spots:
            channel = c + k // per_group * geo.w_shape[1]
            i = geo.stride[0] * p + geo.dilation[0] * r - geo.pad[0]
            j = geo.stride[1] * q + geo.dilation[1] * s - geo.pad[1]
            if 0 <= i < geo.x_shape[2] and 0 <= j < geo.x_shape[3]:
                out[n, k, p, q] += x[n, channel, i, j] * w[k, c, r, s]
                gx[n, channel, i, j] += y[n, k, p, q] * w[k, c, r, s]
                gw[k, c, r, s] += x[n, channel, i, j] * y[n, k, p, q]
        for got, want in zip(naive(geo, x, w, y), (out, gx, gw)):
            np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-12)


# ---------------------------------------------------------------------------------- the three contractions


def contractions(k, geo, x, w, y):
    return k.conv(x, w, geo), k.conv_transpose(y, w, geo), k.conv_weight(x, y, geo)


def agree(got, want, tolerance, geo, what):
    assert got.shape == want.shape and got.flags.c_contiguous, (geo, what, got.shape)
    error = np.abs(got - want).max() / max(1.0, np.abs(want).max())
    assert error <= tolerance, f"{what} of {geo}: off by {error:.3g} of the largest value"


NAMES = ("conv", "conv_transpose", "conv_weight")


@every_backend
@pytest.mark.parametrize("part", CHUNKS)
def test_adjoint_identity(k, part):
    """<conv(x, w), y> = <x, conv_transpose(y, w)> = <w, conv_weight(x, y)>."""
    k = k()
    for index in part:
        geo, (x, w, y) = example(index)
        out, gx, gw = contractions(k, geo, x, w, y)
        forms = [float(np.vdot(a, b)) for a, b in ((out, y), (x, gx), (w, gw))]
        scale = np.linalg.norm(out) * np.linalg.norm(y)
        assert scale > 0 and max(forms) - min(forms) <= 1e-13 * scale * out.size**0.5 + 1e-13 * scale, (geo, forms)


@every_backend
@pytest.mark.parametrize("part", CHUNKS)
def test_explicit_sums(k, part):
    k = k()
    for index in part:
        geo, arrays = example(index)
        for what, got, want in zip(NAMES, contractions(k, geo, *arrays), expected(index)):
            assert got.dtype == np.float64
            agree(got, want, 1e-13, geo, what)
        single = [a.astype(np.float32) for a in arrays]
        for what, got, want in zip(NAMES, contractions(k, geo, *single), expected(index)):
            assert got.dtype == np.float32
            agree(got, want, 1e-5, geo, what + " in float32")


@every_backend
@pytest.mark.parametrize("part", CHUNKS)
def test_against_torch(k, part):
    k = k()
    for index in part:
        geo, arrays = example(index)
        for what, got, want in zip(NAMES, contractions(k, geo, *arrays), torch_results(index)):
            agree(got, want, 1e-13, geo, what)


@every_backend
def test_bias(k):
    k = k()
    for index in range(0, len(GEOMETRIES), 7):
        geo, (x, w, y) = example(index)
        rng = np.random.default_rng(index)
        out, gx, _ = expected(index)
        b = rng.standard_normal(out.shape[1])
        agree(k.conv(x, w, geo, b), out + b[:, None, None], 1e-13, geo, "conv with bias")
        for slope in (0.0, 0.3):
            want = reference.leaky_relu(out + b[:, None, None], slope)
            agree(k.conv(x, w, geo, b, slope), want, 1e-13, geo, "conv with bias and slope")
        b = rng.standard_normal(gx.shape[1])
        agree(k.conv_transpose(y, w, geo, b), gx + b[:, None, None], 1e-13, geo, "conv_transpose with bias")
        want = reference.leaky_relu(gx, 0.3)
        agree(k.conv_transpose(y, w, geo, None, 0.3), want, 1e-13, geo, "conv_transpose with a slope")


@every_backend
def test_sums_of_channels_come_with_the_same_bits(k):
    """conv_moments is conv, and what channel_norm makes of its sums are the statistics of the result."""
    k = k()
    for index in range(0, len(GEOMETRIES), 31):
        geo, (x, w, y) = example(index)
        for name, a in (("conv", x), ("conv_transpose", y)):
            got, moments = getattr(k, f"{name}_moments")(a, w, geo, None, 0.3)
            np.testing.assert_array_equal(got, getattr(k, name)(a, w, geo, None, 0.3))
            rows = got.reshape(*got.shape[:2], -1)
            if rows.shape[0] * rows.shape[2] > 1:
                one, zero = np.ones(rows.shape[1]), np.zeros(rows.shape[1])
                with_sums = k.channel_norm(rows, one, zero, 1e-5, 1.0, moments)
                for mine, plain in zip(with_sums, reference.channel_norm(rows, one, zero, 1e-5), strict=True):
                    np.testing.assert_allclose(mine, plain, rtol=1e-9, atol=1e-9)


@every_backend
def test_any_memory_layout(k):
    """Transposed, reversed, strided and broadcast inputs give the same numbers as contiguous ones."""
    k = k()
    index = next(i for i, g in enumerate(GEOMETRIES) if g.groups == 2 and g.stride == (2, 1) and g.x_shape[0] > 1)
    geo, arrays = example(index)
    layouts = {
        "reversed": lambda a: a[::-1, ::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1, ::-1],
        "channels last": lambda a: np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
        "fortran": np.asfortranarray,
        "part of a larger array": lambda a: np.pad(a, [(1, 2)] * 4)[1:-2, 1:-2, 1:-2, 1:-2],
        "every second": lambda a: np.repeat(a, 2, 3)[..., ::2],
        "read-only": lambda a: np.broadcast_to(a, a.shape),
    }
    for layout, change in layouts.items():
        changed = [change(a) for a in arrays]
        assert all(np.array_equal(a, b) for a, b in zip(arrays, changed))
        for what, got, want in zip(NAMES, contractions(k, geo, *changed), expected(index)):
            agree(got, want, 1e-13, geo, f"{what}, {layout}")


@every_backend
def test_an_empty_batch(k):
    k = k()
    geo = Geometry((0, 3, 6, 6), (4, 3, 3, 3), (0, 4, 4, 4))
    x, w, y = np.zeros(geo.x_shape), np.ones(geo.w_shape), np.zeros(geo.y_shape)
    out, gx, gw = contractions(k, geo, x, w, y)
    assert out.shape == geo.y_shape and gx.shape == geo.x_shape and gw.shape == geo.w_shape and not gw.any()


@every_backend
def test_the_same_bits_every_time(k):
    k = k()
    for index in range(len(GEOMETRIES) - 16, len(GEOMETRIES)):
        geo, arrays = example(index)
        single = [a.astype(np.float32) for a in arrays]
        for first, second in zip(contractions(k, geo, *single), contractions(k, geo, *single)):
            assert np.array_equal(first, second)


def test_any_number_of_threads():
    before = tg.get_num_threads()
    k = tg.device("cpu").kernels
    try:
        for threads in (1, 2, 3, 5):
            tg.set_num_threads(threads)
            for index in [*range(0, len(GEOMETRIES), 31), *range(len(GEOMETRIES) - 16, len(GEOMETRIES))]:
                geo, arrays = example(index)
                for what, got, want in zip(NAMES, contractions(k, geo, *arrays), expected(index)):
                    agree(got, want, 1e-13, geo, f"{what}, {threads} threads")
    finally:
        tg.set_num_threads(before)


# ------------------------------------------------------------------------------- what lanes of the C++ kernels run over

LANE_BYTES = {"baseline": 16, "avx2": 32, "avx512": 64}
@pytest.mark.parametrize("name", ["conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d"])
def test_a_negative_padding_is_refused_as_by_torch(name):
    torch = pytest.importorskip("torch")
    sizes = ((1, 1, 5), (1, 1, 3)) if "1d" in name else ((1, 1, 5, 5), (1, 1, 3, 3))
    for padding in (-1, [0] * (len(sizes[0]) - 3) + [-2]):
        with pytest.raises(RuntimeError, match="negative padding"):
            getattr(torch.nn.functional, name)(*map(torch.ones, sizes), padding=padding)
        with pytest.raises(ValueError, match=f"{name}: padding=.* should not be negative"):
            getattr(tg, name)(*map(tg.ones, sizes), padding=padding)


RAGGED = [  # channels, filters, groups, size, kernel, stride, dilation, padding (negative: a crop)
    (5, 13, 1, (7, 6), (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1))),
    (13, 33, 1, (9, 8), (4, 4), (2, 2), (1, 1), ((1, 1), (1, 1))),
    (17, 30, 1, (11, 10), (3, 2), (3, 2), (2, 1), ((0, 2), (-1, 3))),
    (6, 51, 3, (6, 5), (3, 3), (1, 1), (1, 2), ((2, 1), (2, 2))),
    (7, 7, 7, (9, 9), (3, 3), (2, 1), (1, 1), ((1, 1), (0, 1))),
    (2, 70, 1, (20, 37), (5, 3), (1, 1), (1, 3), ((3, -1), (2, 4))),
    (35, 3, 1, (3, 3), (2, 2), (1, 1), (1, 1), ((0, 0), (0, 0))),
    (3, 19, 1, (2, 1), (1, 1), (1, 1), (1, 1), ((0, 0), (3, 0))),
    (1, 25, 1, (5, 4), (3, 3), (3, 3), (1, 1), ((4, 4), (1, 2))),
    (9, 17, 1, (9, 7), (1, 1), (1, 1), (1, 1), ((0, 0), (0, 0))),
    (6, 20, 2, (32, 1), (1, 1), (1, 1), (1, 1), ((0, 0), (0, 0))),
    (3, 5, 1, (11, 35), (1, 1), (1, 1), (1, 1), ((0, 0), (0, 0))),
    (6, 40, 2, (13, 22), (4, 3), (2, 3), (1, 1), ((1, 1), (1, 1))),
    (2, 30, 1, (20, 33), (3, 3), (2, 2), (1, 2), ((1, 1), (2, 2))),
    (40, 2, 1, (11, 13), (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1))),
    (1, 9, 1, (62, 34), (4, 4), (2, 2), (1, 1), ((1, 1), (1, 1))),
]
WAYS = {"product", "unrolled product", "images", "results", "pixels", "images, results", "images, pixels"}


def ragged(case, n):
    c, kk, groups, size, r, s, d, pads = RAGGED[case]
    out = tuple(map(output_size, size, r, s, d, pads))
    return Geometry((n, c, *size), (kk, c // groups, *r), (n, kk, *out), s, d, (pads[0][0], pads[1][0]), groups)


@cache
def ragged_example(case, n):
    geo, rng = ragged(case, n), np.random.default_rng(n)
    arrays = [rng.standard_normal(shape) for shape in (geo.x_shape, geo.w_shape, geo.y_shape)]
    biases = [rng.standard_normal(geo.y_shape[1]), rng.standard_normal(geo.x_shape[1])]
    out, back, _ = naive(geo, *arrays)
    return geo, arrays, biases, [e + b[:, None, None] for e, b in zip((out, back), biases)]


def isas():
    try:
        from tinygen import _cpu
    except ImportError:
        return []
    return _cpu.isas()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("isa", isas())
def test_every_way_of_the_cpu_kernels(isa, dtype):
    """Lanes over images, results and pixels, full and partly idle, on shapes that fit nothing; 1 to 3 threads."""
    from tinygen import _cpu
    from tinygen.backends import cpu

    lanes, seen = LANE_BYTES[isa] // np.dtype(dtype).itemsize, set()
    k, threads, winograd = cpu_backend(isa), cpu.get_num_threads(), cpu.get_winograd()
    before = _cpu.isa()
    try:
        for case in range(len(RAGGED)):
            for n in (1, max(1, lanes - 2), lanes, lanes + 1, 2 * lanes - 1, 4 * lanes):
                geo, arrays, biases, want = ragged_example(case, n)
                x, w, y, by, bx = (a.astype(dtype) for a in (*arrays, *biases))
                _cpu.select(isa)
                plans = {_cpu.conv_plan(cpu.contraction._geometry(geo), back, x.itemsize) for back in (False, True)}
                for allowed in (True, False) if "winograd" in plans else (True,):
                    cpu.set_winograd(allowed)
                    seen |= {_cpu.conv_plan(cpu.contraction._geometry(geo), back, x.itemsize) for back in (False, True)}
                    for count in (1, 2, 3, 5):
                        cpu.set_num_threads(count)
                        got = k.conv(x, w, geo, by), k.conv_transpose(y, w, geo, bx)
                        for what, a, b in zip(NAMES, got, want):
                            agree(a, b, 1e-13 if dtype == np.float64 else 1e-5, geo, f"{what}, {count} threads")
                        again = k.conv(x, w, geo, by), k.conv_transpose(y, w, geo, bx)
                        assert all(np.array_equal(a, b) for a, b in zip(got, again))
    finally:
        cpu.set_winograd(winograd)
        cpu.set_num_threads(threads)
        _cpu.select(before)
    assert seen == WAYS | ({"winograd"} if dtype == np.float32 else set())


@pytest.mark.skipif(not isas(), reason="built without a compiler")
def test_an_image_that_does_not_fit_the_cache_is_cut_into_bands():
    """The packed source of 16 images is 6 MB here, more than a band may hold."""
    k = cpu_backend(isas()[-1])
    geo = Geometry((16, 4, 160, 150), (5, 4, 3, 3), (16, 5, 80, 75), (2, 2), (1, 1), (1, 1))
    rng = np.random.default_rng(0)
    x, w, y = (rng.standard_normal(s).astype(np.float32) for s in (geo.x_shape, geo.w_shape, geo.y_shape))
    for what, got, want in zip(NAMES, contractions(k, geo, x, w, y), contractions(reference, geo, x, w, y)):
        agree(got, want, 2e-5, geo, what)


@given(st.data())
def test_geometries_that_hypothesis_thinks_of(data):
    """Any geometry whatever, also ones that no convolution layer would produce (a y shorter or longer than usual)."""
    draw = lambda low, high: data.draw(st.integers(low, high))
    groups = draw(1, 3)
    c, kk = groups * draw(1, 3), groups * draw(1, 3)
    n = draw(1, 3)
    size, r, p = [[draw(1, top) for _ in range(2)] for top in (9, 5, 7)]
    s, d, pad = [tuple(draw(low, high) for _ in range(2)) for low, high in ((1, 4), (1, 3), (-2, 6))]
    geo = Geometry((n, c, *size), (kk, c // groups, *r), (n, kk, *p), s, d, pad, groups)
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in (geo.x_shape, geo.w_shape, geo.y_shape)]
    want = naive(geo, *arrays)
    for _, make in backends():
        for what, got, expect in zip(NAMES, contractions(make(), geo, *arrays), want):
            agree(got, expect, 1e-13, geo, what)


# ---------------------------------------------------------------------------------- derivatives


@pytest.mark.parametrize("index", [*range(0, 600, 37), len(GEOMETRIES) - 10])
def test_derivatives_of_the_contractions(index):
    """Each of the three, both arguments and the bias, first and second order."""
    geo, (x, w, y) = example(index)
    if x.size * w.size > 1e5:
        x, w, y = x * 0.1, w * 0.1, y * 0.1
    rng = np.random.default_rng(index)
    functions = {
        "conv": (lambda *t: conv(*t, geo=geo), [x, w, rng.standard_normal(w.shape[0])]),
        "conv_transpose": (lambda *t: conv_transpose(*t, geo=geo), [y, w, rng.standard_normal(x.shape[1])]),
        "conv_weight": (lambda *t: conv_weight(*t, geo=geo), [x, y]),
    }
    for f, inputs in functions.values():
        assert gradcheck(f, inputs, directions=2) and gradgradcheck(f, inputs, directions=2)


LAYERS = [
    ("conv2d", (2, 3, 6, 7), (4, 3, 3, 2), {}),
    ("conv2d", (1, 4, 7, 6), (6, 2, 3, 3), {"stride": 2, "padding": ((0, 1), (2, 1)), "dilation": (1, 2), "groups": 2}),
    ("conv2d", (6, 5, 5), (6, 1, 3, 3), {"groups": 6}),
    ("conv2d", (2, 3, 7, 5), (3, 1, 3, 3), {"stride": (2, 1), "padding": "same", "groups": 3}),
    ("conv1d", (2, 3, 9), (4, 3, 3), {"padding": "same", "stride": 2}),
    ("conv1d", (4, 9), (2, 2, 4), {"padding": "valid", "groups": 2, "dilation": 2}),
    ("conv_transpose2d", (2, 3, 3, 4), (3, 2, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    (
        "conv_transpose2d",
        (1, 4, 3, 3),
        (4, 3, 2, 3),
        {"stride": (2, 3), "groups": 2, "dilation": 2, "output_size": (7, 12)},
    ),
    ("conv_transpose2d", (3, 4, 5), (3, 2, 4, 4), {"stride": 2, "padding": 1}),
    ("conv_transpose1d", (2, 3, 4), (3, 2, 3), {"stride": 3, "padding": ((1, 0),), "output_padding": 2}),
    ("conv_transpose1d", (3, 4), (3, 2, 3), {}),
]


@pytest.mark.parametrize(("name", "x_shape", "w_shape", "options"), LAYERS)
def test_derivatives_of_the_layers(name, x_shape, w_shape, options):
    rng = np.random.default_rng(0)
    f = getattr(tg, name)
    groups = options.get("groups", 1)
    outputs = w_shape[1] * groups if "transpose" in name else w_shape[0]
    x, w, b = (rng.standard_normal(s) for s in (x_shape, w_shape, (outputs,)))
    assert gradcheck(lambda x, w, b: f(x, w, b, **options), [x, w, b])
    assert gradgradcheck(lambda x, w, b: f(x, w, b, **options), [x, w, b])
    assert gradcheck(lambda x, w: f(x, w, **options), [x, w])


def test_third_derivatives_are_the_trilinear_form():
    """d3 T / dx dw dy along (u, v, z) is T(u, v, z), and every fourth derivative is zero."""
    geo, arrays = example(40)
    rng = np.random.default_rng(1)
    x, w, y = (tg.tensor(a).requires_grad_() for a in arrays)
    u, v, z = (tg.tensor(rng.standard_normal(a.shape)) for a in arrays)
    t = (conv(x, w, geo=geo) * y).sum()
    for variable, direction in ((x, u), (w, v), (y, z)):
        (g,) = tg.grad(t, variable, create_graph=True)
        t = (g * direction).sum()
    assert t.item() == pytest.approx((conv(u, v, geo=geo) * z).sum().item(), rel=1e-12)
    # The last product with a constant direction is all that is left: nothing depends on x, w or y any more.
    assert t.node is None or tg.grad(t, [x, w, y], allow_unused=True) == (None, None, None)


# ---------------------------------------------------------------------------------- the layers against torch


def layer_cases():
    return itertools.product((1, 2, 3), (0, 1, 2), (1, 2), (1, 2))  # stride, padding, dilation, groups


def both(name, arrays, transposed=False, **options):
    """(tinygen, torch): the output and the gradients of all arrays, as NumPy arrays."""
    torch = pytest.importorskip("torch")
    mine = [tg.tensor(a).requires_grad_() for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    out, ref = getattr(tg, name)(*mine, **options), getattr(torch.nn.functional, name)(*theirs, **options)
    assert out.shape == tuple(ref.shape), (name, options)
    seed = np.random.default_rng(9).standard_normal(out.shape)
    ours = [out, *tg.grad(out, mine, tg.tensor(seed))]
    others = [ref, *torch.autograd.grad(ref, theirs, torch.tensor(seed))]
    return [t.detach().numpy() for t in ours], [t.detach().numpy() for t in others]


@pytest.mark.parametrize("axes", [1, 2])
def test_conv_layers_against_torch(axes):
    rng = np.random.default_rng(0)
    for stride, padding, dilation, groups in layer_cases():
        for batch in ((2,), ()):  # with and without a batch axis
            arrays = [
                rng.standard_normal((*batch, 4, *(9, 8)[:axes])),
                rng.standard_normal((6, 4 // groups, *(3, 2)[:axes])),
            ]
            arrays.append(rng.standard_normal(6))
            options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
            for a, b in zip(*both(f"conv{axes}d", arrays, **options)):
                np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12, err_msg=str(options))
    for padding in ("same", "valid"):
        for a, b in zip(*both(f"conv{axes}d", arrays, padding=padding, dilation=2, groups=2)):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("axes", [1, 2])
def test_transposed_layers_against_torch(axes):
    rng = np.random.default_rng(0)
    for stride, padding, dilation, groups in layer_cases():
        for extra in range(max(stride, dilation)):
            arrays = [
                rng.standard_normal((2, 4, *(5, 4)[:axes])),
                rng.standard_normal((4, 6 // groups, *(3, 4)[:axes])),
            ]
            arrays.append(rng.standard_normal(6))
            options = {
                "stride": stride,
                "padding": padding,
                "dilation": dilation,
                "groups": groups,
                "output_padding": extra,
            }
            for a, b in zip(*both(f"conv_transpose{axes}d", arrays, **options)):
                np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12, err_msg=str(options))


def test_positional_arguments_have_torchs_order():
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((1, 4, 7, 7)), rng.standard_normal((6, 2, 3, 3)), rng.standard_normal(6)
    torch = pytest.importorskip("torch")
    args = (2, 1, 2, 2)  # stride, padding, dilation, groups
    mine = tg.conv2d(tg.tensor(x), tg.tensor(w), tg.tensor(b), *args).numpy()
    np.testing.assert_allclose(mine, torch.conv2d(*map(torch.tensor, (x, w, b)), *args).numpy(), rtol=1e-12)
    x, w = rng.standard_normal((1, 6, 4, 4)), rng.standard_normal((6, 2, 3, 3))
    b, args = rng.standard_normal(4), (3, 1, 2, 2, 1)  # stride, padding, output_padding, groups, dilation
    mine = tg.conv_transpose2d(tg.tensor(x), tg.tensor(w), tg.tensor(b), *args).numpy()
    theirs = torch.conv_transpose2d(*map(torch.tensor, (x, w, b)), *args).numpy()
    np.testing.assert_allclose(mine, theirs, rtol=1e-11, atol=1e-12)


# ---------------------------------------------------------------------------------- padding, output sizes


def test_same_padding_keeps_ceil_of_size_over_stride():
    for size, kernel, stride, dilation in itertools.product(range(1, 9), range(1, 6), range(1, 5), (1, 2)):
        y = tg.conv1d(tg.ones(1, 1, size), tg.ones(1, 1, kernel), None, stride, "same", dilation)
        assert y.shape == (1, 1, -(-size // stride))


def test_k6_a_strided_same_convolution_is_the_unstrided_one_sliced():
    for size, kernel, stride, dilation in itertools.product(range(1, 9), range(1, 6), range(1, 5), (1, 2)):
        x, w = tg.randn(2, 1, size), tg.randn(3, 1, kernel)
        every = tg.conv1d(x, w, None, 1, "same", dilation)
        np.testing.assert_allclose(tg.conv1d(x, w, None, stride, "same", dilation), every[:, :, ::stride], 1e-5, 1e-6)
    assert tg.conv_matrix([1, 2, 1], 4, stride=2).tolist() == [[2, 1, 0, 0], [0, 1, 2, 1]]


def test_asymmetric_padding_is_padding_then_valid():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 3, 6, 7)), tg.tensor(rng.standard_normal((4, 3, 3, 3)))
    for pads in (((0, 1), (2, 3)), ((4, 0), (0, 0)), ((-1, 2), (1, -2)), ((-2, -1), (3, 3))):
        padded = np.pad(x, [(0, 0), (0, 0), *[(max(a, 0), max(b, 0)) for a, b in pads]])
        rows, cols = (slice(max(-a, 0), n - max(-b, 0)) for (a, b), n in zip(pads, padded.shape[2:]))
        y = tg.conv2d(tg.tensor(x), w, padding=pads)
        expected = tg.conv2d(tg.tensor(padded[:, :, rows, cols].copy()), w)
        np.testing.assert_allclose(y.numpy(), expected.numpy(), rtol=1e-12, atol=1e-13)


def test_every_size_that_a_strided_convolution_merges_is_reachable():
    """Sizes 7 and 8 both shrink to 4 at stride 2; output_size (or output_padding) returns to either."""
    w = tg.ones(1, 1, 3, 3)
    for size in (7, 8):
        y = tg.conv2d(tg.ones(1, 1, size, size), w, stride=2, padding=1)
        assert y.shape == (1, 1, 4, 4)
        assert tg.conv_transpose2d(y, w, stride=2, padding=1, output_size=(size, size)).shape == (1, 1, size, size)
        assert tg.conv_transpose2d(y, w, stride=2, padding=1, output_size=size).shape == (1, 1, size, size)
        assert tg.conv_transpose2d(y, w, stride=2, padding=1, output_size=(1, 1, size, size)).shape[2:] == (size, size)
        assert tg.conv_transpose2d(y, w, stride=2, padding=1, output_padding=size - 7).shape == (1, 1, size, size)


def test_layers_are_adjoint():
    rng = np.random.default_rng(0)
    w = tg.tensor(rng.standard_normal((4, 3, 3, 3)))
    options = {"stride": 2, "padding": ((0, 1), (2, 1))}
    for size in ((7, 8), (8, 9)):
        forward = lambda x: tg.conv2d(x, w, **options)
        shape = forward(tg.zeros(2, 3, *size, dtype="float64")).shape
        backward = lambda y, size=size: tg.conv_transpose2d(y, w, **options, output_size=size)
        assert adjoint_check(forward, backward, (2, 3, *size), shape)


# ---------------------------------------------------------------------------------- facts of the lectures


def row(*values):
    return tg.tensor(np.array(values, np.float64)).reshape(1, 1, -1)


def flat(t):
    return t.detach().numpy().reshape(-1).tolist()


def true_convolution(f, g):
    """(f * g)(n) = sum over i of f(i) g(n - i), all of it: the layer with the flipped kernel and full padding."""
    pad = [(n - 1, n - 1) for n in g.shape[2:]]
    return tg.conv1d(f, g.flip(2), padding=pad) if g.ndim == 3 else tg.conv2d(f, g.flip((2, 3)), padding=pad)


def test_stride_one_conv_transpose_is_correlation_with_flipped_kernel():
    """At stride 1 the adjoint is a convolution again: kernel flipped, channels swapped, padding d * (r - 1) - pad."""
    rng = np.random.default_rng(0)
    for dilation, pad in ((1, 0), (1, 1), (2, 1), (1, 2), (1, 4)):
        y, w = tg.tensor(rng.standard_normal((2, 4, 7, 8))), tg.tensor(rng.standard_normal((4, 3, 3, 3)))
        adjoint = tg.conv_transpose2d(y, w, padding=pad, dilation=dilation)
        swapped = w.flip((2, 3)).transpose(0, 1)
        expected = tg.conv2d(y, swapped, padding=[(2 * dilation - pad,) * 2] * 2, dilation=dilation)
        assert np.abs(adjoint.numpy()).max() > 1
        np.testing.assert_allclose(adjoint.numpy(), expected.numpy(), rtol=1e-12, atol=1e-12)


def test_k1_true_convolution_commutes_and_associates():
    rng = np.random.default_rng(0)
    f, g, h = (row(*rng.standard_normal(n)) for n in (7, 4, 3))
    np.testing.assert_allclose(flat(true_convolution(f, g)), np.convolve(flat(f), flat(g)), rtol=1e-12)
    np.testing.assert_allclose(flat(true_convolution(f, g)), flat(true_convolution(g, f)), rtol=1e-12)
    left, right = true_convolution(true_convolution(f, g), h), true_convolution(f, true_convolution(g, h))
    np.testing.assert_allclose(flat(left), flat(right), rtol=1e-12)
    f2, g2 = (tg.tensor(rng.standard_normal((1, 1, n, n + 1))) for n in (5, 3))
    np.testing.assert_allclose(flat(true_convolution(f2, g2)), flat(true_convolution(g2, f2)), rtol=1e-12)


def test_k1_convolution_is_bilinear_and_shift_equivariant():
    rng = np.random.default_rng(0)
    f, g, w = (row(*rng.standard_normal(n)) for n in (9, 9, 3))
    np.testing.assert_allclose(
        flat(tg.conv1d(f * 2.0 + g, w)), flat(tg.conv1d(f, w) * 2.0 + tg.conv1d(g, w)), rtol=1e-12
    )
    shifted = tg.conv1d(row(0, 0, *flat(f)), w)
    np.testing.assert_allclose(flat(shifted)[2:], flat(tg.conv1d(f, w)), rtol=1e-12)


def test_k1_sobel_and_laplacian():
    sobel = tg.tensor(np.array([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])).reshape(1, 1, 3, 3)
    step = tg.tensor(np.array([[0.0, 0, 1, 1]] * 3)).reshape(1, 1, 3, 4)
    assert flat(tg.conv2d(step, sobel)) == [-4.0, -4.0]  # the layer: correlation
    assert flat(tg.conv2d(step, sobel.flip((2, 3)))) == [4.0, 4.0]  # the slide: convolution
    laplacian = tg.tensor(np.array([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]])).reshape(1, 1, 3, 3)
    ramp = tg.tensor(np.arange(9.0)).reshape(1, 1, 3, 3)
    assert flat(tg.conv2d(ramp, laplacian, padding="same")) == [-4, -2, 2, 2, 0, 6, 14, 10, 20]


def test_k2_the_gradient_of_the_bias_sums_over_batch_and_pixels():
    rng = np.random.default_rng(0)
    x, w = tg.tensor(rng.standard_normal((2, 3, 5, 5))), tg.tensor(rng.standard_normal((4, 3, 3, 3)))
    b = tg.zeros(4, dtype="float64").requires_grad_()
    dy = rng.standard_normal((2, 4, 3, 3))
    (g,) = tg.grad(tg.conv2d(x, w, b), b, tg.tensor(dy))
    np.testing.assert_allclose(flat(g), dy.sum((0, 2, 3)), rtol=1e-12)


def test_k3_the_matrix_of_a_convolution():
    a = tg.conv_matrix(np.array([1.0, 2, 1]), 4)
    assert a.tolist() == [[2, 1, 0, 0], [1, 2, 1, 0], [0, 1, 2, 1], [0, 0, 1, 2]]
    strided = tg.conv_matrix(np.array([1.0, 2, 1]), 4, stride=2)
    assert strided.shape == (2, 4)
    # Rows 1 and 3 of the lecture's example, with its slip corrected (the slide's last output would always be 0).
    rows = tg.conv_matrix(np.array([1.0, 2, 1]), 4, stride=2, padding=1)
    assert rows.tolist() == [[2, 1, 0, 0], [0, 1, 2, 1]]
    assert rows.T.tolist() == [[2, 0], [1, 1], [0, 2], [0, 1]]
    for x, expected in (((1, 2), [2, 3, 4, 2]), ((3, 5), [6, 8, 10, 5])):
        assert (rows.T @ x).tolist() == expected
        y = tg.conv_transpose1d(row(*x), row(1, 2, 1), stride=2, padding=1, output_padding=1)
        assert flat(y) == expected


def test_k3_matrix_and_transpose_are_conv_and_conv_transpose():
    rng = np.random.default_rng(0)
    for count in range(200):
        axes = 1 + count % 2
        size = tuple(int(v) for v in rng.integers(3, 8, axes))
        kernel = tuple(int(v) for v in rng.integers(1, 4, axes))
        stride, dilation = int(rng.integers(1, 4)), int(rng.integers(1, 3))
        if any(dilation * (k - 1) >= n for k, n in zip(kernel, size)):
            dilation = 1
        padding = ("same", "valid", 1)[count % 3]
        if padding == "valid" or padding == 1:
            kernel = tuple(min(k, n) for k, n in zip(kernel, size))
        w = rng.standard_normal(kernel)
        a = tg.conv_matrix(w, size if axes == 2 else size[0], stride, padding, dilation)
        forward = tg.conv2d if axes == 2 else tg.conv1d
        x = rng.standard_normal(size)
        y = forward(tg.tensor(x[None, None]), tg.tensor(w[None, None]), None, stride, padding, dilation)
        assert a.shape == (y.numpy().size, x.size) and a.any()
        np.testing.assert_allclose(a @ x.ravel(), flat(y), rtol=1e-10, atol=1e-12)
        if padding == "same":
            continue
        back = tg.conv_transpose2d if axes == 2 else tg.conv_transpose1d
        z = rng.standard_normal(y.shape)
        pad = 0 if padding == "valid" else padding
        gx = back(tg.tensor(z), tg.tensor(w[None, None]), None, stride, pad, dilation=dilation, output_size=size)
        np.testing.assert_allclose(a.T @ z.ravel(), flat(gx), rtol=1e-10, atol=1e-12)


def test_k3_a_stride_divides_the_rows_by_s_squared_in_two_dimensions():
    w = np.ones((3, 3))
    assert tg.conv_matrix(w, (8, 6)).shape == (48, 48)
    assert tg.conv_matrix(w, (8, 6), stride=2).shape == (12, 48)
    assert tg.conv_matrix(np.ones(3), 8, stride=2).shape == (4, 8)


def test_k4_the_worked_backward_pass():
    x, w = row(1, 2, 3, 4).requires_grad_(), row(1, 2, 1).requires_grad_()
    y = tg.conv1d(x, w, padding="same")
    assert flat(y) == [4, 8, 12, 11]
    dx, dw = tg.grad(y, [x, w], row(1, 0, -1, 2))
    assert flat(dx) == [2, 0, 0, 3]
    assert flat(dw)[::-1] == [-2, 6, 4]  # the lecture's dw(k = -1, 0, 1): its convolution flips, the layer does not


def test_k4_backward_in_the_lectures_words():
    """dx = dy * flip(w) and dw = dy * flip(x), `*` the true convolution y(n) = sum x(i) w(n - i)."""
    rng = np.random.default_rng(0)
    x, w = row(*rng.standard_normal(6)).requires_grad_(), row(*rng.standard_normal(3)).requires_grad_()
    y = true_convolution(x, w)
    dy = tg.tensor(rng.standard_normal(y.shape))
    dx, dw = tg.grad(y, [x, w], dy)
    np.testing.assert_allclose(flat(dx), flat(true_convolution(dy, w.detach().flip(2)))[2:-2], rtol=1e-10)
    np.testing.assert_allclose(flat(dw), flat(true_convolution(dy, x.detach().flip(2)))[5:-5], rtol=1e-10)


def test_k5_borders():
    assert tg.conv1d(tg.ones(1, 1, 4), tg.ones(1, 1, 3)).shape[-1] == 2
    assert tg.conv_transpose1d(tg.ones(1, 1, 2), tg.ones(1, 1, 3)).shape[-1] == 4
    assert flat(tg.conv1d(row(1, 1, 1, 1), row(1, 1, 1), padding="same")) == [2, 3, 3, 2]


def test_k6_a_strided_convolution_is_a_convolution_then_a_slice():
    rng = np.random.default_rng(0)
    x, w = tg.tensor(rng.standard_normal((2, 3, 9, 8))), tg.tensor(rng.standard_normal((4, 3, 3, 3)))
    dense = tg.conv2d(x, w, padding=1).numpy()
    for s in (2, 3):
        np.testing.assert_allclose(tg.conv2d(x, w, stride=s, padding=1).numpy(), dense[:, :, ::s, ::s], rtol=1e-12)


def test_k8_the_receptive_field_is_the_support_of_the_gradient():
    """LeNet up to S4 (convolution 5, pool 2, convolution 5, pool 2): 16 pixels, and neighbours are 4 pixels apart."""
    x = tg.ones(1, 1, 40).requires_grad_()
    h = x
    for kernel, stride in ((5, 1), (2, 2), (5, 1), (2, 2)):
        h = tg.conv1d(h, tg.ones(1, 1, kernel), stride=stride)
    supports = [np.flatnonzero(tg.grad(h[0, 0, i], x, retain_graph=True)[0].numpy()) for i in (0, 1)]
    assert [len(s) for s in supports] == [16, 16] and supports[1][0] - supports[0][0] == 4


def test_k10_two_linear_convolutions_are_one():
    rng = np.random.default_rng(0)
    x = tg.tensor(rng.standard_normal((2, 3, 9, 9)))
    w1, w2 = tg.tensor(rng.standard_normal((4, 3, 3, 3))), tg.tensor(rng.standard_normal((2, 4, 2, 2)))
    combined = sum(
        np.pad(np.einsum("km,mcij->kcij", w2.numpy()[:, :, i, j], w1.numpy()), [(0, 0), (0, 0), (i, 1 - i), (j, 1 - j)])
        for i in (0, 1) for j in (0, 1)
    )  # fmt: skip
    twice, once = tg.conv2d(tg.conv2d(x, w1), w2), tg.conv2d(x, tg.tensor(combined))
    np.testing.assert_allclose(twice.numpy(), once.numpy(), rtol=1e-10, atol=1e-12)


# ---------------------------------------------------------------------------------- errors

X, W, Y, V = (1, 3, 8, 8), (4, 3, 3, 3), (1, 4, 4, 4), (4, 3, 3)
ERRORS = [  # function, shapes of input, weight and bias, options, what the message must say
    (
        "conv2d",
        [(4, 3, 28, 28), (8, 8, 3, 3)],
        {},
        r"weight expects 8 input channels \(8x8x3x3.*\), input has 3: 4x3x28x28",
    ),
    ("conv2d", [(4, 3), W], {}, r"input should be \(N, C, H, W\) or \(C, H, W\).* got 4x3"),
    ("conv1d", [(1, 1, 4, 3), V], {}, r"input should be \(N, C, L\) or \(C, L\).* got 1x1x4x3"),
    ("conv2d", [X, (3, 3, 3)], {}, r"weight have 4 dimensions.* 3x3x3"),
    ("conv2d", [(1, 4, 8, 8), (3, 2, 3, 3)], {"groups": 2}, r"groups=2 does not divide the 3 .*; choose a divisor"),
    ("conv2d", [X, W, (3,)], {}, r"bias should have shape \(4,\).*got \(3,\)"),
    ("conv2d", [X, W], {"padding": "full"}, r"padding='full'"),
    ("conv2d", [X, W], {"padding": (1, 2, 3)}, r"padding=\(1, 2, 3\)"),
    ("conv2d", [X, W], {"stride": 0}, r"stride=0"),
    ("conv2d", [X, W], {"dilation": (1, 0)}, r"dilation=\(1, 0\)"),
    ("conv2d", [(1, 3, 2, 8), W], {}, r"kernel 3x3 .*is larger than the input 2x8"),
    ("conv_transpose2d", [(1, 3, 4, 4), W], {}, r"weight expects 4 input channels .* input has 3"),
    ("conv_transpose2d", [Y, W, (4,)], {}, r"bias should have shape \(3,\)"),
    ("conv_transpose2d", [Y, W], {"padding": "same"}, r"padding='same'.*output_size="),
    ("conv_transpose2d", [Y, W], {"stride": 2, "output_padding": 2}, r"legal sizes are 9\.\.10 x 9\.\.10"),
    ("conv_transpose2d", [Y, W], {"stride": 2, "output_size": (8, 9)}, r"legal sizes are 9\.\.10 x 9\.\.10"),
    ("conv_transpose1d", [(1, 4, 1), V], {"padding": 2}, r"input 1 cannot give an output of -1"),
]


@pytest.mark.parametrize(("name", "shapes", "options", "message"), ERRORS)
def test_errors_name_the_op_the_shapes_and_a_remedy(name, shapes, options, message):
    with pytest.raises(ValueError, match=f"^{name}: .*{message}"):
        getattr(tg, name)(*(tg.zeros(*s) for s in shapes), **options)


def test_other_errors():
    with pytest.raises(ValueError, match="conv_matrix: w should be a 1-D or 2-D kernel, got 3-D"):
        tg.conv_matrix(np.ones((2, 2, 2)), 4)
    with pytest.raises(TypeError, match="conv2d: expected tensors, got ndarray and Tensor"):
        tg.conv2d(np.zeros((1, 1, 4, 4)), tg.zeros(1, 1, 3, 3))
    with pytest.raises(TypeError, match="conv2d: mixed dtypes, input float32 and weight float64"):
        tg.conv2d(tg.zeros(1, 1, 4, 4), tg.zeros(1, 1, 3, 3, dtype="float64"))


def test_recorded_nodes_keep_no_columns():
    """What a convolution keeps for its gradients is its two inputs, not an unfolded copy."""
    x, w = tg.ones(1, 2, 6, 6).requires_grad_(), tg.ones(3, 2, 3, 3).requires_grad_()
    node = tg.conv2d(x, w, padding=1).node
    assert isinstance(node, tape.Node) and set(node.saved) == {"x", "w"} and node.out is None
