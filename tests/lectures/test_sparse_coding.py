"""The slides' facts about sparse codes: soft threshold, ISTA and FISTA, optimality, adjoints, density (lecture 0)."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

import tinygen as tg
from tinygen.ops.conv import conv_matrix
from tinygen.studies import denoising
from tinygen.studies import sparse_coding as sparse


def problem(seed=0, atoms=12, size=8, count=5):
    """A random dictionary D (size, atoms) and vectors z (count, size), float64."""
    draw = np.random.default_rng(seed)
    D = draw.normal(size=(size, atoms))
    return D / np.linalg.norm(D, axis=0), draw.normal(size=(count, size))


def solved(D, z, strength, steps=1200, algorithm=sparse.fista):
    A = sparse.matrix(tg.tensor(D.T.copy()))
    lipschitz = np.linalg.norm(D, 2) ** 2
    return sparse.after(algorithm(A, tg.tensor(z), strength, lipschitz), steps).numpy()


def by_loops(D, x, z, strength):
    return [
        0.5 * sum((D[p] @ x[n] - z[n, p]) ** 2 for p in range(len(D))) + strength * sum(abs(v) for v in x[n])
        for n in range(len(z))
    ]


@pytest.mark.parametrize("algorithm", [sparse.ista, sparse.fista])
def test_codes_of_an_orthogonal_dictionary_are_the_soft_threshold(algorithm):
    """x = sign(D^T z) max(|D^T z| - lambda, 0), after one step."""
    draw = np.random.default_rng(1)
    D = np.linalg.qr(draw.normal(size=(8, 8)))[0]
    z = 2 * draw.normal(size=(6, 8))
    c = z @ D
    expected = np.where(c > 0.7, c - 0.7, np.where(c < -0.7, c + 0.7, 0))
    assert 0 < (expected == 0).sum() < expected.size
    for steps in (1, 40):
        np.testing.assert_allclose(solved(D, z, 0.7, steps, algorithm), expected, atol=1e-12)


def test_the_objective_is_that_of_loops():
    D, z = problem()
    x = np.random.default_rng(2).normal(size=(5, 12))
    A = sparse.matrix(tg.tensor(D.T.copy()))
    found = sparse.objective(A, tg.tensor(x), tg.tensor(z), 0.3).numpy()
    assert found == pytest.approx(by_loops(D, x, z, 0.3))
    each = np.linspace(0, 1, 12)
    found = sparse.objective(A, tg.tensor(x), tg.tensor(z), tg.tensor(each)).numpy()
    assert found == pytest.approx(np.array(by_loops(D, x, z, 0.0)) + (each * abs(x)).sum(1))


def test_fista_lies_below_ista_and_both_below_their_bounds():
    """F(x_k) - F* <= L |x*|^2 / 2k and <= 2 L |x*|^2 / (k + 1)^2 from 0 (Beck and Teboulle 2009, 3.1 and 4.4)."""
    D, z = problem(3, atoms=40, size=20)
    A, lipschitz = sparse.matrix(tg.tensor(D.T.copy())), np.linalg.norm(D, 2) ** 2
    value = lambda x: sparse.objective(A, x, tg.tensor(z), 0.02).sum().item()
    best = solved(D, z, 0.02, 2000)
    least, square = sum(by_loops(D, best, z, 0.02)), (best**2).sum()
    curves = [
        [value(x) - least for x in islice(algorithm(A, tg.tensor(z), 0.02, lipschitz), 300)]
        for algorithm in (sparse.ista, sparse.fista)
    ]
    k = np.arange(1, 301)
    slow, fast = map(np.array, curves)
    assert (np.diff(slow) <= 1e-12).all()  # ISTA never rises
    assert (slow <= lipschitz * square / (2 * k)).all()
    assert (fast <= 2 * lipschitz * square / (k + 1) ** 2).all()
    assert slow[0] == fast[0] and slow[1] == fast[1]  # the point ahead is the last one until two are known
    assert (fast[2:] < slow[2:]).all()
    assert fast[-1] < slow[-1] / 50


def test_the_steps_of_fista_are_those_of_the_paper():
    """t_1 = 1, t_k+1 = (1 + sqrt(1 + 4 t_k^2)) / 2, y_k+1 = x_k + (t_k - 1) / t_k+1 (x_k - x_k-1)."""
    D, z = problem(4)
    lipschitz, t = np.linalg.norm(D, 2) ** 2, 1.0
    y = before = np.zeros((5, 12))
    A = sparse.matrix(tg.tensor(D.T.copy()))
    for found in islice(sparse.fista(A, tg.tensor(z), 0.1, lipschitz), 6):
        step = y - (y @ D.T - z) @ D / lipschitz
        x = np.maximum(step - 0.1 / lipschitz, 0) + np.minimum(step + 0.1 / lipschitz, 0)
        after = 0.5 + (0.25 + t**2) ** 0.5
        y, before, t = x + (t - 1) / after * (x - before), x, after
        np.testing.assert_allclose(found.numpy(), x, atol=1e-13)


def test_at_the_solution_residuals_correlate_with_no_atom_beyond_lambda():
    """|D^T(z - Dx)| <= lambda, and = lambda sign(x) where x is not 0."""
    D, z = problem(5)
    x = solved(D, z, 0.25)
    slope = (z - x @ D.T) @ D
    used = x != 0
    assert 0 < used.sum() < x.size
    assert (abs(slope) <= 0.25 + 1e-5).all()
    np.testing.assert_allclose(slope[used], 0.25 * np.sign(x[used]), atol=1e-5)


def test_the_codes_are_those_of_the_lasso():
    from sklearn.linear_model import Lasso

    D, z = problem(6)
    for one, x in zip(z, solved(D, z, 0.2)):
        lasso = Lasso(0.2 / len(D), fit_intercept=False, tol=1e-9, max_iter=10_000).fit(D, one)
        np.testing.assert_allclose(x, lasso.coef_, atol=1e-4)


def test_with_lambda_0_and_independent_atoms_it_is_least_squares():
    D, z = problem(7, atoms=5)
    np.testing.assert_allclose(solved(D, z, 0.0), np.linalg.lstsq(D, z.T, rcond=None)[0].T, atol=1e-9)


def test_each_atom_may_have_a_lambda_of_its_own():
    """An atom of lambda 0 is free: its residual is orthogonal to it."""
    D, z = problem(8)
    each = np.full(12, 0.3)
    each[0] = 0
    x = solved(D, z, tg.tensor(each))
    slope = (z - x @ D.T) @ D
    assert abs(slope[:, 0]).max() < 1e-5 < abs(slope[:, 1:]).max() < 0.3 + 1e-5
    assert (x[:, 0] != 0).all()


# ---------------------------------------------------------------------------------- maps and their adjoints


def maps():
    draw = np.random.default_rng(9)
    kernel = tg.tensor(draw.normal(size=(5, 5)))  # not symmetric: its adjoint is another map
    image = sparse.transposed_convolution(tg.tensor(draw.normal(size=(3, 1, 4, 4))), 2)
    D, _ = problem()
    return {
        "matrix": (sparse.matrix(tg.tensor(D.T.copy())), (2, 12), (2, 8)),
        "transposed convolution": (image, (2, 3, 4, 4), (2, 1, 10, 10)),
        "convolution": (sparse.convolution(kernel), (2, 1, 10, 10), (2, 1, 10, 10)),
        "both": (sparse.composed(sparse.convolution(kernel), image), (2, 3, 4, 4), (2, 1, 10, 10)),
    }


@pytest.mark.parametrize("name", maps())
def test_the_adjoint_of_a_map(name):
    """<Ax, r> = <x, A^T r>; so the gradient of 1/2 |Ax - z|^2 is A^T(Ax - z)."""
    A, before, after = maps()[name]
    draw = np.random.default_rng(10)
    x, r = tg.tensor(draw.normal(size=before), requires_grad=True), tg.tensor(draw.normal(size=after))
    assert A.forward(x).shape == after and A.adjoint(r).shape == before
    assert (A.forward(x) * r).sum().item() == pytest.approx((x * A.adjoint(r)).sum().item(), rel=1e-12)
    (gradient,) = tg.grad(0.5 * (A.forward(x) - r).square().sum(), [x])
    np.testing.assert_allclose(A.adjoint(A.forward(x) - r).detach().numpy(), gradient.numpy(), rtol=1e-9, atol=1e-12)


def test_a_blur_is_the_lectures_matrix():
    draw = np.random.default_rng(11)
    kernel, y = draw.normal(size=(3, 3)), draw.normal(size=(1, 1, 6, 7))
    blurred = sparse.convolution(tg.tensor(kernel)).forward(tg.tensor(y)).numpy()
    np.testing.assert_allclose(blurred.ravel(), conv_matrix(kernel, (6, 7)) @ y.ravel(), atol=1e-12)


def test_an_image_is_the_sum_of_atoms_at_their_places():
    draw = np.random.default_rng(12)
    atoms, x = draw.normal(size=(3, 1, 4, 4)), draw.normal(size=(1, 3, 2, 2))
    expected = np.zeros((6, 6))
    for k, i, j in np.ndindex(3, 2, 2):
        expected[2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += x[0, k, i, j] * atoms[k, 0]
    found = sparse.transposed_convolution(tg.tensor(atoms), 2).forward(tg.tensor(x)).numpy()[0, 0]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_lipschitz_constant_is_the_largest_eigenvalue():
    D, _ = problem(13)
    A = sparse.matrix(tg.tensor(D.T.copy()))
    expected = np.linalg.svd(D)[1][0] ** 2
    assert sparse.largest_square(D.T) == pytest.approx(expected)
    assert sparse.largest_square(D) == pytest.approx(expected)
    start = tg.tensor(np.random.default_rng(0).normal(size=(1, 12)))
    assert sparse.largest_eigenvalue(A, start, 300) == pytest.approx(expected)


def test_sparse_codes_undo_a_blur_that_an_inverse_does_not():
    """Spikes, blurred, with noise: nearer than what is seen, and than the inverse of the blur."""
    draw = np.random.default_rng(14)
    y = np.zeros((1, 1, 16, 16))
    y[0, 0, [3, 9, 12], [4, 11, 2]] = 1
    kernel = denoising.gaussian_kernel(1.0)
    R = sparse.convolution(tg.tensor(kernel))
    z = R.forward(tg.tensor(y)) + 0.01 * tg.tensor(draw.normal(size=y.shape))
    found = sparse.after(sparse.fista(R, z, 0.005, 1.0), 400).numpy()
    inverse = np.linalg.solve(conv_matrix(kernel, (16, 16)), z.numpy().ravel()).reshape(y.shape)
    error = lambda x: ((x - y) ** 2).sum()
    assert error(found) < 0.1 * error(z.numpy()) and error(found) < 0.1 * error(inverse)


def test_what_is_no_sparse_sum_of_atoms_has_a_low_density():
    """p(z) ~ exp(-objective): sums of two atoms have a higher density than noise of the same length."""
    draw = np.random.default_rng(15)
    D, _ = problem(15, atoms=24, size=16)
    codes = np.zeros((50, 24))
    codes[np.arange(50), draw.integers(0, 24, 50)] = 2
    known, noise = codes @ D.T, draw.normal(size=(50, 16))
    noise *= 2 / np.linalg.norm(noise, axis=1, keepdims=True)
    A = sparse.matrix(tg.tensor(D.T.copy()))
    value = lambda z: sparse.objective(A, tg.tensor(solved(D, z, 0.1)), tg.tensor(z), 0.1).numpy()
    assert value(known).max() < value(noise).min()


# ---------------------------------------------------------------------------------- dictionaries and patches


def test_a_dictionary_is_found_again_from_sums_of_its_atoms():
    """As many orthogonal atoms as pixels; each patch has one or two of them. Up to sign and order."""
    draw = np.random.default_rng(16)
    D = np.linalg.qr(draw.normal(size=(6, 6)))[0]
    codes = draw.normal(size=(600, 6)) * (draw.random((600, 6)) < 0.25)
    found = sparse.learned_atoms((codes @ D.T).astype(np.float32), 6, 0.2, rounds=40)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(6), abs=1e-6)
    alike = abs(found @ D)
    assert sorted(alike.argmax(1)) == list(range(6)) and alike.max(1).min() > 0.98


def test_learning_lowers_the_objective_below_that_of_patches_as_atoms():
    draw = np.random.default_rng(17)
    patches = draw.normal(size=(300, 16)).cumsum(1).astype(np.float32)
    patches -= patches.mean(1, keepdims=True)
    values = []
    for rounds in (0, 1, 8):
        D = sparse.learned_atoms(patches, 20, 0.3, rounds=rounds).T.astype(float)
        values.append(np.mean(by_loops(D, solved(D, patches[:40].astype(float), 0.3, 300), patches[:40], 0.3)))
    assert values[0] > values[1] > values[2]


def test_an_atom_is_the_best_with_codes_and_other_atoms_fixed(monkeypatch):
    """d_k ~ sum_n x_nk (z_n - sum of the others), of length 1 (Mairal et al. 2009): seen at the last one of all."""
    patches = np.random.default_rng(21).normal(size=(40, 6)).cumsum(1).astype(np.float32)
    codes, inner = [], sparse.after
    monkeypatch.setattr(sparse, "after", lambda *given: codes.append(inner(*given)) or codes[-1])
    atoms = sparse.learned_atoms(patches, 5, 0.1, rounds=2).astype(float)
    x = codes[-1].numpy().astype(float)
    best = x[:, 4] @ (patches - x[:, :4] @ atoms[:4])
    assert (x[:, 4] != 0).any()
    np.testing.assert_allclose(atoms[4], best / np.linalg.norm(best), atol=1e-4)


def test_atoms_that_no_patch_uses_become_the_patches_that_are_fitted_worst():
    """At a lambda that nothing is worth, all of them do: the longest patches, each once."""
    patches = np.diag([3.0, 5.0, 2.0, 4.0]).astype(np.float32)
    found = sparse.learned_atoms(patches, 3, 1e3, rounds=1)
    np.testing.assert_allclose(found, np.eye(4)[[1, 3, 0]], atol=1e-6)


def test_after_so_many_steps_is_the_last_of_so_many():
    assert [sparse.after(iter("abcd"), steps) for steps in (1, 3)] == ["a", "c"]


def test_a_dictionary_may_have_more_atoms_than_there_are_patches():
    patches = np.random.default_rng(18).normal(size=(3, 4)).astype(np.float32)
    found = sparse.learned_atoms(patches, 5, 0.1, rounds=3)
    assert found.shape == (5, 4) and np.isfinite(found).all()
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(5), abs=1e-6)


@pytest.mark.parametrize("stride", [1, 2])
def test_patches_averaged_are_the_image_and_a_pixel_the_mean_of_what_covers_it(stride):
    images = np.random.default_rng(19).random((2, 8, 10))
    patches = sparse.patches_of(images, 4, stride)
    assert patches.shape == (2, 4 // stride + 1, 6 // stride + 1, 4, 4)
    assert np.array_equal(patches[1, 1, 2], images[1, stride : stride + 4, 2 * stride : 2 * stride + 4])
    np.testing.assert_allclose(sparse.averaged(patches, stride), images)
    values = np.random.default_rng(20).random(patches.shape)
    total, cover = np.zeros((2, 8, 10)), np.zeros((8, 10))
    for i, j in np.ndindex(patches.shape[1:3]):
        total[:, i * stride : i * stride + 4, j * stride : j * stride + 4] += values[:, i, j]
        cover[i * stride : i * stride + 4, j * stride : j * stride + 4] += 1
    np.testing.assert_allclose(sparse.averaged(values, stride), total / cover)
