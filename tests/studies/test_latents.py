"""The space of codes: ends, norms, the plane, and neighbours, against loops in NumPy."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import tinygen as tg
from tinygen.studies import latents


def ends(seed=0, size=7, dtype=np.float32):
    draw = np.random.default_rng(seed)
    return draw.normal(size=size).astype(dtype), draw.normal(size=size).astype(dtype)


def test_codes_in_pieces_are_the_codes_in_order():
    asked = []

    def encode(x):
        asked.append(len(x))
        return x.flatten(1)[:, :3] * 2

    images = np.random.default_rng(0).random((25, 1, 8, 8), np.float32)
    found = latents.encoded(encode, images, size=10)
    assert asked == [10, 10, 5]
    assert np.array_equal(found, 2 * images.reshape(25, -1)[:, :3])


@pytest.mark.parametrize("path", [latents.line, latents.great_circle])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_ends_of_a_path_are_the_codes_bit_for_bit(path, dtype):
    for seed in range(30):
        a, b = ends(seed, dtype=dtype)
        found = path(tg.tensor(a), tg.tensor(b), 5).numpy()
        assert found.dtype == dtype and found.shape == (5, 7)
        assert np.array_equal(found[0], a) and np.array_equal(found[-1], b)


def test_codes_on_a_line_lie_at_equal_distances():
    a, b = ends()
    found = latents.line(tg.tensor(a), tg.tensor(b), 5).numpy()
    for t in range(5):
        np.testing.assert_allclose(found[t], (1 - t / 4) * a + t / 4 * b, rtol=1e-5, atol=1e-6)


def test_codes_on_a_great_circle_turn_at_equal_angles():
    a, b = (v / np.linalg.norm(v) for v in ends(dtype=np.float64))
    found = latents.great_circle(tg.tensor(a), tg.tensor(b), 9).numpy()
    angles = [np.arccos(u @ v) for u, v in pairwise(found)]
    assert angles == pytest.approx([np.arccos(a @ b) / 8] * 8, rel=1e-9)
    plane = np.linalg.svd(found)[1]
    assert plane[2] < 1e-12  # all in the plane of both ends


def test_a_great_circle_between_codes_of_unequal_norms_turns_by_the_angle_between_them():
    a, b = ends(dtype=np.float64)
    a *= 3
    angle = np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    found = latents.great_circle(tg.tensor(a), tg.tensor(b), 5).numpy()
    for t in range(5):
        expected = (np.sin((1 - t / 4) * angle) * a + np.sin(t / 4 * angle) * b) / np.sin(angle)
        np.testing.assert_allclose(found[t], expected, rtol=1e-9)


def test_a_great_circle_keeps_the_norm_and_a_line_does_not():
    a, b = ends(dtype=np.float64)
    b *= np.linalg.norm(a) / np.linalg.norm(b)
    arc = np.linalg.norm(latents.great_circle(tg.tensor(a), tg.tensor(b), 9).numpy(), axis=1)
    chord = np.linalg.norm(latents.line(tg.tensor(a), tg.tensor(b), 9).numpy(), axis=1)
    assert arc == pytest.approx([np.linalg.norm(a)] * 9, rel=1e-12)
    assert chord[4] < 0.95 * arc[4]


def test_halfway_between_two_axes():
    middle = latents.great_circle(tg.tensor([1.0, 0.0]), tg.tensor([0.0, 1.0]), 3)[1].tolist()
    assert middle == pytest.approx([2**-0.5, 2**-0.5])


@pytest.mark.parametrize("factor", [1.0, 3.0, -1.0])
def test_parallel_codes_are_joined_by_a_line(factor):
    a = tg.tensor(ends()[0])
    found = latents.great_circle(a, factor * a, 3).numpy()
    np.testing.assert_allclose(found, latents.line(a, factor * a, 3).numpy())
    assert np.isfinite(found).all()


def test_the_plane_holds_the_two_directions_of_largest_variance():
    draw = np.random.default_rng(2)
    turn = np.linalg.qr(draw.normal(size=(6, 6)))[0]
    codes = draw.normal(size=(400, 6)) * [0.1, 5, 0.2, 0.3, 2, 0.1] @ turn + 7
    found = latents.in_the_plane(codes)
    values, vectors = np.linalg.eigh(np.cov(codes.T))
    expected = (codes - codes.mean(0)) @ vectors[:, [-1, -2]]
    assert found.shape == (400, 2)
    assert found.var(0, ddof=1) == pytest.approx(values[[-1, -2]])
    np.testing.assert_allclose(abs(found), abs(expected), atol=1e-9)


def test_codes_of_two_numbers_are_drawn_as_they_are():
    codes = np.random.default_rng(2).normal(size=(9, 2))
    assert latents.in_the_plane(codes) is codes


@pytest.mark.parametrize("far", [0.0, 3000.0])
def test_the_nearest_neighbour_is_that_of_a_double_loop(far):
    """Also far from the origin, and over more queries than a block holds."""
    draw = np.random.default_rng(5)
    codes, queries = (draw.normal(size=(n, 3)).astype(np.float32) + np.float32(far) for n in (80, 1100))
    labels, answers = draw.integers(0, 4, 80), draw.integers(0, 4, 1100)
    right = 0
    for query, answer in zip(queries.astype(float), answers):
        distances = [((query - code) ** 2).sum() for code in codes.astype(float)]
        right += labels[int(np.argmin(distances))] == answer
    assert latents.one_nearest_neighbour(codes, labels, queries, answers) == pytest.approx(right / 1100, abs=1e-9)


def test_shares_that_are_known():
    codes, labels = np.eye(4), np.arange(4)
    share = lambda answers: latents.one_nearest_neighbour(codes, labels, 0.9 * codes, np.array(answers))
    assert share([0, 1, 2, 3]) == 1.0
    assert share([1, 0, 3, 2]) == 0.0
    assert share([0, 1, 3, 2]) == 0.5


def test_draws_from_a_fitted_gaussian_have_the_codes_mean_and_covariance():
    draw = np.random.default_rng(3)
    mix = draw.normal(size=(3, 3))
    codes = (draw.exponential(size=(500, 3)) @ mix + [5, -2, 0]).astype(np.float32)
    found = latents.fitted_gaussian(codes, 40_000, np.random.default_rng(0))
    assert found.shape == (40_000, 3) and found.dtype == np.float32
    centred = codes - codes.mean(0)
    covariance = centred.T @ centred / 499
    error = np.sqrt(np.diag(covariance) / 40_000)
    assert (abs(found.mean(0) - codes.mean(0)) < 5 * error).all()
    np.testing.assert_allclose(np.cov(found.T), covariance, atol=0.05 * np.diag(covariance).max())
    assert latents.fitted_gaussian(codes[:, :1], 9, draw).shape == (9, 1)


def test_rounded_codes_are_the_nearest_of_equally_spaced_levels():
    draw = np.random.default_rng(4)
    known, codes = (draw.normal(size=(n, 3)).astype(np.float32) * [1, 10, 0.1] + 2 for n in (200, 50))
    for bits in (1, 2, 5):
        found = latents.quantised(codes, known, bits)
        for k in range(3):
            levels = np.linspace(known[:, k].min(), known[:, k].max(), 2**bits)
            nearest = levels[abs(codes[:, k, None] - levels).argmin(1)]
            np.testing.assert_allclose(found[:, k], nearest, rtol=1e-5)
    constant = np.full((4, 1), 2.0)
    assert (latents.quantised(constant, constant, 3) == 2.0).all()


def test_images_of_codes_in_pieces():
    codes = np.arange(2500.0)[:, None]
    assert np.array_equal(latents.decoded(lambda z: 2 * z, codes), 2 * codes)
