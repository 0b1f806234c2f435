"""Batches: pure functions of (seed, epoch, index)."""

import numpy as np
import pytest
from small_sets import grey, small_set

from tinygen.data import Batches, DataError


def numbered(count, batch_size, **options):
    """Batches whose images carry their own number, so that what was drawn can be read off."""
    images = np.zeros((count, 1, 8, 8), np.float32)
    images[:, 0, 0, 0] = np.arange(count) / 1024
    return Batches(images, np.arange(count), batch_size, **options)


def test_a_batch_is_the_same_whatever_was_asked_before():
    sequence = [(e, i, *b) for e in range(3) for i, b in enumerate(numbered(23, 5, seed=7).epoch(e))]
    jumping = numbered(23, 5, seed=7)
    for place in np.random.default_rng(0).permutation(len(sequence)):
        epoch, index, images, labels = sequence[place]
        fresh = numbered(23, 5, seed=7).at(epoch, index)
        for got in (jumping.at(epoch, index), fresh, jumping.step(epoch * 5 + index)):
            np.testing.assert_array_equal(got[0], images)
            np.testing.assert_array_equal(got[1], labels)


def test_an_epoch_visits_every_image_once_and_labels_stay_with_their_images():
    batches = numbered(23, 5, seed=1)
    assert len(batches) == 5
    sizes, seen = [], []
    for images, labels in batches.epoch(4):
        np.testing.assert_array_equal(images[:, 0, 0, 0] * 1024, labels)
        sizes.append(len(images))
        seen += labels.tolist()
    assert sizes == [5, 5, 5, 5, 3]
    assert sorted(seen) == list(range(23))


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [numbered(50, 5, seed=s).order(e).tolist() for s in range(3) for e in range(3)]
    assert len({tuple(o) for o in orders}) == 9
    assert all(sorted(o) == list(range(50)) for o in orders)
    places = np.array([numbered(50, 5, seed=0).order(e).tolist().index(0) for e in range(400)])
    assert abs(places.mean() - 24.5) < 4 * 14.43 / 20  # image 0 stands anywhere, four standard errors allowed


def test_the_order_is_fixed_for_good():
    # a change here makes every resumed run and every published figure another one
    assert numbered(10, 5, seed=0).order(0).tolist() == ORDER_0_0
    assert numbered(10, 5, seed=2**64 - 1).order(3).tolist() == ORDER_MAX_3


ORDER_0_0 = [0, 2, 9, 1, 8, 5, 4, 3, 6, 7]
ORDER_MAX_3 = [3, 2, 8, 0, 1, 6, 9, 5, 4, 7]


def test_an_epoch_can_start_in_its_middle():
    batches = numbered(23, 5, seed=1)
    whole = [labels.tolist() for _, labels in batches.epoch(2)]
    assert [labels.tolist() for _, labels in numbered(23, 5, seed=1).epoch(2, start=3)] == whole[3:]
    assert list(batches.epoch(2, start=5)) == []
    with pytest.raises(IndexError, match="cannot start at 6"):
        batches.epoch(2, start=6)


def test_drop_last_leaves_out_the_ragged_batch():
    batches = numbered(23, 5, drop_last=True)
    assert len(batches) == 4
    assert [len(x) for x, _ in batches.epoch(0)] == [5, 5, 5, 5]
    assert len(numbered(20, 5, drop_last=True)) == len(numbered(20, 5)) == 4
    with pytest.raises(DataError, match="batch_size 30 is larger than the 23 images"):
        numbered(23, 30, drop_last=True)
    assert len(numbered(23, 30)) == 1


def test_without_shuffle_the_order_is_that_of_the_arrays():
    batches = numbered(7, 3, shuffle=False)
    assert [y.tolist() for _, y in batches.epoch(5)] == [[0, 1, 2], [3, 4, 5], [6]]


def test_batches_are_float32_contiguous_and_the_caller_may_change_them():
    images = grey(12)
    images.flags.writeable = False
    batches = Batches(images, None, 4)
    x, y = batches.at(0, 0)
    assert y is None and x.dtype == np.float32 and x.flags.c_contiguous and x.shape == (4, 1, 8, 8)
    np.testing.assert_array_equal(x, images[batches.indices(0, 0)].astype(np.float32) / np.float32(255))
    x[:] = 0
    assert batches.at(0, 0)[0].any()


@pytest.mark.parametrize(("arguments", "message"), [
    ({"batch_size": 0}, "batch_size must be"), ({"batch_size": 2.5}, "batch_size must be"),
    ({"batch_size": True}, "batch_size must be"), ({"batch_size": 2, "seed": -1}, "seed must be"),
    ({"batch_size": 2, "seed": 2**64}, "seed must be"), ({"batch_size": 2, "seed": 0.5}, "seed must be"),
])
def test_bad_batch_arguments(arguments, message):
    with pytest.raises(DataError, match=message):
        Batches(grey(5), None, **arguments)


def test_batches_outside_the_epoch():
    batches = numbered(10, 5)
    for epoch, index in ((0, 2), (0, -1), (-1, 0)):
        with pytest.raises(IndexError):
            batches.at(epoch, index)
    with pytest.raises(DataError, match="5 images but 4 labels"):
        Batches(grey(5), np.arange(4), 2)
    with pytest.raises(DataError, match="no images"):
        Batches(grey(0), None, 2)


def test_a_data_set_passes_on_what_batches_are_asked_for():
    made = small_set(count=90)
    assert len(made.batches(16, drop_last=True)) == 5 and len(made.batches(16)) == 6
    assert [len(x) for x, _ in made.batches(16, drop_last=True).epoch(1)] == [16] * 5
    orders = [made.batches(16, seed=s).order(0).tolist() for s in (0, 1)]
    assert orders[0] != orders[1] and orders[1] == Batches(made.train_images, None, 16, seed=1).order(0).tolist()
    np.testing.assert_array_equal(made.batches(16, shuffle=False).at(3, 0)[0], made.floats("train", slice(0, 16)))
    np.testing.assert_array_equal(made.batches(2, shuffle=False, split="test").at(0, 1)[1], made.test_labels[2:4])
