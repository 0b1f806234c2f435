"""What the tests of element-wise ops have in common: inputs away from kinks, and the checks that every family passes.

A test file imports these and names MODULE, DIFFERENTIABLE = {name: [(function, inputs)]}, CONSTANT = {name: inputs},
UNARY = {name: torch's name} and, where needed, THIRD (names), INTEGERS = {name: result of [-2, 0, 3]} and
THROUGH_FLOAT32 (names). A function of MODULE is in one of the first two, or a test fails.
"""

from __future__ import annotations

import numpy as np
import pytest

import tinygen as tg
from tinygen.tape import Op
from tinygen.testing import gradcheck, gradgradcheck

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
EDGES = [-np.inf, -90.0, -50.0, -2.5, -1.0, -0.5, -1e-30, -0.0]
EDGES += [0.0, 1e-30, 0.5, 1.0, 1.5, 2.5, 50.0, 90.0, np.inf, np.nan]
FIRST, SECOND = [-np.inf, -2.0, -0.5, 0.0, 0.5, 1.0, 3.0, np.inf, np.nan], [-2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0]
PAIRS = np.array(np.meshgrid(FIRST, SECOND)).reshape(2, -1)


def pytest_generate_tests(metafunc):
    module, test = metafunc.module, metafunc.function.__name__
    if {"f", "inputs"} <= {*metafunc.fixturenames}:
        coarse = getattr(module, "THROUGH_FLOAT32", set())
        cases = [
            pytest.param(f, xs, id=f"{name}-{i}")
            for name, cases in module.DIFFERENTIABLE.items()
            if test == "test_gradient" or name not in coarse
            for i, (f, xs) in enumerate(cases)
        ]
        metafunc.parametrize("f, inputs", cases)
    integers = getattr(module, "INTEGERS", {})
    names = {
        "third": lambda: module.THIRD,
        "constant": lambda: sorted(module.CONSTANT),
        "unary": lambda: sorted(module.UNARY),
        "to_float": lambda: sorted(module.UNARY.keys() - integers.keys()),
        "integer": lambda: sorted(integers),
    }
    for argument, listed in names.items():
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, listed())


def test_every_op_has_a_case(request):
    module = request.module
    assert set(module.MODULE.__all__) == {*module.DIFFERENTIABLE, *module.CONSTANT}
    ops = {n: f for n, f in vars(module.MODULE).items() if isinstance(f, Op)}
    assert ops
    for name in module.CONSTANT:
        assert not ops[name].rules and not ops[name].composite, name
    for name in ops.keys() & module.DIFFERENTIABLE.keys():
        assert ops[name].rules or ops[name].composite, name


def test_gradient(request, f, inputs):
    # A float32 in between allows no finite differences finer than its own rounding.
    names = getattr(request.module, "THROUGH_FLOAT32", set())
    coarse = [case[0] for name in names for case in request.module.DIFFERENTIABLE[name]]
    tolerance = {"eps": 2.0**-10, "rtol": 1e-3} if f in coarse else {}
    assert gradcheck(f, inputs, **tolerance)


def test_second_derivative(f, inputs):
    assert gradgradcheck(f, inputs)


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


def test_third_derivative(request, third):
    f, inputs = request.module.DIFFERENTIABLE[third][0]

    def gradients(*xs):
        with tg.enable_grad():
            xs = [x if x.requires_grad else x.detach().requires_grad_() for x in xs]
            return tg.grad(f(*xs).sum(), xs, create_graph=True)

    assert gradgradcheck(gradients, inputs, rtol=1e-4)


def test_without_gradient(request, constant):
    inputs = [x.detach().requires_grad_(x.dtype.kind == "f") for x in request.module.CONSTANT[constant]]
    out = getattr(tg, constant)(*inputs)
    assert not out.requires_grad and out.shape == inputs[0].shape


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
def test_unary_as_torch_at_the_edges(request, unary, dtype):
    edges = np.array(EDGES)
    if unary in ("silu", "gelu"):  # -inf * 0: there torch's vector and scalar code differ
        edges = edges[~np.isinf(edges)]
    theirs = torchs(request.module.UNARY[unary])
    beside(getattr(tg, unary), theirs, edges, dtype=dtype, rtol=5e-6 if dtype == "float32" else 1e-11)


def piecewise_as_torch(name):
    """Asserts that a function without derivative agrees with torch's at the edges."""
    x = np.array(EDGES if name != "sign" else EDGES[:-1], np.float32)  # torch's sign of NaN is 0, NumPy's and ours NaN
    expected = torchs(name)(torchs("tensor")(x)).numpy()
    got = getattr(tg, name)(t(x, np.float32)).numpy()
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


def pairs_as_torch(name):
    """Asserts that a function of two arguments without derivative agrees with torch's; the second is never 0."""
    x, y = PAIRS[:, PAIRS[1] != 0]
    expected = torchs(name)(torchs("tensor")(x), torchs("tensor")(y)).numpy()
    np.testing.assert_array_equal(getattr(tg, name)(t(x), t(y)).numpy(), expected)


def test_integers_become_float32(request, to_float):
    expected = torchs(request.module.UNARY[to_float])(torchs("tensor")([1, 2, 3], dtype=torchs("float32"))).numpy()
    for dtype in (np.int64, np.uint8, np.int32):
        got = getattr(tg, to_float)(t([1, 2, 3], dtype))
        assert got.dtype == np.float32
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6)


def test_integers_stay(request, integer):
    got = getattr(tg, integer)(t([-2, 0, 3], np.int64))
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got.numpy(), request.module.INTEGERS[integer])


def numbers_keep_the_dtype(functions, dtype, number):
    """Asserts that functions of a tensor and a number give the tensor's dtype, in value and gradient."""
    for shape in ((), (3,), (0,), (2, 1)):
        x = t(np.ones(shape), dtype, grad=True)
        for f in functions:
            y = f(x, number)
            assert y.dtype == dtype and y.shape == shape
            assert tg.grad(y.sum(), x, allow_unused=True)[0].dtype == dtype


def integers_fit_float64(f):
    """Asserts that an integer tensor takes the float dtype beside it, in the derivatives too."""
    x, n = between(0.5, 2.5, 2, 3), t([[1, 2, 3], [4, 5, 6]], np.int64)
    assert gradcheck(lambda x: f(x, n), [x]) and gradgradcheck(lambda x: f(x, n), [x])


def broadcasts(data, pairs):
    """Asserts that tinygen's function and NumPy's, in pairs, broadcast shapes drawn by hypothesis alike."""
    from hypothesis import strategies as st

    shape = data.draw(st.lists(st.integers(0, 3), max_size=3))
    shapes = []
    for _ in range(2):
        s = [1 if data.draw(st.booleans()) else n for n in shape]
        shapes.append(s[data.draw(st.integers(0, len(s))) :])
    x, y = (t(np.random.default_rng(i).uniform(0.5, 2, s), grad=True) for i, s in enumerate(shapes))
    for f, g in pairs:
        z = f(x, y)
        np.testing.assert_allclose(z.detach().numpy(), g(x.detach().numpy(), y.detach().numpy()), rtol=1e-15)
        for v, grad in zip((x, y), tg.grad(z.sum(), [x, y])):
            assert grad.shape == v.shape


def same_in_every_layout(names):
    """Asserts that transposed, strided and expanded arrays give the same numbers as contiguous ones."""
    base = np.random.default_rng(0).normal(size=(6, 8))
    for name in names:
        f = getattr(tg, name)
        for view in (base.T, base[::2, ::-3], np.broadcast_to(base[0], (5, 8))):
            x, y = t(view), tg.tensor(np.ascontiguousarray(view))
            x.array = view  # whatever `tensor` may have copied
            np.testing.assert_array_equal(f(x).numpy(), f(y).numpy())


def keeps(f, saved, out):
    """Asserts what the tape keeps of f(x): the arguments named, and whether the result."""
    node = f(t(np.ones((2, 3)), grad=True)).node
    assert (sorted(node.saved), node.out is not None) == (saved, out), node.op


def test_docstrings_say_what_is_returned(request):
    for name in request.module.MODULE.__all__:
        assert getattr(request.module.MODULE, name).__doc__, name
