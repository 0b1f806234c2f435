"""The .npz reader: names, layouts, types, labels, and everything that it must refuse."""

import io
import zipfile

import numpy as np
import pytest

from tinygen import data
from tinygen.data import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 8, 9, 3), np.uint8)  # N H W C
LABELS = np.arange(20) % 4


def save(tmp_path, compressed=True, **arrays):
    path = tmp_path / "mine.npz"
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


@pytest.mark.parametrize("layout", ["NHWC", "NCHW", "NHW", "NHW1", "N1HW"])
def test_layouts(tmp_path, layout):
    stored = {"NHWC": PIXELS, "NCHW": PIXELS.transpose(0, 3, 1, 2), "NHW": PIXELS[..., 0], "NHW1": PIXELS[..., :1],
              "N1HW": PIXELS[:, None, :, :, 0]}[layout]
    made = data.load(save(tmp_path, images=stored))
    expected = PIXELS.transpose(0, 3, 1, 2)[:, : 3 if "C" in layout else 1]
    assert made.train_images.shape == (18, *expected.shape[1:]) and made.train_images.dtype == np.uint8
    np.testing.assert_array_equal(made.train_images, np.delete(expected, [9, 19], axis=0))
    np.testing.assert_array_equal(made.test_images, expected[[9, 19]])
    assert made.name == "mine" and made.train_labels is None


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_become_float32(tmp_path, dtype):
    stored = (PIXELS / 255).astype(dtype)
    made = data.load(str(save(tmp_path, images=stored)))
    assert made.train_images.dtype == np.float32
    np.testing.assert_array_equal(made.test_images[1], stored[19].transpose(2, 0, 1).astype(np.float32))
    nearly = stored.astype(np.float64)
    nearly[0, 0, 0, 0] = 1 + 1e-8  # rounding, not a mistake
    assert data.load(save(tmp_path, images=nearly)).train_images.max() <= 1


@pytest.mark.parametrize("names", [
    ("x_train", "y_train", "x_test", "y_test"), ("train_images", "train_labels", "test_images", "test_labels"),
    ("x", "y", "x_test", "y_test"), ("images", "labels", "test_images", "test_labels"),
])
def test_names_of_a_given_split(tmp_path, names):
    arrays = (PIXELS[:12], LABELS[:12], PIXELS[12:], LABELS[12:, None])  # MedMNIST has labels of shape (N, 1)
    made = data.load(save(tmp_path, **dict(zip(names, arrays)), val_images=PIXELS, other=np.zeros(3)))
    np.testing.assert_array_equal(made.train_images, PIXELS[:12].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(made.test_images, PIXELS[12:].transpose(0, 3, 1, 2))
    assert made.train_labels.tolist() == LABELS[:12].tolist() and made.test_labels.tolist() == LABELS[12:].tolist()
    assert made.classes == ("0", "1", "2", "3")


def test_labels_keep_their_images_and_names(tmp_path):
    made = data.load(save(tmp_path, images=PIXELS, labels=np.array(["dog", "cat"])[LABELS % 2]))
    assert made.classes == ("cat", "dog")
    assert made.train_labels[:3].tolist() == [1, 0, 1] and made.test_labels.tolist() == [0, 0]
    gaps = data.load(save(tmp_path, images=PIXELS, labels=LABELS.astype(np.uint8) * 10 + 3))
    assert gaps.classes == ("3", "13", "23", "33") and gaps.train_labels[:4].tolist() == [0, 1, 2, 3]


def objects():
    array = np.empty(20, object)
    array[:] = list(PIXELS[..., 0])
    return array


@pytest.mark.parametrize(("arrays", "reason"), [
    ({"pictures": PIXELS}, "no array of images; one of these names"),
    ({"images": objects()}, "Python objects, which are not loaded"),
    ({"images": PIXELS.astype(np.int64)}, "int64; save them as uint8"),
    ({"images": PIXELS > 100}, "bool; save them as uint8"),
    ({"images": PIXELS.astype(np.float32)}, "divide by 255"),
    ({"images": PIXELS / 127.5 - 1}, r"\(x \+ 1\) / 2"),
    ({"images": np.full((20, 8, 8), np.nan)}, "NaN or infinity"),
    ({"images": np.full((20, 8, 8), np.inf)}, "NaN or infinity"),
    ({"images": PIXELS.reshape(20, -1)}, r"shape \(20, 216\)"),
    ({"images": np.zeros((20, 8, 8, 4), np.uint8)}, r"shape \(20, 8, 8, 4\)"),
    ({"images": np.zeros((20, 3, 8, 3), np.uint8)}, "at least 8 pixels"),
    ({"images": np.zeros((20, 7, 8), np.uint8)}, "7x8 pixels"),
    ({"images": np.zeros((0, 8, 8), np.uint8)}, "at least 2 images"),
    ({"images": np.zeros((0, 8, 8))}, "at least 2 images"),
    ({"images": PIXELS[:1]}, "at least 2 images"),
    ({"images": PIXELS, "x": PIXELS}, "both images and x could be the train images"),
    ({"images": PIXELS, "labels": LABELS[:19]}, r"expected \(20,\)"),
    ({"images": PIXELS, "labels": np.eye(20)}, "not one-hot"),
    ({"images": PIXELS, "labels": LABELS / 2}, "float64; save them as whole numbers"),
    ({"images": PIXELS, "labels": LABELS, "x_test": PIXELS}, "labels for one split only"),
    ({"images": PIXELS, "y_test": LABELS}, "test labels without test images"),
    ({"images": PIXELS, "x_test": PIXELS[:, :, :8]}, "training images are 3x8x9, test images 3x8x8"),
    ({"images": PIXELS, "x_test": PIXELS / 255}, "training images are uint8, test images float32"),
    ({"images": PIXELS, "labels": LABELS, "x_test": PIXELS, "y_test": LABELS.astype(str)}, "training labels are int64"),
])
def test_what_is_refused_and_why(tmp_path, arrays, reason):
    path = save(tmp_path, **arrays)
    with pytest.raises(DataError, match=reason) as caught:
        data.load(path)
    assert "mine" in str(caught.value)


def test_a_file_that_is_no_npz(tmp_path):
    path = tmp_path / "mine.npz"
    path.write_text("hello")
    with pytest.raises(DataError, match=r"mine\.npz: damaged or not an \.npz file"):
        data.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"no header")
    with pytest.raises(DataError, match="array images is not a readable NumPy array"):
        data.load(path)
    stream = io.BytesIO()
    np.save(stream, PIXELS)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", stream.getvalue() + b"more")
    with pytest.raises(DataError, match="foreign bytes"):
        data.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", stream.getvalue()[:-1])
    with pytest.raises(DataError, match="not a readable NumPy array"):
        data.load(path)


@pytest.mark.parametrize("compressed", [True, False])
def test_damage_anywhere_is_an_error_or_changes_nothing(tmp_path, compressed):
    path = save(tmp_path, compressed, images=PIXELS[:4, :, :8, 0], labels=LABELS[:4])
    whole, expected = path.read_bytes(), data.load(path).sha
    rng = np.random.default_rng(0)
    errors = 0
    damaged = [whole[:p] + bytes([whole[p] ^ (1 << int(rng.integers(8)))]) + whole[p + 1 :] for p in range(len(whole))]
    damaged += [whole[:p] for p in rng.integers(0, len(whole), 40)]
    for content in damaged:
        path.write_bytes(content)
        try:
            got = data.load(path).sha
        except DataError as error:
            assert "mine" in str(error)
            errors += 1
        else:
            assert got == expected
    assert errors > 0.7 * len(damaged)
