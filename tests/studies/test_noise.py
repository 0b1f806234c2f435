"""The space of noise: averages, walks, chains and planes, and searches for codes, against loops and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinygen as tg
from tinygen.studies import latents, noise


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# ---------------------------------------------------------------------------------- averages


def test_what_is_alike_is_sure_or_else_the_best():
    scores = np.array([0.99, -0.2, 0.96, 0.97, 0.5])
    assert noise.alike(scores, 0.95, 1).tolist() == [0, 3, 2]
    assert noise.alike(scores, 0.95, 4).tolist() == [0, 3, 2, 4]
    assert noise.alike(scores, 0.97, 1).tolist() == [0, 3]  # as sure as is asked for
    assert noise.alike(scores, 0.95, 9).tolist() == [0, 3, 2, 4, 1]


def test_questions_have_two_different_factors_of_each_kind():
    asked = noise.questions(range(3), [5, 7], 300, np.random.default_rng(0))
    assert asked.shape == (300, 4) and (asked[:, 0] != asked[:, 1]).all() and (asked[:, 2] != asked[:, 3]).all()
    assert set(asked[:, 0]) == set(asked[:, 1]) == {0, 1, 2} and set(asked[:, 2]) == set(asked[:, 3]) == {5, 7}


def test_a_sum_is_the_first_average_less_the_second_and_the_third():
    codes = drawn(60, 4)
    rows = np.arange(60)
    groups = {(a, c): rows[(rows % 3 == a) & (rows % 2 == c)] for a in range(3) for c in range(2)}
    asked = np.array([[0, 2, 1, 0], [1, 0, 0, 1]])
    found = noise.trials(codes, groups, asked, 4, np.random.default_rng(0))
    for i, (a, b, c, d) in enumerate(asked):
        means = []
        for drawn_rows, pair in zip(found.chosen[i], ((a, c), (b, c), (b, d)), strict=True):
            assert len(set(drawn_rows)) == 4 and set(drawn_rows) <= set(groups[pair])
            means.append(sum(codes[r] for r in drawn_rows) / 4)
        np.testing.assert_allclose(found.averages[:, i], means)
        np.testing.assert_allclose(found.codes[i], means[0] - means[1] + means[2])
    every = noise.trials(codes, groups, asked, 99, np.random.default_rng(0))  # a group of ten gives ten
    assert sorted(every.chosen[0][0]) == sorted(groups[0, 1])


def test_noise_around_a_code_is_uniform_and_the_code_itself_comes_first():
    code = drawn(3).astype(np.float32)
    found = noise.around(code, 4000, 0.25, np.random.default_rng(0))
    assert found.dtype == np.float32 and np.array_equal(found[0], code)
    away = found[1:] - code
    assert np.abs(away).max() <= 0.25 + 1e-6 and away.std() == pytest.approx(0.25 / math.sqrt(3), rel=0.03)
    assert abs(away.mean()) < 0.01


def test_a_line_that_leans_has_its_slope():
    images = np.zeros((4, 1, 9, 9), np.float32)
    for row in range(9):
        images[0, 0, row, 4] = 1  # upright
        images[1, 0, row, 8 - row] = 1  # one to the right for each row up
        images[2, 0, row, row] = 0.3  # to the left, and dim
    np.testing.assert_allclose(noise.slant(images), [0, 1, -1, 0], atol=1e-9)
    np.testing.assert_allclose(noise.slant(images.repeat(3, 1)), [0, 1, -1, 0], atol=1e-9)


def test_a_slant_is_the_line_of_least_squares_through_the_light():
    """x = a - slope y, each pixel weighed by its light: NumPy's polyfit."""
    images = np.random.default_rng(0).random((5, 3, 6, 9)) ** 4
    y, x = np.mgrid[:6, :9].reshape(2, -1)
    fits = [np.polyfit(y, x, 1, w=np.sqrt(image.sum(0).ravel()))[0] for image in images]
    np.testing.assert_allclose(noise.slant(images), -np.array(fits))


def test_a_turn_vector_holds_the_kind():
    """Within a kind the values grow along one direction, between kinds along another."""
    draw = np.random.default_rng(0)
    kinds, within = draw.integers(0, 3, 900), draw.uniform(-1, 1, 900)
    codes = np.stack([within, 10.0 * kinds], 1)
    found = noise.turn_vector(codes, within + 5 * kinds, kinds, 0.1)
    assert found[0] == pytest.approx(1.8, abs=0.06) and found[1] == 0
    assert noise.turn_vector(codes, within + 5 * kinds, np.zeros(900), 0.1)[1] == pytest.approx(20)
    assert np.isfinite(noise.turn_vector(codes[:2], within[:2], np.arange(2), 0.1)).all()  # one code of each


# ---------------------------------------------------------------------------------- paths


def test_a_walk_is_about_its_code():
    code, direction = (tg.tensor(drawn(5, seed=s)) for s in (0, 1))
    found = noise.walk(code, direction, 5).numpy()
    for i in range(5):
        np.testing.assert_allclose(found[i], code.numpy() + (i / 4 - 0.5) * direction.numpy(), atol=1e-12)


@pytest.mark.parametrize("path", [latents.line, latents.great_circle])
@pytest.mark.parametrize("closed", [False, True])
def test_a_chain_meets_every_code_bit_for_bit(path, closed):
    codes = drawn(9, 6).astype(np.float32)
    found = noise.chain(tg.tensor(codes), 4, path, closed).numpy()
    assert found.shape == (4 * (9 if closed else 8) + 1, 6)
    assert np.array_equal(found[::4], np.vstack([codes, codes[:1]]) if closed else codes)
    between = path(tg.tensor(codes[2]), tg.tensor(codes[3]), 5).numpy()
    assert np.array_equal(found[8:13], between)


def test_a_plane_is_bilinear_and_its_corners_are_the_codes():
    corners = drawn(4, 3).astype(np.float32)
    found = noise.plane(tg.tensor(corners), 5).numpy().reshape(5, 5, 3)
    assert np.array_equal(found[[0, 0, -1, -1], [0, -1, 0, -1]], corners)
    for i in range(5):
        for j in range(5):
            s, t = i / 4, j / 4
            weights = ((1 - s) * (1 - t), (1 - s) * t, s * (1 - t), s * t)
            np.testing.assert_allclose(found[i, j], weights @ corners, rtol=1e-5, atol=1e-6)


def test_a_change_is_1_between_independent_images():
    draw = np.random.default_rng(0)
    a, b, others = (draw.normal(3, 2, (n, 1, 8, 8)) for n in (400, 400, 300))
    assert noise.change(a, b, others) == pytest.approx(1, rel=0.03)
    few = others[:3].reshape(3, -1)
    pairs = [((few[i] - few[j]) ** 2).sum() for i, j in ((0, 1), (0, 2), (1, 2))]
    assert noise.change(a[:1], b[:1], others[:3]) == pytest.approx(((a[0] - b[0]) ** 2).sum() / np.mean(pairs))


# ---------------------------------------------------------------------------------- searches


def valley(z, rows):
    """A narrow one for each row, at its own place; the least loss is the row's number."""
    at = tg.tensor(np.array([[0.0, 0.0], [1.0, -2.0], [3.0, 0.5]]))[rows]
    number = tg.tensor(np.arange(3.0))[rows]
    return ((z - at).square() * tg.tensor(np.array([1.0, 50.0]))).sum(1) + number


@pytest.mark.parametrize("search", [noise.by_lbfgs, noise.by_adam])
def test_a_search_keeps_the_best_that_it_sees_and_counts_its_gradients(search):
    counts = np.zeros(3, int)

    def loss(z, rows):
        counts[rows] += 1
        return valley(z, rows)

    start = tg.tensor(drawn(3, 2))
    with tg.enable_grad():
        codes, least = search(loss, start, 12)
    assert codes.shape == (3, 2) and least.shape == (12, 3) and (np.diff(least, axis=0) <= 0).all()
    np.testing.assert_allclose(least[0], valley(start, slice(None)).numpy())
    np.testing.assert_allclose(least[-1], valley(tg.tensor(codes), slice(None)).numpy())
    assert (least[-1] < least[0]).all() and (counts <= (12 if search is noise.by_adam else 40)).all()
    assert np.array_equal(start.numpy(), drawn(3, 2))  # the start stays


@pytest.mark.parametrize(("search", "evaluations"), [(noise.by_lbfgs, 2), (noise.by_adam, 9)])
def test_what_a_search_sees_last_may_not_be_the_best(search, evaluations):
    """L-BFGS begins with a step that is too long; for Adam the loss rises in the end."""
    seen, values = [], []

    def loss(z, rows):
        seen.append(z.detach().numpy().copy())
        found = valley(z, slice(1)) + 50.0 * (len(seen) > 3)
        values.append(found.item())
        return found

    with tg.enable_grad():
        codes, least = search(loss, tg.tensor(drawn(1, 2)), evaluations)
    best = int(np.argmin(values[:evaluations]))
    assert best < evaluations - 1 and np.array_equal(codes, seen[best]) and least[-1] == values[best]


def test_lbfgs_needs_fewer_gradients_in_a_narrow_valley():
    with tg.enable_grad():
        ends = [search(valley, tg.tensor(drawn(3, 2)), 25)[1][-1] for search in (noise.by_lbfgs, noise.by_adam)]
    np.testing.assert_allclose(ends[0], [0, 1, 2], atol=1e-6)
    assert (ends[0] < ends[1]).all()


def test_adam_moves_each_code_as_if_it_were_alone():
    start = tg.tensor(drawn(3, 2))
    with tg.enable_grad():
        together, _ = noise.by_adam(valley, start, 9)
        alone, _ = noise.by_adam(lambda z, rows: valley(z, slice(1, 2)), start[1:2], 9)
    np.testing.assert_allclose(together[1], alone[0])


def test_of_several_starts_the_best_is_taken_for_each_image():
    """sin(z)^2 has a valley at every multiple of pi, that at 0 costs least; the other starts cost less at first."""
    starts = tg.tensor(np.array([[[6.25], [0.9]], [[0.9], [3.1]]]))
    found = noise.inverted(lambda z: z.sin(), tg.zeros(2, 1, dtype=np.float64), starts, 100.0, evaluations=30)
    np.testing.assert_allclose(found.codes.numpy(), 0, atol=1e-3)
    np.testing.assert_allclose(found.every.numpy()[0, 0], 2 * math.pi, atol=0.1)
    assert found.history.shape == (30, 2) and np.array_equal(found.losses, found.history[-1])
    alone = [noise.inverted(lambda z: z.sin(), tg.zeros(2, 1, dtype=np.float64), starts[i : i + 1], 100.0,
                            evaluations=30).history for i in range(2)]  # fmt: skip
    np.testing.assert_array_equal(found.history, np.minimum(*alone))
