"""Any folder of pictures as a data set.

    tinygen train vae --data ~/pictures --size 32

All png, jpg, jpeg, bmp, gif, webp, tif, tiff, ppm and pgm files below the folder are read, in sorted order, hidden ones
left out. Each is turned as its EXIF says, laid on white where it is transparent, and brought to size x size: shorter
side to `size`, then the centre. Colour if any pixel of any image is coloured, else grey. Of an animation, the first
frame. Without `size`: the median of the shorter sides, rounded to a multiple of 4, between 8 and 64.

When every picture lies in one of two or more subfolders, these are the classes (one folder around everything does not
count). Subfolders `train` and `test` (or `val`) are the split; else every tenth picture in sorted order is held out.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from .dataset import Dataset, check_size
from .pixels import DataError, check_channels, cover
from .selection import held_out, subset

if TYPE_CHECKING:
    from PIL import Image, ImageFile

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
LARGEST_DEFAULT = 64
TRAIN_FOLDERS, TEST_FOLDERS = ("train", "training"), ("test", "testing", "val", "valid", "validation")
Result = TypeVar("Result")


def load_folder(folder: Path, *, size: int | None = None, channels: int | None = None,
                limit: int | None = None) -> Dataset:
    """The pictures below a folder as uint8 (N, C, size, size).

    Raises DataError: fewer than two pictures; any file that is not a whole picture (all such files are named).
    """
    if size is not None:
        check_size(size)
    if channels is not None:
        check_channels(channels)
    train, test, classes, source = _split(folder, find_images(folder))
    if limit is not None:  # before anything is decoded, which is what takes time
        train, test = [[paths[i] for i in subset(len(paths), limit)] for paths in (train, test)]
    paths = [path for path, _ in train + test]
    if size is None:
        size = default_size(_each(_shorter_side, paths))
    target = size
    pictures = _each(lambda path: read_image(path, target, channels), paths)
    if channels is None:
        channels = 3 if any(p.shape[2] == 3 for p in pictures) else 1
    images = np.empty((len(pictures), channels, size, size), np.uint8)
    for row, picture in zip(images, pictures, strict=True):
        row[...] = picture.transpose(2, 0, 1)  # grey broadcasts over three channels
    labels = np.array([label for _, label in train + test], np.int64) if classes else None
    cut = len(train)
    return Dataset(folder.resolve().name, images[:cut], None if labels is None else labels[:cut],
                   images[cut:], None if labels is None else labels[cut:], classes, source)


def find_images(folder: Path) -> list[tuple[str, ...]]:
    """Paths of all pictures below a folder, relative and in parts, sorted by their parts: the same on every system."""
    found, others = [], 0
    for base, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith((".", "__MACOSX"))]
        for file in files:
            if file.startswith("."):  # also the ._name.jpg that macOS leaves, which are no pictures
                continue
            if file.lower().endswith(EXTENSIONS):
                found.append((Path(base) / file).relative_to(folder).parts)
            else:
                others += 1
    if len(found) < 2:
        raise DataError(f"{folder}: {'only one picture' if found else 'no pictures'} (and {others} other files) found "
                        f"in it and its subfolders; at least 2 are needed, with names ending in {' '.join(EXTENSIONS)}")
    return sorted(found)


def _split(folder: Path, files: list[tuple[str, ...]]
           ) -> tuple[list[tuple[Path, int]], list[tuple[Path, int]], tuple[str, ...], str]:
    """(train, test, classes, source) with (path, label) pairs; see the module's docstring for the rules."""
    source = f"{len(files)} pictures in {folder}"
    while len({parts[0] for parts in files}) == 1:  # an unpacked archive often wraps everything in one folder
        folder, files = folder / files[0][0], [parts[1:] for parts in files]
    top = {parts[0].lower() for parts in files if len(parts) > 1}
    tests = [name for name in TEST_FOLDERS if name in top]
    if all(len(parts) > 1 for parts in files) and top <= {*TRAIN_FOLDERS, *TEST_FOLDERS} and tests \
            and not top.isdisjoint(TRAIN_FOLDERS):
        chosen = tests[0]  # "test" before "val"; a second one is left out, and the source says so
        halves = [[parts for parts in files if parts[0].lower() in names] for names in (TRAIN_FOLDERS, (chosen,))]
        source += f", split by its folders train and {chosen}"
        if tests[1:]:
            source += f" ({', '.join(tests[1:])} not used)"
        depth = 1
    else:
        halves = [[files[i] for i in places] for places in held_out(len(files))]
        source += ", every 10th held out"
        depth = 0
    used = [*halves[0], *halves[1]]
    names = sorted({parts[depth] for parts in used if len(parts) > depth + 1})
    classes = tuple(names) if len(names) > 1 and all(len(parts) > depth + 1 for parts in used) else ()
    number = {name: i for i, name in enumerate(classes)}
    train, test = [[(folder.joinpath(*parts), number.get(parts[depth], 0)) for parts in half] for half in halves]
    return train, test, classes, source


def default_size(sides: list[int]) -> int:
    """The median of the shorter sides, rounded to a multiple of 4, within 8..64."""
    return min(max(4 * round(median(sides) / 4), 8), LARGEST_DEFAULT)


def read_image(path: Path, size: int, channels: int | None = None) -> np.ndarray:
    """One picture as uint8 (size, size, 1 or 3): 1 when channels=1, or when channels is None and no pixel is coloured.

    Raises DataError when the file is not a whole picture of 8 or 16 bits.
    """
    from PIL import Image, ImageOps

    with _reasons(path):
        data = path.read_bytes()
        file = Image.open(io.BytesIO(data))
        if file.format == "PNG":
            file.verify()  # compares the CRC of every chunk, which decoding does not; then it must be opened anew
            file = Image.open(io.BytesIO(data))
        file.draft(None, (2 * size, 2 * size))  # a large JPEG is decoded at a half, quarter or eighth, still >= 2 size
        upright = ImageOps.exif_transpose(_known_range(file))
        pixels = np.asarray(cover(_opaque(upright, grey=channels == 1), size))
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    elif channels is None and (pixels == pixels[:, :, :1]).all():
        pixels = pixels[:, :, :1]
    return pixels


def _shorter_side(path: Path) -> int:
    from PIL import Image

    with _reasons(path), Image.open(path) as image:  # reads the header alone; turning by EXIF keeps the shorter side
        return min(image.size)


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
def _reasons(path: Path) -> Iterator[None]:
    """Turns whatever a decoder raises in its block into a DataError that names the file."""
    try:
        yield
    except Exception as error:  # OSError, SyntaxError, ValueError, struct.error, DecompressionBombError and others
        reason = str(error) or type(error).__name__
        if "cannot identify image file" in reason:
            reason = "not a picture in any known format" if path.stat().st_size else "an empty file"
        raise DataError(f"{path}: {reason}") from error


def _each(read: Callable[[Path], Result], paths: list[Path]) -> list[Result]:
    """read(path) for each path, on several threads; one DataError that names all the files that failed."""

    def attempt(path: Path) -> Result | DataError:
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
