"""Folders of pictures: sizes, modes, transparency, orientation, classes, splits, damaged files."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from tinygen import data
from tinygen.data import DataError
from tinygen.data.folder import default_size, find_images, read_image, read_picture


def picture(seed=0, size=(20, 16), mode="RGB"):
    """A smooth random picture, so that lossy formats keep it."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC).convert(mode)


def folder_of(tmp_path, count=12, **options):
    for i in range(count):
        picture(i, **options).save(tmp_path / f"{i:03}.png")
    return tmp_path


def test_all_formats_in_subfolders_are_found_in_one_order(tmp_path):
    names = ["z.png", "A/b.JPG", "A/a.jpeg", "a.bmp", "B/c.gif", "B/deep/er/d.webp", "e.tif", "f.tiff", "g.ppm",
             "h.pgm"]
    for i, name in enumerate(names):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(i).convert("L" if name.endswith("pgm") else "RGB").save(path)
    for junk in (".hidden.png", "._A.jpg", "notes.txt", ".git/x.png", "__MACOSX/y.png"):
        (tmp_path / junk).parent.mkdir(exist_ok=True)
        (tmp_path / junk).write_bytes(b"junk")
    assert ["/".join(parts) for parts in find_images(tmp_path)] == sorted(names, key=lambda n: tuple(n.split("/")))
    made = data.load(tmp_path)
    assert len(made.train_images) == 9 and len(made.test_images) == 1 and made.shape == (3, 16, 16)
    assert made.train_labels is None and made.train_images.dtype == np.uint8


def test_pixels_are_those_of_the_file(tmp_path):
    folder_of(tmp_path, 12, size=(16, 16))
    made = data.load(tmp_path)
    expected = np.stack([np.asarray(picture(i, (16, 16))).transpose(2, 0, 1) for i in range(12)])
    np.testing.assert_array_equal(made.test_images, expected[[9]])
    np.testing.assert_array_equal(made.train_images, np.delete(expected, 9, axis=0))


def test_default_size_is_the_median_of_the_shorter_sides():
    assert default_size([10, 30, 31, 33, 500]) == 32
    assert default_size([3]) == 8 and default_size([500, 600]) == 64 and default_size([28] * 4) == 28


def test_size_and_channels_can_be_set(tmp_path):
    folder_of(tmp_path, 4, size=(50, 30))
    assert data.load(tmp_path).shape == (3, 32, 32)  # 30 rounds to 32
    assert data.load(tmp_path, size=8).shape == (3, 8, 8)
    grey = data.load(tmp_path, size=30, channels=1)
    assert grey.shape == (1, 30, 30)
    direct = np.asarray(picture(0, (50, 30)).convert("L").crop((10, 0, 40, 30)))
    np.testing.assert_array_equal(grey.train_images[0, 0], direct)
    with pytest.raises(DataError, match="size must be"):
        data.load(tmp_path, size=6)
    with pytest.raises(DataError, match="channels must be"):
        data.load(tmp_path, channels=2)


def test_the_centre_is_kept_and_shrinking_does_not_alias(tmp_path):
    wide = picture(0, (96, 32), "L")
    wide.save(tmp_path / "a.png")
    wide.transpose(Image.Transpose.TRANSPOSE).save(tmp_path / "b.png")
    made = data.load(tmp_path, size=8)
    expected = np.asarray(wide.resize((24, 8), Image.Resampling.BICUBIC))[:, 8:16]
    off = abs(made.train_images[0, 0].astype(int) - expected)  # Pillow's versions round differently
    assert off.max() <= 1
    np.testing.assert_array_equal(made.test_images[0, 0], made.train_images[0, 0].T)
    stripes = np.zeros((256, 256), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "s.png")
    assert (abs(read_image(tmp_path / "s.png", 16)[:, 1:-1].astype(int) - 127.5) < 4).all()


def test_grey_unless_a_pixel_is_coloured(tmp_path):
    folder_of(tmp_path, 3, mode="L")
    picture(9, mode="L").convert("RGB").save(tmp_path / "rgb.png")  # grey, stored as colour
    picture(8, mode="1").save(tmp_path / "bits.png")
    picture(7, mode="L").convert("RGB").save(tmp_path / "grey.jpg")
    assert data.load(tmp_path).shape[0] == 1
    assert data.load(tmp_path, channels=3).shape[0] == 3
    picture(5).save(tmp_path / "colour.png")
    mixed = data.load(tmp_path)
    assert mixed.shape[0] == 3
    np.testing.assert_array_equal(mixed.train_images[0, 0], mixed.train_images[0, 2])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_on_white(tmp_path, mode):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[..., 3] = np.repeat([0, 255], 4)[None, :]  # left half clear, right half solid black
    image = Image.fromarray(pixels)
    if mode == "P":
        flat = Image.fromarray(np.repeat([0, 1], 4)[None, :].repeat(8, 0).astype(np.uint8), "L").convert("P")
        flat.putpalette([0, 0, 0, 0, 0, 0])
        flat.save(tmp_path / "a.png", transparency=0)
    else:
        image.convert(mode).save(tmp_path / "a.png")
    got = read_image(tmp_path / "a.png", 8)
    assert got.shape == (8, 8, 1) and (got[:, :4] == 255).all() and (got[:, 4:] == 0).all()


def test_half_transparency_is_half_white(tmp_path):
    Image.new("RGBA", (8, 8), (200, 0, 0, 128)).save(tmp_path / "a.png")
    got = read_image(tmp_path / "a.png", 8).astype(int)[0, 0]
    np.testing.assert_allclose(got, [200 * 128 / 255 + 127, 127, 127], atol=1)


@pytest.mark.parametrize("wide", [False, True])
def test_orientation_is_respected(tmp_path, wide):
    pixels = np.zeros((8, 8), np.uint8)
    pixels[:4] = 255  # bright above
    image = Image.fromarray(pixels.astype(np.uint16) * 257) if wide else Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 3  # stored upside down
    image.save(tmp_path / "a.png", exif=exif)
    got = read_image(tmp_path / "a.png", 8)[..., 0]
    assert (got[:4] == 0).all() and (got[4:] == 255).all()


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.fromarray(values).save(tmp_path / "a.tif")
    (tmp_path / "a.pgm").write_bytes(b"P5 8 8 65535\n" + values.astype(">u2").tobytes())
    for name in ("a.png", "a.tif", "a.pgm"):
        got = read_image(tmp_path / name, 8)[..., 0]
        np.testing.assert_allclose(got, values / 257, atol=0.51)


def test_float_pictures_have_no_known_range(tmp_path):
    Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif: pixels of mode F"):
        read_image(tmp_path / "a.tif", 8)


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("L", (8, 8), v) for v in (50, 250)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (read_image(tmp_path / "a.gif", 8) == 50).all()


def test_large_jpegs_are_decoded_smaller_with_the_same_result(tmp_path):
    squares = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 80), np.uint8))
    big = squares.resize((800, 640), Image.Resampling.BICUBIC)
    big.save(tmp_path / "a.jpg", quality=95)
    big.save(tmp_path / "a.png")
    for size in (32, 100, 160, 400):  # decoded at an eighth, a half, a half, and whole
        fast, exact = (read_image(tmp_path / f"a.{e}", size).astype(int) for e in ("jpg", "png"))
        assert abs(fast - exact).mean() < 1.5, size


# ---- classes and splits --------------------------------------------------------------------------------------------


def classes_in(folder, names, each=10, seed=0):
    for n, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            picture(seed + 100 * n + i).save(folder / name / f"{i}.png")


def test_subfolders_are_classes(tmp_path):
    classes_in(tmp_path, ["cat", "ant", "bee"])
    made = data.load(tmp_path)
    assert made.classes == ("ant", "bee", "cat")
    assert made.train_labels.tolist() == [0] * 9 + [1] * 9 + [2] * 9 and made.test_labels.tolist() == [0, 1, 2]
    expected = np.asarray(picture(100, (20, 16)))  # the first "ant", centre cropped
    np.testing.assert_array_equal(made.train_images[0].transpose(1, 2, 0), expected[:, 2:18])
    limited = data.load(tmp_path, limit=5)
    assert len(limited.train_images) == 5 and len(limited.test_images) == 3 and limited.classes == made.classes


def test_a_folder_around_everything_does_not_count(tmp_path):
    classes_in(tmp_path / "archive" / "archive-1.0", ["cat", "ant"])
    assert data.load(tmp_path).classes == ("ant", "cat")
    classes_in(tmp_path / "split" / "inner" / "train", ["a", "b"], each=2)
    classes_in(tmp_path / "split" / "inner" / "test", ["a", "b"], each=1)
    made = data.load(tmp_path / "split")
    assert made.classes == ("a", "b") and len(made.train_images) == 4 and len(made.test_images) == 2


def test_no_classes_when_a_picture_lies_outside_or_there_is_one_folder(tmp_path):
    classes_in(tmp_path / "one", ["only"])
    assert data.load(tmp_path / "one").train_labels is None
    classes_in(tmp_path / "two", ["a", "b"])
    picture().save(tmp_path / "two" / "outside.png")
    made = data.load(tmp_path / "two")
    assert made.train_labels is None and made.classes == ()


def test_train_and_test_folders_are_the_split(tmp_path):
    classes_in(tmp_path / "Train", ["a", "b"], each=3)
    classes_in(tmp_path / "test", ["a", "b"], each=2, seed=50)
    made = data.load(tmp_path)
    assert made.classes == ("a", "b") and made.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert made.test_labels.tolist() == [0, 0, 1, 1] and "split by its folders" in made.source
    np.testing.assert_array_equal(made.test_images[0].transpose(1, 2, 0), np.asarray(picture(50))[:, 2:18])
    classes_in(tmp_path / "val", ["a", "b"], each=1)
    again = data.load(tmp_path)
    assert len(again.train_images) == 6 and len(again.test_images) == 4 and "val not used" in again.source


def test_a_limit_decodes_no_more_than_it_needs(tmp_path):
    folder_of(tmp_path, 30)
    whole, limited = data.load(tmp_path), data.load(tmp_path, limit=4)
    np.testing.assert_array_equal(limited.train_images, whole.limited(4).train_images)
    np.testing.assert_array_equal(limited.test_images, whole.test_images)


def test_too_few_pictures(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing")
    with pytest.raises(DataError, match=r"no pictures \(and 1 other files\)"):
        data.load(tmp_path)
    picture().save(tmp_path / "a.png")
    with pytest.raises(DataError, match="only one picture"):
        data.load(tmp_path)
    picture().save(tmp_path / "b.png")
    assert len(data.load(tmp_path).train_images) == 1


# ---- damage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [None, 16])
@pytest.mark.parametrize("extension", ["png", "jpg", "bmp", "gif", "webp", "tif", "ppm"])
def test_a_truncated_picture_is_named(tmp_path, extension, size):
    folder_of(tmp_path, 3)
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    path = tmp_path / f"broken.{extension}"
    Image.fromarray(noise).save(path)
    stream = path.read_bytes()
    for part in (0, 10, len(stream) // 2, len(stream) * 9 // 10):
        path.write_bytes(stream[:part])
        with pytest.raises(DataError, match=rf"1 of 4 pictures cannot be read.*\n.*broken\.{extension}: .+"):
            data.load(tmp_path, size=size)


def test_all_damaged_pictures_are_named_at_once(tmp_path):
    folder_of(tmp_path, 3)
    for i in range(10):
        (tmp_path / f"text{i}.jpg").write_text("<html>not found</html>")
    (tmp_path / "empty.png").touch()
    with pytest.raises(DataError) as caught:
        data.load(tmp_path)
    text = str(caught.value)
    assert "11 of 14" in text and "empty.png: an empty file" in text and "... and 3 more" in text
    assert "text0.jpg: not a picture in any known format" in text


def test_png_damage_anywhere_is_an_error_or_changes_nothing(tmp_path):
    path = tmp_path / "a.png"
    picture(1, (12, 12)).save(path)
    whole, expected = path.read_bytes(), read_image(path, 12)
    rng = np.random.default_rng(0)
    errors = 0
    cuts = rng.integers(0, len(whole), 40)
    for content in [whole[:p] + bytes([whole[p] ^ (1 << int(rng.integers(8)))]) + whole[p + 1 :]
                    for p in range(len(whole))] + [whole[:p] for p in cuts]:
        path.write_bytes(content)
        try:
            got = read_image(path, 12)
        except DataError as error:
            assert "a.png: " in str(error)
            errors += 1
        else:
            np.testing.assert_array_equal(got, expected)
    assert errors > 0.9 * len(whole)


# ---- what was not read ---------------------------------------------------------------------------------------------


def test_linked_class_folders_are_followed_with_their_labels(tmp_path):
    classes_in(tmp_path / "store", ["a", "b", "c"])
    (tmp_path / "set" / "a").parent.mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "set" / name).symlink_to(tmp_path / "store" / name, target_is_directory=True)
    made, direct = data.load(tmp_path / "set"), data.load(tmp_path / "store")
    assert made.classes == ("a", "b", "c") and made.sha == direct.sha and made.unread == ""
    (tmp_path / "whole").symlink_to(tmp_path / "set", target_is_directory=True)
    assert data.load(tmp_path / "whole").sha == direct.sha


def test_a_link_to_a_folder_above_ends(tmp_path):
    classes_in(tmp_path, ["a", "b"])
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "b" / "self").symlink_to(tmp_path / "b", target_is_directory=True)
    made = data.load(tmp_path)
    assert made.count("train") == 18 and made.classes == ("a", "b")
    assert made.unread == "link to a folder that it lies in: 2 (a/up, b/self)"


def test_what_was_not_read_is_counted_and_named(tmp_path, monkeypatch):
    classes_in(tmp_path, ["a", "b"])
    for name in ("a/1.heic", "a/2.HEIC", "b/3.heic", "b/4.heic", "notes.txt", "README", ".hidden.heic", "b/x.avif"):
        (tmp_path / name).write_bytes(b"?")
    (tmp_path / "locked").mkdir()
    real = os.scandir

    def scandir(path):
        if os.fspath(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr("os.scandir", scandir)
    made = data.load(tmp_path)
    assert made.unread == (
        ".avif: 1 (b/x.avif); .heic: 4 (a/1.heic, a/2.HEIC, b/3.heic and 1 more); .txt: 1 (notes.txt); "
        "folder that cannot be opened (Permission denied): 1 (locked); without an extension: 1 (README)"
    )
    assert made.limited(3).unread == made.unread and made.resized(8).unread == made.unread
    assert f"not read: {made.unread}" in data.summary(made)["warnings"]


def test_a_pipe_that_is_called_a_picture_is_not_waited_for(tmp_path):
    folder_of(tmp_path, 4)
    os.mkfifo(tmp_path / "pipe.png")
    made = data.load(tmp_path)
    assert made.count("train") + made.count("test") == 4 and made.unread == "no regular file: 1 (pipe.png)"
    for read in (lambda: data.load(tmp_path / "pipe.png"), lambda: read_picture(tmp_path / "pipe.png", (1, 8, 8)),
                 lambda: read_image(tmp_path / "pipe.png", 8)):  # fmt: skip
        with pytest.raises(DataError, match=r"pipe\.png: (no regular file|neither a file nor a folder)"):
            read()
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(DataError, match="neither a file nor a folder"):
        data.load(tmp_path / "pipe.npz")


def test_a_link_that_leads_nowhere_is_a_picture_that_cannot_be_read(tmp_path):
    folder_of(tmp_path, 4)
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match=r"1 of 5 pictures cannot be read.*\n.*gone\.png: No such file"):
        data.load(tmp_path)


def test_a_link_to_itself_is_no_picture_and_no_folder(tmp_path):
    folder_of(tmp_path, 4)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "there").symlink_to("back")
    (tmp_path / "back").symlink_to("there")
    made = data.load(tmp_path)
    assert made.count("train") + made.count("test") == 4
    assert made.unread == "without an extension: 3 (back, loop, there)"
    (tmp_path / "loop.png").symlink_to("loop.png")
    for read, words in (
        (lambda: data.load(tmp_path), r"1 of 5 pictures cannot be read.*\n.*loop\.png: Too many levels"),
        (lambda: data.load(tmp_path / "loop"), "loop"),
        (lambda: read_picture(tmp_path / "loop.png", (1, 8, 8)), r"loop\.png: Too many levels"),
    ):
        with pytest.raises(DataError, match=words):
            read()


def test_where_nothing_can_be_read_it_says_what_is_there(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"?")
    with pytest.raises(DataError, match=r"no pictures \(and 1 other files\).*: \.heic: 1 \(a\.heic\)"):
        data.load(tmp_path)


def test_what_an_archive_holds_beside_pictures_is_named(tmp_path):
    import zipfile

    folder_of(tmp_path, 4)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for path in tmp_path.glob("*.png"):
            archive.write(path, f"in/{path.name}")
        archive.writestr("in/a.heic", "?")
        archive.writestr("__MACOSX/in/._a.heic", "?")
    assert data.load(tmp_path / "x.zip").unread == ".heic: 1 (in/a.heic)"


def test_training_and_check_data_say_what_was_not_read(tmp_path, monkeypatch, capsys):
    from tinygen import cli

    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    folder_of(tmp_path / "mine", 20)
    (tmp_path / "mine" / "a.heic").write_bytes(b"?")
    monkeypatch.setattr("tinygen.training.run.draw_curves", lambda *given: None)
    for command in (["check-data", "mine"], ["train", "vae", "--data", "mine", "--preset", "tiny", "--size", "8"]):
        assert cli.main(command) == 0
        assert "note: not read: .heic: 1 (a.heic)\n" in capsys.readouterr().out
