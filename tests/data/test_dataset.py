"""A data set: what fits together, its identity, one class of it, few labels."""

import numpy as np
import pytest
from small_sets import grey, small_set

from tinygen import data
from tinygen.data import DataError, as_float
from tinygen.data.dataset import dense_labels


@pytest.mark.parametrize(("changes", "message"), [
    ({"train_images": np.zeros((20, 8, 8), np.uint8)}, "N, channels, height, width"),
    ({"train_images": np.zeros((20, 1, 8, 8))}, "float64"),
    ({"train_images": np.zeros((20, 2, 8, 8), np.uint8)}, "2 channels"),
    ({"train_images": np.zeros((20, 1, 8, 7), np.uint8)}, "8x7 pixels"),
    ({"test_images": grey(5, 12)}, "training images are 1x8x8, test images 1x12x12"),
    ({"test_images": as_float(grey(5))}, "training images are uint8, test images float32"),
    ({"train_images": np.full((20, 1, 8, 8), 1.5, np.float32)}, r"floats must lie in \[0,1\]"),
    ({"train_images": np.full((20, 1, 8, 8), np.nan, np.float32)}, r"floats must lie in \[0,1\]"),
    ({"train_images": grey(0), "train_labels": None}, "there are none"),
    ({"train_labels": np.arange(19) % 3}, "one per image"),
    ({"train_labels": (np.arange(20) % 3).astype(np.int32)}, "int64"),
    ({"train_labels": np.arange(20) % 4}, "there are 3 classes"),
    ({"train_labels": np.arange(20) % 3 - 1}, "there are 3 classes"),
    ({"test_labels": None}, "labels for one split only"),
])
def test_parts_that_do_not_fit(changes, message):
    with pytest.raises(DataError, match=message):
        small_set(**changes)


def test_a_dataset_is_read_only_and_says_what_it_is():
    images = grey(20)
    made = small_set(train_images=images)
    with pytest.raises(ValueError, match="read-only"):
        made.train_images[0] = 0
    images[0, 0, 0, 0] ^= 1  # the caller's own array stays writable
    assert repr(made) == "Dataset(small: 20 train + 5 test, 1x8x8 uint8, 3 classes)"
    assert made.floats("test", [0, 2]).shape == (2, 1, 8, 8) and made.floats().dtype == np.float32
    with pytest.raises(DataError, match="no split 'val'"):
        made.split("val")
    x, y = made.batches(5, seed=3, split="test").at(0, 0)
    assert len(x) == len(y) == 5


def test_sha_depends_on_content_alone():
    base = small_set()
    assert small_set(name="other", source="elsewhere").sha == base.sha
    changed = grey(20)
    changed[3, 0, 2, 2] ^= 1
    for other in (small_set(train_images=changed), small_set(test_labels=(np.arange(5) + 1) % 3),
                  small_set(classes=("a", "b", "d")), small_set(train_labels=None, test_labels=None), base.limited(19)):
        assert other.sha != base.sha


def test_labels_become_dense():
    classes, (first, second) = dense_labels(np.array([7, 3, 7]), np.array([3], np.uint8))
    assert classes == ("3", "7") and first.tolist() == [1, 0, 1] and second.tolist() == [0] and first.dtype == np.int64
    assert dense_labels(np.array(["cat", "ant"]))[0] == ("ant", "cat")


def test_counts():
    assert (small_set().count(), small_set().count("train"), small_set().count("test")) == (20, 20, 5)
    with pytest.raises(DataError, match="no split 'val'"):
        small_set().count("val")


# ---- one class, all but one, few labels ----------------------------------------------------------------------------


def test_one_class_alone_and_all_but_one():
    whole = data.load("digits")
    eight, rest = data.load("digits", only="8"), data.load("digits", without="8")
    chosen = whole.train_labels == 8
    np.testing.assert_array_equal(eight.train_images, whole.train_images[chosen])
    np.testing.assert_array_equal(rest.train_images, whole.train_images[~chosen])
    np.testing.assert_array_equal(rest.train_labels, whole.train_labels[~chosen])
    assert set(eight.train_labels) == {8} and set(rest.train_labels) == set(range(10)) - {8}
    for made in (eight, rest):  # tested on all classes, numbered as before
        np.testing.assert_array_equal(made.test_images, whole.test_images)
        np.testing.assert_array_equal(made.test_labels, whole.test_labels)
        assert made.classes == whole.classes and made.sha != whole.sha and "class 8" in made.source
    np.testing.assert_array_equal(whole.only("8").train_images, eight.train_images)
    assert set(whole.without("8").without("3").train_labels) == set(range(10)) - {3, 8}
    few = data.load("digits", only="8", limit=50)  # fifty eights, not the eights among fifty
    assert few.count() == 50 and set(few.train_labels) == {8}


def test_unknown_classes():
    for choose in (small_set().only, small_set().without):
        with pytest.raises(DataError, match="small has no class 'd'; it has a, b, c"):
            choose("d")
    with pytest.raises(DataError, match="no class '0'; it has no classes"):
        small_set(train_labels=None, test_labels=None, classes=()).only("0")
    with pytest.raises(DataError, match="no training images of class 'c'"):
        small_set(train_labels=np.zeros(20, np.int64)).only("c")
    with pytest.raises(DataError, match="there are none"):
        small_set(train_labels=np.zeros(20, np.int64)).without("a")
    many = small_set(classes=tuple(map(str, range(30))))
    with pytest.raises(DataError, match=r"18, 19, \.\.\.$"):
        many.only("x")


def test_only_so_many_labels():
    whole, made = data.load("digits"), data.load("digits", labels=100)
    kept = made.train_labels >= 0
    assert kept.sum() == 100 and (made.train_labels[~kept] == -1).all()
    np.testing.assert_array_equal(made.train_labels[kept], whole.train_labels[kept])
    assert np.bincount(made.train_labels[kept]).tolist() == [10] * 10
    np.testing.assert_array_equal(made.train_images, whole.train_images)
    np.testing.assert_array_equal(made.test_labels, whole.test_labels)
    assert made.sha != whole.sha and made.partly_labelled and data.load("digits", labels=100).sha == made.sha
    assert sum(data.summary(made)["train_histogram"].values()) == 100
    assert made.with_labels(10).train_labels.tolist().count(-1) == 1490
    assert (whole.with_labels(1500).train_labels == whole.train_labels).all()
    together = data.load("digits", without="3", limit=300, labels=30)
    assert together.count() == 300 and (together.train_labels >= 0).sum() == 30 and 3 not in together.train_labels
    assert made.limited(200).count() == 200 and -1 in made.batches(64).at(0, 0)[1]


def test_labels_that_are_not_there():
    for bad in (0, -1, 21, 2.5, True):
        with pytest.raises(DataError, match="labels must be a whole number from 1 to 20"):
            small_set().with_labels(bad)
    with pytest.raises(DataError, match="from 1 to 0"):
        small_set(train_labels=None, test_labels=None).with_labels(1)
    with pytest.raises(DataError, match=r"lie in -1\.\.1"):
        small_set(test_labels=np.arange(5) % 3 - 1, partly_labelled=True)  # in the test set all labels count
    with pytest.raises(DataError, match=r"lie in -2\.\.0"):
        small_set(train_labels=np.arange(20) % 3 - 2, partly_labelled=True)
