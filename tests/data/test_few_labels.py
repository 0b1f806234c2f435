"""All images without labels and a few with: which labels are read, in what order the few come, and how many."""

from __future__ import annotations

import numpy as np
import pytest

from tinygen.data.few_labels import FewLabels
from tinygen.data.selection import balanced_draw

LABELS = np.random.default_rng(0).integers(0, 4, 200)
IMAGES = np.arange(200, dtype=np.uint8).reshape(200, 1, 1, 1) * np.ones((1, 8, 8), np.uint8)


def number(images):
    """Which images they are."""
    return np.rint(images[:, 0, 0, 0] * 255).astype(int)


def made(labels=LABELS, size=16, seed=3, count=20, **options):
    chosen = balanced_draw(LABELS, count, seed)
    return FewLabels(IMAGES, labels, chosen, size, seed, **options), chosen


def test_as_many_of_each_class_are_drawn_from_the_seed():
    chosen = balanced_draw(LABELS, 20, 5)
    assert np.bincount(LABELS[chosen]).tolist() == [5] * 4
    assert (np.diff(chosen) > 0).all()
    assert np.array_equal(chosen, balanced_draw(LABELS, 20, 5))
    others = [balanced_draw(LABELS, 20, seed) for seed in range(40)]
    drawn = np.bincount(np.concatenate(others), minlength=200)
    assert len({tuple(o) for o in others}) == 40
    assert (drawn > 0).sum() > 180  # every image may be among them: 1 - (1 - 1/10)^40 of 200 is 197


@pytest.mark.parametrize("count", [1, 3, 21, 22, 23])
def test_shares_differ_by_one_at_most(count):
    shares = np.bincount(LABELS[balanced_draw(LABELS, count, 1)], minlength=4)
    assert shares.sum() == count and shares.max() - shares.min() <= 1


def test_a_small_class_gives_all_it_has_and_no_more_are_drawn_than_there_are():
    labels = np.array([0] * 50 + [1] * 2 + [2] * 50)
    assert np.bincount(labels[balanced_draw(labels, 20, 0)]).tolist() == [9, 2, 9]
    assert np.array_equal(balanced_draw(labels, 500, 0), np.arange(102))


def test_what_is_drawn_of_the_drawn_is_all_of_it():
    """So that data in which the other labels are deleted give the same draw."""
    for count in (20, 21, 22):
        chosen = balanced_draw(LABELS, count, 5)
        assert np.array_equal(balanced_draw(LABELS[chosen], count, 5), np.arange(count))


def test_the_other_labels_are_never_read():
    batches, chosen = made()
    others = np.setdiff1d(np.arange(200), chosen)
    permuted, deleted = LABELS.copy(), np.full(200, -1)
    permuted[others] = np.random.default_rng(1).permutation(LABELS[others])
    deleted[chosen] = LABELS[chosen]
    assert not np.array_equal(permuted, LABELS)
    for labels in (permuted, deleted):
        again, _ = made(labels)
        for epoch in range(2):
            for index in range(len(batches)):
                for a, b in zip(batches.at(epoch, index), again.at(epoch, index), strict=True):
                    assert np.array_equal(a, b)


def test_every_epoch_shows_all_images_and_every_batch_some_of_the_few_with_their_labels():
    batches, chosen = made(size=16)
    assert len(batches) == 13 and batches.count == 200 and batches.batch_size == 16
    shown, few = [], []
    for index in range(13):
        images, named, labels = batches.at(1, index)
        assert images.dtype == named.dtype == np.float32
        shown.append(number(images))
        assert len(named) == len(labels) == 16 and len(set(number(named))) == 16
        assert np.array_equal(LABELS[number(named)], labels)
        few.append(number(named))
    assert sorted(np.concatenate(shown)) == list(range(200))
    assert set(np.concatenate(few)) == set(chosen)
    orders = [tuple(numbers) for numbers in few]
    assert len(set(orders)) == 13  # a new order each time
    assert len(made(drop_last=True)[0]) == 12


def test_the_few_go_on_through_the_epochs_and_are_a_function_of_the_position():
    batches, chosen = made(size=5)  # 40 batches an epoch, 4 of the few a pass
    numbers = [number(batches.at(*divmod(step, 40))[1]) for step in range(36, 48)]
    for start in range(0, 12, 4):
        assert sorted(np.concatenate(numbers[start : start + 4])) == sorted(chosen)
    first, second = ([tuple(number(batches.at(epoch, index)[1])) for index in range(40)] for epoch in (0, 1))
    assert len(set(first + second)) == 80  # an epoch does not begin anew
    again, _ = made(size=5)
    assert np.array_equal(number(again.at(1, 3)[1]), number(batches.at(1, 3)[1]))
    other = FewLabels(IMAGES, LABELS, chosen, 5, 4)
    assert not np.array_equal(number(other.at(1, 3)[1]), number(batches.at(1, 3)[1]))


def test_fewer_than_a_batch_come_all_of_them():
    batches, chosen = made(size=64)
    for index in range(3):
        assert sorted(number(batches.at(0, index)[1])) == sorted(chosen)
