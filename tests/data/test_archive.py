"""Zips of pictures: the same as their folder, nothing written, damage named by member."""

import zipfile

import numpy as np
import pytest
from PIL import Image

from tinygen import data
from tinygen.data import DataError, archive


def picture(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 20, 3), np.uint8))


def make(tmp_path, names, extra=()):
    """A folder of pictures, and its zip."""
    folder = tmp_path / "pictures"
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(i).save(path)
    for name, content in dict(extra).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    target = tmp_path / "pictures.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as out:
        for path in sorted(folder.rglob("*"), reverse=True):
            out.write(path, path.relative_to(folder))
    return folder, target


CLASSES = [f"{k}/{i}.png" for k in ("cat", "ant") for i in range(10)]


@pytest.mark.parametrize("names", [
    [f"{i:02}.png" for i in range(12)], CLASSES, [f"wrapped/v1/{name}" for name in CLASSES],
    [f"{s}/{name}" for s in ("train", "test") for name in CLASSES], [*CLASSES, "outside.png"],
])
@pytest.mark.parametrize("options", [{}, {"size": 8, "channels": 1}, {"limit": 3}])
def test_a_zip_is_read_like_its_folder(tmp_path, names, options):
    junk = {"readme.txt": b"words", ".hidden.png": b"x", "__MACOSX/._0.png": b"x"}
    folder, target = make(tmp_path, names, junk)
    before = sorted(p.name for p in tmp_path.rglob("*"))
    made, expected = data.load(target, **options), data.load(folder, **options)
    assert made.sha == expected.sha and made.name == "pictures" and made.classes == expected.classes
    assert made.source == expected.source.replace(str(folder), str(target))
    assert data.load(str(target), **options).sha == made.sha
    assert sorted(p.name for p in tmp_path.rglob("*")) == before  # nothing is unpacked


def test_a_class_of_a_zip(tmp_path):
    _, target = make(tmp_path, CLASSES)
    made = data.load(target, only="cat", limit=5)
    assert made.count() == 5 and made.count("test") == 2 and set(made.train_labels) == {1}


def damaged_member(target, name):
    with zipfile.ZipFile(target) as whole:
        info = whole.getinfo(name)
        place = info.header_offset + 30 + len(name) + info.compress_size // 2
    content = bytearray(target.read_bytes())
    content[place] ^= 255
    target.write_bytes(bytes(content))


@pytest.mark.parametrize("size", [None, 16])
def test_damaged_members_are_named(tmp_path, size):
    _, target = make(tmp_path, CLASSES, {"ant/broken.png": b"<html>not found</html>", "ant/empty.jpg": b""})
    damaged_member(target, "cat/3.png")
    with pytest.raises(DataError) as caught:
        data.load(target, size=size)
    text = str(caught.value)
    assert f"{target}: ant/broken.png: not a picture in any known format" in text
    assert f"{target}: ant/empty.jpg: an empty file" in text
    if size is not None:  # with no size, headers are read first, and the two above already fail
        assert f"{target}: cat/3.png: " in text and "3 of 22" in text


def test_a_member_that_claims_too_much_is_refused_unread(tmp_path, monkeypatch):
    folder, target = make(tmp_path, ["a.png", "b.png"])
    bomb = b"\0" * 5_000_000
    with zipfile.ZipFile(target, "a", zipfile.ZIP_DEFLATED) as out:
        out.writestr("bomb.png", bomb)
    monkeypatch.setattr(archive, "LARGEST", 4_000_000)
    with pytest.raises(DataError, match=r"pictures\.zip: bomb\.png: claims 5,000,000 bytes, more than the 4,000,000"):
        data.load(target)
    assert data.load(folder).count() == 1


def test_encrypted_and_lying_members_are_named(tmp_path):
    _, target = make(tmp_path, ["a.png", "b.png", "c.png"])
    whole = target.read_bytes()
    entry = whole.rindex(b"PK\x01\x02")  # the last entry of the directory
    with zipfile.ZipFile(target) as opened:
        name = opened.infolist()[-1].filename
    content = bytearray(whole)
    content[entry + 8] |= 1  # the flag of encryption, in the directory
    target.write_bytes(bytes(content))
    with pytest.raises(DataError, match=rf"pictures\.zip: {name}: .*(password|encrypted|differ)"):
        data.load(target)
    content = bytearray(whole)
    content[entry + 24 : entry + 28] = (10).to_bytes(4, "little")  # a size smaller than the truth
    target.write_bytes(bytes(content))
    with pytest.raises(DataError, match=rf"pictures\.zip: {name}: "):
        data.load(target)


def test_what_is_no_zip_or_has_no_pictures(tmp_path):
    path = tmp_path / "a.zip"
    _, target = make(tmp_path, CLASSES)
    for content in (b"something", b"", target.read_bytes()[:-30]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.zip: damaged or not a zip archive .*unpack it"):
            data.load(path)
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("one.txt", "words")
        out.writestr("folder.png/", "")
    with pytest.raises(DataError, match=r"a\.zip: no pictures \(and 1 other files\)"):
        data.load(path)


def test_names_that_lead_outside_are_only_names(tmp_path):
    path = tmp_path / "inner" / "a.zip"
    path.parent.mkdir()
    _, source = make(tmp_path, ["a.png"])
    content = zipfile.ZipFile(source).read("a.png")
    with zipfile.ZipFile(path, "w") as out:
        for name in ("/etc/x.png", "../../up.png", "//b//c.png"):
            out.writestr(name, content)
    assert sorted(archive.members(zipfile.ZipFile(path))) == [("..", "..", "up.png"), ("b", "c.png"), ("etc", "x.png")]
    assert data.load(path).count() + data.load(path).count("test") == 2  # ".." is hidden like any name with a dot
    assert not (tmp_path / "up.png").exists()
