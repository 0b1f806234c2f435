"""Reductions: derivatives of both orders for every form of `dim`; values, ties and infinities as in torch."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygen as tg
from tinygen.ops import reduce
from tinygen.testing import gradcheck, gradgradcheck

INF = math.inf


def t(values, dtype=np.float64, grad=False):
    return tg.tensor(np.asarray(values, dtype)).requires_grad_(grad)


def apart(*shape, seed=0):
    """Distinct values of both signs, at least 0.05 apart and away from 0: no ties, no kinks."""
    rng = np.random.default_rng(seed)
    values = (np.arange(math.prod(shape)) + 1) * 0.1 * rng.choice([-1.0, 1.0], math.prod(shape))
    return t(rng.permutation(values).reshape(shape))


X = apart(3, 4, 2)
ZEROS = t([[0.0, 2.0, -1.5], [0.0, 0.0, 3.0], [1.0, 2.0, 0.5]])
DIMS = [{}, {"dim": 0}, {"dim": 1}, {"dim": -1, "keepdim": True}]
DIMS += [{"dim": (0, 2)}, {"dim": (-1, 0), "keepdim": True}, {"dim": (1, 2)}, {"dim": (0, 1, 2)}]


def over(f, **options):
    """The cases of a reduction: every form of dim."""
    return [(lambda x, o={**dims, **options}: f(x, **o), [X]) for dims in DIMS]


DIFFERENTIABLE = {
    "sum": over(tg.sum),
    "mean": over(tg.mean),
    "var": [
        *over(tg.var), *over(tg.var, correction=0), (lambda x: x.var(1, False), [X]), (lambda x: x.var(False), [X]),
    ],
    "std": over(tg.std) + over(tg.std, unbiased=False),
    "prod": over(tg.prod) + [(lambda x, d=d: tg.prod(x, d), [ZEROS]) for d in (None, 0, 1)],
    "norm": [case for p in (2, "fro", 1, INF, -INF, 3, 2.5, 1.5, 0.5, -1, 4) for case in over(tg.norm, p=p)],
    "max": [
        (tg.max, [X]), (tg.max, [X, X[0] * 0.9]), (lambda x: tg.max(x, 1)[0], [X]),
        (lambda x: x.max(-1, keepdim=True).values, [X]),
    ],
    "min": [
        (tg.min, [X]), (tg.min, [X, X[0] * 0.9]), (lambda x: tg.min(x, 1)[0], [X]),
        (lambda x: x.min(0, keepdim=True).values, [X]),
    ],
    "amax": over(tg.amax),
    "amin": over(tg.amin),
    "logsumexp": over(tg.logsumexp),
    "softmax": [(lambda x, d=d: tg.softmax(x, d), [X]) for d in (0, 1, -1)],
    "log_softmax": [(lambda x, d=d: tg.log_softmax(x, d), [X]) for d in (0, 1, -1)],
    "cumsum": [(lambda x, d=d: tg.cumsum(x, d), [X]) for d in (0, 1, -1)],
    "cumprod": [(lambda x, d=d: tg.cumprod(x, d), [v]) for v in (X, ZEROS) for d in (0, 1, -1)],
}  # fmt: skip
CONSTANT = ["argmax", "argmin", "any", "all"]
CASES = [
    pytest.param(f, xs, id=f"{name}-{i}") for name, cases in DIFFERENTIABLE.items() for i, (f, xs) in enumerate(cases)
]


def test_every_op_has_a_case():
    assert set(reduce.__all__) == {*DIFFERENTIABLE, *CONSTANT}
    assert all(getattr(reduce, name).__doc__ for name in reduce.__all__)


@pytest.mark.parametrize("f, inputs", CASES)
def test_gradient(f, inputs):
    assert gradcheck(f, inputs)


@pytest.mark.parametrize("f, inputs", CASES)
def test_second_derivative(f, inputs):
    assert gradgradcheck(f, inputs, rtol=2e-5)


@pytest.mark.parametrize("f, inputs", CASES)
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


@pytest.mark.parametrize("f, x", [
    (tg.prod, t([0.0, 0.0, 2.0, -1.0])), (lambda x: tg.cumprod(x, 0), t([2.0, 0.0, 0.0, -1.0])), (tg.norm, X),
])  # fmt: skip
def test_third_derivative(f, x):
    def gradient(x):
        with tg.enable_grad():
            x = x if x.requires_grad else x.detach().requires_grad_()
            return tg.grad(f(x).sum(), x, create_graph=True)

    assert gradgradcheck(gradient, [x], rtol=1e-4)


@pytest.mark.parametrize("name", CONSTANT)
def test_without_gradient(name):
    x = apart(3, 4).requires_grad_()
    assert not getattr(tg, name)(x, dim=1).requires_grad


# ---------------------------------------------------------------- beside torch


def beside(f, g, array, rtol=1e-12, differentiable=True):
    """Asserts that f and torch's g agree in value, dtype and gradient."""
    torch = pytest.importorskip("torch")
    array = np.asarray(array)
    x, y = tg.tensor(array.copy()), torch.tensor(array.copy())
    if array.dtype.kind == "f":
        x.requires_grad_(), y.requires_grad_()
    a, b = f(x), g(y)
    mine, theirs = a.detach().numpy(), b.detach().numpy()
    assert mine.dtype == theirs.dtype and mine.shape == theirs.shape
    np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=1e-12)
    assert a.requires_grad == (array.dtype.kind == "f" and mine.dtype.kind == "f" and differentiable)
    if b.requires_grad and a.requires_grad:
        weights = np.linspace(0.5, 1.5, mine.size).reshape(mine.shape).astype(mine.dtype)
        (p,) = tg.grad(a, x, tg.tensor(weights))
        (q,) = torch.autograd.grad(b, y, torch.tensor(weights), allow_unused=True)
        expected = np.zeros_like(array) if q is None else q.numpy()  # None: of a count, whose derivative is 0
        np.testing.assert_allclose(p.numpy(), expected, rtol=rtol * 10, atol=1e-12)


SINGLE = ["prod", "max", "min", "argmax", "argmin"]  # in torch over one axis, or all
REDUCTIONS = [*SINGLE, "sum", "mean", "var", "std", "amax", "amin", "norm", "any", "all", "logsumexp"]
ALONG = ["softmax", "log_softmax", "cumsum", "cumprod"]


@pytest.mark.parametrize("name", REDUCTIONS[:-1])
def test_all_entries_as_torch(name):
    torch = pytest.importorskip("torch")
    for array in (X.numpy(), X.numpy().T, np.float64(2.5), np.float64([[3.0]]), X.numpy()[::2, ::-1]):
        if name in ("var", "std") and array.size < 2:
            continue
        beside(getattr(tg, name), getattr(torch, name), np.array(array, order="K"))


@pytest.mark.parametrize("name", REDUCTIONS + ALONG)
def test_dims_as_torch(name):
    torch = pytest.importorskip("torch")
    ours, theirs = getattr(tg, name), torch.linalg.vector_norm if name == "norm" else getattr(torch, name)
    first = (lambda r: r[0]) if name in ("max", "min") else (lambda r: r)
    dims = [0, 1, 2, -1, -2, *([] if name in SINGLE + ALONG else [(0, 2), (-1, -3), (0, 1, 2), [1, 2]])]
    for dim, keep in itertools.product(dims, ({},) if name in ALONG else ({}, {"keepdim": True})):
        o = {"dim": dim, **keep}
        beside(lambda x, o=o: first(ours(x, **o)), lambda x, o=o: first(theirs(x, **o)), X.numpy())


@pytest.mark.parametrize("p", [2, 1, INF, -INF, 0, 3, 2.5, 1.5, 0.5, -1, "fro"])
@pytest.mark.parametrize("dim", [None, 0, -1])
def test_norms_as_torch(p, dim):
    torch = pytest.importorskip("torch")
    if p == "fro" and dim is not None:
        dim = (0, 1)
    vector = torch.linalg.vector_norm
    theirs = (lambda x: torch.norm(x, p, dim)) if p == "fro" else (lambda x: vector(x, p, dim))
    beside(lambda x: tg.norm(x, p, dim), theirs, X.numpy()[0], rtol=1e-11)
    both = (0, 1) if dim is None else dim
    beside(lambda x: x.norm(p, dim, True), lambda x: x.norm(p, both, True), X.numpy()[0], rtol=1e-11)


@pytest.mark.parametrize("p", [2, 1, INF, 3, 2.5, 1.5])
def test_norm_at_zero_as_torch(p):
    """The derivative of a norm at 0, and by a zero entry beside others, is 0 (inf: shared among the largest)."""
    torch = pytest.importorskip("torch")
    for array in ([0.0, 0.0], [0.0, 3.0], [[0.0, 0.0], [0.0, -1.0], [2.0, -2.0]]):
        f, g = (lambda x: tg.norm(x, p, -1)), (lambda x: torch.linalg.vector_norm(x, p, -1))
        beside(f, g, np.float64(array))
    x = t([0.0, 0.0], grad=True)
    (g,) = tg.grad(tg.norm(x, p), x, create_graph=True)
    assert g.tolist() == [0, 0]
    second = tg.grad(g.sum(), x, allow_unused=True)[0] if g.requires_grad else None
    assert second is None or second.tolist() == [0, 0]


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, bool])
@pytest.mark.parametrize("name", ["sum", "prod", "amax", "max", "argmin", "any", "all", "cumsum", "cumprod"])
def test_integers_as_torch(name, dtype):
    torch = pytest.importorskip("torch")
    array = np.array([[1, 0, 3], [2, 5, 4]]).astype(dtype)
    if (dtype is bool and name.startswith("arg")) or (dtype is np.uint8 and name in ("any", "all")):
        return  # torch has no argmin of booleans, and for uint8 alone its any gives no bool
    args = (1,) if name.startswith("cum") else ()
    beside(lambda x: getattr(tg, name)(x, *args), lambda x: getattr(torch, name)(x, *args), array)


@pytest.mark.parametrize("name", ["mean", "var", "std", "norm", "logsumexp"])
def test_integers_become_float32(name):
    for p in (1, 2, 3, INF, 0) if name == "norm" else (None,):
        f = (lambda x, p=p: tg.norm(x, p)) if p is not None else getattr(tg, name)
        got = f(t([1, 2, 4], np.int64))
        assert got.dtype == np.float32
        assert got.item() == pytest.approx(f(t([1, 2, 4])).item(), rel=1e-6)
    assert tg.softmax(t([1, 2], np.int64), 0).dtype == np.float32 and tg.mean(t([True, False], bool)).item() == 0.5


def test_sums_in_another_dtype():
    x = t([0.1, 0.2], np.float32, grad=True)
    for f in (tg.sum, tg.mean):
        y = f(x, dtype=np.float64)
        assert y.dtype == np.float64 and tg.grad(y, x)[0].dtype == np.float32
    assert tg.softmax(x, 0, dtype=np.float64).dtype == np.float64


# ---------------------------------------------------------------- ties and edges


def test_ties_as_torch():
    """amax and max() share the gradient evenly; max(dim) gives it to the first."""
    torch = pytest.importorskip("torch")
    ties = np.array([[1.0, 3.0, 3.0, 3.0], [2.0, 2.0, 0.0, 2.0], [5.0, 5.0, 5.0, 5.0], [1.0, 2.0, 3.0, 4.0]])
    for name in ("amax", "amin"):
        for dim in (0, 1, (0, 1)):
            f, g = getattr(tg, name), getattr(torch, name)
            beside(lambda x, f=f, d=dim: f(x, d), lambda x, g=g, d=dim: g(x, d), ties)
    for name in ("max", "min"):
        beside(getattr(tg, name), getattr(torch, name), ties)
        for dim in (0, 1):
            a, b = getattr(tg, name)(tg.tensor(ties), dim), getattr(torch, name)(torch.tensor(ties), dim)
            assert a.indices.tolist() == b.indices.tolist() and a.values.tolist() == b.values.tolist()
            assert a.indices.dtype == np.int64
    x = tg.tensor(ties).requires_grad_()
    np.testing.assert_allclose(tg.grad(x.amax(1).sum(), x)[0].numpy()[0], [0, 1 / 3, 1 / 3, 1 / 3], rtol=1e-15)
    np.testing.assert_array_equal(tg.grad(x.max(1)[0].sum(), x)[0].numpy()[0], [0, 1, 0, 0])


def test_ties_in_both_orders():
    x = t([[3.0, 3.0, 1.0]], grad=True)
    (g,) = tg.grad((x * x).amax(1).sum(), x, create_graph=True)
    np.testing.assert_array_equal(g.detach().numpy(), [[3, 3, 0]])
    np.testing.assert_array_equal(tg.grad(g.sum(), x)[0].numpy(), [[1, 1, 0]])


def test_extremes_of_nan_and_infinity():
    torch = pytest.importorskip("torch")
    array = np.array([[1.0, np.nan, 2.0], [-INF, INF, 0.0], [INF, INF, 1.0]])
    for name in ("amax", "amin", "argmax", "argmin"):
        expected = getattr(torch, name)(torch.tensor(array), 1).numpy()
        np.testing.assert_array_equal(getattr(tg, name)(t(array), 1).numpy(), expected)
    assert math.isnan(tg.max(t(array)).item()) and math.isnan(tg.max(t(array), 1).values[0].item())
    beside(lambda x: x.amax(1), lambda x: x.amax(1), array[1:])


def test_exponentials_without_overflow():
    torch = pytest.importorskip("torch")
    rows = np.array([[1e4, 1e4, -1e4], [-1e4, -1e4 - 1, -1e4], [-INF, 0.0, 1.0], [0.0, -INF, -INF]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("logsumexp", "softmax", "log_softmax"):
            for dim in (1, 0):
                a, f, g = rows if dim else rows.T.copy(), getattr(tg, name), getattr(torch, name)
                beside(lambda x, f=f, d=dim: f(x, d), lambda x, g=g, d=dim: g(x, d), a)
        x = t([[-INF, -INF], [0.0, 0.0]], grad=True)
        y = x.logsumexp(1)
        assert y[0].item() == -INF and y[1].item() == pytest.approx(math.log(2))
        np.testing.assert_array_equal(tg.grad(y.sum(), x)[0].numpy(), [[0, 0], [0.5, 0.5]])
    with np.errstate(invalid="ignore"):
        beside(lambda x: x.logsumexp(0), lambda x: x.logsumexp(0), np.array([INF, 1.0, INF]))


def test_log_softmax_is_accurate_where_softmax_is_tiny():
    x = t([0.0, -200.0], np.float32)
    assert tg.log_softmax(x, 0).tolist() == [0, -200] and tg.softmax(x, 0).sum().item() == 1


def test_products_at_zeros():
    """Both orders exactly, where dividing the product by a factor would give NaN."""
    x = t([2.0, 0.0, 3.0], grad=True)
    (g,) = tg.grad(x.prod(), x, create_graph=True)
    np.testing.assert_array_equal(g.detach().numpy(), [0, 6, 0])
    np.testing.assert_array_equal(tg.grad(g.sum(), x)[0].numpy(), [3, 5, 2])  # sums over j != i of prod over k != i, j
    y = t([0.0, 0.0, 3.0], grad=True)
    (g,) = tg.grad(y.prod(), y, create_graph=True)
    np.testing.assert_array_equal(g.detach().numpy(), [0, 0, 0])
    np.testing.assert_array_equal(tg.grad(g.sum(), y)[0].numpy(), [3, 3, 0])
    beside(lambda x: tg.cumprod(x, 0), lambda x: x.cumprod(0), np.array([2.0, 0.0, 3.0, 0.0, -1.0]))


def test_empty():
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for shape, dim in itertools.product([(0,), (0, 3), (3, 0)], [None, 0, -1]):
            args = () if dim is None else (dim,)
            for name in ("sum", "mean", "prod", "norm", "any", "all"):
                array = np.zeros(shape, np.float32)
                a, b = getattr(tg, name), getattr(torch, name)
                if name == "norm":
                    beside(lambda x, d=dim: tg.norm(x, 2, d), lambda x, d=dim: torch.linalg.vector_norm(x, 2, d), array)
                else:
                    beside(lambda x, f=a, args=args: f(x, *args), lambda x, f=b, args=args: f(x, *args), array)
        assert tg.logsumexp(t(np.zeros((2, 0))), 1).tolist() == [-INF, -INF]
        assert tg.softmax(t(np.zeros((2, 0))), 1).shape == (2, 0) and tg.cumsum(t([]), 0).shape == (0,)
    for f in (tg.amax, tg.amin, tg.max, tg.min, tg.argmax, tg.argmin):
        with pytest.raises(ValueError, match=r"\(0, 3\) has no entries along dim"):
            f(t(np.zeros((0, 3))))
        with pytest.raises(ValueError, match="has no entries along dim"):
            f(t(np.zeros((0, 3))), 0)
        r = f(t(np.zeros((0, 3))), 1)
        assert (r[0] if isinstance(r, tuple) else r).shape == (0,)


def test_variance_of_too_few():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(tg.var(t([1.0])).item()) and math.isnan(tg.std(t(1.0)).item())
        assert tg.var(t([1.0]), unbiased=False).item() == 0 and tg.var(t([1.0, 2.0]), correction=2).item() == INF
        assert math.isnan(tg.var(t([])).item())


def test_variance_far_from_zero():
    """Two passes: a mean of 1e8 costs no accuracy."""
    x = np.array([1.0, 2.0, 4.0])
    assert tg.var(t(x + 1e8)).item() == pytest.approx(np.var(x, ddof=1), rel=1e-12)
    assert tg.var(t(x + 4096, np.float32)).item() == pytest.approx(np.var(x, ddof=1), rel=1e-6)


def test_std_of_equal_entries_has_gradient_zero():
    x = t([[2.0, 2.0], [1.0, 3.0]], grad=True)
    (g,) = tg.grad(x.std(1).sum(), x, create_graph=True)
    np.testing.assert_allclose(g.detach().numpy(), [[0, 0], [-(0.5**0.5), 0.5**0.5]], rtol=1e-14)
    assert np.isfinite(tg.grad((g * g).sum(), x)[0].numpy()).all()


def test_scalars():
    """A 0-d tensor has one axis, 0 or -1, as in torch."""
    x = t(2.0, grad=True)
    for f in (tg.sum, tg.mean, tg.prod, tg.amax, tg.norm, tg.logsumexp):
        for dim in (0, -1):
            y = f(x, dim=dim)
            assert y.shape == () and y.item() == 2 and tg.grad(y, x)[0].item() == 1
    for f in (tg.cumsum, tg.cumprod):
        assert tg.grad(f(x, 0), x)[0].item() == 1
    assert tg.softmax(x, 0).item() == 1 and tg.log_softmax(x, -1).item() == 0
    values, indices = tg.max(x, 0)
    assert values.item() == 2 and tg.grad(values, x)[0].item() == 1
    assert indices.item() == 0 and indices.dtype == np.int64
    assert tg.argmax(x).item() == 0 and tg.argmin(x, 0, keepdim=True).shape == ()


def test_keepdim_of_positions():
    x = apart(2, 3)
    assert tg.argmax(x, keepdim=True).shape == (1, 1) and tg.argmax(x, 1, keepdim=True).shape == (2, 1)
    assert tg.max(x, 1, True).indices.shape == (2, 1) and tg.max(x, keepdim=True).shape == (1, 1)


@given(st.data())
def test_axes_and_shapes(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 3), max_size=4)))
    dim = data.draw(st.none() | st.sets(st.integers(0, max(0, len(shape) - 1))).map(tuple)) if shape else None
    keepdim = data.draw(st.booleans())
    array = np.random.default_rng(0).normal(size=shape)
    axes = dim or None  # () means all
    x = t(array, grad=True)
    for f, g in ((tg.sum, np.sum), (tg.mean, np.mean), (tg.amax, np.max), (tg.prod, np.prod)):
        y = f(x, dim, keepdim)
        np.testing.assert_allclose(y.detach().numpy(), g(array, axis=axes, keepdims=keepdim), rtol=1e-12, atol=1e-13)
        assert tg.grad(y.sum(), x)[0].shape == shape
    np.testing.assert_array_equal(tg.grad(x.sum(dim, keepdim).sum(), x)[0].numpy(), np.ones(shape))


def test_softmax_rows_sum_to_one_in_every_layout():
    base = np.random.default_rng(0).normal(size=(4, 6))
    for view in (base, base.T, base[::2, ::-1], np.broadcast_to(base[0], (3, 6))):
        x = tg.tensor(np.ascontiguousarray(view))
        x.array = view
        for dim in (0, 1):
            e = np.exp(view - view.max(dim, keepdims=True))
            np.testing.assert_allclose(tg.softmax(x, dim).numpy(), e / e.sum(dim, keepdims=True), rtol=1e-14)


def test_memory_kept():
    """sum and mean keep a shape, softmax its result, amax both."""
    x = apart(2, 3).requires_grad_()
    for f, saved, out in (
        (tg.sum, ["x_shape"], False), (tg.mean, ["x_shape"], False), (lambda x: x.softmax(1), [], True),
        (lambda x: x.cumsum(1), [], False), (tg.amax, ["x"], True), (tg.var, ["x"], False),
    ):  # fmt: skip
        node = f(x).node
        assert (sorted(node.saved), node.out is not None) == (saved, out), node.op


def test_errors():
    x = apart(2, 3)
    for f in (tg.sum, tg.amax, tg.softmax, tg.cumsum, tg.argmax, tg.max):
        with pytest.raises(IndexError, match=rf"{f.__name__}: dim\w* 2 is out of range.*-2 to 1"):
            f(x, 2)
    with pytest.raises(ValueError, match=r"mean: dim=\(0, -2\) names an axis twice"):
        x.mean((0, -2))
    with pytest.raises(ValueError, match="norm: p='nuc' is not known"):
        x.norm("nuc")
    with pytest.raises(TypeError):
        x.sum(1.5)


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "cumsum", "cumprod"])
def test_dtype_casts_first_as_in_torch(name):
    torch = pytest.importorskip("torch")
    for source in ("int32", "float32", "uint8"):
        for wanted in ("float64", "float32", "int64")[: 2 if name == "mean" else 3]:
            results = []
            for L in (tg, torch):
                x = L.tensor([[1, 2, 3], [4, 5, 6]], dtype=getattr(L, source))
                y = getattr(L, name)(x, 1, dtype=getattr(L, wanted))
                results.append((str(y.dtype).split(".")[-1], y.tolist()))
            assert results[0] == results[1]
