"""Data sets as such: batches pure in (seed, epoch, index), the digits, splits, channels, sizes, figures, names."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tinygen import data
from tinygen.data import Batches, DataError, Dataset, as_float
from tinygen.data import digits as digits_module
from tinygen.data.dataset import dense_labels
from tinygen.data.selection import held_out, stratified, subset


def grey(count, side=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 1, side, side), np.uint8)


def small_set(count=20, tests=5, **changes):
    parts = {
        "name": "small", "train_images": grey(count), "train_labels": np.arange(count) % 3,
        "test_images": grey(tests, seed=1), "test_labels": np.arange(tests) % 3, "classes": ("a", "b", "c"),
    }
    return Dataset(**(parts | changes))


# ---- batches -------------------------------------------------------------------------------------------------------


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
SUBSET = [2, 5, 7, 8, 11]
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


# ---- pixels --------------------------------------------------------------------------------------------------------


def test_as_float_is_the_correctly_rounded_quotient():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    expected = (np.arange(256) / 255).astype(np.float32)  # float64 quotient, rounded once
    np.testing.assert_array_equal(as_float(levels).ravel(), expected)
    with pytest.raises(DataError, match="int64"):
        as_float(levels.astype(np.int64))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_channels_both_ways(dtype):
    one = small_set()
    if dtype == np.float32:
        one = small_set(train_images=one.floats("train"), test_images=one.floats("test"))
    three = one.in_channels(3)
    assert three.shape == (3, 8, 8) and three.train_images.dtype == dtype
    for c in range(3):
        np.testing.assert_array_equal(three.train_images[:, c], one.train_images[:, 0])
    back = three.in_channels(1)
    np.testing.assert_allclose(back.train_images, one.train_images, atol=0 if dtype == np.uint8 else 1e-6)
    assert one.in_channels(1).train_images is not three.train_images
    with pytest.raises(DataError, match="channels must be 1"):
        one.in_channels(2)


def test_grey_weighs_red_green_and_blue():
    images = np.zeros((3, 3, 8, 8), np.uint8)
    for c in range(3):
        images[c, c] = 200
    converted = small_set(train_images=images, train_labels=None, test_images=images, test_labels=None).in_channels(1)
    np.testing.assert_array_equal(converted.train_images[:, 0, 0, 0], [60, 117, 23])  # 200 x (.299, .587, .114)


def test_resizing_keeps_constants_and_does_not_alias():
    flat = small_set(train_images=np.full((2, 1, 20, 12), 77, np.uint8), train_labels=np.zeros(2, np.int64),
                     test_images=np.full((2, 1, 20, 12), 77, np.uint8), test_labels=np.zeros(2, np.int64))
    assert (flat.resized(8).train_images == 77).all() and flat.resized(8).shape == (1, 8, 8)
    # Columns alternate between black and white. Picking pixels would give all of one kind; averaging gives grey.
    stripes = np.zeros((2, 1, 64, 64), np.uint8)
    stripes[..., ::2] = 255
    small = Dataset("s", stripes, None, stripes, None).resized(8).train_images.astype(int)
    assert (abs(small[:, :, :, 1:-1] - 127.5) < 4).all()
    sharp = Dataset("s", as_float(stripes), None, as_float(stripes), None).resized(80).train_images
    assert sharp.min() >= 0 and sharp.max() <= 1 and sharp.dtype == np.float32


def test_resizing_takes_the_centre_of_a_wide_image():
    wide = np.zeros((2, 1, 8, 24), np.uint8)
    wide[..., 8:16] = 200  # the middle third alone is bright
    assert (Dataset("w", wide, None, wide, None).resized(8).train_images == wide[..., 8:16]).all()
    larger = Dataset("w", wide, None, wide, None).resized(16).train_images[0, 0]
    whole = Image.fromarray(wide[0, 0]).resize((48, 16), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(larger, np.asarray(whole)[:, 16:32])  # shorter side to 16, then the centre


# ---- digits --------------------------------------------------------------------------------------------------------


def test_digits_are_the_published_ones_in_a_fixed_split():
    digits = data.load("digits")
    assert digits.train_images.shape == (1500, 1, 8, 8) and digits.test_images.shape == (297, 1, 8, 8)
    assert digits.train_images.dtype == np.float32
    assert np.bincount(digits.test_labels).tolist() == [29, 30, 29, 30, 30, 30, 30, 30, 29, 30]
    assert np.bincount(digits.train_labels).tolist() == [149, 152, 148, 153, 151, 152, 151, 149, 145, 150]
    assert np.unique(digits.train_images * 16).tolist() == list(range(17))
    assert digits.sha == "05756c1af28840da18870d3827528aec1daf9ec85d745027959f7c49bc318e5d"


def test_digits_together_are_scikit_learns(monkeypatch):
    from sklearn.datasets import load_digits

    whole, digits = load_digits(), data.load("digits")
    rows = {(x.tobytes(), y) for x, y in zip((whole.images / 16).astype(np.float32), whole.target)}
    ours = [(x.tobytes(), y) for s in ("train", "test") for x, y in zip(*digits.split(s))]
    assert len(ours) == 1797 and set(ours) == rows
    # where scikit-learn keeps its file elsewhere, it is asked itself, with the same result
    monkeypatch.setattr(digits_module, "TABLE_SHA", "0" * 64)
    assert data.load("digits").sha == digits.sha


def test_stratified_shares_by_largest_remainder():
    labels = np.array([0] * 10 + [1] * 6 + [2] * 4)
    chosen = stratified(labels, 5)
    assert np.bincount(labels[chosen]).tolist() == [3, 1, 1]  # 2.5, 1.5, 1: the tie goes to the lower class
    assert len(set(chosen.tolist())) == 5


# ---- the data set --------------------------------------------------------------------------------------------------


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


def test_labels_become_dense():
    classes, (first, second) = dense_labels(np.array([7, 3, 7]), np.array([3], np.uint8))
    assert classes == ("3", "7") and first.tolist() == [1, 0, 1] and second.tolist() == [0] and first.dtype == np.int64
    assert dense_labels(np.array(["cat", "ant"]))[0] == ("ant", "cat")


# ---- what one looks at ---------------------------------------------------------------------------------------------


def test_summary_figures():
    images = np.zeros((4, 1, 8, 8), np.uint8)
    images[1] = 255
    images[2, 0, :4] = 51
    images[3, 0, 0, 0] = 102
    made = Dataset("tiny", images, np.array([0, 0, 2, 2]), images[1:3], np.array([1, 2]), ("a", "b", "c"), "by hand")
    s = data.summary(made)
    assert (s["train"], s["test"], s["shape"], s["dtype"]) == (4, 2, (1, 8, 8), "uint8")
    assert (s["min"], s["max"]) == (0, 1) and s["source"] == "by hand" and s["sha"] == made.sha
    exact = images / 255
    assert s["mean"] == pytest.approx(exact.mean(), abs=1e-12) and s["std"] == pytest.approx(exact.std(), abs=1e-12)
    assert s["train_histogram"] == {"a": 2, "b": 0, "c": 2} and s["test_histogram"] == {"a": 0, "b": 1, "c": 1}
    assert s["blank"] == 2 and s["test_in_train"] == 2
    told = " ".join(s["warnings"])
    assert "only 4 training images" in told and "class b" in told and "2 of 2 test images" in told

    floats = data.summary(data.load("digits"))
    whole = data.load("digits").train_images.astype(np.float64)
    assert floats["mean"] == pytest.approx(whole.mean()) and floats["std"] == pytest.approx(whole.std())
    assert floats["warnings"] == [] or all("test images" in w for w in floats["warnings"])
    assert data.summary(small_set(train_labels=None, test_labels=None))["train_histogram"] is None


def test_contact_sheet_shows_the_images():
    made = small_set(count=20)
    sheet = data.contact_sheet(made, 6)  # 3 columns, 2 rows
    assert sheet.shape == (2 * 10 + 2, 3 * 10 + 2) and sheet.dtype == np.uint8
    np.testing.assert_array_equal(sheet[2:10, 2:10], made.train_images[0, 0])
    np.testing.assert_array_equal(sheet[12:20, 22:30], made.train_images[5 * 20 // 6, 0])
    assert (sheet[:2] == 128).all()
    assert data.contact_sheet(made.in_channels(3), 100).shape == (4 * 10 + 2, 5 * 10 + 2, 3)
    assert data.contact_sheet(data.load("digits"), 4).max() == 255
    with pytest.raises(DataError):
        data.contact_sheet(made, 0)


# ---- names ---------------------------------------------------------------------------------------------------------


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(DataError, match=r"Did you mean 'mnist'.*Known: digits, mnist, fashion-mnist"):
        data.load("mnsit")
    with pytest.raises(DataError, match="Did you mean 'digits'"):
        data.load("digit")
    with pytest.raises(DataError, match="Did you mean 'fashion-mnist'"):
        data.load("fashon")
    with pytest.raises(DataError) as caught:
        data.load("/no/such/place")
    assert "/no/such/place" in str(caught.value) and "Did you mean" not in str(caught.value)


def test_names_are_read_generously():
    assert data.load("Digits").name == "digits"


def test_size_and_channels_on_load():
    made = data.load("digits", size=16, channels=3)
    assert made.shape == (3, 16, 16) and made.train_images.dtype == np.float32 and made.train_images.max() <= 1
    with pytest.raises(DataError, match="size must be"):
        data.load("digits", size=7)
    with pytest.raises(DataError, match="channels must be"):
        data.load("digits", channels=4)


@pytest.mark.parametrize(("name", "remedy"), [("a.npy", "np.savez"), ("a.zip", "unpack"), ("a.png", "give the folder")])
def test_other_files_are_refused_with_a_remedy(tmp_path, name, remedy):
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(DataError, match=remedy):
        data.load(tmp_path / name)


def test_importing_data_loads_nothing_heavy():
    program = ("import sys, tinygen.data; tinygen.data.load('digits');"
               "print([m for m in ('sklearn', 'PIL', 'scipy', 'matplotlib', 'urllib.request') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
