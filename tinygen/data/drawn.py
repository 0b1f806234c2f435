"""Images that are drawn: textures with defects, and digits set in type. Pure functions of a seed.

    data = load("gratings")               # or "fibres": 64x64, normal ones to learn from
    images, masks = data.batches(32, split="test").at(0, 0)      # masks float32 (32, 1, 64, 64), 1 on a defect
    data = load("rendered-digits")        # 28x28, 21 fonts, small shifts and rotations

A texture's batch holds the masks of its defects in place of labels; `test_labels` tells the kind of defect. Three of
four test textures have one: a stain, a scratch, or a patch where the texture goes over into its negative. They are
faint, and squares of 8x8 pixels see little of them: `CONTRAST` says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .batches import Batches
from .dataset import Dataset
from .draws import Draws
from .pixels import DataError, resized

if TYPE_CHECKING:
    from PIL import Image, ImageFont

DEFECTS = ("normal", "spot", "scratch", "patch")
TEXTURE_SIDE, DIGIT_SIDE = 64, 28
# How far a defect's middle goes towards what it turns into. Chosen so that PCA of 8x8 squares, the baseline of
# studies/anomaly_patches.py, ranks the pixels of all 200 test images with an AUROC below .9: with the best of 8, 16
# and 32 components .84 on gratings and .80 on fibres. Larger squares know better: the texture beyond 8 pixels says
# what should be there.
CONTRAST = 0.9
SCRATCH = 0.2  # of the way to black or white
FONTS = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta",
    "cmr10", "cmb10", "cmss10", "cmti10", "cmtt10",
)  # those of matplotlib's fonts that hold the ten digits  # fmt: skip


# ---- textures ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Textures(Dataset):
    """Textures, and masks float32 (N, 1, H, W), 1 where a pixel belongs to a defect. A batch is (images, masks)."""

    train_masks: np.ndarray | None = None
    test_masks: np.ndarray | None = None

    def batches(self, batch_size: int, seed: int = 0, *, split: str = "train", shuffle: bool = True,
                drop_last: bool = False) -> Batches:
        """`Batches` of (images, masks) over one split."""
        masks = {"train": self.train_masks, "test": self.test_masks}.get(split)
        return Batches(self.split(split)[0], masks, batch_size, seed, shuffle=shuffle, drop_last=drop_last)

    def resized(self, size: int) -> Dataset:
        """Images and masks at size x size pixels; a mask's pixel is 1 where more than half of it is defect."""
        masks = {}
        for split in ("train", "test"):
            mask = getattr(self, f"{split}_masks")
            masks[f"{split}_masks"] = None if mask is None else (resized(mask, size) > 0.5).astype(np.float32)
        return super().resized(size).picked(**masks)


def gratings(count: int, size: int, draws: Draws) -> np.ndarray:
    """Diagonal gratings, float64 (count, size, size): 1/2 + 0.3 sin(k . x + phase) + noise of sd .03.

    Period about 8 pixels of 64, direction about 30 degrees; both vary a little, and the phase is any.
    """
    period = size / 8 * draws.uniform(count, 1, 1, low=0.95, high=1.05)
    angle = np.deg2rad(30 + draws.uniform(count, 1, 1, low=-3, high=3))
    phase = draws.uniform(count, 1, 1, high=2 * np.pi)
    y, x = np.mgrid[:size, :size]
    wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period + phase)
    return np.clip(0.5 + 0.3 * wave + 0.03 * draws.normal(count, size, size), 0, 1)


def fibres(count: int, size: int, draws: Draws) -> np.ndarray:
    """Fibres, float64 (count, size, size): noise smeared along a direction about horizontal, and noise of sd .03.

    Mean 1/2, sd .15 without the noise. The smearing is a Gaussian of sd 12 pixels along the fibre and 0.8 across, for a
    side of 64; it wraps around.
    """
    angle = np.deg2rad(draws.uniform(count, 1, 1, low=-8, high=8))
    fy, fx = np.meshgrid(np.fft.fftfreq(size), np.fft.rfftfreq(size), indexing="ij")
    along, across = fx * np.cos(angle) + fy * np.sin(angle), fy * np.cos(angle) - fx * np.sin(angle)
    scale = 2 * (np.pi * size / TEXTURE_SIDE) ** 2  # a Gaussian of sd s has the spectrum exp(-2 (pi s f)^2)
    smear = np.exp(-scale * ((12 * along) ** 2 + (0.8 * across) ** 2))
    smear[:, 0, 0] = 0  # no mean
    plane = np.fft.irfft2(np.fft.rfft2(draws.normal(count, size, size)) * smear, s=(size, size))
    plane = 0.15 * plane / plane.std(axis=(1, 2), keepdims=True)
    return np.clip(0.5 + plane + 0.03 * draws.normal(count, size, size), 0, 1)


TEXTURES: dict[str, Callable[[int, int, Draws], np.ndarray]] = {"gratings": gratings, "fibres": fibres}


def textures(
    name: str, size: int = TEXTURE_SIDE, train: int = 1000, test: int = 200, seed: int = 0,
    defect: Callable | None = None,
) -> Textures:  # fmt: skip
    """Normal textures to learn from and textures with defects to test on: uint8 (N, 1, size, size).

    Test image i has defect i mod 4 of `DEFECTS`; the first is none. name: "gratings" or "fibres"; defect: `faint`, as
    in `load`, or `painted`.
    """
    draw = TEXTURES[name]
    normal = draw(train, size, Draws(seed, 0))
    draws = Draws(seed, 1)
    planes = draw(test, size, draws)
    kinds = np.arange(test) % len(DEFECTS)
    masks = np.zeros((test, size, size), bool)
    for plane, mask, kind in zip(planes, masks, kinds):
        (defect or faint)(plane, mask, DEFECTS[kind], draws)
    levels = [np.rint(255 * p[:, None]).astype(np.uint8) for p in (normal, planes)]
    nothing = np.broadcast_to(np.float32(0), (train, 1, size, size))
    return Textures(name, levels[0], np.zeros(train, np.int64), levels[1], kinds, DEFECTS,
                    f"drawn: {name}, seed {seed}", train_masks=nothing, test_masks=masks[:, None].astype(np.float32))


def faint(plane: np.ndarray, mask: np.ndarray, kind: str, draws: Draws) -> None:
    """Draws one defect that hardly shows into plane and mask (size, size).

    Inside its mask the plane goes a part of the way to a goal: a spot to black or white, a patch to the negative of
    the texture, by cos(pi/2 t), t the distance from the middle in its radius (a patch: from left and right). So they
    are wider than 8 pixels and begin softly: an edge is what small squares see. A scratch has edges; it is narrow.
    """
    size = len(plane)
    unit = size / TEXTURE_SIDE
    goal: float | np.ndarray
    y, x = np.mgrid[:size, :size] + 0.5
    cy, cx = draws.uniform(2, low=0.2, high=0.8) * size
    shade = 0.02 if draws.uniform() < 0.5 else 0.98
    if kind == "spot":
        distance = np.hypot(y - cy, x - cx) / (draws.uniform(low=5, high=9) * unit)
        mask |= distance <= 1
        goal, strength = shade, CONTRAST / 2 * np.cos(np.pi / 2 * distance)
    elif kind == "scratch":
        angle = draws.uniform(high=np.pi)
        along = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        across = (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
        mask |= (abs(along) <= draws.uniform(low=10, high=20) * unit) & (abs(across) <= max(unit, 0.75))
        goal, strength = shade, np.full_like(plane, SCRATCH)
    elif kind == "patch":
        side = draws.uniform(2, low=8, high=12) * unit
        mask |= (abs(y - cy) <= side[0]) & (abs(x - cx) <= side[1])
        goal, strength = 1 - plane, CONTRAST * np.cos(np.pi / 2 * (x - cx) / side[1])
    else:
        return
    plane[mask] += (strength * (goal - plane))[mask]


def painted(plane: np.ndarray, mask: np.ndarray, kind: str, draws: Draws) -> None:
    """Draws one defect that anybody sees into plane and mask (size, size): black or white, or turned by a right angle.

    The places are those of `faint`, from the same draws; a patch shows another place of the texture.
    """
    before = plane.copy()
    faint(plane, mask, kind, draws)
    if kind == "patch":
        plane[mask] = np.rot90(before)[mask]
    elif kind != "normal":
        plane[mask] = np.where((plane - before)[mask].mean() > 0, 0.98, 0.02)


# ---- digits in type ------------------------------------------------------------------------------------------------


def rendered_digits(size: int = DIGIT_SIDE, train: int = 4000, test: int = 1000, seed: int = 0) -> Dataset:
    """Digits of `FONTS`, white on black: uint8 (N, 1, size, size), labels 0..9.

    Digit and font are drawn at random, the angle within 10 degrees, the shift within a fourteenth of the side. All
    fonts are in both splits. Glyphs are drawn by Pillow: another FreeType may differ in single levels.
    """
    draws = Draws(seed, 0)
    count = train + test
    labels, fonts = draws.below(10, count), draws.below(len(FONTS), count)
    angles = draws.uniform(count, low=-10, high=10)
    shifts = draws.uniform(count, 2, low=-1, high=1) * size / 14
    glyphs = [[_glyph(font, str(digit), size) for digit in range(10)] for font in FONTS]
    images = np.empty((count, 1, size, size), np.uint8)
    for n in range(count):
        images[n, 0] = _placed(glyphs[fonts[n]][labels[n]], angles[n], shifts[n])
    return Dataset("rendered-digits", images[:train], labels[:train], images[train:], labels[train:],
                   tuple("0123456789"), f"drawn: digits of {len(FONTS)} fonts, seed {seed}")


FINER = 4  # glyphs are drawn and turned at four times the size, then averaged


def _glyph(font: str, text: str, size: int) -> Image.Image:
    """A glyph, 5/7 of the side high, in the middle of its square, at FINER times the size."""
    import matplotlib
    from PIL import Image, ImageFont

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"
    if not path.is_file():
        raise DataError(f"{path}: no such font, though matplotlib comes with it; reinstall matplotlib")
    side = FINER * size
    ink = _ink(text, ImageFont.truetype(str(path), side))
    ink = _ink(text, ImageFont.truetype(str(path), side * side * 5 / 7 / ink.height))
    square = Image.new("L", (side, side))
    square.paste(ink, ((side - ink.width) // 2, (side - ink.height) // 2))
    return square


def _ink(text: str, face: ImageFont.FreeTypeFont) -> Image.Image:
    """The text as a Pillow image, cut at its ink: a slanted glyph stands elsewhere than its box says."""
    from PIL import Image, ImageDraw

    side = int(4 * face.size)
    page = Image.new("L", (side, side))
    ImageDraw.Draw(page).text((side // 2, side // 2), text, fill=255, font=face, anchor="mm")
    return page.crop(page.getbbox())


def _placed(glyph: Image.Image, angle: float, shift: np.ndarray) -> np.ndarray:
    """The glyph turned by `angle` degrees and moved by `shift` (right, down) pixels."""
    from PIL import Image

    moved = (FINER * shift[0], FINER * shift[1])
    return np.asarray(glyph.rotate(angle, Image.Resampling.BILINEAR, translate=moved).reduce(FINER))
