"""ImagePool and History: how they fill, what is exchanged and how often, and that a resumed one goes on bit for bit."""

from __future__ import annotations

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen.models.history import History, ImagePool

SHAPE = (2, 3, 3)


def numbered(first, n):
    """Images whose every pixel is their number, from `first` on."""
    values = np.arange(first, first + n, dtype=np.float32).reshape(n, 1, 1, 1)
    return tg.tensor(np.broadcast_to(values, (n, *SHAPE)).copy())


def numbers(images):
    values = images.numpy()
    assert (values == values[:, :1, :1, :1]).all()  # each image whole
    return values[:, 0, 0, 0].astype(int).tolist()


def filled(store, n):
    """The store after batches of n images 0, 1, ...; the next number."""
    first = 0
    while store.count.item() < store.size:
        store(numbered(first, n))
        first += n
    return first


# ---------------------------------------------------------------------------------- a pool


def test_a_pool_that_fills_shows_what_it_is_given():
    pool = ImagePool(SHAPE, 8)
    for first in (1, 4, 7):  # the last of these finds two free places, and takes the first one again
        assert pool.count.item() == first - 1
        assert numbers(pool(numbered(first, 3))) == [first, first + 1, first + 2]
    assert numbers(pool.images) == [9, 2, 3, 4, 5, 6, 7, 8] and pool.count.item() == 9


def test_a_pool_that_is_not_full_draws_nothing_from_it():
    pool = ImagePool(SHAPE, 9)
    pool(numbered(1, 4))
    assert numbers(pool.images) == [1, 2, 3, 4, 0, 0, 0, 0, 0]
    for _ in range(20):
        assert 0 not in numbers(ImagePool(SHAPE, 100)(numbered(1, 4)))


def test_a_full_pool_gives_an_older_image_for_each_that_it_takes():
    tg.manual_seed(1)
    pool = ImagePool(SHAPE, 6)
    first = filled(pool, 3)
    for _ in range(40):
        before, batch = numbers(pool.images), list(range(first, first + 4))
        shown = numbers(pool(numbered(first, 4)))
        after = numbers(pool.images)
        exchanged = [i for i in range(4) if shown[i] != batch[i]]
        assert sorted(after + shown) == sorted(before + batch)  # nothing is lost, nothing twice
        assert all(shown[i] in before and batch[i] in after for i in exchanged)
        assert [after.index(batch[i]) for i in exchanged] == [before.index(shown[i]) for i in exchanged]
        first += 4


def test_half_of_the_images_are_exchanged_and_every_place_as_often():
    tg.manual_seed(2)
    pool = ImagePool(SHAPE, 10)
    first, exchanged, places = filled(pool, 5), [], np.zeros(10)
    for _ in range(400):
        before, batch = numbers(pool.images), list(range(first, first + 5))
        shown = numbers(pool(numbered(first, 5)))
        exchanged.append([a != b for a, b in zip(shown, batch)])
        for number in set(shown) - set(batch):
            places[before.index(number)] += 1
        first += 5
    share = np.mean(exchanged, 0)
    assert abs(np.mean(exchanged) - 0.5) < 4 * 0.5 / 2000**0.5
    assert (abs(share - 0.5) < 4 * 0.5 / 400**0.5).all()  # the first of a batch no more often than the last
    pairs = np.corrcoef(np.array(exchanged, float).T)[np.triu_indices(5, 1)]
    assert abs(pairs).max() < 4 / 400**0.5  # each by itself
    assert abs(places / places.sum() - 0.1).max() < 4 * (0.09 / places.sum()) ** 0.5


# ---------------------------------------------------------------------------------- a history


@pytest.mark.parametrize(("n", "half"), [(6, 3), (7, 3), (2, 1), (3, 1)])
def test_half_of_a_batch_is_of_a_full_history(n, half):
    tg.manual_seed(3)
    history = History(SHAPE, 5)
    first = filled(history, n)
    for _ in range(10):
        before, batch = numbers(history.images), list(range(first, first + n))
        shown = numbers(history(numbered(first, n)))
        after = numbers(history.images)
        assert shown[: n - half] == batch[: n - half]
        old = shown[n - half :]
        assert set(old) <= set(before) and len(set(old)) == half
        assert sorted(after) == sorted((set(before) - set(old)) | set(batch[:half]))  # the older ones make room
        first += n


def test_a_history_that_fills_shows_the_batch_and_keeps_its_first_half():
    history = History(SHAPE, 5)
    for first in (1, 7):
        assert numbers(history(numbered(first, 6))) == list(range(first, first + 6))
    assert numbers(history.images) == [9, 2, 3, 7, 8] and history.count.item() == 6
    assert numbers(history(numbered(13, 6)))[:3] == [13, 14, 15]


def test_one_image_has_no_half():
    history = History(SHAPE, 2)
    assert numbers(history(numbered(4, 1))) == [4] and history.count.item() == 0


def test_every_place_of_a_history_is_drawn_as_often():
    tg.manual_seed(4)
    history = History(SHAPE, 8)
    first, places = filled(history, 4), np.zeros(8)
    for _ in range(400):
        before = numbers(history.images)
        shown = numbers(history(numbered(first, 4)))
        for number in shown[2:]:
            places[before.index(number)] += 1
        first += 4
    assert places.sum() == 800 and abs(places / 800 - 1 / 8).max() < 4 * (7 / 64 / 800) ** 0.5


# ---------------------------------------------------------------------------------- of both


@pytest.mark.parametrize("kind", [ImagePool, History])
@pytest.mark.parametrize("batches", [0, 1, 5], ids=["empty", "filling", "full"])
def test_a_resumed_store_goes_on_bit_for_bit(kind, batches):
    tg.manual_seed(5)
    store = kind(SHAPE, 7)
    for k in range(batches):
        store(numbered(8 * k, 5))
    state, stream = store.state_dict(), tg.get_rng_state()
    assert set(state) == {"images", "count"}
    again = kind(SHAPE, 7)
    again.load_state_dict({name: value.clone() for name, value in state.items()})
    expected = [store(numbered(100 + 5 * k, 5)).numpy() for k in range(5)]
    tg.set_rng_state(stream)
    assert all(np.array_equal(again(numbered(100 + 5 * k, 5)).numpy(), expected[k]) for k in range(5))
    assert by_hand.same(by_hand.state(store), by_hand.state(again))


@pytest.mark.parametrize("kind", [ImagePool, History])
def test_nothing_flows_back_and_what_is_kept_does_not_move(kind):
    store = kind((1, 2, 2), 4)
    images = tg.ones(4, 1, 2, 2, requires_grad=True)
    made = 2 * images
    for _ in range(4):
        assert not store(made).requires_grad
    assert not store.images.requires_grad and list(store.parameters()) == []
    made.data.fill_(9.0)
    assert store.images.numpy().max() == 2


@pytest.mark.parametrize(("kind", "most"), [(ImagePool, 4), (History, 9)])
def test_a_batch_that_does_not_fit_is_refused(kind, most):
    store = kind(SHAPE, 4)
    assert store(numbered(0, most)).shape == (most, *SHAPE)
    with pytest.raises(ValueError, match="5 images do not fit into a store of 4; give a larger one, or smaller batch"):
        store(numbered(0, most + 1))
    with pytest.raises(ValueError, match="a store of 0 images holds nothing; give at least 1, 50 is usual"):
        kind(SHAPE, 0)
