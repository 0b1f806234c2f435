"""PCA of small squares: its residuals against scikit-learn's, square by square, and what is fitted on what."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from tinygen.studies import anomaly_patches as patches

draw = np.random.default_rng(0)
TRAIN, TEST = draw.random((60, 2, 9, 11)).cumsum(3) / 8, draw.random((3, 2, 9, 11)).cumsum(3) / 8


def squares(images, side):
    """{(n, row, column): the numbers of a square}"""
    count, _, height, width = images.shape
    places = [(n, i, j) for n in range(count) for i in range(height - side + 1) for j in range(width - side + 1)]
    return {(n, i, j): images[n, :, i : i + side, j : j + side].ravel() for n, i, j in places}


@pytest.mark.parametrize(("side", "components"), [(4, 1), (4, 7), (3, 17)])
def test_a_pixel_has_the_mean_error_of_the_squares_that_hold_it(side, components):
    pca = PCA(components).fit(np.stack(list(squares(TRAIN, side).values())))
    total, held = np.zeros((3, 9, 11)), np.zeros((3, 9, 11))
    for (n, i, j), x in squares(TEST, side).items():
        rebuilt = pca.inverse_transform(pca.transform(x[None]))[0]
        total[n, i : i + side, j : j + side] += ((x - rebuilt) ** 2).mean()
        held[n, i : i + side, j : j + side] += 1
    found = patches.residuals(patches.axes(TRAIN, side), TEST, components)
    np.testing.assert_allclose(found, total / held, rtol=1e-6)


def test_the_axes_are_those_of_the_images_they_are_fitted_on():
    fitted = patches.axes(TRAIN, 3)
    pca = PCA().fit(np.stack(list(squares(TRAIN, 3).values())))
    np.testing.assert_allclose(fitted.mean, pca.mean_, rtol=1e-9)
    count = 60 * 7 * 9
    np.testing.assert_allclose(fitted.variances, pca.explained_variance_ * (count - 1) / count, rtol=1e-6, atol=1e-12)
    assert (np.diff(fitted.variances) <= 0).all()
    np.testing.assert_allclose(abs(fitted.rows @ pca.components_.T)[:4, :4], np.eye(4), atol=1e-6)


def test_images_taken_in_several_goes_are_one_set(monkeypatch):
    whole = patches.axes(TRAIN, 4)
    expected = patches.residuals(whole, TEST, 5)
    monkeypatch.setattr(patches, "AT_ONCE", 7)  # 60 is no multiple of it
    split = patches.axes(TRAIN, 4)
    np.testing.assert_allclose(split.variances, whole.variances, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(patches.residuals(split, np.concatenate([TEST] * 3), 5)[3:6], expected, rtol=1e-9)


def test_waves_of_the_fitted_kind_leave_nothing_and_a_defect_leaves_its_energy_around_it():
    """Two axes rebuild every phase of one wave. A pixel off by d leaves about d^2 / 64 in each of its 64 squares."""
    y, x = np.mgrid[:24, :24]
    phases = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    waves = np.sin(0.8 * x + 0.3 * y + phases[:, None, None])[:, None]
    fitted = patches.axes(waves, 8)
    assert patches.residuals(fitted, waves, 2).max() < 1e-12
    spoilt = waves[:1].copy()
    spoilt[0, 0, 12, 12] += 0.5
    at = patches.residuals(fitted, spoilt, 2)[0]
    assert at[12, 12] == pytest.approx(0.25 / 64, rel=0.1) and at.argmax() == 12 * 24 + 12
    rows, columns = np.nonzero(at > 1e-9)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 19, 5, 19)  # 7 pixels to each side


@pytest.mark.parametrize("components", [0, 18, 19])
def test_components_that_leave_no_error_are_refused(components):
    with pytest.raises(ValueError, match=f"18 numbers are rebuilt from 1 to 17 axes; got {components}"):
        patches.residuals(patches.axes(TRAIN, 3), TEST, components)


@pytest.mark.parametrize("shape", [(2, 1, 7, 9), (2, 9, 9)])
def test_images_below_a_square_are_refused(shape):
    with pytest.raises(ValueError, match=r"8x8 pixels are cut from images .* give a smaller side"):
        patches.axes(np.zeros(shape), 8)
