"""Two sets drawn apart: purity, independence, halves, the shear, and the interface of a data set."""

import numpy as np
import pytest

from tinygen import data
from tinygen.data import DataError, Dataset
from tinygen.data.unpaired import Unpaired, UnpairedBatches, halves, sheared


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
