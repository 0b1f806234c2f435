"""Which items: held out for the test, drawn within a limit, or shared among the classes. Always the same ones."""

from __future__ import annotations

import numpy as np

from .pixels import DataError

HELD_OUT_EVERY = 10


def held_out(count: int, what: str = "data") -> tuple[np.ndarray, np.ndarray]:
    """(train, test) positions for data that comes without a test set: images 9, 19, 29, ... are held out.

    Fewer than ten images: the last is held out. Files are read in sorted order, so folders of classes are held out
    about evenly. Raises DataError below two images, where no split exists.
    """
    if count < 2:
        raise DataError(f"{what}: at least 2 images are needed, one to learn from and one to test on; "
                        f"there are {count}")
    everything = np.arange(count)
    chosen = everything % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
    if count < HELD_OUT_EVERY:
        chosen[-1] = True
    return everything[~chosen], everything[chosen]


def subset(count: int, limit: int) -> np.ndarray:
    """Sorted positions of `limit` of `count` images, always the same ones (all of them when limit >= count).

    Drawn at random with a fixed key and not taken from the front, because files come in an order: the first half of
    MNIST's test file is easier than the second.
    """
    if isinstance(limit, bool) or not isinstance(limit, (int, np.integer)) or limit < 1:
        raise DataError(f"limit must be a whole number of images, at least 1; it is {limit!r}")
    if limit >= count:
        return np.arange(count)
    draws = np.random.Philox(key=np.array([0, count], np.uint64)).random_raw(count)
    return np.sort(np.argsort(draws, kind="stable")[:limit])


def stratified(labels: np.ndarray, count: int) -> np.ndarray:
    """Sorted positions of `count` items, shared among the classes in proportion to their size.

    Shares are rounded by the largest remainder; within a class of n items, item floor((j + 1/2) n / k) for j < k.
    """
    sizes = np.bincount(labels)
    exact = sizes * count / len(labels)
    shares = exact.astype(int)
    remainders = np.argsort(shares - exact, kind="stable")  # largest remainder first, lower class on a tie
    shares[remainders[: count - shares.sum()]] += 1
    chosen = []
    for digit, (size, share) in enumerate(zip(sizes, shares, strict=True)):
        places = np.flatnonzero(labels == digit)
        chosen.append(places[((np.arange(share) + 0.5) * size / max(share, 1)).astype(int)])
    return np.sort(np.concatenate(chosen))


def balanced(labels: np.ndarray, count: int, order: np.ndarray) -> np.ndarray:
    """The first `count` positions in `order`, a permutation, that give as many of each class, to within one.

    A class with too few gives all it has, and the others make up for it; all items where there are no more.
    """
    rank = np.empty(len(labels), int)
    for label in np.unique(labels):
        places = np.flatnonzero(labels[order] == label)
        rank[places] = np.arange(len(places))
    return order[np.argsort(rank, kind="stable")[:count]]


def balanced_draw(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Sorted positions of `count` items that `balanced` picks in an order drawn from the seed."""
    words = np.random.Philox(key=np.array([seed, 0], np.uint64), counter=[0, 0, 0, 3]).random_raw(len(labels))
    return np.sort(balanced(labels, count, np.argsort(words, kind="stable")))
