"""Images read at points: torch's values and gradients for every mode and border, and derivatives of both orders."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import tinygen as tg
from tinygen.ops.grid import affine_grid, grid_sample
from tinygen.testing import gradcheck, gradgradcheck

torch = pytest.importorskip("torch")
TF = torch.nn.functional
R = np.random.default_rng(2)
IMAGE, GRID = R.standard_normal((2, 3, 5, 4)), R.uniform(-2.6, 2.6, (2, 6, 7, 2))
MODES, BORDERS = ("nearest", "bilinear", "bicubic"), ("zeros", "border", "reflection")
OPTIONS = list(itertools.product(MODES, BORDERS, (False, True)))


def beside(image, grid, *options):
    """Asserts that values and gradients of both arguments are torch's."""
    ours, theirs = [tg.tensor(a).requires_grad_() for a in (image, grid)], [torch.tensor(a) for a in (image, grid)]
    y, r = grid_sample(*ours, *options), TF.grid_sample(*[t.requires_grad_() for t in theirs], *options)
    np.testing.assert_allclose(y.detach().numpy(), r.detach().numpy(), rtol=1e-10, atol=1e-12)
    g = R.standard_normal(y.shape)
    y.backward(tg.tensor(g))
    r.backward(torch.tensor(g))
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("mode, border, corners", OPTIONS)
def test_values_and_gradients_are_torchs(mode, border, corners):
    beside(IMAGE, GRID, mode, border, corners)
    beside(IMAGE[:, :, :1, :1], GRID, mode, border, corners)
    beside(IMAGE, GRID[:, :0], mode, border, corners)


@pytest.mark.parametrize("mode, border, corners", [o for o in OPTIONS if o[0] != "nearest"])
def test_two_orders_of_derivatives(mode, border, corners):
    f = lambda x, g: grid_sample(x, g, mode, border, corners)
    inputs = [tg.tensor(IMAGE), tg.tensor(GRID)]
    assert gradcheck(f, inputs, directions=2) and gradgradcheck(f, inputs, directions=2)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("mode, border, corners", OPTIONS)
def test_points_that_are_no_numbers_read_nothing_outside(mode, border, corners):
    points = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 0.2])
    grid = tg.tensor(points.repeat(2).reshape(1, 1, 6, 2)).requires_grad_()
    x = tg.tensor(IMAGE[:1]).requires_grad_()
    y = grid_sample(x, grid, mode, border, corners)
    y.sum().backward()
    assert np.isfinite(x.grad.numpy()).all()
    if border == "zeros":
        nowhere, beyond, inside = np.split(y.detach().numpy(), [3, 5], -1)
        assert (nowhere == 0).all() if mode == "nearest" else np.isnan(nowhere).all()
        assert (beyond == 0).all() and (inside != 0).all()


def test_single_precision_stays_single():
    x, g = tg.tensor(IMAGE.astype("float32")).requires_grad_(), tg.tensor(GRID.astype("float32")).requires_grad_()
    for mode in ("bilinear", "bicubic"):
        y = grid_sample(x, g, mode, "reflection")
        assert {t.dtype for t in (y, *tg.grad(y.sum(), [x, g]))} == {np.dtype("float32")}


@pytest.mark.filterwarnings("ignore:Since version 1.3.0, affine_grid:UserWarning")
@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("size", [(2, 3, 4, 5), (2, 1, 1, 3)])
def test_affine_grid_is_torchs(size, corners):
    theta = R.standard_normal((2, 2, 3))
    ours, theirs = tg.tensor(theta).requires_grad_(), torch.tensor(theta, requires_grad=True)
    y, r = affine_grid(ours, size, corners), TF.affine_grid(theirs, size, corners)
    np.testing.assert_allclose(y.detach().numpy(), r.detach().numpy(), rtol=1e-12, atol=1e-14)
    g = R.standard_normal(y.shape)
    y.backward(tg.tensor(g))
    r.backward(torch.tensor(g))
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_the_identity_draws_the_image_itself():
    theta = tg.tensor(np.array([[[1.0, 0, 0], [0, 1, 0]]] * 2))
    for corners, mode in itertools.product((False, True), MODES):
        grid = affine_grid(theta, IMAGE.shape, corners)
        y = grid_sample(tg.tensor(IMAGE), grid, mode, "border", corners)
        np.testing.assert_allclose(y.numpy(), IMAGE, rtol=1e-12, atol=1e-14)


def test_errors_say_what_was_expected():
    x, g = tg.tensor(IMAGE), tg.tensor(GRID)
    for call, error, match in (
        (lambda: grid_sample(x[0], g), ValueError, r"\(N, C, H, W\)"),
        (lambda: grid_sample(x, g[:1]), ValueError, r"\(N, P, Q, 2\)"),
        (lambda: grid_sample(x, g[..., :1]), ValueError, r"\(N, P, Q, 2\)"),
        (lambda: grid_sample(x, g, "linear"), ValueError, "mode='linear'"),
        (lambda: grid_sample(x, g, "nearest", "wrap"), ValueError, "padding_mode='wrap'"),
        (lambda: grid_sample(x.unsqueeze(2), g), NotImplementedError, "volumes"),
        (lambda: affine_grid(tg.zeros(2, 2, 3), (3, 1, 4, 4)), ValueError, r"\(N, 2, 3\)"),
        (lambda: affine_grid(tg.zeros(2, 3, 4), (2, 1, 4, 4, 4)), NotImplementedError, "volumes"),
    ):
        with pytest.raises(error, match=match):
            call()


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("border", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("corners", [False, True])
def test_a_point_that_is_no_number_reads_what_torchs_reads(mode, border, corners):
    values = [np.nan, np.inf, -np.inf, -0.9, 0.4]
    grid = np.array(list(itertools.product(values, values)), np.float32).reshape(1, 5, 5, 2)
    image = np.arange(1, 25, dtype=np.float32).reshape(1, 2, 3, 4)
    ours = grid_sample(tg.tensor(image), tg.tensor(grid), mode, border, corners)
    theirs = torch.nn.functional.grid_sample(torch.tensor(image), torch.tensor(grid), mode, border, corners)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), 1e-5, 1e-5)
