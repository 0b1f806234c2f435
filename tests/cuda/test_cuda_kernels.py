"""The CUDA kernels on the emulator: every kernel, route and geometry, in shuffled orders, under sanitizers.

tests/backends/test_backends.py holds the emulated device to the reference like any other backend. Here is what only
CUDA has: routes of the gather form, precisions, layouts of matrices, and the count that shows that no kernel goes
untested. What takes minutes carries the marker `emulated`: pytest -m emulated.
"""

from __future__ import annotations

import itertools
import shutil

import numpy as np
import on_device
import pytest
import test_backends
import test_conv
from test_cuda_emulator import needs_sanitizers, sanitized

import tinygen as tg
from tinygen.backends import KERNEL_NAMES, reference
from tinygen.backends.cuda import Cuda, emulated, gather, sources
from tinygen.backends.geometry import Geometry, Pieces

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="the emulator needs g++")

F32, F64 = np.float32, np.float64
EXACT = ["direct_1", "direct_8", "sums", "simt_64", "simt_128", "tf32x3_64", "tf32x3_128"]
ROUNDED = {"tf32": 2e-3, "bf16": 1.6e-2}  # of the largest value
ROUTES = [*EXACT, "tf32_64", "tf32_128", "bf16_64", "bf16_128"]


@pytest.fixture
def k():
    table = on_device.table()
    yield table
    table.route, table.single = None, "simt"
    tg.set_float32_matmul_precision("highest")
    emulated.set_seed(0)


def check_geometry(k, index: int, dtype: type) -> None:
    geo, arrays = test_conv.example(index)
    engine = (k.route or "simt").split("_")[0]
    tolerance = ROUNDED.get(engine, 1e-5) if dtype is F32 else 1e-13
    x, w, y = (a.astype(dtype) for a in arrays)
    results = {"conv_weight": k.conv_weight(x, y, geo)}
    if k.route != "sums":  # a block for four numbers: made for weights
        for what, a in (("conv", x), ("conv_transpose", y)):
            results[what], moments = getattr(k, f"{what}_moments")(a, w, geo)
            check_moments(k, results[what], moments)
    expected = dict(zip(test_conv.NAMES, test_conv.expected(index), strict=True))
    for what, got in results.items():
        want = expected[what]
        assert got.dtype == dtype
        test_conv.agree(got, want, tolerance, geo, f"{what} by {k.route} in {dtype.__name__}")


def check_moments(k, result: np.ndarray, moments: np.ndarray | None) -> None:
    """Batch norm from what the convolution added up is batch norm of what it wrote."""
    x = result.reshape(*result.shape[:2], -1)
    one, zero = np.ones(x.shape[1], x.dtype), np.zeros(x.shape[1], x.dtype)
    if moments is None or x.shape[0] * x.shape[2] < 2:
        return
    got = k.channel_norm(x, one, zero, 1e-5, 1.0, moments)
    want = reference.channel_norm(x.astype(F64), one.astype(F64), zero.astype(F64), 1e-5)
    tolerance = 1e-5 if x.dtype == F32 else 1e-11
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [F32, F64])
def test_every_ninth_geometry(k, dtype):
    for index in range(0, len(test_conv.GEOMETRIES), 9):
        check_geometry(k, index, dtype)


@pytest.mark.emulated
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("route", [None, *ROUTES])
def test_every_geometry_by_every_route_in_three_orders(k, route, seed):
    k.route = route
    emulated.set_seed(seed)
    for index in range(len(test_conv.GEOMETRIES)):
        check_geometry(k, index, F32)
        if route in (None, "direct_1", "direct_8", "sums", "simt_64"):
            check_geometry(k, index, F64)


@pytest.mark.parametrize("route", ROUTES)
def test_each_route_on_some_geometries(k, route):
    k.route = route
    emulated.set_seed(1)
    count = len(test_conv.GEOMETRIES)  # the last 16 are the larger ones
    for index in [*range(3, count - 16, 90), *range(count - 16, count, 5)]:
        check_geometry(k, index, F32)


def test_bias_and_activation_after_a_shared_out_sum(rng):
    """k is split over blocks; bias and activation wait for the second pass."""
    k = emulated.on_numpy()
    geo = Geometry((1, 70, 6, 6), (12, 70, 3, 3), (1, 12, 6, 6), pad=(1, 1))
    x, w, b = (rng.standard_normal(s) for s in (geo.x_shape, geo.w_shape, (12,)))
    k.route, before = "simt_64", k.launcher.launches["sum_slabs"]
    np.testing.assert_allclose(k.conv(x, w, geo, b), reference.conv(x, w, geo, b), rtol=1e-12, atol=1e-11)
    assert k.launcher.launches["sum_slabs"] == before + 1
    y = np.empty(geo.y_shape)
    y, moments = k.conv_moments(x, w, geo, b, 0.2)
    np.testing.assert_allclose(y, reference.conv(x, w, geo, b, 0.2), rtol=1e-12, atol=1e-11)
    assert moments is None  # the tiles hold parts of sums


@pytest.mark.parametrize("route", [None, *ROUTES])
def test_bias_activation_and_moments_in_the_epilogue(k, rng, route, monkeypatch):
    """Moments are those of what is written, far from zero too, with many tiles and few; dense layers are products."""
    k.route = None if route == "sums" else route
    tolerance, geometries = ROUNDED.get((route or "").split("_")[0], 1e-5), [
        Geometry((2, 10, 37, 33), (20, 10, 3, 3), (2, 20, 19, 17), stride=(2, 2), pad=(1, 1)),
        Geometry((1, 6, 9, 8), (132, 3, 2, 2), (1, 132, 8, 7), groups=2),
        Geometry((70, 3, 4, 4), (9, 3, 4, 4), (70, 9, 1, 1)),
    ]  # fmt: skip
    launched, launch = set(), k.launcher.launch
    monkeypatch.setattr(k.launcher, "launch", lambda name, *rest: (launched.add(name), launch(name, *rest)))
    for geo, slope in itertools.product(geometries, (1.0, 0.0, 0.2)):
        x, w, y = (rng.standard_normal(s).astype(F32) for s in (geo.x_shape, geo.w_shape, geo.y_shape))
        for name, a, channels in (("conv", x, geo.w_shape[0]), ("conv_transpose", y, geo.x_shape[1])):
            b = (100 + rng.standard_normal(channels)).astype(F32)
            got, moments = getattr(k, f"{name}_moments")(a, w, geo, b, slope)
            np.testing.assert_array_equal(getattr(k, name)(a, w, geo, b, slope), got)
            check_moments(k, got, moments)
            want = getattr(reference, name)(*(v.astype(F64) for v in (a, w)), geo, b.astype(F64), slope)
            test_conv.agree(got, want, tolerance, geo, f"{name} by {route}")
            if not geo.is_dense and k.route:
                assert (moments is not None) == ("direct" not in k.route)
    assert "channel_statistics" not in launched
    assert k.route in (None, "direct_1", "direct_8") or "channel_normalize" in launched


MATRICES = [((5, 7), (7, 4)), ((1, 1), (1, 1)), ((70, 300), (300, 90)), ((3, 2, 5, 7), (7, 4)),
            ((3, 1, 5, 7), (2, 7, 4)),
            ((5, 0), (0, 4)), ((0, 5), (5, 3)),
            ((2, 130, 20), (2, 20, 140))]  # fmt: skip


@pytest.mark.parametrize("route", [None, "simt_64", "simt_128", "tf32x3_64", "tf32_128", "bf16_64"])
def test_matmul_of_any_layout(k, rng, route):
    k.route = route
    tolerance = ROUNDED.get((route or "").split("_")[0], 1e-5)
    for a_shape, b_shape in MATRICES:
        a, b = rng.standard_normal(a_shape).astype(F32), rng.standard_normal(b_shape).astype(F32)
        want = np.matmul(a.astype(F64), b)
        views = [lambda x: x]
        if min(len(a_shape), len(b_shape)) > 1:
            views += [lambda x: x.swapaxes(-1, -2).copy().swapaxes(-1, -2), lambda x: x[::-1].copy()[::-1],
                      lambda x: np.repeat(x, 2, -1)[..., ::2]]  # fmt: skip
        for left in views:
            for right in views:
                got = k.matmul(left(a), right(b))
                assert got.shape == want.shape
                assert got.flags.c_contiguous
                scale = max(1.0, np.abs(want).max(initial=0))
                np.testing.assert_allclose(got, want, atol=tolerance * scale, rtol=0)


def test_precision_changes_the_engine_and_no_more(k, rng):
    """highest: float32; high: tf32; medium: bfloat16; float64 stays what it is."""
    a, b = rng.standard_normal((80, 200)).astype(F32), rng.standard_normal((200, 90)).astype(F32)
    want, errors = a.astype(F64) @ b, {}
    for precision in ("highest", "high", "medium"):
        tg.set_float32_matmul_precision(precision)
        assert tg.get_float32_matmul_precision() == precision
        errors[precision] = np.abs(k.matmul(a, b) - want).max() / np.abs(want).max()
        assert np.abs(k.matmul(a.astype(F64), b.astype(F64)) - want).max() < 1e-12
    assert errors["highest"] < 1e-6
    assert 1e-5 < errors["high"] < 1e-3 < errors["medium"] < 2e-2
    tg.set_float32_matmul_precision("highest")
    k.single = "tf32x3"
    assert np.abs(k.matmul(a, b) - want).max() / np.abs(want).max() < 1e-6
    with pytest.raises(ValueError, match="'low' is none of highest, high, medium"):
        tg.set_float32_matmul_precision("low")


@pytest.mark.parametrize("route", ["tf32x3_64", "tf32x3_128"])
def test_a_long_sum_on_tensor_cores_is_as_exact_as_float32s(k, rng, route):
    """Tensor cores cut their sums off: left to them, those of positive numbers would shrink with their length."""
    a, b = rng.random((3, 20_000)).astype(F32), rng.random((20_000, 3)).astype(F32)
    k.route, want = route, a.astype(F64) @ b
    assert np.abs(k.matmul(a, b) / want - 1).max() < 3e-6


@pytest.mark.parametrize("route", ["simt_64", "tf32_64", "tf32x3_64", "bf16_64"])
def test_not_a_number_stays_one_whatever_it_is_rounded_to(k, rng, route):
    a, b = rng.standard_normal((3, 40)).astype(F32), rng.standard_normal((40, 3)).astype(F32)
    a[0, 3] = np.uint32(0x7FFFFFFF).view(F32)  # what a GPU's own operations give
    a[1, 5], b[7, 1] = np.float32("nan"), np.uint32(0xFFFFFFFF).view(F32)
    k.route = route
    got, want = k.matmul(a, b), a.astype(F64) @ b
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    assert np.isnan(want).sum() == 7
    if route != "tf32x3_64":  # where infinity - infinity is what its low half would be
        a[2, 1] = np.inf
        np.testing.assert_array_equal(k.matmul(a, b)[2, [0, 2]], np.sign(b[1, [0, 2]]) * np.inf)


def test_what_fills_the_tables_up_lies_outside():
    """The last tile of k is whole: what is beyond the last tap must meet no pixel of any column."""
    geometries = [*test_conv.GEOMETRIES[::5], Geometry((1, 1, 1, 70_000), (1, 1, 1, 5), (1, 1, 1, 69_996))]
    for geo in geometries:
        for t in (gather.convolution(geo, False), gather.convolution(geo, True), gather.transposed(geo)):
            for first, count, first_j, columns in t.phases:
                assert first % 32 == 0
                more = t.b_k[first + count : first + -(-count // 32) * 32, 1].astype(np.int64)
                words = more[:, None] + t.b_j[first_j : first_j + columns, 1] & 0xFFFFFFFF
                assert len(more) == -count % 32
                assert ((~words | words - t.limit) & t.signs).all()


def test_an_integer_matmul_is_refused(k):
    with pytest.raises(TypeError, match="matmul: expected float32 or float64, got int64"):
        k.matmul(np.ones((2, 2), int), np.ones((2, 2), int))


def test_long_images_and_long_kernels(k, rng):
    """Positions are packed into 32 bits, shared out between rows and columns as the geometry needs it."""
    for geo in [
        Geometry((1, 1, 1, 70_000), (2, 1, 1, 41), (1, 2, 1, 34_980), stride=(1, 2)),
        Geometry((1, 1, 300, 1), (1, 1, 200, 1), (1, 1, 301, 1), pad=(100, 0)),
    ]:
        x, w, y = (rng.standard_normal(s) for s in (geo.x_shape, geo.w_shape, geo.y_shape))
        results, expected = (test_conv.contractions(table, geo, x, w, y) for table in (k, reference))
        for what, got, want in zip(test_conv.NAMES, results, expected, strict=True):
            test_conv.agree(got, want, 1e-12, geo, what)
    with pytest.raises(ValueError, match="too large"):
        gather.convolution(Geometry((1, 1, 2**17, 2**17), (1, 1, 1, 1), (1, 1, 1, 1)), weight=False)


# ---------------------------------------------------------------- every kernel on small shapes


def primitives(k) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x, bits, sums) of csrc/cuda/primitives.cu."""
    x = np.random.default_rng(5).standard_normal(576).astype(F32)
    upload = k.launcher.upload
    there = upload(x), upload(np.zeros(1312, np.uint32)), upload(np.zeros(320, F32))
    k.launcher.launch("primitives", False, 1, 32, there)
    back = [a if isinstance(a, np.ndarray) else a.get() for a in there]
    return back[0], back[1], back[2]


def check_primitives(k) -> None:
    """The twins of device.h: bits of conversions, fragments of products, asynchronous copies, exchanges of a warp."""
    x, bits, sums = primitives(k)
    word = x.view(np.uint32)[:512]
    np.testing.assert_array_equal(bits[:512] & ~np.uint32(0x1FFF), (word + 0x1000) & ~np.uint32(0x1FFF))
    np.testing.assert_array_equal(bits[512:1024], (word + 0x7FFF + (word >> 16 & 1)) >> 16)
    lanes, mine = np.arange(32), bits[:32]
    np.testing.assert_array_equal(bits[1024:1056], mine[lanes * 7 % 32])
    np.testing.assert_array_equal(bits[1056:1088], mine[lanes ^ 5])
    assert set(bits[1088:1120]) == {sum(1 << int(i) for i in np.nonzero(x[:32] > 0)[0])}
    np.testing.assert_array_equal(bits[1120:1152], [sum(1 << i for i in range(32) if i % 5 == j % 5) for j in lanes])
    np.testing.assert_array_equal(bits[1152:1184], [int(v) * 0xD2511F53 >> 32 for v in mine])
    np.testing.assert_array_equal(bits[1184:1312].view(F32), x[:128])
    tf32 = ((x.view(np.uint32) + 0x1000) & 0xFFFFE000).astype(np.uint32).view(F32).astype(F64)
    want = tf32[:128].reshape(16, 8) @ tf32[128:192].reshape(8, 8)
    np.testing.assert_allclose(sums[:128].reshape(16, 8), want, rtol=1e-5, atol=1e-5)
    word = x.view(np.uint32)
    bf16 = ((word + 0x7FFF + (word >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(F32).astype(F64)
    want = bf16[192:448].reshape(16, 16) @ bf16[448:].reshape(16, 8)
    np.testing.assert_allclose(sums[128:256].reshape(16, 8), want, rtol=1e-5, atol=1e-5)
    copied = np.concatenate([x[:32], np.where(lanes % 3, x[32:64], 0)])
    np.testing.assert_array_equal(sums[256:320], np.concatenate([copied[:32][::-1], copied[32:][::-1]]))


def test_primitives_on_the_device_equal_the_emulators(k):
    """Bit by bit where nothing is summed: what a GPU must confirm first."""
    for mine, twin in zip(primitives(k), primitives(emulated.on_numpy()), strict=True):
        if mine.dtype == np.uint32:  # tf32 has 19 bits; PTX does not say what the other 13 are
            mine[:512], twin[:512] = mine[:512] >> 13, twin[:512] >> 13
        if mine.dtype == F32:
            np.testing.assert_allclose(mine, twin, rtol=1e-5, atol=1e-5)
        else:
            np.testing.assert_array_equal(mine, twin)
    check_primitives(k)


def every_kernel(k) -> None:
    """Launches every kernel of csrc/cuda at least once and holds it to the reference: what the sanitizers run."""
    rng = np.random.default_rng(0)
    for family in test_backends.FAMILIES.values():
        seen: dict[str, int] = {}
        for name, args in family(rng):
            if seen.setdefault(name, 0) < 2 and 0 < args[0].size < 3000:
                seen[name] += 1
                test_backends.check(k, name, args, F32)
    test_backends.check(k, "softmax", (rng.standard_normal((2, 1100)),), F32)  # a block to a row
    test_backends.check(k, "sum", (rng.standard_normal((7, 50, 4)), (1,)), F32)
    for kind, options in test_backends.OPTIMIZERS.values():
        for dtype in (F32, F64):
            p, g = rng.standard_normal((2, 40)).astype(dtype)  # in three pieces
            want = p.astype(F64)
            test_backends.run_steps(reference, kind, options, want, [g.astype(F64)])
            test_backends.run_steps(k, kind, options, p, [g])
            np.testing.assert_allclose(p, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(k.random_bits(1, 2, 3, 1001), reference.random_bits(1, 2, 3, 1001))
    np.testing.assert_array_equal(k.random_uniform(1, 2, 3, (7,), F32), reference.random_uniform(1, 2, 3, (7,), F32))
    np.testing.assert_allclose(k.random_normal(1, 2, 3, (7,), F32), reference.random_normal(1, 2, 3, (7,), F32), 1e-6)
    geo = Geometry((2, 9, 9, 7), (20, 9, 3, 2), (2, 20, 5, 4), stride=(2, 2), pad=(1, 1))
    x, w, y = (rng.standard_normal(s) for s in (geo.x_shape, geo.w_shape, geo.y_shape))
    want, single = test_conv.contractions(reference, geo, x, w, y), [v.astype(F32) for v in (x, w, y)]
    for k.route in (None, *ROUTES):
        tolerance = ROUNDED.get((k.route or "").split("_")[0], 1e-5)
        for what, a, b in zip(test_conv.NAMES, test_conv.contractions(k, geo, *single), want, strict=True):
            test_conv.agree(a, b, tolerance, geo, f"{what} by {k.route}")
        if k.route and k.route not in ("direct_1", "direct_8", "sums"):
            many_tiles = Geometry((1, 9, 48, 48), (20, 9, 2, 2), (1, 20, 12, 12), stride=(4, 4))
            for shape in (geo, many_tiles) if k.route == "simt_64" else (geo,):
                v, u = (rng.standard_normal(s).astype(F32) for s in (shape.y_shape, shape.w_shape))
                got, moments = k.conv_transpose_moments(v, u, shape, None, 0.2)
                check_moments(k, got, moments)
                assert moments is not None
            a, b = rng.standard_normal((40, 20)).astype(F32), rng.standard_normal((30, 40)).astype(F32)
            for left, right in ((a.T, b.T), (a.T.copy(), b.T), (a.T, b.T.copy())):
                np.testing.assert_allclose(k.matmul(left, right), left @ right, atol=40 * tolerance)
    check_primitives(k)
    k.route = "simt_64"
    long = Geometry((1, 300, 4, 4), (6, 300, 3, 3), (1, 6, 4, 4), pad=(1, 1))
    x, w = (rng.standard_normal(s).astype(F32) for s in (long.x_shape, long.w_shape))
    test_conv.agree(k.conv(x, w, long), reference.conv(x, w, long), 1e-5, long, "a sum shared out")
    k.route = None


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_kernel_was_launched_and_is_right_in_any_order(k, seed, monkeypatch):
    emulated.set_seed(seed)
    launched, launch = set(), k.launcher.launch
    monkeypatch.setattr(k.launcher, "launch", lambda name, *rest: (launched.add(name), launch(name, *rest)))
    every_kernel(k)
    assert launched == set(sources.kernel_files())


def test_every_kernel_of_the_table_launches_one_of_ours(k):
    """Nothing falls back: with the launcher taken away, every function of the table fails."""

    class Refusing:
        processors, tensor_cores = 4, True
        upload, empty = staticmethod(np.copy), staticmethod(np.empty)

        def launch(self, *args):
            raise LookupError("no kernels here")

    bare, rng, tried = Cuda("bare", k.xp, Refusing()), np.random.default_rng(0), set()
    calls = [(name, args) for family in test_backends.FAMILIES.values() for name, args in family(rng)]
    geo = Geometry((1, 2, 3, 3), (2, 2, 2, 2), (1, 2, 2, 2))
    x, w, y, p, one = np.ones(geo.x_shape), np.ones(geo.w_shape), np.ones(geo.y_shape), np.ones(4), np.ones(())
    g = Pieces([p], [0])
    calls += [("conv", (x, w, geo)), ("conv_transpose", (y, w, geo)), ("conv_moments", (x, w, geo)),
              ("conv_transpose_moments", (y, w, geo)), ("conv_weight", (x, y, geo)), ("matmul", (x, x)),
              ("linear", (x[0, 0], x[0, 0])), ("sgd_step", (g, g, None, one, one, 0.0, 0.0, 0.0, False)),
              ("adam_step", (g, g, p, p, one, one, 0.9, 0.9, 1e-8, 0.0, False)),
              ("rmsprop_step", (g, g, p, None, None, one, 0.9, 1e-8, 0.0, 0.0)), ("random_bits", (0, 0, 0, 4)),
              ("random_uniform", (0, 0, 0, (4,), F32)), ("random_normal", (0, 0, 0, (4,), F32))]  # fmt: skip
    for name, args in calls:
        if name in tried or (hasattr(args[0], "size") and args[0].size == 0):
            continue
        tried.add(name)
        with pytest.raises(LookupError):
            getattr(bare, name)(*args)
    assert tried == set(KERNEL_NAMES)


@needs_sanitizers
@pytest.mark.emulated
@pytest.mark.parametrize("mode", ["address", "thread"])
def test_every_kernel_under_a_sanitizer(mode):
    done = sanitized(mode, "-c", "import test_cuda_kernels as t; t.emulated.set_seed(1); "
                                 "t.every_kernel(t.on_device.table()); print('finished')")  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.strip() == "finished"
