"""Products: the same calls in tinygen and torch give the same values and gradients, and pass checks of both orders."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import tinygen as tg
from tinygen import observe
from tinygen.ops import matmul
from tinygen.tape import Op
from tinygen.testing import gradcheck, gradgradcheck

# `name: [(call, shapes of its float inputs)]`; in a call, L is tinygen or torch.
CASES = {
    "matmul": [
        (lambda L, x, y: L.matmul(x, y), [(2, 3), (3, 4)]),
        (lambda L, x, y: x @ y, [(3,), (3,)]),
        (lambda L, x, y: x @ y, [(3,), (3, 2)]),
        (lambda L, x, y: x @ y, [(2, 3), (3,)]),
        (lambda L, x, y: x @ y, [(3,), (2, 3, 4)]),
        (lambda L, x, y: x @ y, [(5, 2, 3), (3,)]),
        (lambda L, x, y: x @ y, [(5, 2, 3), (3, 4)]),
        (lambda L, x, y: x @ y, [(2, 3), (5, 3, 4)]),
        (lambda L, x, y: x @ y, [(5, 1, 2, 3), (4, 3, 2)]),
        (lambda L, x, y: x @ y, [(1, 2, 3), (4, 3, 2)]),
        (lambda L, x, y: x @ y, [(0, 3), (3, 2)]),
        (lambda L, x, y: x @ y, [(2, 0), (0, 2)]),
        (lambda L, x, y: x.t() @ y.t(), [(3, 2), (4, 3)]),
        (lambda L, x: x @ x, [(3, 3)]),
    ],
    "mm": [(lambda L, x, y: L.mm(x, y), [(2, 3), (3, 4)])],
    "bmm": [(lambda L, x, y: L.bmm(x, y), [(5, 2, 3), (5, 3, 4)])],
    "mv": [(lambda L, x, y: L.mv(x, y), [(2, 3), (3,)])],
    "dot": [(lambda L, x, y: L.dot(x, y), [(3,), (3,)])],
    "outer": [(lambda L, x, y: L.outer(x, y), [(2,), (3,)])],
    "addmm": [
        (lambda L, b, x, y: L.addmm(b, x, y), [(4,), (2, 3), (3, 4)]),
        (lambda L, b, x, y: L.addmm(b, x, y, beta=0.5, alpha=2.0), [(2, 1), (2, 3), (3, 4)]),
    ],
    "trace": [(lambda L, x: L.trace(x), [(3, 4)])],
    "t": [(lambda L, x: x.t(), [(3, 4)]), (lambda L, x: L.t(x) * 2, [(3,)])],
    "linear": [
        (lambda L, x, w, b: L.linear(x, w, b), [(5, 3), (4, 3), (4,)]),
        (lambda L, x, w: L.linear(x, w), [(5, 3), (4, 3)]),
        (lambda L, x, w, b: L.linear(x, w, b), [(3,), (4, 3), (4,)]),
        (lambda L, x, w, b: L.linear(x, w, b), [(2, 5, 3), (4, 3), (4,)]),
        (lambda L, x, w, b: L.linear(x, w, b), [(2, 0, 3), (4, 3), (4,)]),
        (lambda L, x, w, b: L.linear(x, w, b), [(0, 3), (4, 3), (4,)]),
    ],
}
# equation and shapes: products, batches, sums over one factor, diagonals, broadcasting, ellipsis, implicit outputs
EQUATIONS = [
    ("ij,jk->ik", (2, 3), (3, 4)),
    ("ij,jk", (2, 3), (3, 4)),
    ("ij,kj->ki", (2, 3), (4, 3)),
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    ("bhqd,bhkd->bhqk", (2, 3, 4, 5), (2, 3, 6, 5)),
    ("bqhd,bkhd->bhqk", (2, 4, 3, 5), (2, 6, 3, 5)),
    ("nchw,nkhw->nck", (2, 3, 4, 5), (2, 6, 4, 5)),
    ("i,i->", (3,), (3,)),
    ("i,j->ij", (3,), (2,)),
    ("i,i->i", (3,), (3,)),
    ("ij->ji", (2, 3)),
    ("ji", (2, 3)),
    ("ij->", (2, 3)),
    ("ij->j", (2, 3)),
    ("ii->", (3, 3)),
    ("ii->i", (3, 3)),
    ("ii", (3, 3)),
    ("iij->ji", (3, 3, 2)),
    ("iii->i", (2, 2, 2)),
    ("ii,ij->j", (3, 3), (3, 2)),
    ("ij,k->k", (2, 3), (4,)),
    ("ij,j->", (2, 3), (3,)),
    ("ij,jk,kl->il", (2, 3), (3, 4), (4, 2)),
    ("i,j,k->ijk", (2,), (3,), (4,)),
    ("a,a,a->a", (3,), (3,), (3,)),
    ("...ij,...jk->...ik", (5, 2, 3), (3, 4)),
    ("...ij,...jk->...ik", (5, 1, 2, 3), (4, 3, 2)),
    ("...i,...i", (2, 3), (3,)),
    ("i...->...", (2, 3, 4)),
    ("...->...", (2, 3)),
    ("...ii->...", (4, 3, 3)),
    ("b...,b->...b", (2, 3, 4), (2,)),
    ("ij,ij->ij", (1, 3), (2, 3)),
    ("ij,jk->ik", (2, 1), (3, 4)),
    ("ij,jk->ik", (2, 3), (1, 4)),
    ("ij, jk -> ki", (2, 3), (3, 4)),
    ("Ab,bA->A", (2, 3), (3, 2)),
    ("ij,jk->ik", (0, 3), (3, 4)),
    ("ij,jk->ik", (2, 0), (0, 4)),
]
CASES["einsum"] = [(lambda L, *xs, e=e: L.einsum(e, *xs), shapes) for e, *shapes in EQUATIONS]
CASES["einsum"] += [(lambda L, x, y: L.einsum("ij,ij,ik->jk", x, x, y), [(2, 3), (2, 2)])]
FLAT = [
    pytest.param(call, shapes, id=f"{name}{i}")
    for name, cases in CASES.items()
    for i, (call, shapes) in enumerate(cases)
]


def inputs_for(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(s) for s in shapes]


@pytest.fixture(scope="module")
def T():
    torch = pytest.importorskip("torch")

    class Both:
        linear = staticmethod(torch.nn.functional.linear)

        def __getattr__(self, name):
            return getattr(torch, name)

    return Both()


def test_every_function_has_a_case():
    assert set(matmul.__all__) == set(CASES)


def test_the_cases_reach_every_op_of_the_module():
    """Private ops too: those that are somebody's adjoint run in a first derivative."""
    declared = {f for f in vars(matmul).values() if isinstance(f, Op) and f.forward.__module__ == matmul.__name__}
    reached = set()
    with observe.observing(lambda op, inputs, output, node: reached.add(op)):
        for case in FLAT:
            call, shapes = case.values
            xs = [tg.tensor(x, requires_grad=True) for x in inputs_for(shapes)]
            outputs = call(tg, *xs)
            outputs = list(outputs) if isinstance(outputs, tuple | list) else [outputs]
            tg.grad(outputs, xs, [tg.ones_like(y) for y in outputs])
    assert not {f.name for f in declared - reached}


@pytest.mark.parametrize("call, shapes", FLAT)
def test_derivatives_of_both_orders(call, shapes):
    inputs = inputs_for(shapes)
    gradcheck(lambda *xs: call(tg, *xs), inputs, directions=2)
    gradgradcheck(lambda *xs: call(tg, *xs), inputs, directions=1)


@pytest.mark.parametrize("call, shapes", FLAT)
def test_values_and_gradients_are_torchs(T, call, shapes):
    inputs = inputs_for(shapes, 1)
    ours = [tg.tensor(x, requires_grad=True) for x in inputs]
    theirs = [T.tensor(x, requires_grad=True) for x in inputs]
    y, z = call(tg, *ours), call(T, *theirs)
    assert y.shape == tuple(z.shape)
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-12, atol=1e-13)
    w = np.random.default_rng(2).standard_normal(y.shape)
    found = tg.grad(y, ours, tg.tensor(w))
    for g, h in zip(found, T.autograd.grad(z, theirs, T.tensor(w)), strict=True):
        np.testing.assert_allclose(g.numpy(), h.numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("call, shapes", FLAT)
def test_single_precision_stays_single_and_results_are_the_ops_own(call, shapes):
    xs = [tg.tensor(x.astype(np.float32), requires_grad=True) for x in inputs_for(shapes)]
    y = call(tg, *xs)
    assert y.dtype == np.float32
    for g in tg.grad(y, xs, tg.ones_like(y)):
        assert g.dtype == np.float32


def test_einsum_never_returns_a_view():
    x = tg.randn(3, 3)
    for equation in ("ij->ji", "ii->i", "ij->ij", "...->..."):
        assert not np.shares_memory(tg.einsum(equation, x).numpy(), x.numpy())


def test_third_derivative_of_a_cubic_form():
    a = tg.randn(3, 3, 3, dtype="float64")
    x = tg.randn(3, dtype="float64", requires_grad=True)
    y = tg.einsum("ijk,i,j,k->", a, x, x, x)
    (first,) = tg.grad(y, x, create_graph=True)
    (second,) = tg.grad(first.sum(), x, create_graph=True)
    (third,) = tg.grad(second.sum(), x)
    symmetric = sum(np.transpose(a.numpy(), p) for p in itertools.permutations(range(3)))
    np.testing.assert_allclose(third.numpy(), symmetric.sum((0, 1)), rtol=1e-12)


def test_integers_multiply_exactly():
    x = tg.tensor([[2**60, 1], [3, 4]])
    assert (x @ tg.tensor([[1, 0], [0, 1]])).tolist() == x.tolist()
    assert tg.einsum("ij,j->i", x, tg.tensor([0, 1])).tolist() == [1, 4]


def test_linear_keeps_its_inputs_only_where_needed():
    x, w, b = tg.randn(5, 3), tg.randn(4, 3), tg.randn(4)
    assert set(tg.linear(x, w, b.requires_grad_()).node.saved) == set()
    assert set(tg.linear(x, w.requires_grad_(), b).node.saved) == {"input"}
    assert set(tg.linear(x.requires_grad_(), w.detach(), b).node.saved) == {"weight"}


def test_a_matrix_on_the_right_gets_its_gradient_from_one_product():
    """The leading axes are folded into rows: no gradient of the size (batch, 3, 4) is ever made."""
    x, w = tg.randn(6, 2, 3), tg.randn(3, 4, requires_grad=True)
    assert (x @ w).node.op.name == "reshape"


def test_random_products_like_numpy():
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies
    size = st.integers(1, 3)

    @hypothesis.settings(max_examples=100, deadline=None)
    @hypothesis.given(st.lists(size, max_size=2), st.lists(st.booleans(), min_size=4, max_size=4), size, size, size)
    def check(batch, ones, i, k, j):
        left = [1 if one else n for one, n in zip(ones, batch)]
        right = [1 if one else n for one, n in zip(ones[2:], batch)]
        a, b = np.random.randn(*left, i, k), np.random.randn(*right[len(right) // 2 :], k, j)
        x, y = tg.tensor(a, requires_grad=True), tg.tensor(b, requires_grad=True)
        z = x @ y
        np.testing.assert_allclose(z.detach().numpy(), a @ b)
        z.backward(tg.ones_like(z))
        assert x.grad.shape == a.shape and y.grad.shape == b.shape

    check()


A = tg.zeros(2, 3)
BAD = {
    "matmul": (lambda: A @ A, ValueError, "3 columns, other .* 2 rows"),
    "matmul_scalar": (lambda: A @ tg.tensor(1.0), ValueError, "at least one axis"),
    "matmul_batch": (lambda: tg.zeros(2, 3, 3) @ tg.zeros(4, 3, 3), ValueError, "broadcast"),
    "mm": (lambda: tg.mm(A, tg.zeros(3)), ValueError, "use matmul"),
    "bmm": (lambda: tg.bmm(tg.zeros(2, 3, 3), tg.zeros(1, 3, 3)), ValueError, "both sides"),
    "dot": (lambda: tg.dot(A, A), ValueError, "axes"),
    "t": (lambda: tg.zeros(2, 3, 4).t(), ValueError, "transpose"),
    "linear": (lambda: tg.linear(tg.zeros(5, 4), A), ValueError, r"\(5, 4\)"),
    "linear_bias": (lambda: tg.linear(tg.zeros(5, 3), A, tg.zeros(3)), ValueError, "bias"),
    "einsum": (lambda: tg.einsum("ij,jk->ik", A), ValueError, "2 factors"),
    "einsum_axes": (lambda: tg.einsum("ijk->i", A), ValueError, "ijk"),
    "einsum_sizes": (lambda: tg.einsum("ij,ij->i", A, tg.zeros(2, 4)), ValueError, "'j'"),
    "einsum_output": (lambda: tg.einsum("ij->ik", A), ValueError, "'ik'"),
    "einsum_letters": (lambda: tg.einsum("i1->i", A), ValueError, "letters"),
    "trace": (lambda: tg.trace(tg.zeros(3)), ValueError, "matrix"),
}


@pytest.mark.parametrize("name", BAD)
def test_errors_name_the_op_and_what_was_wrong(name):
    call, kind, words = BAD[name]
    with pytest.raises(kind, match=words) as caught:
        call()
    assert str(caught.value).startswith(name.split("_")[0])
