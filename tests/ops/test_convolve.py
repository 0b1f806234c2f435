"""True convolution: numpy.convolve, commuting factors, and derivatives of both orders."""

from __future__ import annotations

import numpy as np

import tinygen as tg
from tinygen.testing import gradcheck, gradgradcheck

R = np.random.default_rng(8)


def test_it_is_numpys():
    x, w = R.standard_normal(9), R.standard_normal(4)
    for mode, padding in (("full", 3), ("valid", 0)):
        y = tg.convolve1d(tg.tensor(x[None, None]), tg.tensor(w[None, None]), padding=padding)
        np.testing.assert_allclose(y.numpy()[0, 0], np.convolve(x, w, mode), rtol=1e-12)


def test_in_two_dimensions_it_is_the_sum_that_defines_it():
    x, w = R.standard_normal((5, 6)), R.standard_normal((3, 2))
    full = np.zeros((7, 7))
    for t, u in np.ndindex(*w.shape):
        full[t : t + 5, u : u + 6] += w[t, u] * x
    x, w = tg.tensor(x[None, None]), tg.tensor(w[None, None])
    np.testing.assert_allclose(tg.convolve2d(x, w, padding=(2, 1)).numpy()[0, 0], full, rtol=1e-12)
    np.testing.assert_allclose(tg.convolve2d(w, x, padding=(4, 5)).numpy()[0, 0], full, rtol=1e-12)  # w * x = x * w


def test_it_takes_the_options_of_the_layer():
    x, w, b = (tg.tensor(R.standard_normal(s)) for s in ((2, 4, 7, 7), (6, 2, 3, 3), (6,)))
    flipped = tg.tensor(w.numpy()[..., ::-1, ::-1].copy())
    options = {"stride": 2, "padding": 1, "dilation": 2, "groups": 2}
    same = tg.convolve2d(x, w, b, **options), tg.conv2d(x, flipped, b, **options)
    np.testing.assert_array_equal(*[y.numpy() for y in same])


def test_two_orders_of_derivatives():
    for f, shapes in ((tg.convolve1d, [(2, 3, 7), (4, 3, 2)]), (tg.convolve2d, [(2, 3, 5, 4), (2, 3, 2, 3)])):
        inputs = [tg.tensor(R.standard_normal(s)) for s in shapes]
        assert gradcheck(f, inputs) and gradgradcheck(f, inputs)
