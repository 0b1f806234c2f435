"""The slides' facts about denoisers without a network: polynomials, neighbourhoods, Wiener, bilateral (lecture 0)."""

from __future__ import annotations

import numpy as np
import pytest

from tinygen.studies import denoising

GAUSSIAN = denoising.gaussian_kernel(1.0)


def polynomial(degree, seed=0, shape=(9, 11)):
    """A random polynomial of that total degree at the pixels of (1, H, W)."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]] / 5.0
    terms = [(a, b) for a in range(degree + 1) for b in range(degree + 1 - a)]
    return sum(draw.normal() * y**a * x**b for a, b in terms)[None]


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("window", [GAUSSIAN, denoising.sector(3, 1)], ids=["gaussian", "sector"])
def test_local_polynomials_reproduce_polynomials_of_their_degree(degree, window):
    """In the interior and at the borders, also where a window holds fewer pixels than the polynomial numbers."""
    y = polynomial(degree)
    np.testing.assert_allclose(denoising.local_polynomial(y, window, degree), y, atol=1e-8)


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_local_polynomials_do_not_reproduce_polynomials_of_a_higher_degree(degree):
    y = polynomial(degree + 1)
    assert abs(denoising.local_polynomial(y, GAUSSIAN, degree) - y).max() > 1e-3


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_a_local_polynomial_is_weighted_least_squares_around_each_pixel(degree):
    z = np.random.default_rng(1).normal(size=(1, 9, 8))
    found = denoising.local_polynomial(z, GAUSSIAN, degree)
    for p in [(0, 0), (0, 4), (4, 4), (8, 7), (5, 6)]:
        rows, values, weights = [], [], []
        for q in np.ndindex(9, 8):
            dy, dx = q[0] - p[0], q[1] - p[1]
            if max(abs(dy), abs(dx)) <= 3:
                rows.append([1, dy, dx, dy * dy, dx * dx, dy * dx][: (1, 3, 6)[degree]])
                values.append(z[0][q])
                weights.append(np.exp(-(dy * dy + dx * dx) / 4))  # the root of the weight
        w = np.array(weights)
        fit = np.linalg.lstsq(np.array(rows) * w[:, None], np.array(values) * w, rcond=None)[0]
        assert found[0][p] == pytest.approx(fit[0])


def test_degree_0_is_the_weighted_mean_of_the_pixels_inside():
    z = np.random.default_rng(2).normal(size=(2, 6, 7))
    found = denoising.local_polynomial(z, np.arange(1.0, 10).reshape(3, 3), 0)
    part, w = z[:, :2, :2], np.array([[5, 6], [8, 9]])  # the corner sees no more
    np.testing.assert_allclose(found[:, 0, 0], (part * w).sum((1, 2)) / w.sum())
    part, w = z[:, 2:5, 3:6], np.arange(1, 10).reshape(3, 3)
    np.testing.assert_allclose(found[:, 3, 4], (part * w).sum((1, 2)) / 45)


def test_a_wider_window_has_less_variance_and_more_bias():
    draw = np.random.default_rng(3)
    edge = np.repeat([[0.0, 1.0]], 8, axis=1)[None].repeat(16, 1)
    noise = draw.normal(size=(200, 16, 16))
    spread, bias = [], []
    for sd in (0.6, 1.2, 2.0):
        window = denoising.gaussian_kernel(sd)
        spread.append(denoising.local_polynomial(noise, window, 1).var())
        kernels = denoising.polynomial_kernels((16, 16), window, 1)
        assert spread[-1] == pytest.approx((kernels**2).sum((2, 3)).mean(), rel=0.1)  # sum of squared weights
        bias.append(abs(denoising.local_polynomial(edge, window, 1) - edge).mean())
    assert spread[0] > spread[1] > spread[2] and bias[0] < bias[1] < bias[2]


def test_windows_grow_where_the_image_is_flat_and_stop_at_an_edge():
    draw = np.random.default_rng(4)
    edge = np.repeat([[0.0, 1.0]], 12, axis=1)[None].repeat(24, 1)
    noisy = edge + 0.05 * draw.normal(size=(20, 24, 24))
    windows = [np.ones((k, k)) for k in (1, 3, 5, 7)]
    found = denoising.largest_fitting(noisy, windows, 0, 0.05, 2.0)
    assert found.scale[:, 4:20, 2:7].mean() > 2.5 and found.scale[:, 4:20, 11:13].mean() < 0.6
    error = lambda y: ((y - edge) ** 2).mean()
    fixed = min(error(denoising.local_polynomial(noisy, window, 0)) for window in windows)
    assert error(found.estimate) < 0.6 * fixed
    kernels = [denoising.polynomial_kernels((24, 24), w, 0) for w in windows]
    variance = 0.05**2 * np.array([(k[12, 4] ** 2).sum() for k in kernels])
    np.testing.assert_allclose(found.variance[:, 12, 4], variance[found.scale[:, 12, 4]])


def test_intervals_are_intersected_with_those_of_all_smaller_windows():
    """Three estimates of one pixel, whose intervals are known."""
    z = np.zeros((1, 9, 9))
    z[0, 4, 4] = 1.0  # means over k^2 pixels: 1, 1/9, 1/25; deviations 1, 1/3, 1/5 of sd
    windows = [np.ones((k, k)) for k in (1, 3, 5)]
    at = lambda width: denoising.largest_fitting(z, windows, 0, 1.0, width).scale[0, 4, 4]
    assert at(0.6) == 0  # 8/9 > .6 (1 + 1/3)
    assert at(0.7) == 1  # 24/25 > .7 (1 + 1/5), while 8/9 < .7 (1 + 1/3)
    assert at(0.85) == 2


def test_sectors_cover_the_disc_and_share_the_centre():
    sectors = [denoising.sector(3, k) for k in range(8)]
    y, x = np.mgrid[-3:4, -3:4]
    assert np.array_equal(sum(sectors) > 0, np.hypot(y, x) <= 3)
    assert all(s[3, 3] == 1 for s in sectors)
    assert sectors[0][3, 6] == 1 and sectors[2][6, 3] == 1 and sectors[4][3, 0] == 1  # right, down, left
    assert sectors[0][3, 0] == 0


def test_adaptive_neighbourhoods_are_means_weighted_by_one_over_the_variance():
    z = np.random.default_rng(5).normal(size=(1, 12, 12))
    fused = denoising.adaptive_neighbourhoods(z, (1, 2), 0, 0.5, 1.0)
    parts = [
        denoising.largest_fitting(z, [denoising.sector(r, k) for r in (1, 2)], 0, 0.5, 1.0) for k in range(8)
    ]
    for p in [(0, 0, 0), (0, 5, 6)]:
        w = np.array([1 / part.variance[p] for part in parts])
        assert fused.estimate[p] == pytest.approx(sum(v * part.estimate[p] for v, part in zip(w, parts)) / w.sum())
        assert fused.variance[p] == pytest.approx(1 / w.sum())


# ---------------------------------------------------------------------------------- bilateral


def test_a_bilateral_filter_of_infinite_range_is_the_gaussian_filter():
    z = np.random.default_rng(6).normal(size=(2, 9, 8))
    found = denoising.bilateral(z, GAUSSIAN, np.inf)
    np.testing.assert_allclose(found, denoising.local_polynomial(z, GAUSSIAN, 0), atol=1e-12)


def test_a_bilateral_filter_of_range_0_changes_nothing_and_one_between_is_the_formula():
    z = np.random.default_rng(7).normal(size=(1, 6, 7))
    np.testing.assert_allclose(denoising.bilateral(z, GAUSSIAN, 1e-6), z, atol=1e-9)
    found = denoising.bilateral(z, GAUSSIAN, 0.8)[0]
    for p in [(0, 0), (3, 3), (5, 2)]:
        total = weight = 0.0
        for q in np.ndindex(6, 7):
            dy, dx = q[0] - p[0], q[1] - p[1]
            if max(abs(dy), abs(dx)) <= 3:
                w = np.exp(-(dy * dy + dx * dx) / 2 - (z[0][q] - z[0][p]) ** 2 / (2 * 0.64))
                total, weight = total + w * z[0][q], weight + w
        assert found[p] == pytest.approx(total / weight)


def test_a_bilateral_filter_keeps_an_edge_that_a_gaussian_smears():
    edge = np.repeat([[0.0, 1.0]], 6, axis=1)[None].repeat(12, 1)
    assert abs(denoising.bilateral(edge, GAUSSIAN, 0.1) - edge).max() < 1e-9
    assert abs(denoising.local_polynomial(edge, GAUSSIAN, 0) - edge).max() > 0.2


# ---------------------------------------------------------------------------------- Wiener


def stationary(count=4000, side=8, seed=8):
    """Periodic images of a known spectrum, and it: white noise through a filter."""
    draw = np.random.default_rng(seed)
    fy, fx = np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side), indexing="ij")
    power = 3 * np.exp(-20 * (fy**2 + 2 * fx**2))
    white = np.fft.fft2(draw.normal(size=(count, side, side)))
    return 0.4 + np.fft.ifft2(np.sqrt(power) * white).real, power, draw


def test_the_spectrum_of_images_is_the_known_one_and_of_noise_flat():
    images, power, draw = stationary()
    np.testing.assert_allclose(denoising.spectrum(images), power, rtol=0.15)
    np.testing.assert_allclose(denoising.spectrum(0.5 * draw.normal(size=(4000, 8, 8))), 0.25, rtol=0.15)


def test_the_wiener_filter_reaches_the_closed_form():
    """Its error is the mean of S s^2 / (S + s^2) over frequencies, and no scaled gain does better."""
    images, power, draw = stationary()
    noisy = images + 0.7 * draw.normal(size=images.shape)
    mean = np.full((8, 8), 0.4)
    found = denoising.wiener(noisy, mean, power, 0.7)
    expected = (power * 0.49 / (power + 0.49)).mean()
    assert ((found - images) ** 2).mean() == pytest.approx(expected, rel=0.02)
    gain = power / (power + 0.49)
    matrix = np.array([np.fft.ifft2(gain * np.fft.fft2(e.reshape(8, 8))).real.ravel() for e in np.eye(64)]).T
    np.testing.assert_allclose(found[0].ravel(), 0.4 + matrix @ (noisy[0].ravel() - 0.4), atol=1e-12)


def test_the_wiener_filter_of_a_blur_is_the_best_linear_map():
    """y^ = m + C R^T (R C R^T + s^2 I)^-1 (z - R m), R the matrix of the periodic blur, C that of the spectrum."""
    images, power, draw = stationary(3)
    kernel = draw.normal(size=(3, 3))
    R = np.zeros((64, 64))
    for p, i, j in np.ndindex(64, 3, 3):
        row, column = divmod(p, 8)
        R[p, (row + i - 1) % 8 * 8 + (column + j - 1) % 8] += kernel[i, j]
    fourier = np.array([np.fft.fft2(e.reshape(8, 8)).ravel() for e in np.eye(64)]).T
    C = (fourier.conj().T @ np.diag(power.ravel()) @ fourier).real / 64
    z = images.reshape(3, 64) @ R.T + 0.3 * draw.normal(size=(3, 64))
    mean = draw.normal(size=64)
    expected = mean + (z - R @ mean) @ np.linalg.solve(R @ C @ R.T + 0.09 * np.eye(64), R @ C)
    found = denoising.wiener(z.reshape(3, 8, 8), mean.reshape(8, 8), power, 0.3, kernel)
    np.testing.assert_allclose(found.reshape(3, 64), expected, atol=1e-9)


def test_the_best_linear_map_of_independent_values_shrinks_each():
    draw = np.random.default_rng(9)
    variance, mean, z = np.array([4, 1, 0.25]), np.array([1.0, -2, 0]), draw.normal(size=(5, 3))
    found = denoising.linear(z, mean, np.diag(variance), 0.5)
    np.testing.assert_allclose(found, mean + variance / (variance + 0.25) * (z - mean))


def test_the_best_linear_map_is_that_of_least_squares():
    draw = np.random.default_rng(10)
    mixing = draw.normal(size=(4, 4))
    y = draw.normal(size=(40000, 4)) @ mixing.T
    z = y + 0.6 * draw.normal(size=y.shape)
    fitted = np.linalg.lstsq(z, y, rcond=None)[0]
    found = denoising.linear(np.eye(4), np.zeros(4), mixing @ mixing.T, 0.6)
    np.testing.assert_allclose(found, fitted, atol=0.03)


def test_a_gaussian_kernel_has_its_sum_and_its_variance():
    kernel = denoising.gaussian_kernel(2.0)
    assert kernel.shape == (13, 13) and kernel.sum() == pytest.approx(1)
    along = np.arange(-6, 7)
    assert (kernel.sum(0) * along**2).sum() == pytest.approx(4, rel=0.03)
