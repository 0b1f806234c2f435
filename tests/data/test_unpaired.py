"""Two sets drawn apart: purity, independence, halves, the shear, and the interface of a data set."""

from pathlib import Path

import numpy as np
import pytest
from small_sets import small_set

from tinygen import data
from tinygen.data import DataError, Dataset
from tinygen.data.unpaired import CHANGES, Unpaired, UnpairedBatches, changed, halves, sheared


def numbered(count):
    images = np.zeros((count, 1, 8, 8), np.float32)
    images[:, 0, 0, 0] = np.arange(count) / 1024
    return images


def numbers(images):
    return (images[:, 0, 0, 0] * 1024).astype(int).tolist()


def test_a_pair_of_batches_is_pure_in_seed_epoch_and_index():
    sequence = [(e, i, a, b) for e in range(3)
                for i, (a, b) in enumerate(UnpairedBatches(numbered(23), numbered(30), 5, seed=7).epoch(e))]
    assert len(sequence) == 15
    jumping = UnpairedBatches(numbered(23), numbered(30), 5, seed=7)
    for place in np.random.default_rng(0).permutation(15):
        epoch, index, a, b = sequence[place]
        for got in (jumping.at(epoch, index), jumping.step(5 * epoch + index)):
            np.testing.assert_array_equal(got[0], a)
            np.testing.assert_array_equal(got[1], b)
    resumed = list(jumping.epoch(1, start=3))
    assert [numbers(a) for a, _ in resumed] == [numbers(a) for e, i, a, _ in sequence if e == 1 and i >= 3]
    with pytest.raises(IndexError, match="cannot start"):
        jumping.epoch(0, start=6)


def test_each_set_has_an_order_of_its_own():
    batches = UnpairedBatches(numbered(400), numbered(400), 400)
    orders = [tuple(numbers(x)) for s in (0, 1) for x in UnpairedBatches(numbered(400), numbered(400), 400, s).at(0, 0)]
    assert len(set(orders)) == 4 and all(sorted(o) == list(range(400)) for o in orders)
    for epoch in range(5):
        a, b = map(numbers, batches.at(epoch, 0))
        assert abs(np.corrcoef(a, b)[0, 1]) < 4 / 20
    fixed = UnpairedBatches(numbered(4), numbered(4), 4, shuffle=False)
    assert [numbers(x) for x in fixed.at(2, 0)] == [[0, 1, 2, 3]] * 2


def test_both_halves_of_a_batch_are_as_long_and_the_shorter_set_is_seen_whole():
    batches = UnpairedBatches(numbered(23), numbered(60), 5)
    sizes = [(len(a), len(b)) for a, b in batches.epoch(0)]
    assert sizes == [(5, 5)] * 4 + [(3, 3)]
    assert sorted(n for a, _ in batches.epoch(0) for n in numbers(a)) == list(range(23))
    seen = {n for e in range(20) for _, b in batches.epoch(e) for n in numbers(b)}
    assert seen == set(range(60))  # what one epoch leaves out, another shows
    assert [len(a) for a, _ in UnpairedBatches(numbered(60), numbered(23), 5, drop_last=True).epoch(0)] == [5] * 4


def test_halves_are_disjoint_and_together_the_whole():
    digits = data.load("digits")
    pair = halves(digits)
    for split in ("train", "test"):
        first, second = pair.split(split)
        assert abs(len(first) - len(second)) <= 1
        rows = [x.tobytes() for x in (*first, *second)]
        assert sorted(rows) == sorted(x.tobytes() for x in digits.split(split)[0])
    assert halves(digits).sha == pair.sha and pair.first.sha != pair.second.sha
    assert abs(np.bincount(pair.train_labels) - np.bincount(pair.second.train_labels)).max() < 50
    small = Dataset("s", numbered(4), None, numbered(1), None)
    with pytest.raises(DataError, match="1 test images cannot be halved"):
        halves(small)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_second_half_is_transformed_alone(dtype):
    images = (np.random.default_rng(0).random((12, 1, 8, 8)) * (255 if dtype == np.uint8 else 1)).astype(dtype)
    whole = Dataset("d", images, np.arange(12) % 3, images[:4], np.arange(4) % 3, ("a", "b", "c"))
    plain, pair = halves(whole), halves(whole, second=lambda x: 1 - x)
    np.testing.assert_array_equal(pair.first.train_images, plain.first.train_images)
    assert pair.second.train_images.dtype == dtype
    np.testing.assert_allclose(pair.second.floats("train"), 1 - plain.second.floats("train"), atol=1e-6)
    np.testing.assert_allclose(pair.second.floats("test"), 1 - plain.second.floats("test"), atol=1e-6)
    np.testing.assert_array_equal(pair.second.train_labels, plain.second.train_labels)


def test_a_shear_moves_each_row_by_its_height():
    images = np.zeros((1, 1, 9, 9), np.float32)
    images[0, 0, :, 4] = 1  # an upright stroke in the middle
    slanted = sheared(0.5)(images)[0, 0]
    centres = (slanted * np.arange(9)).sum(axis=1) / slanted.sum(axis=1)
    np.testing.assert_allclose(centres, 4 + 0.5 * (4 - np.arange(9)), atol=1e-6)  # its top leans to the right
    np.testing.assert_allclose(slanted.sum(axis=1), 1, atol=1e-6)
    whole = sheared(1.0)(np.random.default_rng(0).random((2, 1, 9, 9)).astype(np.float32))
    back = sheared(-1.0)(whole)
    np.testing.assert_array_equal(back[..., 4, :], whole[..., 4, :])
    assert (whole[:, :, 0, :4] == 0).all() and (whole[:, :, 8, 5:] == 0).all()  # black comes in at the borders


def test_shear_is_pillows_affine_map():
    from PIL import Image

    image = np.random.default_rng(0).random((12, 12)).astype(np.float32)
    padded = np.pad(image, 8)
    ours = sheared(0.4)(padded[None, None])[0, 0]
    # Pillow: output (x + 1/2, y + 1/2) reads input a x + b y + c; ours is centred on row (H - 1)/2 = 13.5
    theirs = Image.fromarray(padded).transform((28, 28), Image.Transform.AFFINE, (1, 0.4, -0.4 * 14, 0, 1, 0),
                                               Image.Resampling.BILINEAR)
    np.testing.assert_allclose(ours[:, 1:-1], np.asarray(theirs)[:, 1:-1], atol=1e-5)


def test_an_unpaired_set_answers_like_a_data_set():
    pair = halves(data.load("digits"), second=sheared(0.4))
    assert pair.shape == (1, 8, 8) and pair.classes == tuple("0123456789") and pair.name == "digits+digits"
    assert pair.count() == 750 == len(pair.train_labels) and pair.count("test") == len(pair.test_labels) == 148
    np.testing.assert_array_equal(pair.floats("test", [3]), pair.first.test_images[[3]])
    a, b = pair.batches(32, seed=1, split="test", drop_last=True).at(0, 2)
    assert a.shape == b.shape == (32, 1, 8, 8) and len(pair.batches(32, split="test", drop_last=True)) == 4
    small = pair.limited(20)
    assert small.first.count() == small.second.count() == 20 and small.sha != pair.sha
    assert pair.source.count("scikit-learn") == 2
    with pytest.raises(DataError, match="no split 'val'"):
        pair.split("val")
    with pytest.raises(DataError, match=r"both must be the same, for example load\(\.\.\., size=32"):
        Unpaired(data.load("digits"), data.load("digits", size=16))


# ---------------------------------------------------------------------------------- pairs by name


def stored(name, count, side=8, channels=1):
    images = np.random.default_rng(count).integers(0, 256, (count, side, side, channels), np.uint8)
    np.savez(name, images=images)
    return str(name)


def test_two_names_are_a_pair_in_the_size_and_channels_of_the_second(tmp_path):
    large = stored(tmp_path / "large.npz", 20, 12, 3)
    pair = data.load(f"{large}+digits", limit=12)
    assert isinstance(pair, Unpaired) and pair.name == "large+digits" and pair.shape == (1, 8, 8)
    assert pair.first.sha == data.load(large, size=8, channels=1, limit=12).sha
    assert pair.second.sha == data.load("digits", limit=12).sha
    colour = stored(tmp_path / "c.npz", 12, 10, 3)
    pair = data.load(f"digits+{colour}")
    assert pair.first.shape == pair.second.shape == (3, 10, 10) and pair.name == "digits+c"
    pair = data.load(f"{colour}+digits", size=9, channels=1)
    assert pair.first.shape == pair.second.shape == (1, 9, 9)
    assert data.load("ring+moons", limit=9).shape == (2,)


@pytest.mark.parametrize("name", ["digits+slanted", "digits+inverted", "digits+tinted"])
def test_a_changed_half_is_the_other_half_and_is_undone(name):
    kind = name.split("+")[1]
    change, pair = CHANGES[kind], data.load(name)
    plain = halves(data.load("digits") if kind != "tinted" else data.load("digits", channels=3))
    assert pair.name == name and pair.first.sha == plain.first.sha
    for split in ("train", "test"):
        before, after = plain.second.floats(split), pair.second.floats(split)
        np.testing.assert_allclose(after, change.apply(before), atol=1e-6)
        undone = change.undo(after)
        assert undone.shape == before.shape and undone.dtype == np.float32
        assert abs(after - before).mean() > 0.02
        if kind == "slanted":  # linear interpolation twice blurs, and corners leave the image
            assert abs(undone - before)[:, :, 2:6, 2:6].mean() < 0.8 * abs(after - before)[:, :, 2:6, 2:6].mean()
        else:
            np.testing.assert_allclose(undone, before, atol=1e-5)


def test_what_the_changes_do():
    digits = data.load("digits", limit=40)
    x = digits.floats()
    np.testing.assert_allclose(CHANGES["inverted"].apply(x), 1 - x)
    slanted = CHANGES["slanted"].apply(x)
    np.testing.assert_array_equal(slanted, sheared(0.4)(x))  # the top leans to the right
    np.testing.assert_array_equal(CHANGES["slanted"].undo(x), sheared(-0.4)(x))
    tinted = CHANGES["tinted"].apply(x.repeat(3, 1))
    assert tinted.shape == (40, 3, 8, 8)
    np.testing.assert_allclose(tinted.max(1, keepdims=True), x, atol=1e-6)
    light = tinted.sum((2, 3))
    assert len(np.unique(np.round(light / light.max(1, keepdims=True), 3), axis=0)) == 40  # a hue for each


def test_what_is_tinted_was_grey():
    colour = data.load("two-hues-digits", limit=20)
    pair = changed(colour, "tinted")
    assert pair.name == "two-hues-digits+tinted"
    np.testing.assert_array_equal(pair.first.floats(), halves(colour.in_channels(1).in_channels(3)).first.floats())
    assert data.load("two-hues-digits+slanted", limit=20).shape == (3, 8, 8)


def test_bytes_stay_bytes_in_a_changed_half():
    pair = changed(small_set(), "inverted")
    assert pair.second.train_images.dtype == np.uint8
    np.testing.assert_array_equal(pair.second.train_images, 255 - halves(small_set()).second.train_images)


def test_names_of_pairs_in_any_case_and_what_no_change_is():
    assert data.load("Digits+Slanted", limit=9).sha == data.load("digits+slanted", limit=9).sha
    with pytest.raises(DataError, match=r"no data set named 'slantde'.*Known: .*digits\+slanted"):
        data.load("digits+slantde")
    with pytest.raises(DataError, match=r"no data set named 'digist'.* Did you mean 'digits'"):
        data.load("digist+slanted")
    for change in CHANGES:
        with pytest.raises(DataError, match=rf"ring: points cannot be {change}, images can; give two sets, such as"):
            data.load(f"ring+{change}")
    with pytest.raises(DataError, match=r"both must be the same, for example load\(\.\.\., size=32"):
        data.load("digits+ring")


def test_a_pair_s_options_reach_both_sets():
    pair = data.load("digits+slanted", size=12, channels=3, limit=15)
    for one in (pair.first, pair.second):
        assert one.shape == (3, 12, 12) and one.count() == one.count("test") == 15
    assert pair.name == "digits+slanted"
    learned, held = pair.divided()
    assert [one.count() for one in (learned.first, learned.second, held.first, held.second)] == [14, 14, 1, 1]
    assert learned.name == held.name == "digits+slanted"


@pytest.mark.parametrize(
    ("option", "words"),
    [({"only": "3"}, r"digits\+slanted: a class cannot be chosen from a pair of data sets; leave out --only"),
     ({"without": "3"}, r"digits\+slanted: a class cannot be left out of a pair of data sets; leave out --without"),
     ({"labels": 20}, r"digits\+slanted: what learns from a pair of data sets sees no labels; leave out --labels")],
)  # fmt: skip
def test_options_of_one_set_are_refused_for_a_pair(option, words):
    with pytest.raises(DataError, match=words):
        data.load("digits+slanted", **option)


def test_a_path_with_a_plus_is_no_pair(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    a, both = stored(tmp_path / "a.npz", 12), stored(tmp_path / "a+b.npz", 14)
    for place in (both, "a+b.npz", "~/a+b.npz", Path("a+b.npz")):
        assert not data.is_pair(place) and data.load(place).count() == 13  # and a test item
        assert data.place(place) == both
    for text in ("+digits", "digits+", "+", "a+b+c", "digits"):
        assert not data.is_pair(text)
    assert data.is_pair("digits+slanted") and data.is_pair(f"{a}+{a}")


def test_what_names_the_same_data_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    here = str(tmp_path)
    for given, place in {
        "digits": "digits", "Fashion": "fashion-mnist", "TWO_HUES_digits": "two-hues-digits",
        "a.npz": f"{here}/a.npz", "./mnist": f"{here}/mnist", "~/x": f"{here}/home/x", Path("digits"): f"{here}/digits",
        "digits+slanted": "digits+slanted", "Digits+Slanted": "digits+slanted", "a.npz+Digits": f"{here}/a.npz+digits",
        "a.npz+b.npz": f"{here}/a.npz+{here}/b.npz", "a.npz+inverted": f"{here}/a.npz+inverted", "/x/y": "/x/y",
        "fashion+~/b.npz": f"fashion-mnist+{here}/home/b.npz",
    }.items():  # fmt: skip
        assert data.place(given) == place == data.place(place)
    (tmp_path / "digits").write_text("a file of that name")  # over which the name wins
    assert data.load("digits", limit=5).name == data.place("digits") == "digits"
