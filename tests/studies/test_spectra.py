"""Radial spectra: known textures, Parseval, sizes, and the error by hand."""

import numpy as np
import pytest

from tinygen.studies import spectra
from tinygen.studies.spectra import hann, radial_spectrum, random_phase, spectrum_error

draw = np.random.default_rng(0)


def noise(count, height, width, sd=0.3, channels=1):
    return 0.5 + sd * draw.standard_normal((count, channels, height, width))


def grating(size, frequency, angle, phase=0.4):
    y, x = np.mgrid[: size[0], : size[1]]
    wave = np.cos(2 * np.pi * frequency * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    return 0.5 + 0.2 * wave[None, None]


def smooth(size, count):
    """Noise whose power falls with the frequency: each pixel with its neighbours, on a plane without borders."""
    plane = noise(count, size + 8, size + 8)
    return sum(np.roll(plane, (i, j), (2, 3)) for i in range(4) for j in range(4))[:, :, 4:-4, 4:-4] / 16


@pytest.mark.parametrize("shape", [(64, 64), (32, 80)])
def test_white_noise_is_flat_at_its_variance_whatever_the_size(shape):
    found = radial_spectrum(noise(60, *shape, channels=2))
    np.testing.assert_allclose(found.power[1:], 0.09, rtol=0.12)
    assert found.power[0] < 0.09  # the mean is gone
    assert found.shares.sum() == pytest.approx(1)
    assert found.variance == pytest.approx(0.09, rel=0.02)


@pytest.mark.parametrize("frequency", [0.08, 0.2, 0.41])
@pytest.mark.parametrize("angle", [0.0, 0.7, 2.2])
def test_a_grating_has_its_peak_at_its_frequency(frequency, angle):
    for size in ((64, 64), (128, 96)):
        found = radial_spectrum(grating(size, frequency, angle), 64)
        parts = found.shares * found.power
        near = abs(found.frequencies - frequency) <= 3 / 64  # within the annulus, or one beside it
        assert parts[near].sum() > 0.99 * parts.sum()
        assert abs(found.frequencies[parts.argmax()] - frequency) <= 1.5 / 64


def test_annuli_are_two_frequencies_wide_and_reach_to_the_corner():
    found = radial_spectrum(noise(1, 16, 16))
    np.testing.assert_allclose(found.frequencies, (np.arange(6) + 0.5) / 8)  # 2 / 16 wide, to sqrt(1/2) = .707
    fy, fx = np.meshgrid(np.fft.fftfreq(16), np.fft.fftfreq(16))
    radius = np.hypot(fy, fx).ravel()
    for low, share in zip(np.arange(6) / 8, found.shares):
        assert share == ((radius >= low) & (radius < low + 1 / 8)).mean()


def test_the_power_of_all_annuli_is_the_variance_under_the_window():
    """Parseval, for one square and for several that overlap by a half."""
    images = noise(3, 16, 24, channels=2) + grating((16, 24), 0.1, 0.3)
    window = hann(16)

    def variance(square):
        mean = (window * square).sum() / window.sum()
        return ((window * (square - mean)) ** 2).sum() / (window**2).sum()

    found = [variance(image[:, left : left + 16]) for image in images.reshape(-1, 16, 24) for left in (0, 8)]
    assert radial_spectrum(images).variance == pytest.approx(np.mean(found), rel=1e-9)


def test_one_annulus_by_hand():
    """The power at the frequencies of an annulus, by sums of cosines and sines."""
    image = noise(1, 8, 8)[0, 0]
    window = np.outer(*[np.sin(np.pi * (np.arange(8) + 0.5) / 8) ** 2] * 2)
    seen = window * (image - (window * image).sum() / window.sum())
    y, x = np.mgrid[:8, :8]
    powers = []
    for v in range(-4, 4):
        for u in range(-4, 4):
            if 0.25 <= np.hypot(u, v) / 8 < 0.5:
                turn = 2 * np.pi * (u * x + v * y) / 8
                powers.append(((seen * np.cos(turn)).sum() ** 2 + (seen * np.sin(turn)).sum() ** 2) / (window**2).sum())
    found = radial_spectrum(image[None, None])
    assert found.frequencies[1] == 0.375 and found.power[1] == pytest.approx(np.mean(powers), rel=1e-9)


def test_a_jump_from_border_to_border_does_not_cover_fine_detail():
    """A ramp has no fine detail; without a window its jump would have 1 / f^2."""
    ramp = np.tile(np.arange(64) / 64, (64, 1))[None, None]
    plain = np.square(abs(np.fft.fft2(ramp[0, 0] - ramp.mean()))) / 64**2
    found = radial_spectrum(ramp)
    assert found.power[8:].max() < 1e-3 * plain[0, 16:32].max()


def test_the_same_texture_at_four_times_the_area_has_the_same_curve():
    small, large = smooth(64, 300), smooth(128, 75)
    assert spectrum_error(small, large) < 0.05 and spectrum_error(large, small) < 0.05
    found, other = radial_spectrum(small), radial_spectrum(large, 64)
    np.testing.assert_array_equal(found.frequencies, other.frequencies)
    coarse = np.repeat(np.repeat(smooth(64, 75), 2, 2), 2, 3)  # the same, stretched: another texture
    assert spectrum_error(small, coarse) > 0.3


def test_the_error_is_what_is_missing_or_too_much_by_all_there_is():
    real, fake = smooth(32, 20), 0.8 * smooth(32, 20) + 0.1 * noise(20, 32, 32)
    p, q = radial_spectrum(real), radial_spectrum(fake)
    expected = sum(a * abs(x - y) for a, x, y in zip(p.shares, q.power, p.power)) / sum(p.shares * p.power)
    assert spectrum_error(real, fake) == pytest.approx(expected, rel=1e-12) and expected > 0.1
    assert spectrum_error(real, real) == 0
    assert spectrum_error(real, np.full_like(real, 0.3)) == pytest.approx(1)
    assert spectrum_error(real, 0.5 + 2 * (real - 0.5)) == pytest.approx(3)  # four times the power
    assert spectrum_error(real, real + 0.2) == pytest.approx(0, abs=1e-9)  # brightness is no texture


def test_images_taken_in_several_goes_are_one_set(monkeypatch):
    images = noise(7, 16, 24)
    whole = radial_spectrum(images)
    monkeypatch.setattr(spectra, "AT_ONCE", 4000)
    np.testing.assert_allclose(radial_spectrum(images).power, whole.power, rtol=1e-12)


def test_the_far_border_counts():
    images = np.zeros((1, 1, 16, 21))
    images[..., -3:] = draw.standard_normal((16, 3))
    assert radial_spectrum(images[:, :, :, :16]).variance == 0 < radial_spectrum(images).variance
    places = radial_spectrum(images, 16).variance * 2  # squares at 0 and 5, the second alone has something
    assert places == pytest.approx(radial_spectrum(images[:, :, :, 5:]).variance)


@pytest.mark.parametrize("side", [3, 17])
def test_squares_that_do_not_fit_are_refused(side):
    with pytest.raises(ValueError, match=rf"squares of 4 to 16 pixels a side.*\(2, 1, 16, 20\).*got {side}"):
        radial_spectrum(noise(2, 16, 20), side)
    with pytest.raises(ValueError, match="4 to 3 pixels"):
        radial_spectrum(noise(2, 3, 20))


def test_flat_real_images_are_refused():
    with pytest.raises(ValueError, match="real images are flat"):
        spectrum_error(np.full((2, 1, 8, 8), 0.4), noise(2, 8, 8))


# ---------------------------------------------------------------------------------- Gaussian textures


def test_a_gaussian_texture_is_an_image_under_the_window_around_its_mean_folded_with_noise():
    """m + (w (x - m) / sqrt(sum of w^2)) * n by sums over places, wrapping around; one n for all channels."""
    images, size = noise(2, 6, 6, channels=3), (7, 9)
    found = random_phase(images, size, np.random.default_rng(5))
    n = np.random.default_rng(5).standard_normal((2, 1, *size))
    window = np.outer(*[np.sin(np.pi * (np.arange(6) + 0.5) / 6) ** 2] * 2)
    assert found.shape == (2, 3, 7, 9)
    for k, c in np.ndindex(2, 3):
        mean = (window * images[k, c]).sum() / window.sum()
        seed = window * (images[k, c] - mean) / np.sqrt((window**2).sum())
        folded = sum(seed[i, j] * np.roll(n[k, 0], (i, j), (0, 1)) for i, j in np.ndindex(6, 6))
        np.testing.assert_allclose(found[k, c], mean + folded, atol=1e-12)


def test_gaussian_textures_are_of_squares_that_they_have_room_for():
    for images, size in ((noise(2, 6, 8), (9, 9)), (noise(2, 8, 8), (9, 7))):
        with pytest.raises(ValueError, match=f"squares of at most {min(size)} pixels a side make textures of 9x"):
            random_phase(images, size, draw)
