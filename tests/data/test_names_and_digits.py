"""Names of data sets, the digits, and what one looks at."""

import subprocess
import sys

import numpy as np
import pytest
from small_sets import small_set

from tinygen import data
from tinygen.data import DataError, Dataset
from tinygen.data import digits as digits_module

# ---- digits ----------------------------------------------------------------------------------------------------------


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


# ---- what one looks at -----------------------------------------------------------------------------------------------


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
    assert (data.contact_sheet(made, 6, split="test") != data.contact_sheet(made, 6)).any()
    with pytest.raises(DataError):
        data.contact_sheet(made, 0)


# ---- names -----------------------------------------------------------------------------------------------------------


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


def test_every_known_name_leads_somewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path))
    assert len(set(data.KNOWN)) == len(data.KNOWN)
    for name in set(data.KNOWN) - set(data.crops.NAMES):
        if "mnist" not in name and name not in ("omniglot", "emoji"):  # these have files of their own, and tests
            made = data.load(name, limit=20)
            assert made.name == name and data.load(name.upper().replace("-", "_"), limit=20).sha == made.sha
    for near, name in (("rign", "ring"), ("mnist5k", "mnist-5k"), ("tinted-digit", "tinted-digits"),
                       ("omniglott", "omniglot")):
        with pytest.raises(DataError, match=f"Did you mean '{name}'"):
            data.load(near)


@pytest.mark.parametrize(("name", "remedy"), [("a.npy", "np.savez"), ("a.zip", "unpack"), ("a.png", "give the folder")])
def test_other_files_are_refused_with_a_remedy(tmp_path, name, remedy):
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(DataError, match=remedy):
        data.load(tmp_path / name)


def test_an_empty_name_is_not_the_present_folder():
    with pytest.raises(DataError, match=r"the name of the data is empty; give .* such as digits"):
        data.load("")


def test_importing_data_loads_nothing_heavy():
    program = ("import sys, tinygen.data; tinygen.data.load('digits');"
               "print([m for m in ('sklearn', 'PIL', 'scipy', 'matplotlib', 'urllib.request') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_warning_names_twenty_classes_at_most():
    names = tuple(f"c{i}" for i in range(30))
    images, labels = np.zeros((4, 1, 8, 8), np.float32), np.zeros(4, np.int64)
    found = data.summary(data.Dataset("mine", images, labels, images, labels, names))["warnings"]
    assert any(w.endswith("c19, c20 and 9 more") for w in found), found
