"""Linear algebra: torch's values and gradients, derivatives of both orders, the equations that define each result."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinygen as tg
from tinygen.ops import linalg
from tinygen.testing import gradcheck, gradgradcheck

torch = pytest.importorskip("torch")
R = np.random.default_rng(4)
A, B = R.standard_normal((2, 3, 3)) + 2 * np.eye(3), R.standard_normal((2, 3, 2))
TALL, WIDE = R.standard_normal((2, 4, 3)), R.standard_normal((3, 4))


def symmetric(L, a):
    return a + a.transpose(-1, -2)


def definite(L, a):
    return a @ a.transpose(-1, -2) + L.eye(a.shape[-1], dtype=L.float64)


def outer(x, y):
    """The products of the first two columns of x and y: free of a vector's sign."""
    return x[..., :, :2] * y[..., :1, :2]


def from_svd(L, a, full=False):
    U, S, Vh = L.linalg.svd(a, full_matrices=full)
    V = Vh.transpose(-1, -2)
    return [S, outer(U, U), outer(U, V), outer(V, V)]


CASES = {  # name: [(call, inputs)]; in a call L is tinygen or torch
    "solve": [
        (lambda L, a, b: L.linalg.solve(a, b), (A, B)),
        (lambda L, a, b: L.linalg.solve(a, b), (A[0], B)),
        (lambda L, a, b: L.linalg.solve(a, b), (A, B[..., 0])),
        (lambda L, a, b: L.linalg.solve(a, b), (A[0], B[0, :, 0])),
    ],
    "inv": [(lambda L, a: L.linalg.inv(a), (A,))],
    "slogdet": [
        (lambda L, a: L.linalg.slogdet(a).logabsdet, (A,)),
        (lambda L, a: L.linalg.slogdet(-a[0])[1], (A,)),
    ],
    "cholesky": [
        (lambda L, a: L.linalg.cholesky(definite(L, a)), (A,)),
        (lambda L, a: L.linalg.cholesky(definite(L, a[0]), upper=True), (A,)),
    ],
    "eigh": [
        (lambda L, a: L.linalg.eigh(symmetric(L, a)).eigenvalues, (A,)),
        (lambda L, a: outer(*[L.linalg.eigh(symmetric(L, a)).eigenvectors] * 2), (A,)),
        (lambda L, a: outer(*[L.linalg.eigh(symmetric(L, a[0]), "U")[1]] * 2), (A,)),
    ],
    "svd": [(from_svd, (A,)), (from_svd, (TALL,)), (from_svd, (WIDE,)),
            (lambda L, a: from_svd(L, a, True), (A,)), (lambda L, a: L.linalg.svd(a)[1], (TALL,))],
    "svdvals": [(lambda L, a: L.linalg.svdvals(a), (TALL,)), (lambda L, a: L.linalg.svdvals(a), (WIDE,))],
    "norm": [
        (lambda L, a: L.linalg.norm(a), (TALL,)),
        (lambda L, a: L.linalg.norm(a, 3, -1), (TALL,)),
        *[(lambda L, a, o=o: L.linalg.norm(a, o, (2, 0)), (TALL,))
          for o in ("fro", "nuc", 2, -2, 1, -1, math.inf, -math.inf)],
        (lambda L, a: L.linalg.norm(a, "nuc", (0, 2), True), (TALL,)),
        (lambda L, a: L.linalg.norm(a, 2), (WIDE,)),
        (lambda L, a: L.linalg.norm(a, dim=(0, 1)), (WIDE,)),
    ],
}  # fmt: skip
LISTED = [pytest.param(f, xs, id=f"{name}{i}") for name, every in CASES.items() for i, (f, xs) in enumerate(every)]


def listed(result):
    return list(result) if isinstance(result, tuple | list) else [result]


def test_every_function_has_a_case():
    assert set(linalg.__all__) == set(CASES)


@pytest.mark.parametrize("call, inputs", LISTED)
def test_values_and_gradients_are_torchs(call, inputs):
    ours, theirs = [tg.tensor(a).requires_grad_() for a in inputs], [torch.tensor(a) for a in inputs]
    theirs = [t.requires_grad_() for t in theirs]
    found, expected = listed(call(tg, *ours)), listed(call(torch, *theirs))
    for y, r in zip(found, expected, strict=True):
        np.testing.assert_allclose(y.detach().numpy(), r.detach().numpy(), rtol=1e-9, atol=1e-11)
    weights = [R.standard_normal(y.shape) for y in found]
    mine = tg.grad(found, ours, [tg.tensor(w) for w in weights])
    others = torch.autograd.grad(expected, theirs, [torch.tensor(w) for w in weights])
    for g, h in zip(mine, others, strict=True):
        np.testing.assert_allclose(g.numpy(), h.numpy(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("call, inputs", LISTED)
def test_two_orders_of_derivatives(call, inputs):
    f = lambda *xs: tuple(listed(call(tg, *xs)))
    tensors = [tg.tensor(a) for a in inputs]
    assert gradcheck(f, tensors, directions=2) and gradgradcheck(f, tensors, directions=1, rtol=1e-4)


@pytest.mark.parametrize("which", range(3))
def test_one_of_several_results_alone_has_a_gradient(which):
    a = tg.tensor(TALL).requires_grad_()
    pick = lambda a: (outer(tg.linalg.svd(a, False)[which], tg.linalg.svd(a, False)[which]) if which != 1
                      else tg.linalg.svd(a, False).S)  # fmt: skip
    assert gradcheck(pick, [a])


def test_the_equations_that_define_the_results():
    a, m = tg.tensor(A), tg.tensor(A @ A.swapaxes(1, 2))
    np.testing.assert_allclose((a @ tg.linalg.inv(a)).numpy(), np.eye(3) + 0 * A, atol=1e-12)
    np.testing.assert_allclose((a @ tg.linalg.solve(a, tg.tensor(B))).numpy(), B, atol=1e-12)
    L, U = tg.linalg.cholesky(m), tg.linalg.cholesky(m, upper=True)
    np.testing.assert_allclose((L @ L.mT).numpy(), m.numpy(), rtol=1e-10)
    assert np.array_equal(L.numpy(), np.tril(L.numpy())) and np.allclose(U.numpy(), L.mT.numpy())
    w, V = tg.linalg.eigh(m)
    np.testing.assert_allclose((m @ V).numpy(), (V * w.unsqueeze(-2)).numpy(), atol=1e-10)
    for full in (False, True):
        U, S, Vh = tg.linalg.svd(tg.tensor(TALL), full)
        np.testing.assert_allclose(((U[..., :3] * S.unsqueeze(-2)) @ Vh).numpy(), TALL, atol=1e-12)
        assert U.shape == (2, 4, 4 if full else 3)
    sign, logarithm = tg.linalg.slogdet(tg.tensor(A))
    np.testing.assert_allclose((sign * logarithm.exp()).numpy(), np.linalg.det(A), rtol=1e-10)


def test_only_one_triangle_is_read():
    m = A[0] @ A[0].T
    lower, upper = tg.tensor(np.tril(m) + np.triu(np.full((3, 3), 9.0), 1)), tg.tensor(np.triu(m))
    np.testing.assert_allclose(tg.linalg.cholesky(lower).numpy(), np.linalg.cholesky(m), rtol=1e-12)
    np.testing.assert_allclose(tg.linalg.cholesky(upper, upper=True).numpy(), np.linalg.cholesky(m).T, rtol=1e-12)
    np.testing.assert_allclose(tg.linalg.eigh(lower)[0].numpy(), tg.linalg.eigh(upper, "U")[0].numpy(), rtol=1e-12)


def test_single_precision_and_integers_give_float32():
    for name in ("inv", "slogdet", "eigh", "svd", "svdvals", "norm"):
        for dtype in ("float32", "int64"):
            x = tg.tensor((10 * A + 3).astype(dtype))
            assert {y.dtype for y in listed(getattr(tg.linalg, name)(x))} == {np.dtype("float32")}, name
    assert tg.linalg.norm(tg.tensor([3, 4]), dtype=tg.float64).dtype == np.float64


def test_an_axis_may_be_a_numpy_integer():
    x = tg.tensor(TALL)
    assert tg.linalg.norm(x, 2, np.int64(1)).tolist() == tg.linalg.norm(x, 2, 1).tolist()
    assert tg.linalg.norm(x, 2, np.int8(-1), True).tolist() == tg.linalg.norm(x, 2, -1, True).tolist()


def test_the_norm_of_an_empty_matrix_is_zero():
    for size in ((0, 3), (3, 0), (0, 0), (2, 0, 3), (0, 2, 3)):
        for order in ("fro", "nuc", 1, 2, math.inf):
            for keepdim in (False, True):
                found = tg.linalg.norm(tg.zeros(size), order, (-2, -1), keepdim)
                expected = torch.linalg.norm(torch.zeros(size), order, (-2, -1), keepdim)
                assert (found.shape, found.tolist()) == (tuple(expected.shape), expected.tolist()), (size, order)
    with pytest.raises(ValueError, match="no extreme"):  # a minimum has no such bound
        tg.linalg.norm(tg.zeros(0, 3), -2)


def test_errors_say_what_was_expected():
    a, b = tg.tensor(A), tg.tensor(B)
    for call, error, match in (
        (lambda: tg.linalg.inv(tg.zeros(2, 2)), ValueError, "[Ss]ingular"),
        (lambda: tg.linalg.inv(b), ValueError, r"\(\.\.\., n, n\)"),
        (lambda: tg.linalg.solve(a, b[:, :2]), ValueError, "as many rows"),
        (lambda: tg.linalg.cholesky(-a @ a.mT), ValueError, "positive definite"),
        (lambda: tg.linalg.eigh(a, "lower"), ValueError, "UPLO='lower'"),
        (lambda: tg.linalg.svd(tg.zeros(3)), ValueError, r"\(\.\.\., m, n\)"),
        (lambda: tg.linalg.norm(a, 1), ValueError, "one axis, or two"),
        (lambda: tg.linalg.norm(a, 3, (0, 1)), ValueError, "ord=3"),
        (lambda: tg.linalg.norm(a, "nuc", 1), ValueError, "ord='nuc'"),
        (lambda: tg.linalg.norm(a, 2, (1, 1)), ValueError, "one axis, or two"),
    ):
        with pytest.raises(error, match=match):
            call()
    x = tg.tensor(TALL).requires_grad_()
    with pytest.raises(RuntimeError, match="full_matrices=False"):
        tg.linalg.svd(x).U.sum().backward()
