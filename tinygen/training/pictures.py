"""Pictures of batches: grids, image files, a film of the training.

    save_image(images, "samples.png", nrow=8)          # torchvision's function, with Pillow
    save_picture(images, "samples.png")                # large enough to look at; points and captions, too
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tinygen as tg
from tinygen.free_memory import require
from tinygen.step import Captioned, Sheet

from .plots import draw_points
from .whole import whole

GAP = 0.25  # grey level between the images of a grid, so that black images do not run together
SIDE = 56  # pixels: smaller images are enlarged to about this
GREYS, COLOURS = 16, 64  # of a film
SHOWN = 64  # images of a batch
SOFTWARE = "tinygen"  # what a PNG file names as the program that wrote it
WIDEST = 1200  # pixels: long captions make fewer columns
SMOOTH = 16  # pixels: images smaller than this are smoothed


def make_grid(
    tensor: Any, nrow: int = 8, padding: int = 2, normalize: bool = False,
    value_range: tuple[float, float] | None = None, scale_each: bool = False, pad_value: float = 0.0,
) -> tg.Tensor:  # fmt: skip
    """One image (3, H, W) with the images (N, C, H, W) in rows of `nrow`; as torchvision.utils.make_grid.

    `tensor`: images (N, C, H, W), one image (C, H, W) or (H, W), or a list of images of equal size; grey becomes
    colour. `normalize` maps `value_range`, or the smallest and largest value (of each image with `scale_each`), to [0,
    1].
    """
    images = _images(tensor)
    if normalize:
        axes = (1, 2, 3) if scale_each else None
        low = np.min(images, axes, keepdims=True) if value_range is None else value_range[0]
        high = np.max(images, axes, keepdims=True) if value_range is None else value_range[1]
        images = (images.clip(low, high) - low) / np.maximum(np.asarray(high) - low, 1e-5)
    n, _, h, w = images.shape
    if n == 1:
        return tg.tensor(np.ascontiguousarray(images[0]))
    columns = min(nrow, n)
    rows = math.ceil(n / columns)
    grid = np.full((3, rows * (h + padding) + padding, columns * (w + padding) + padding), pad_value, np.float32)
    for i, image in enumerate(images):
        top, left = (i // columns) * (h + padding) + padding, (i % columns) * (w + padding) + padding
        grid[:, top : top + h, left : left + w] = image
    return tg.tensor(grid)


def save_image(tensor: Any, fp: Any, format: str | None = None, **kwargs: Any) -> None:
    """Writes images as one picture file (`make_grid` with these keywords); values are cut to [0, 1]."""
    to_pillow(make_grid(tensor, **kwargs)).save(fp, format=format)


def to_pillow(image: Any) -> Any:
    """A Pillow image of one image (3, H, W) in [0, 1]; grey where all channels agree."""
    from PIL import Image

    pixels = np.rint(np.asarray(image, np.float32).clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    grey = (pixels == pixels[:, :, :1]).all()
    return Image.fromarray(pixels[:, :, 0] if grey else pixels)


def enlarged(tensor: Any, side: int = SIDE) -> np.ndarray:
    """The images (N, 3, H, W), small ones enlarged so that a side has about 56 pixels, or `side`.

    Each pixel becomes a square. Below 16 pixels a side the picture is smoothed (bicubic): the eye would see squares and
    not what they show.
    """
    from PIL import Image

    images = _images(tensor)
    n, c, h, w = images.shape
    factor = max(1, round(side / min(h, w)))
    if min(h, w) >= SMOOTH:
        return images.repeat(factor, 2).repeat(factor, 3)
    size = (w * factor, h * factor)
    planes = [Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC) for plane in images.reshape(n * c, h, w)]
    return np.stack([np.asarray(p) for p in planes]).reshape(n, c, h * factor, w * factor).clip(0, 1)


def picture_of(content: Any, nrow: int = 8, most: int = SHOWN, side: int = SIDE) -> Any:
    """A Pillow image, large enough to look at, of what a Step shows; at most `most` images, 32 of those in a tuple.

    `content`: images (N, C, H, W) in [0, 1] or points (N, 2); a tuple of equally many, shown beside each other; a
    `Sheet`, all of it in its own columns; or `Captioned` images. `side`: to about so many pixels small images are
    enlarged.
    """
    if isinstance(content, Captioned):
        return _captioned(enlarged(content.images[:most], side), content.captions, nrow)
    if isinstance(content, Sheet):
        content, nrow, most = content.images, content.columns, len(content.images)
    batches = content if isinstance(content, tuple) else (content,)
    if _array(batches[0]).ndim == 2:
        return draw_points([_array(b) for b in batches], ("real", "samples")[-len(batches) :])
    if len(batches) > 1:
        nrow = min(nrow, len(_array(batches[0])))  # else rows of two batches would run into each other
        content = _beside([_images(b) for b in batches], nrow)
        nrow = len(batches) if nrow == 1 else nrow  # single images stand in one row
    shape = _array(content[0]).shape if len(content) else (1, 1, 1)
    high = shape[-1] * max(1, round(side / max(1, min(shape[-2:])))) + 6
    count = min(len(content), most * len(batches))
    # Enlarged, as a grid, and rounded: three float32 copies in three channels.
    require(36 * count * high * high, f"a sheet of {count:,} images", "give fewer, or a name that ends in .npy")
    return to_pillow(make_grid(enlarged(content[: most * len(batches)], side), nrow=nrow, padding=6, pad_value=GAP))


def panels(pictures: Sequence[Any], titles: Sequence[str]) -> Any:
    """Pillow images beside each other, a line of text above each."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=14)
    widths = [max(p.width, math.ceil(font.getlength(title)) + 4) for p, title in zip(pictures, titles, strict=True)]
    sheet = Image.new("RGB", (sum(widths) + 16 * (len(widths) - 1), 24 + max(p.height for p in pictures)), "white")
    draw = ImageDraw.Draw(sheet)
    left = 0
    for picture, title, width in zip(pictures, titles, widths):
        draw.text((left + 2, 4), title, font=font, fill="black")
        sheet.paste(picture.convert("RGB"), (left, 24))
        left += width + 16
    return sheet


def rows(batches: Sequence[Any], titles: Sequence[str], side: int = SIDE) -> Any:
    """A Pillow image of a row of images for each batch (N, C, H, W), its title on the left."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=14)
    pictures = [picture_of(batch, nrow=len(batch), side=side) for batch in batches]
    margin = max(math.ceil(font.getlength(title)) for title in titles) + 16
    width, height = margin + max(p.width for p in pictures), sum(p.height for p in pictures)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    top = 0
    for picture, title in zip(pictures, titles, strict=True):
        draw.text((8, top + picture.height // 2), title, font=font, fill="black", anchor="lm")
        sheet.paste(picture.convert("RGB"), (margin, top))
        top += picture.height
    return sheet


def save_picture(
    content: Any, path: str | os.PathLike, nrow: int = 8, most: int = SHOWN, side: int = SIDE
) -> Any:
    """Writes `picture_of(content)` as a PNG file, all at once; returns the Pillow image."""
    picture = picture_of(content, nrow, most, side)
    save_pillow(picture, Path(path))
    return picture


def save_pillow(picture: Any, path: Path) -> None:
    """Writes a Pillow image as a PNG file that names tinygen as its software, all at once."""
    from PIL.PngImagePlugin import PngInfo

    information = PngInfo()
    information.add_text("Software", SOFTWARE)
    with whole(path) as temporary:
        picture.save(temporary, format="PNG", pnginfo=information)


def save_array(array: np.ndarray, path: Path) -> None:
    """Writes an array as a .npy file, all at once."""
    with whole(path) as temporary, open(temporary, "wb") as file:  # np.save would make x.NPY.npy of x.NPY
        np.save(file, array)


def is_own(path: Path) -> bool:
    """Whether a file is a picture of `save_pillow`'s; or, by name and content, an array of float32 as of images."""
    from PIL import Image

    try:
        if path.suffix.lower() == ".npy":
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            return array.dtype == np.float32 and array.ndim in (2, 4)
        with Image.open(path) as picture:
            return picture.info.get("Software") == SOFTWARE
    except Exception:  # as in `is_whole`
        return False


def is_whole(path: Path) -> bool:
    """Whether a picture, or every frame of a film, can be read."""
    from PIL import Image, ImageSequence

    try:
        with Image.open(path) as picture:
            for frame in ImageSequence.Iterator(picture):
                frame.load()
    except Exception:  # whatever a decoder raises: OSError, SyntaxError, ValueError, EOFError, struct.error
        return False
    return True


def _beside(batches: list[np.ndarray], columns: int, rows: int = 4) -> np.ndarray:
    """Images for a grid of `columns`: a row of the first batch, the same row of the second, ..., the next row."""
    columns = min(columns, len(batches[0]))
    rows = min(rows, len(batches[0]) // columns)
    side = max(b.shape[2] for b in batches)  # a small image beside its large version is enlarged
    batches = [b.repeat(side // b.shape[2], 2).repeat(side // b.shape[2], 3) for b in batches]
    cut = [b[: rows * columns].reshape(rows, columns, *b.shape[1:]) for b in batches]
    return np.stack(cut, 1).reshape(-1, *batches[0].shape[1:])


def _captioned(images: np.ndarray, captions: Sequence[str], columns: int) -> Any:
    """A sheet of images with a line of text under each."""
    from PIL import Image, ImageDraw, ImageFont

    n, _, h, w = images.shape
    font = ImageFont.load_default(size=12)
    width = 6 + max(w, *(math.ceil(font.getlength(text)) for text in captions))
    columns = max(1, min(columns, n, WIDEST // width))
    height = h + 22
    sheet = Image.new("RGB", (columns * width + 6, math.ceil(n / columns) * height + 6), (64, 64, 64))
    draw = ImageDraw.Draw(sheet)
    for i, (image, text) in enumerate(zip(images, captions)):
        left, top = 6 + i % columns * width, 6 + i // columns * height
        sheet.paste(to_pillow(image).convert("RGB"), (left, top))
        draw.text((left, top + h + 2), text, font=font, fill="white")
    return sheet


def save_film(frames: Sequence[Any], path: str | os.PathLike, seconds: float = 6.0) -> None:
    """Writes an animated GIF of Pillow images or picture files, about `seconds` long; the last stays for 2 s."""
    if not frames:
        return
    pictures = [_few_levels(frame) for frame in frames]
    pause = int(min(500, max(40, 1000 * seconds / len(pictures))))
    with whole(Path(path)) as temporary:
        pictures[0].save(temporary, format="GIF", save_all=True, append_images=pictures[1:], loop=0,
                         duration=[pause] * (len(pictures) - 1) + [2000])  # fmt: skip


def _few_levels(frame: Any) -> Any:
    """A frame as a GIF stores it well: flat areas, hardly any smooth ones. A quarter of the size."""
    from PIL import Image

    if not isinstance(frame, Image.Image):
        with Image.open(frame) as picture:
            return _few_levels(picture)
    return frame.quantize(GREYS if frame.mode == "L" else COLOURS, dither=Image.Dither.NONE)


def _images(tensor: Any) -> np.ndarray:
    """(N, 3, H, W) float32 of whatever make_grid accepts."""
    if isinstance(tensor, list | tuple):
        tensor = np.stack([_array(t) for t in tensor])
    images = _array(tensor).astype(np.float32)
    if images.ndim == 2:
        images = images[None]
    if images.ndim == 3:
        images = images[None]
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise ValueError(f"make_grid: expects images (N, C, H, W) with 1 or 3 channels, got shape {images.shape}")
    return images.repeat(3, 1) if images.shape[1] == 1 else images


def _array(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, tg.Tensor) else np.asarray(value)
