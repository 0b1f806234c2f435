"""Which items are held out, drawn within a limit, or shared among the classes."""

import numpy as np
import pytest

from tinygen import data
from tinygen.data import DataError
from tinygen.data.selection import held_out, stratified, subset

SUBSET = [2, 5, 7, 8, 11]


def test_every_tenth_image_is_held_out():
    train, test = held_out(25)
    assert test.tolist() == [9, 19] and sorted([*train, *test]) == list(range(25))
    assert [x.tolist() for x in held_out(2)] == [[0], [1]]
    with pytest.raises(DataError, match="at least 2"):
        held_out(1)


def test_a_limit_draws_the_same_images_from_everywhere():
    chosen = subset(10_000, 1000)
    assert len(set(chosen.tolist())) == 1000 and (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(chosen, subset(10_000, 1000))
    assert 400 < (chosen < 5000).sum() < 600
    assert subset(12, 5).tolist() == SUBSET  # fixed for good: published figures rest on it
    assert subset(5, 9).tolist() == [0, 1, 2, 3, 4]
    limited = data.load("digits", limit=100)
    assert len(limited.train_images) == len(limited.test_images) == 100
    whole = data.load("digits")
    keep = subset(1500, 100)
    np.testing.assert_array_equal(limited.train_images, whole.train_images[keep])
    np.testing.assert_array_equal(limited.train_labels, whole.train_labels[keep])
    for bad in (0, 1.5, True):
        with pytest.raises(DataError, match="limit must be"):
            data.load("digits", limit=bad)


def test_stratified_shares_by_largest_remainder():
    labels = np.array([0] * 10 + [1] * 6 + [2] * 4)
    chosen = stratified(labels, 5)
    assert np.bincount(labels[chosen]).tolist() == [3, 1, 1]  # 2.5, 1.5, 1: the tie goes to the lower class
    assert len(set(chosen.tolist())) == 5
