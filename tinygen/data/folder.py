"""Any folder of pictures as a data set.

    tinygen train vae --data ~/pictures --size 32         # or pictures.zip: see archive.py

All png, jpg, jpeg, bmp, gif, webp, tif, tiff, ppm and pgm files below the folder are read, in sorted order, hidden ones
left out; what else is there is counted and named (found.py). Each is turned as its EXIF says, laid on white where it is
transparent, and brought to size x size: shorter side to `size`, then the centre. Colour if any pixel of any image is
coloured, else grey. Of an animation, the first frame. Without `size`: the median of the shorter sides, rounded to a
multiple of 4, between 8 and 64.

When every picture lies in one of two or more subfolders, these are the classes (one folder around everything does not
count). Subfolders `train` and `test` (or `val`) are the split; else every tenth picture in sorted order is held out.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from .dataset import Dataset, check_size
from .found import EXTENSIONS, Unread, find, is_special
from .pixels import DataError, as_float, check_channels, check_room, cover, in_channels
from .selection import held_out, subset

if TYPE_CHECKING:
    from PIL import Image, ImageFile

LARGEST_DEFAULT = 64
TRAIN_FOLDERS, TEST_FOLDERS = ("train", "training"), ("test", "testing", "val", "valid", "validation")
Result = TypeVar("Result")


class Picture(Protocol):
    """A file to be read: a Path, or what behaves like one. str() names it in errors."""

    def open(self, mode: str) -> IO[Any]: ...


def load_folder(folder: Path, *, size: int | None = None, channels: int | None = None,
                limit: int | None = None) -> Dataset:
    """The pictures below a folder as uint8 (N, C, size, size).

    Raises DataError: fewer than two pictures; any file that is not a whole picture (all such files are named).
    """
    found, unread = find(folder)
    check_count(folder, found, unread)
    files = {parts: folder.joinpath(*parts) for parts in found}
    made = load_pictures(folder.resolve().name, str(folder), files, size=size, channels=channels, limit=limit)
    return replace(made, unread=str(unread))


def load_pictures(name: str, place: str, files: Mapping[tuple[str, ...], Picture], *, size: int | None = None,
                  channels: int | None = None, limit: int | None = None) -> Dataset:
    """The data set of the pictures in `files`, {path in parts: file} in sorted order; `place` names where they are."""
    if size is not None:
        check_size(size)
    if channels is not None:
        check_channels(channels)
    train, test, classes, source = _split(place, list(files))
    if limit is not None:  # before anything is decoded, which is what takes time
        train, test = [[items[i] for i in subset(len(items), limit)] for items in (train, test)]
    paths = [files[parts] for parts, _ in train + test]
    if size is None:
        size = default_size(_each(_shorter_side, paths))
    check_room((len(paths), channels or 1, size, size), np.uint8)
    target = size
    pictures = _each(lambda path: read_image(path, target, channels), paths)
    if channels is None:
        channels = 3 if any(p.shape[2] == 3 for p in pictures) else 1
    images = np.empty((len(pictures), channels, size, size), np.uint8)
    for row, picture in zip(images, pictures, strict=True):
        row[...] = picture.transpose(2, 0, 1)  # grey broadcasts over three channels
    labels = np.array([label for _, label in train + test], np.int64) if classes else None
    cut = len(train)
    return Dataset(name, images[:cut], None if labels is None else labels[:cut],
                   images[cut:], None if labels is None else labels[cut:], classes, source)


def find_images(folder: Path) -> list[tuple[str, ...]]:
    """Paths of all pictures below a folder, relative and in parts, sorted by their parts: the same on every system."""
    return check_count(folder, *find(folder))


def check_count(place: Path, found: list[tuple[str, ...]], unread: Unread) -> list[tuple[str, ...]]:
    """The pictures found; DataError below two, with what else is there."""
    if len(found) < 2:
        count = "only one picture" if found else "no pictures"
        others = f": {unread}" if unread else ""
        raise DataError(f"{place}: {count} (and {len(unread)} other files) found in it and its subfolders; at least "
                        f"2 are needed, with names ending in {' '.join(EXTENSIONS)}{others}")
    return found


Labelled = list[tuple[tuple[str, ...], int]]


def _split(place: str, files: list[tuple[str, ...]]) -> tuple[Labelled, Labelled, tuple[str, ...], str]:
    """(train, test, classes, source) with (path, label) pairs; see the module's docstring for the rules."""
    source = f"{len(files)} pictures in {place}"
    depth = 0
    while len({parts[depth] for parts in files}) == 1:  # an unpacked archive often wraps everything in one folder
        depth += 1
    top = {parts[depth].lower() for parts in files if len(parts) > depth + 1}
    tests = [name for name in TEST_FOLDERS if name in top]
    if all(len(parts) > depth + 1 for parts in files) and top <= {*TRAIN_FOLDERS, *TEST_FOLDERS} and tests \
            and not top.isdisjoint(TRAIN_FOLDERS):
        chosen = tests[0]  # "test" before "val"; a second one is left out, and the source says so
        halves = [[parts for parts in files if parts[depth].lower() in names] for names in (TRAIN_FOLDERS, (chosen,))]
        source += f", split by its folders train and {chosen}"
        if tests[1:]:
            source += f" ({', '.join(tests[1:])} not used)"
        depth += 1
    else:
        halves = [[files[i] for i in places] for places in held_out(len(files))]
        source += ", every 10th held out"
    used = [*halves[0], *halves[1]]
    names = sorted({parts[depth] for parts in used if len(parts) > depth + 1})
    classes = tuple(names) if len(names) > 1 and all(len(parts) > depth + 1 for parts in used) else ()
    number = {name: i for i, name in enumerate(classes)}
    train, test = [[(parts, number.get(parts[depth], 0)) for parts in half] for half in halves]
    return train, test, classes, source


def default_size(sides: list[int]) -> int:
    """The median of the shorter sides, rounded to a multiple of 4, within 8..64."""
    return min(max(4 * round(median(sides) / 4), 8), LARGEST_DEFAULT)


def read_image(path: Picture, size: int, channels: int | None = None) -> np.ndarray:
    """One picture as uint8 (size, size, 1 or 3): 1 when channels=1, or when channels is None and no pixel is coloured.

    Raises DataError when the file is not a whole picture of 8 or 16 bits.
    """
    with _reasons(path):
        pixels = np.asarray(cover(_opaque(_upright(path, 2 * size), grey=channels == 1), size))
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    elif channels is None and (pixels == pixels[:, :, :1]).all():
        pixels = pixels[:, :, :1]
    return pixels


def read_whole(path: Picture) -> np.ndarray:
    """One picture at its own size as uint8 (H, W), or (H, W, 3) where any pixel is coloured; errors as `read_image`."""
    with _reasons(path):
        pixels = np.asarray(_opaque(_upright(path, None), grey=False))
    return pixels[:, :, 0] if pixels.ndim == 3 and (pixels == pixels[:, :, :1]).all() else pixels


def read_picture(path: Picture, shape: Sequence[int]) -> np.ndarray:
    """One picture as float32 (1, C, H, W) in [0, 1] for `shape` (C, H, W): its centre, resampled where sizes differ.

    Raises DataError when the file is not a whole picture, or `shape` is no image's.
    """
    from PIL import Image, ImageOps

    if len(shape) != 3:
        raise DataError(f"{path}: a picture cannot become data of shape {tuple(shape)}")
    channels, height, width = shape
    with _reasons(path):
        image = _opaque(_upright(path, None), grey=channels == 1)
        if image.size != (width, height):
            image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(image).reshape(height, width, -1).transpose(2, 0, 1)[None]
    return as_float(np.ascontiguousarray(in_channels(pixels, channels)))


def _upright(path: Picture, enough: int | None) -> Image.Image:
    """The decoded picture, turned as its EXIF says, in 8 bits. A JPEG may come smaller, `enough` a side at least."""
    from PIL import Image, ImageOps

    with _opened(path) as stream:
        data = _not_empty(stream).read()
    file = Image.open(io.BytesIO(data))
    if file.format == "PNG":
        file.verify()  # compares the CRC of every chunk, which decoding does not; then it must be opened anew
        file = Image.open(io.BytesIO(data))
    if enough is not None:
        file.draft(None, (enough, enough))  # a large JPEG is decoded at a half, quarter or eighth
    return ImageOps.exif_transpose(_known_range(file))


def _shorter_side(path: Picture) -> int:
    from PIL import Image

    with _reasons(path), _opened(path) as stream, Image.open(_not_empty(stream)) as image:
        return min(image.size)  # of the header alone; turning by EXIF keeps the shorter side


def _opened(path: Picture) -> IO[Any]:
    if isinstance(path, Path) and is_special(path):  # opening a pipe would wait for whoever writes to it
        raise DataError("no regular file")
    return path.open("rb")


def _not_empty(stream: IO[Any]) -> IO[Any]:
    if not stream.read(1):
        raise DataError("an empty file")
    stream.seek(0)
    return stream


def _known_range(file: ImageFile.ImageFile) -> Image.Image:
    """The decoded picture with 16-bit grey scaled to 8, where Pillow's own conversion would clip at 255."""
    from PIL import Image

    file.load()
    if file.mode.startswith("I;16") or (file.mode == "I" and file.format in ("PNG", "PPM")):
        wide = np.asarray(file).astype(np.int64)
        narrow = Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
        narrow.info["exif"] = file.getexif().tobytes()  # it may still have to be turned
        return narrow
    if file.mode in ("I", "F"):
        raise DataError(f"pixels of mode {file.mode} (32 bits) have no known range; save it with 8 or 16 bits")
    return file


def _opaque(image: Image.Image, grey: bool) -> Image.Image:
    """The image in mode L or RGB, with transparency laid on white."""
    from PIL import Image

    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if grey or image.mode in ("1", "L") else "RGB")


@contextlib.contextmanager
def _reasons(path: Picture) -> Iterator[None]:
    """Turns whatever a decoder raises in its block into a DataError that names the file."""
    try:
        yield
    except Exception as error:  # OSError, SyntaxError, ValueError, struct.error, DecompressionBombError and others
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if "cannot identify image file" in reason:
            reason = "not a picture in any known format"
        raise DataError(f"{path}: {reason}") from error


def _each(read: Callable[[Picture], Result], paths: list[Picture]) -> list[Result]:
    """read(path) for each path, on several threads; one DataError that names all the files that failed."""

    def attempt(path: Picture) -> Result | DataError:
        try:
            return read(path)
        except DataError as error:
            return error

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata in otherwise whole files
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:  # Pillow decodes without the GIL
            results = list(threads.map(attempt, paths))
    errors = [r for r in results if isinstance(r, DataError)]
    if errors:
        shown = "\n".join(str(e) for e in errors[:8]) + (f"\n... and {len(errors) - 8} more" if len(errors) > 8 else "")
        raise DataError(f"{len(errors)} of {len(paths)} pictures cannot be read; repair or remove:\n{shown}")
    return [r for r in results if not isinstance(r, DataError)]
