"""Point sets: their distributions against the formulas and scikit-learn, their interface, what they refuse."""

import numpy as np
import pytest

from tinygen import data
from tinygen.data import DataError, points
from tinygen.data.draws import Draws
from tinygen.data.points import GRID, RING, TWO_GAUSSIANS, Points


@pytest.mark.parametrize(("mixture", "modes", "sd"), [(RING, 8, 0.02), (GRID, 25, 0.05), (TWO_GAUSSIANS, 2, 0.5)])
def test_a_mixture_has_its_modes_and_its_width(mixture, modes, sd):
    made = data.load(mixture.name)
    assert made.shape == (2,) and made.count() == made.count("test") == 10_000 and made.mixture is mixture
    assert len(made.classes) == modes == len(np.unique(mixture.centres.round(9), axis=0))
    for split in ("train", "test"):
        x, labels = made.split(split)
        assert x.dtype == np.float32 and labels.dtype == np.int64
        apart = (x - mixture.centres[labels]) / sd
        assert abs(apart.mean()) < 4 / np.sqrt(apart.size) and abs(apart.std() - 1) < 4 / np.sqrt(2 * apart.size)
        assert 3 < abs(apart).max() < 6 and abs((apart**4).mean() - 3) < 4 * np.sqrt(96 / apart.size)
        assert abs(np.corrcoef(apart.T)[0, 1]) < 0.04
        share = np.bincount(labels, minlength=modes) / len(labels)
        assert (abs(share - 1 / modes) < 4 * np.sqrt(1 / modes * (1 - 1 / modes) / len(labels))).all()


def test_the_modes_lie_where_the_papers_say():
    np.testing.assert_allclose(np.hypot(*RING.centres.T), 2)
    np.testing.assert_allclose(RING.centres[:3], [[2, 0], [2**0.5, 2**0.5], [0, 2]], atol=1e-12)
    assert sorted(map(tuple, GRID.centres.tolist())) == [(2.0 * i, 2.0 * j) for i in range(-2, 3) for j in range(-2, 3)]


def test_moons_are_scikit_learns_standardised():
    from sklearn.datasets import make_moons
    from sklearn.neighbors import NearestNeighbors

    x, labels = data.load("moons").split("train")
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=0.04)
    np.testing.assert_allclose(x.std(axis=0), 1, atol=0.03)
    many = points.draw_moons(500_000, Draws(1))[0].astype(np.float64)
    np.testing.assert_allclose(many.mean(axis=0), 0, atol=0.006)
    np.testing.assert_allclose(many.var(axis=0), 1, atol=0.004)  # the noise is 1 % of the smaller variance
    noiseless, moons = make_moons(20_000, noise=None)
    wide = make_moons(200_000, noise=0.05, random_state=0)[0]
    noiseless = (noiseless - wide.mean(axis=0)) / wide.std(axis=0)
    for moon in (0, 1):
        curve = NearestNeighbors(n_neighbors=1).fit(noiseless[moons == moon])
        inside = x[labels == moon] * wide.std(axis=0)
        far = NearestNeighbors(n_neighbors=1).fit(noiseless[moons == moon] * wide.std(axis=0)).kneighbors(inside)[0]
        assert 0.04 < np.sqrt((far**2).mean()) < 0.055  # one coordinate of the noise stands across the curve
        assert curve.kneighbors(x[labels != moon])[0].mean() > 0.5


def test_points_are_fixed_and_drawn_apart():
    for name in points.NAMES:
        one, other = data.load(name), data.load(name)
        assert one.sha == other.sha
        assert len(np.unique(np.concatenate([one.train_images, one.test_images]), axis=0)) > 19_990
    np.testing.assert_array_equal(Draws(3, 1).uniform(5), Draws(3, 1).uniform(5))
    assert len({Draws(s, t).uniform(1).item() for s in range(3) for t in range(3)}) == 9
    assert Draws(0, 0).words(1)[0] != np.random.Philox(key=[0, 0]).random_raw()  # what orders the batches of epoch 0


def test_draws_are_what_they_say():
    draws = Draws(1)
    uniform, normal, below = draws.uniform(40_000), draws.normal(40_000), draws.below(5, 40_000)
    assert uniform.min() >= 0 and uniform.max() < 1 and abs(uniform.mean() - 0.5) < 4 * 0.2887 / 200
    assert abs(uniform.var() - 1 / 12) < 0.002
    assert abs(normal.mean()) < 0.02 and abs(normal.var() - 1) < 0.03 and abs(normal).max() > 3.5
    assert np.bincount(below).min() > 7600 and below.max() == 4
    assert sorted(draws.order(50).tolist()) == list(range(50))


def test_points_go_wherever_images_go():
    made = data.load("ring", limit=300)
    assert made.count("train") == made.count("test") == 300 and made.mixture is RING
    batches = made.batches(64, seed=3, drop_last=True)
    x, y = batches.at(2, 1)
    assert len(batches) == 4 and x.shape == (64, 2) and x.dtype == np.float32 and y.shape == (64,)
    np.testing.assert_array_equal(x, made.train_images[batches.indices(2, 1)])
    np.testing.assert_array_equal(made.floats("test", [1, 2]), made.test_images[1:3])
    assert made.sha != data.load("ring").sha
    assert repr(made) == "Points(ring: 300 train + 300 test, 2 float32, 8 classes)"
    assert set(data.load("ring", only="3").train_labels) == {3}
    assert data.summary(data.load("ring"))["shape"] == (2,)


def test_what_points_refuse():
    with pytest.raises(DataError, match=r"no pixels; leave out size"):
        data.load("ring", size=16)
    with pytest.raises(DataError, match=r"no channels; leave out channels"):
        data.load("moons", channels=3)
    with pytest.raises(DataError, match="no pixels"):
        data.contact_sheet(data.load("ring"))
    good = np.zeros((3, 2), np.float32)
    for bad, message in ((np.zeros((3, 2)), "float64"), (good[:, 0], r"\(N, D\)"), (good[:0], r"\(N, D\)"),
                         (np.full((3, 2), np.nan, np.float32), "NaN")):
        with pytest.raises(DataError, match=message):
            Points("p", bad, None, good, None)
    with pytest.raises(DataError, match="training points are 2, test points 3"):
        Points("p", good, None, np.zeros((3, 3), np.float32), None)
