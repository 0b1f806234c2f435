"""Ops that have no kernel of their own give the CPU's values and derivatives of both orders on the device."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from on_device import PLACE

import tinygen as tg
import tinygen.nn.functional as F

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="the emulator needs g++")
R = np.random.default_rng(0)


def normal(*shape):
    return R.standard_normal(shape)


def outer(x, y):
    return (x[..., :, :2] * y[..., :1, :2]).sum()


def svd(a):
    U, S, Vh = tg.linalg.svd(a, full_matrices=False)
    return S.sum() + outer(U, U) + outer(U, Vh.mT)


def eigh(a):
    w, V = tg.linalg.eigh(a + a.mT)
    return w.sum() + outer(V, V)


A = normal(2, 3, 3) + 2 * np.eye(3)
IMAGE, GRID = normal(2, 3, 5, 4), normal(2, 6, 7, 2)
QKV = [normal(2, 4, 3, 8), normal(2, 4, 6, 8), normal(2, 4, 6, 5)]
CASES = {  # name: (function, inputs)
    "celu": (F.celu, [normal(3, 4)]),
    "glu": (F.glu, [normal(3, 4)]),
    "hardsigmoid": (F.hardsigmoid, [normal(3, 4) * 4]),
    "hardswish": (F.hardswish, [normal(3, 4) * 4]),
    "softshrink": (F.softshrink, [normal(3, 4)]),
    "prelu": (F.prelu, [normal(2, 4, 3), normal(4)]),
    "rms_norm": (lambda x, w: F.rms_norm(x, 4, w), [normal(3, 4), normal(4)]),
    "local_response_norm": (lambda x: F.local_response_norm(x, 3, 0.7), [normal(2, 5, 4)]),
    "bilinear": (F.bilinear, [normal(3, 4), normal(3, 5), normal(2, 4, 5)]),
    "unfold": (lambda x: F.unfold(x, (2, 3), 1, 1, 2), [normal(2, 3, 5, 6)]),
    "fold": (lambda x: F.fold(x, (4, 3), 2), [normal(2, 12, 6)]),
    "poisson_nll_loss": (lambda x, t: F.poisson_nll_loss(x, t, full=True), [normal(3, 4), np.abs(normal(3, 4)) * 4]),
    **{
        f"grid_sample {mode} {border}": (lambda x, g, m=mode, b=border: F.grid_sample(x, g, m, b), [IMAGE, GRID])
        for mode, border in (("nearest", "border"), ("bilinear", "zeros"), ("bicubic", "reflection"))
    },
    "affine_grid": (lambda theta: F.affine_grid(theta, (2, 1, 3, 4)), [normal(2, 2, 3)]),
    "attention": (F.scaled_dot_product_attention, QKV),
    "attention causal": (lambda *t: F.scaled_dot_product_attention(*t, is_causal=True), QKV),
    "attention bias": (F.scaled_dot_product_attention, [*QKV, normal(4, 3, 6)]),
    "solve": (tg.linalg.solve, [A[0], normal(2, 3, 2)]),
    "inv": (tg.linalg.inv, [A]),
    "slogdet": (lambda a: tg.linalg.slogdet(a).logabsdet, [A]),
    "cholesky": (lambda a: tg.linalg.cholesky(a @ a.mT), [A]),
    "eigh": (eigh, [A]),
    "svd": (svd, [normal(2, 4, 3)]),
    "norm": (lambda a: tg.linalg.norm(a, "nuc", (0, 1)), [normal(4, 3)]),
    "cdist": (tg.cdist, [normal(2, 4, 3), normal(2, 5, 3)]),
    "pdist": (tg.pdist, [normal(4, 3)]),
    "erfinv": (lambda x: tg.erfinv(x.tanh()), [normal(3, 4)]),
    "rot90": (tg.rot90, [normal(3, 4)]),
    "convolve2d": (tg.convolve2d, [normal(2, 3, 5, 5), normal(4, 3, 3, 3)]),
    "jacobian": (lambda x: tg.autograd.functional.jacobian(tg.exp, x, create_graph=True), [normal(4)]),
}  # fmt: skip


def derivatives(f, arrays, place):
    """The value, the gradients by the fast and the recorded way, and second derivatives, as NumPy arrays."""
    xs = [tg.tensor(a).to(place).requires_grad_() for a in arrays]
    y = f(*xs)
    assert y.device == place
    w = tg.tensor(np.cos(np.arange(y.numel())).reshape(y.shape)).to(place)
    first = tg.grad((f(*xs) * w).sum(), xs, allow_unused=True)
    again = tg.grad((y * w).sum(), xs, create_graph=True, allow_unused=True)
    used = [g for g in again if g is not None and g.requires_grad]
    second = tg.grad(sum((g * g).sum() for g in used), xs, allow_unused=True) if used else ()
    return [None if t is None else t.detach().cpu().numpy() for t in (y, *first, *again, *second)]


@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives_of_both_orders_are_the_cpus(name):
    for there, here in zip(derivatives(*CASES[name], PLACE), derivatives(*CASES[name], "cpu"), strict=True):
        assert (there is None) == (here is None)
        if here is not None:
            np.testing.assert_allclose(there, here, rtol=1e-8, atol=1e-9)
