"""Data of one normal or one anomalous class: which images, which names, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from small_sets import small_set

from tinygen import data
from tinygen.data import DataError, Dataset, mnist, one_class
from tinygen.data.one_class import OneClass, class_of, only, parts, without

CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


@pytest.mark.parametrize(("kind", "normal"), [("only", (8,)), ("without", (0, 1, 2, 3, 4, 5, 6, 7, 9))])
def test_training_is_normal_and_the_test_split_stays_whole(kind, normal):
    made, whole = data.load(f"digits-{kind}-8"), data.load("digits")
    chosen = np.isin(whole.train_labels, normal)
    assert isinstance(made, OneClass) and made.normal == normal and made.name == f"digits-{kind}-8"
    np.testing.assert_array_equal(made.train_images, whole.train_images[chosen])
    np.testing.assert_array_equal(made.train_labels, whole.train_labels[chosen])
    np.testing.assert_array_equal(made.test_images, whole.test_images)
    np.testing.assert_array_equal(made.test_labels, whole.test_labels)
    np.testing.assert_array_equal(made.anomalous(), [label not in normal for label in whole.test_labels])
    assert made.classes == whole.classes and whole.source in made.source and "class 8" in made.source
    assert made.sha == data.load("digits", **{kind: "8"}).sha != whole.sha  # the same arrays
    assert made.sha == data.load(f"digits-{kind}-8").sha != data.load(f"digits-{kind}-3").sha


def test_what_is_normal_stays_known_in_other_sizes_and_in_fewer_images():
    made = data.load("digits-without-8", limit=40, size=16, channels=3)
    assert isinstance(made, OneClass) and made.normal == (0, 1, 2, 3, 4, 5, 6, 7, 9)
    assert made.shape == (3, 16, 16) and made.count("train") == made.count("test") == 40
    np.testing.assert_array_equal(made.anomalous(), made.test_labels == 8)
    few = data.load("digits-only-8", limit=50)  # fifty eights, not the eights among fifty
    assert few.count() == 50 and set(few.train_labels) == {8} and len(set(few.test_labels)) > 5
    learned, held = data.load("digits-only-8").divided()
    assert learned.normal == held.normal == (8,) and set(held.train_labels) == {8}
    unlabelled = data.load("digits-only-8", labels=5)
    assert unlabelled.normal == (8,) and unlabelled.anomalous().sum() == (unlabelled.test_labels != 8).sum()


def test_any_labelled_set_will_do():
    one = only(small_set(), "b")
    assert one.normal == (1,) and set(one.train_labels) == {1} and one.name == "small-only-b"
    assert one.anomalous().tolist() == [True, False, True, True, False]
    rest = without(small_set(), "2")  # by its number
    assert rest.normal == (0, 1) and set(rest.train_labels) == {0, 1} and rest.name == "small-without-c"
    assert rest.anomalous().tolist() == [False, False, True, False, False]
    partly = only(small_set(partly_labelled=True, unread="a.txt"), "a")
    assert partly.partly_labelled and partly.unread == "a.txt"


def test_a_class_has_a_name_and_a_number():
    clothes = small_set(count=40, classes=CLOTHES)
    for given in ("Ankle boot", "ankle-boot", "ANKLE_BOOT", "9"):
        assert class_of(clothes, given) == "Ankle boot"
    assert class_of(clothes, "t-shirt-top") == class_of(clothes, "T-shirt/top") == class_of(clothes, "0")
    assert class_of(clothes, "shirt") == "Shirt" and class_of(clothes, "sHiRt ") == "Shirt"
    numbered = small_set(classes=("2", "1", "0"))
    assert [class_of(numbered, k) for k in "012"] == ["0", "1", "2"]  # a name comes first
    assert only(numbered, "2").normal == (0,)


@pytest.mark.parametrize(("classes", "given", "words"), [
    (("a", "b", "c"), "d", r"small has no class 'd'; it has a, b, c, or a number from 0 to 2$"),
    (("a", "b", "c"), "3", r"small has no class '3'; it has a, b, c, or a number from 0 to 2$"),
    (("a", "b", "c"), "-1", r"small has no class '-1'; it has"),
    (("0", "1", "2"), "3", r"small has no class '3'; it has 0, 1, 2$"),
    (tuple(f"c{k}" for k in range(30)), "x", r"c18, c19, \.\.\., or a number from 0 to 29$"),
])  # fmt: skip
def test_an_unknown_class_is_refused_with_those_that_there_are(classes, given, words):
    for choose in (only, without):
        with pytest.raises(DataError, match=words):
            choose(small_set(classes=classes), given)


def test_sets_without_classes_have_none_to_choose():
    for choose in (only, without):
        with pytest.raises(DataError, match=r"small has no class '0'; it has no classes$"):
            choose(small_set(train_labels=None, test_labels=None, classes=()), "0")


def test_a_class_without_training_images_is_refused():
    with pytest.raises(DataError, match="no training images of class 'c'"):
        only(small_set(train_labels=np.zeros(20, np.int64)), "c")


@pytest.mark.parametrize(("name", "found"), [
    ("mnist-only-8", ("mnist", "only", "8")), ("fashion-mnist-without-ankle-boot", ("fashion-mnist", "without",
     "ankle-boot")), ("mnist-5k-only-0", ("mnist-5k", "only", "0")), ("digits-without-", ("digits", "without", "")),
    ("mnist", None), ("mnist-only", None), ("ring-only-0", None), ("only-8", None), ("digits-only-8+slanted", None),
    ("/x/mnist-only-8", None), ("tinted-mnist-only-8", None),
])  # fmt: skip
def test_parts_of_a_name(name, found):
    assert parts(name) == found


def test_names_are_read_generously_and_win_over_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits-only-8").mkdir()
    assert data.load("Digits_Only_8").name == "digits-only-8"
    for given, place in {
        "Digits_Without_3": "digits-without-3", "fashion-only-Ankle boot": "fashion-mnist-only-ankle-boot",
        "FashionMNIST-without-T-shirt/top": "fashion-mnist-without-t-shirt-top", "digits-only-8": "digits-only-8",
        "digits-only-8+slanted": "digits-only-8+slanted", "./digits-only-8": f"{tmp_path}/digits-only-8",
        "mine-only-8": f"{tmp_path}/mine-only-8",
    }.items():  # fmt: skip
        assert data.place(given) == place == data.place(place)
    pair = data.load("digits-only-8+inverted", limit=10)
    assert pair.name == "digits-only-8+inverted" and set(pair.first.train_labels) == {8}


def test_large_sets_have_the_same_names(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (50, 1, 28, 28), np.uint8)
    labels = np.arange(50) % 10
    monkeypatch.setattr(mnist, "load_published", lambda name: Dataset(
        name, images, labels, images[:20], labels[:20], CLOTHES if "fashion" in name else tuple("0123456789")))
    made = data.load("fashion-only-ankle boot")
    assert made.name == "fashion-mnist-only-ankle-boot" and made.normal == (9,) and made.anomalous().sum() == 18
    assert data.load("fashion-mnist-only-9").sha == made.sha and made.train_images.dtype == np.uint8
    assert data.load("mnist-without-0").normal == tuple(range(1, 10))
    with pytest.raises(DataError, match=r"fashion-mnist has no class 'boot'; it has t-shirt-top, .* ankle-boot, or a"):
        data.load("fashion-mnist-without-boot")


def test_an_unknown_class_of_a_known_set_and_a_name_nearby():
    with pytest.raises(DataError, match=r"^digits has no class 'x'; it has 0, 1, 2, 3, 4, 5, 6, 7, 8, 9$"):
        data.load("digits-only-x")
    for near, name in (("digits-onyl-8", "digits-only-8"), ("mnist-witout-3", "mnist-without-3")):
        with pytest.raises(DataError, match=rf"Did you mean '{name}'\?.*mnist-only-8, mnist-without-8 and the like"):
            data.load(near)


def test_names_are_offered_without_a_list_of_all():
    assert data.OFFERED.count("-only-") == data.OFFERED.count("-without-") == 1
    assert all(name in data.OFFERED for name in data.KNOWN) and set(one_class.BASES) <= set(data.SINGLE)
    assert len(set(one_class.NAMES)) == 80 and all(parts(name) for name in one_class.NAMES)


def test_classes_that_are_left_out_on_purpose_are_no_warning():
    assert data.summary(data.load("digits-only-8"))["warnings"] == []
    lacking = data.summary(data.load("digits", only="8"))["warnings"]
    assert lacking == ["no training image of class 0, 1, 2, 3, 4, 5, 6, 7, 9"]
    few = data.load("digits-without-8").picked(np.flatnonzero(data.load("digits-without-8").train_labels != 3))
    assert data.summary(few)["warnings"] == ["no training image of class 3"]
