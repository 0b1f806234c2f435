"""Pointwise ops: derivatives of both orders, values and gradients as in torch, also at kinks, infinities and NaN."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygen as tg
from tinygen.ops import pointwise
from tinygen.tape import Op
from tinygen.testing import composite_check, gradcheck, gradgradcheck

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # log(0), 1 / 0: NumPy's remark on the edge values


def t(values, dtype=np.float64, grad=False):
    return tg.tensor(np.asarray(values, dtype)).requires_grad_(grad)


def between(low, high, *shape, seed=0):
    return t(np.random.default_rng(seed).uniform(low, high, shape))


def apart(*shape, seed=0):
    """Values with random signs, all at least 0.1 from 0: away from every kink there."""
    rng = np.random.default_rng(seed)
    return t(rng.uniform(0.1, 2.0, shape) * rng.choice([-1.0, 1.0], shape))


X, Y, ROW = apart(3, 4), apart(3, 4, seed=1), apart(4, seed=2)
POSITIVE = between(0.2, 3.0, 3, 4)
MASK = t(np.arange(12).reshape(3, 4) % 3 == 0, bool)

# name: [(function, inputs)]; every differentiable function of the module is here, or the test below fails.
DIFFERENTIABLE = {
    "add": [(tg.add, [X, ROW]), (lambda x: x + 2, [X]), (lambda x: 2 + x, [X])],
    "sub": [(tg.sub, [X, ROW]), (lambda x: x - 2, [X]), (lambda x: 2 - x, [X])],
    "mul": [(tg.mul, [X, ROW]), (lambda x: x * 3, [X]), (lambda x: x * x, [X])],
    "div": [(tg.div, [X, POSITIVE]), (tg.div, [ROW, X]), (lambda x: x / 3, [X]), (lambda x: 3 / x, [X])],
    "neg": [(tg.neg, [X])],
    "pow": [
        (tg.pow, [POSITIVE, Y]), (tg.pow, [POSITIVE, ROW]), (lambda y: 2 ** y, [Y]), (lambda x: x ** -1.5, [POSITIVE]),
        *[(lambda x, p=p: x ** p, [X]) for p in (0, 1, 2, 3, 4, 5, -1, -2, 2.0)],
        *[(lambda x, p=p: x ** p, [POSITIVE]) for p in (0.5, 2.5)],
    ],
    "square": [(tg.square, [X])],
    "reciprocal": [(tg.reciprocal, [X])],
    "fmod": [(lambda x: tg.fmod(x, 0.7), [X])],
    "remainder": [(lambda x: x % 0.7, [X])],
    "lerp": [(tg.lerp, [X, ROW, POSITIVE]), (lambda a, b: tg.lerp(a, b, 0.3), [X, Y])],
    "addcmul": [(lambda a, b, c: tg.addcmul(a, b, c, value=0.5), [X, Y, ROW])],
    "addcdiv": [(lambda a, b, c: tg.addcdiv(a, b, c, value=0.5), [X, Y, POSITIVE])],
    "exp": [(tg.exp, [X])],
    "log": [(tg.log, [POSITIVE])],
    "log1p": [(tg.log1p, [POSITIVE])],
    "expm1": [(tg.expm1, [X])],
    "sqrt": [(tg.sqrt, [POSITIVE])],
    "rsqrt": [(tg.rsqrt, [POSITIVE])],
    "sin": [(tg.sin, [X])],
    "cos": [(tg.cos, [X])],
    "erf": [(tg.erf, [X])],
    "abs": [(tg.abs, [X])],
    "maximum": [(tg.maximum, [X, Y]), (tg.maximum, [ROW, X]), (lambda x: tg.maximum(x, 0.05), [X])],
    "minimum": [(tg.minimum, [X, Y]), (tg.minimum, [ROW, X]), (lambda x: tg.minimum(x, 0.05), [X])],
    "clamp": [
        (lambda x: x.clamp(-1, 0.7), [X]), (lambda x: x.clamp(min=-0.5), [X]), (lambda x: x.clamp(max=0.5), [X]),
        (lambda x, low, high: x.clamp(low, high), [X, t(-1.03), t([0.5, 0.6, 0.7, 0.8])]),
    ],
    "where": [
        (lambda x, y: tg.where(MASK, x, y), [X, ROW]), (lambda x: tg.where(MASK, x, 1.0), [X]),
        (lambda x: x.where(MASK, 2.0), [ROW]),
    ],
    "cast": [(lambda x: (x * 2).float().double(), [t([0.5, 1.0, -2.0])])],
    "tanh": [(tg.tanh, [X])],
    "sigmoid": [(tg.sigmoid, [X])],
    "softplus": [(tg.softplus, [X])],
    "log_sigmoid": [(tg.log_sigmoid, [X])],
    "relu": [(tg.relu, [X])],
    "leaky_relu": [(tg.leaky_relu, [X]), *[(lambda x, s=s: tg.leaky_relu(x, s), [X]) for s in (0, 0.2, -0.5)]],
    "elu": [(tg.elu, [X]), (lambda x: tg.elu(x, 0.3), [X])],
    "selu": [(tg.selu, [X])],
    "gelu": [(tg.gelu, [X]), (lambda x: tg.gelu(x, approximate="tanh"), [X])],
    "silu": [(tg.silu, [X])],
    "sign": [(tg.sign, [X])],
}  # fmt: skip
# name: inputs; these have no derivative.
CONSTANT = {
    "floor_divide": [X, Y], "floor": [X], "ceil": [X], "round": [X], "trunc": [X],
    **{n: [X, Y] for n in ("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor")},
    **{n: [X] for n in ("logical_not", "isnan", "isinf", "isfinite")},
}  # fmt: skip
CASES = [
    pytest.param(f, xs, id=f"{name}-{i}") for name, cases in DIFFERENTIABLE.items() for i, (f, xs) in enumerate(cases)
]


def test_every_op_has_a_case():
    assert set(pointwise.__all__) == {*DIFFERENTIABLE, *CONSTANT}
    ops = {n: f for n, f in vars(pointwise).items() if isinstance(f, Op)}
    assert len(ops) > 40
    for name in CONSTANT:
        assert not ops[name].rules and not ops[name].composite, name


@pytest.mark.parametrize("f, inputs", CASES)
def test_gradient(f, inputs):
    # A float32 in between allows no finite differences finer than its own rounding.
    tolerance = {"eps": 2.0**-10, "rtol": 1e-3} if f in [c[0] for c in DIFFERENTIABLE["cast"]] else {}
    assert gradcheck(f, inputs, **tolerance)


@pytest.mark.parametrize("f, inputs", [c for c in CASES if not c.id.startswith("cast")])
def test_second_derivative(f, inputs):
    assert gradgradcheck(f, inputs)


@pytest.mark.parametrize("f, inputs", [c for c in CASES if not c.id.startswith("cast")])
def test_float32_stays_float32(f, inputs):
    """In the value and in the gradients of both orders, with numbers near float64's."""
    found = {}
    for dtype in (np.float32, np.float64):
        xs = [x.detach().to(dtype).requires_grad_() for x in inputs]
        y = f(*xs)
        y = y[0] if isinstance(y, tuple) else y
        first = tg.grad((y * y).sum(), xs, create_graph=True)
        second = tg.grad(sum((g * g).sum() for g in first), xs, allow_unused=True)
        found[dtype] = [v.detach().numpy() for v in (y, *first, *second) if v is not None]
        assert {v.dtype for v in found[dtype]} == {np.dtype(dtype)}
    for a, b in zip(found[np.float32], found[np.float64], strict=True):
        assert np.abs(a - b).max() <= 1e-3 * max(1, np.abs(b).max())


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "softplus", "gelu", "silu", "elu", "div", "pow", "erf", "rsqrt"])
def test_third_derivative(name):
    f, inputs = DIFFERENTIABLE[name][0]

    def gradients(*xs):
        with tg.enable_grad():
            xs = [x if x.requires_grad else x.detach().requires_grad_() for x in xs]
            return tg.grad(f(*xs).sum(), xs, create_graph=True)

    assert gradgradcheck(gradients, inputs, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(CONSTANT))
def test_without_gradient(name):
    inputs = [x.detach().requires_grad_() for x in CONSTANT[name]]
    out = getattr(tg, name)(*inputs)
    assert not out.requires_grad and out.shape == (3, 4)


@pytest.mark.parametrize("op, attributes", [
    (pointwise._elu, {"alpha": 0.7, "scale": 1.3}), (pointwise.silu, {}),
    (pointwise._gelu, {"tanh": False}), (pointwise._gelu, {"tanh": True}),
])  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_fast_vjp_equals_the_composite(op, attributes, dtype):
    assert composite_check(op, [np.random.default_rng(0).normal(0, 3, (5, 7)).astype(dtype)], **attributes)


# ---------------------------------------------------------------- beside torch

UNARY = {
    **{n: n for n in ("exp", "log", "log1p", "expm1", "sqrt", "rsqrt", "reciprocal", "square", "neg", "abs")},
    **{n: n for n in ("sin", "cos", "erf", "tanh", "sigmoid", "relu")},
    **{n: "nn.functional." + n for n in ("softplus", "selu", "elu", "leaky_relu", "silu", "gelu")},
    "log_sigmoid": "nn.functional.logsigmoid",
}  # fmt: skip
PIECEWISE = ["sign", "floor", "ceil", "round", "trunc", "isnan", "isinf", "isfinite", "logical_not"]
EDGES = [-np.inf, -90.0, -50.0, -2.5, -1.0, -0.5, -1e-30, -0.0]
EDGES += [0.0, 1e-30, 0.5, 1.0, 1.5, 2.5, 50.0, 90.0, np.inf, np.nan]


def torchs(name):
    torch = pytest.importorskip("torch")
    f = torch
    for part in name.split("."):
        f = getattr(f, part)
    return f


def beside(f, g, *arrays, dtype="float32", rtol=None):
    """Asserts that f and torch's g agree in value and in the gradients of all floating inputs (not at NaN inputs)."""
    torch = pytest.importorskip("torch")
    arrays = [a.astype(dtype) if a.dtype.kind == "f" else a for a in map(np.asarray, arrays)]
    ours = [tg.tensor(a.copy()) for a in arrays]
    theirs = [torch.tensor(a.copy()) for a in arrays]
    for x in (*ours, *theirs):
        if np.asarray(x.detach()).dtype.kind == "f":
            x.requires_grad_()
    a, b = f(*ours), g(*theirs)
    rtol = rtol or (2e-6 if dtype == "float32" else 1e-12)
    assert a.detach().numpy().dtype == b.detach().numpy().dtype
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=rtol, atol=rtol * 1e-2)
    weights = np.linspace(0.5, 1.5, a.numel()).reshape(a.shape).astype(dtype)
    wanted = [i for i, x in enumerate(ours) if x.requires_grad]
    mine = tg.grad(a, [ours[i] for i in wanted], tg.tensor(weights))
    others = torch.autograd.grad(b, [theirs[i] for i in wanted], torch.tensor(weights))
    for x, y in zip(mine, others):
        known = ~np.isnan(arrays[0]) if len(arrays) == 1 else ...
        np.testing.assert_allclose(x.numpy()[known], y.numpy()[known], rtol=rtol * 4, atol=rtol * 1e-2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(UNARY))
def test_unary_as_torch_at_the_edges(name, dtype):
    edges = np.array(EDGES)
    if name in ("silu", "gelu"):  # -inf * 0: there torch's vector and scalar code differ
        edges = edges[~np.isinf(edges)]
    beside(getattr(tg, name), torchs(UNARY[name]), edges, dtype=dtype, rtol=5e-6 if dtype == "float32" else 1e-11)


@pytest.mark.parametrize("name", PIECEWISE)
def test_piecewise_constant_as_torch(name):
    x = np.array(EDGES if name != "sign" else EDGES[:-1], np.float32)  # torch's sign of NaN is 0, NumPy's and ours NaN
    expected = torchs(name)(torchs("tensor")(x)).numpy()
    got = getattr(tg, name)(t(x, np.float32)).numpy()
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


BINARY = ["add", "sub", "mul", "div", "pow", "maximum", "minimum"]
COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor"]
REMAINDERS = ["fmod", "remainder", "floor_divide"]
FIRST, SECOND = [-np.inf, -2.0, -0.5, 0.0, 0.5, 1.0, 3.0, np.inf, np.nan], [-2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0]
PAIRS = np.array(np.meshgrid(FIRST, SECOND)).reshape(2, -1)


@pytest.mark.parametrize("name", BINARY)
def test_binary_as_torch_at_the_edges(name):
    x, y = PAIRS
    if name == "pow":  # the derivative of NaN ** 0 is NaN here and 0 in torch
        x, y = PAIRS[:, ~(np.isnan(PAIRS[0]) & (PAIRS[1] == 0))]
    beside(getattr(tg, name), torchs(name), x, y, dtype="float64")


@pytest.mark.parametrize("name", COMPARISONS + REMAINDERS)
def test_comparisons_and_remainders_as_torch(name):
    x, y = PAIRS[:, PAIRS[1] != 0]
    expected = torchs(name)(torchs("tensor")(x), torchs("tensor")(y)).numpy()
    np.testing.assert_array_equal(getattr(tg, name)(t(x), t(y)).numpy(), expected)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 4, -1, -2, 0.5, 1.5, -0.5, 2.0])
def test_number_exponents_as_torch(exponent):
    beside(lambda x: x**exponent, lambda x: x**exponent, np.array([-2.0, -1.0, 0.0, 0.5, 3.0]), dtype="float64")


@pytest.mark.parametrize("low, high", [(-1.0, 1.0), (None, 0.0), (0.0, None), (1.0, -1.0), (-np.inf, np.inf)])
def test_clamp_as_torch(low, high):
    x = np.array([-np.inf, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, np.inf, np.nan])
    beside(lambda x: x.clamp(low, high), lambda x: x.clamp(low, high), x)


def test_clamp_by_tensors_as_torch():
    torch = pytest.importorskip("torch")
    x, low = np.array([-2.0, -1.0, 0.0, 1.0, 2.0, 0.0]), np.array([-1.0, -1.0, 0.0, 0.5, 0.5, 1.0])
    high = np.array([1.0, 1.0, 1.0, 1.0, 1.0, -1.0])
    got = tg.clamp(t(x), t(low), t(high)).numpy()
    np.testing.assert_array_equal(got, torch.clamp(torch.tensor(x), torch.tensor(low), torch.tensor(high)).numpy())
    a, b = t(x, grad=True), torch.tensor(x, requires_grad=True)
    (mine,) = tg.grad(a.clamp(t(low), t(high)).sum(), a)
    torch.clamp(b, torch.tensor(low), torch.tensor(high)).sum().backward()
    np.testing.assert_array_equal(mine.numpy(), b.grad.numpy())


@pytest.mark.parametrize("f", [
    lambda x, lib: lib.maximum(x, lib.zeros_like(x)), lambda x, lib: lib.abs(x), lambda x, lib: lib.relu(x),
    lambda x, lib: x.clamp(0, 1), lambda x, lib: lib.where(x > 0, x, x * 2),
])  # fmt: skip
def test_kinks_as_torch(f):
    torch = pytest.importorskip("torch")
    beside(lambda x: f(x, tg), lambda x: f(x, torch), np.array([-1.0, 0.0, -0.0, 1.0, 2.0]))


def test_ties_share_half_and_half():
    x, y = t([1.0, 2.0], grad=True), t([1.0, 1.0], grad=True)
    for f, expected in ((tg.maximum, ([0.5, 1], [0.5, 0])), (tg.minimum, ([0.5, 0], [0.5, 1]))):
        for g, e in zip(tg.grad(f(x, y).sum(), [x, y]), expected):
            np.testing.assert_array_equal(g.numpy(), e)


# ---------------------------------------------------------------- numbers that must not go wrong


def test_zero_to_the_power_of_numbers_has_finite_derivatives():
    x = t([0.0, 0.0, 2.0], grad=True)
    derivatives = {0: ([0] * 3, [0] * 3), 1: ([1] * 3, [0] * 3), 2: ([0, 0, 4], [2, 2, 2]), 3: ([0, 0, 12], [0, 0, 12])}
    for p, (first, second) in derivatives.items():
        (g,) = tg.grad((x**p).sum(), x, create_graph=True)
        np.testing.assert_array_equal(g.detach().numpy(), first)
        if g.requires_grad:
            found = tg.grad(g.sum(), x, allow_unused=True)[0]
            np.testing.assert_array_equal(np.zeros(3) if found is None else found.numpy(), second)


def test_zero_to_the_power_of_a_tensor():
    x, y = t([0.0, 0.0, 0.0], grad=True), t([0.0, 1.0, 2.0], grad=True)
    gx, gy = tg.grad((x**y).sum(), [x, y])
    np.testing.assert_array_equal(gx.numpy(), [0, 1, 0])
    np.testing.assert_array_equal(gy.numpy(), [0, 0, 0])


@pytest.mark.parametrize("f, second", [
    (tg.sigmoid, lambda x: -np.sign(x) * np.exp(-np.abs(x))), (tg.softplus, lambda x: np.exp(-np.abs(x))),
    (tg.silu, lambda x: (2 - np.abs(x)) * np.exp(-np.abs(x))), (tg.log_sigmoid, lambda x: -np.exp(-np.abs(x))),
    (tg.tanh, lambda x: 0 * x), (tg.gelu, lambda x: 0 * x), (tg.elu, lambda x: np.where(x < 0, np.exp(x), 0)),
])  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_second_derivatives_far_out(f, second, dtype):
    """At |x| = 50 (and 1000) they are tiny, never NaN."""
    x = t([-1000.0, -50.0, 50.0, 1000.0], dtype, grad=True)
    (g,) = tg.grad(f(x).sum(), x, create_graph=True)
    (gg,) = tg.grad(g.sum(), x)
    assert np.isfinite(f(x).detach().numpy()).all() and np.isfinite(g.detach().numpy()).all()
    np.testing.assert_allclose(gg.numpy(), second(x.detach().numpy().astype(np.float64)), rtol=1e-4, atol=1e-15)


def test_an_inner_where_keeps_nan_out():
    x = t([-1.0, 0.0, 4.0], grad=True)
    y = tg.where(x > 0, tg.where(x > 0, x, 1.0).log(), 0.0)
    (g,) = tg.grad(y.sum(), x)
    np.testing.assert_array_equal(g.numpy(), [0, 0, 0.25])


# ---------------------------------------------------------------- dtypes, shapes, errors


@pytest.mark.parametrize("name", sorted(UNARY.keys() - {"neg", "square", "abs", "relu"}))
def test_integers_become_float32(name):
    expected = torchs(UNARY[name])(torchs("tensor")([1, 2, 3], dtype=torchs("float32"))).numpy()
    for dtype in (np.int64, np.uint8, np.int32):
        got = getattr(tg, name)(t([1, 2, 3], dtype))
        assert got.dtype == np.float32
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["neg", "square", "abs", "relu", "sign", "floor", "ceil", "round", "trunc"])
def test_integers_stay(name):
    got = getattr(tg, name)(t([-2, 0, 3], np.int64))
    assert got.dtype == np.int64
    expected = {"neg": [2, 0, -3], "square": [4, 0, 9], "abs": [2, 0, 3], "relu": [0, 0, 3], "sign": [-1, 0, 1]}
    np.testing.assert_array_equal(got.numpy(), expected.get(name, [-2, 0, 3]))


def test_division_of_integers():
    a, b = t([7, -7, 8], np.int64), t([2, 2, 4], np.int64)
    assert (a / b).dtype == np.float32 and (a / 2).dtype == np.float32 and (1 / a).dtype == np.float32
    np.testing.assert_array_equal((a / b).numpy(), [3.5, -3.5, 2])
    for mode, expected in (("floor", [3, -4, 2]), ("trunc", [3, -3, 2])):
        got = tg.div(a, b, rounding_mode=mode)
        assert got.dtype == np.int64
        np.testing.assert_array_equal(got.numpy(), expected)
        np.testing.assert_array_equal(tg.div(a.double(), b, rounding_mode=mode).numpy(), expected)
    x = t([7.0], grad=True)
    assert tg.grad(tg.div(x, 2.0, rounding_mode="floor").sum(), x)[0].item() == 0
    with pytest.raises(ValueError, match="rounding_mode='up'"):
        tg.div(a, b, rounding_mode="up")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("number", [2, 0.3, True, np.float64(0.3)])
def test_numbers_do_not_change_the_dtype(dtype, number):
    for shape in ((), (3,), (0,), (2, 1)):
        x = t(np.ones(shape), dtype, grad=True)
        for y in (
            x + number, number * x, x - number, number / x, x**number, number**x, tg.maximum(x, number),
            tg.where(x > 0, x, number), x.clamp(number, 5),
        ):  # fmt: skip
            assert y.dtype == dtype and y.shape == shape
            assert tg.grad(y.sum(), x, allow_unused=True)[0].dtype == dtype


@pytest.mark.parametrize("f", [
    lambda x, n: x * n, lambda x, n: x / n, lambda x, n: n / x, lambda x, n: x**n, lambda x, n: n**x,
    lambda x, n: tg.maximum(x, n), lambda x, n: tg.minimum(n, x), lambda x, n: tg.where(x > 1, x, n),
    lambda x, n: tg.lerp(x, n, 0.5), lambda x, n: x.clamp(n),
])  # fmt: skip
def test_integers_beside_float64(f):
    """An integer tensor takes the float dtype beside it, in the derivatives too."""
    x, n = between(0.5, 2.5, 2, 3), t([[1, 2, 3], [4, 5, 6]], np.int64)
    assert gradcheck(lambda x: f(x, n), [x]) and gradgradcheck(lambda x: f(x, n), [x])


@given(st.data())
def test_broadcasting(data):
    shape = data.draw(st.lists(st.integers(0, 3), max_size=3))
    shapes = []
    for _ in range(2):
        s = [1 if data.draw(st.booleans()) else n for n in shape]
        shapes.append(s[data.draw(st.integers(0, len(s))) :])
    x, y = (t(np.random.default_rng(i).uniform(0.5, 2, s), grad=True) for i, s in enumerate(shapes))
    for f, g in ((tg.mul, np.multiply), (tg.div, np.divide), (tg.pow, np.power), (tg.maximum, np.maximum)):
        z = f(x, y)
        np.testing.assert_allclose(z.detach().numpy(), g(x.detach().numpy(), y.detach().numpy()), rtol=1e-15)
        for v, grad in zip((x, y), tg.grad(z.sum(), [x, y])):
            assert grad.shape == v.shape


def test_layouts():
    """Transposed, strided and expanded arrays give the same numbers as contiguous ones."""
    base = np.random.default_rng(0).normal(size=(6, 8))
    for name in (*UNARY, "sign"):
        f = getattr(tg, name)
        for view in (base.T, base[::2, ::-3], np.broadcast_to(base[0], (5, 8))):
            x, y = t(view), tg.tensor(np.ascontiguousarray(view))
            x.array = view  # whatever `tensor` may have copied
            np.testing.assert_array_equal(f(x).numpy(), f(y).numpy())


def test_where():
    x, y = t([1.0, 2.0, 3.0]), t([[10.0], [20.0]])
    mask = tg.tensor([True, False, True])
    np.testing.assert_array_equal(tg.where(mask, x, y).numpy(), [[1, 10, 3], [1, 20, 3]])
    assert tg.where(mask, 1.0, 0.0).dtype == np.float32 and tg.where(mask, 1, 0).dtype == np.int64
    assert tg.where(mask, 1, 0.5).dtype == np.float32
    np.testing.assert_array_equal(tg.where(mask, 1, 0.5).numpy(), [1, 0.5, 1])
    with pytest.raises(TypeError, match=r"bool tensor, got float64.*x > 0"):
        tg.where(x, x, x)
    with pytest.raises(TypeError, match="bool tensor, got bool"):
        tg.where(True, x, x)


def test_cast():
    x = t([1.5, -2.5], np.float32, grad=True)
    assert tg.cast(x, np.float32) is x
    y = x.double()
    assert y.dtype == np.float64 and tg.grad(y.sum(), x)[0].dtype == np.float32
    n = x.long()
    assert n.dtype == np.int64 and not n.requires_grad and n.tolist() == [1, -2]
    assert tg.tensor([0, 2]).bool().tolist() == [False, True]


def test_round_to_decimals():
    x = [0.125, -1.375, 2.5, 3.5, 1e10]
    for decimals in (0, 2, 1, -1):
        np.testing.assert_allclose(tg.round(t(x), decimals=decimals).numpy(), np.round(x, decimals))


def test_memory_kept():
    """relu, tanh, sigmoid and leaky_relu keep their result alone; add, sub and neg keep nothing."""
    x = t(np.ones((2, 3)), grad=True)
    for f, saved, out in (
        (tg.relu, [], True), (tg.tanh, [], True), (tg.sigmoid, [], True), (tg.leaky_relu, [], True), (tg.exp, [], True),
        (tg.neg, [], False), (lambda x: x + x, [], False), (lambda x: x - 1, [], False),
        (lambda x: x * 2, ["y"], False),
        (tg.softplus, ["x"], False), (tg.silu, ["x"], False),
    ):  # fmt: skip
        node = f(x).node
        assert (sorted(node.saved), node.out is not None) == (saved, out), node.op


def test_errors():
    x = t([1.0, 2.0])
    with pytest.raises(ValueError, match="clamp: both bounds are None"):
        x.clamp()
    with pytest.raises(ValueError, match="approximate='erf'"):
        tg.gelu(x, approximate="erf")
    with pytest.raises(ValueError, match=r"shape|broadcast"):
        x + t([1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match="mul: mixed dtypes float32 and float64"):
        x * t([1.0, 2.0], np.float32)
    with pytest.raises(TypeError, match="exp: no argument is a tensor"):
        tg.exp(2.0)


def test_docstrings_say_what_is_returned():
    for name in pointwise.__all__:
        assert getattr(pointwise, name).__doc__, name


def test_stable_activations_do_not_warn():
    x = t([-1e4, -750.0, 0.0, 750.0, 1e4], grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for f in (tg.sigmoid, tg.softplus, tg.log_sigmoid, tg.tanh, tg.elu, tg.selu, tg.silu, tg.gelu, tg.relu):
            (g,) = tg.grad((f(x) * x).sum(), x, create_graph=True)
            tg.grad(g.sum(), x)


def test_gelu_and_selu_constants():
    assert tg.gelu(t(1.0)).item() == pytest.approx(0.5 * (1 + math.erf(math.sqrt(0.5))), rel=1e-14)
    assert tg.selu(t(-1.0)).item() == pytest.approx(1.0507009873554805 * 1.6732632423543772 * math.expm1(-1), rel=1e-14)
