"""Pictures of any size through runs: the padded reference, tiles as the whole, files, and what is refused."""

from __future__ import annotations

from pathlib import Path

import by_hand
import numpy as np
import pytest
from by_hand import SIZES
from PIL import Image

import tinygen as tg
from tinygen import cli, training
from tinygen.recipes import RunError, load_run, start
from tinygen.recipes.tiles import applied, made_of
from tinygen.step import AnySize, Step
from tinygen.training import aside

RECIPES = ("srresnet", "srresnet-x4", "pix2pix", "cyclegan", "refiner", "inpaint")
SCALES = {"srresnet": 2, "srresnet-x4": 4}
HOLE = 4  # pixels a side, of 8x8 digits


def trained(recipe, folder, **options):
    options = {"preset": "tiny", "limit": 32, "epochs": 1, "size": 8} | options
    run = start(recipe, folder=folder, **options)
    run.fit()
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder of tiny runs, made when they are asked for."""
    place, found = tmp_path_factory.mktemp("runs"), {}

    def run_of(recipe, **options):
        name = "-".join([recipe, *map(str, options.values())])
        if name not in found:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(training.run, "draw_curves", lambda *arguments: None)
                found[name] = trained(recipe, place / name, **options)
        return found[name]

    return run_of


def step_of(folder):
    """The Step with weights so large that what is far away matters."""
    step = load_run(folder)
    tg.manual_seed(11)
    by_hand.stir(*step.networks().values(), size=0.25)
    return step


def picture(size, channels=1, seed=0):
    """(height, width) as (1, C, H, W), of the 256 levels of a file."""
    levels = np.random.default_rng(seed).integers(0, 256, (1, channels, *size))
    return levels.astype(np.float32) / np.float32(255)


def stored(name, image):
    pixels = np.rint(image[0] * 255).astype(np.uint8).transpose(1, 2, 0)
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(name)
    return Path(name)


def padded(image, multiple):
    """Mirrored at its lower and right end, the last pixel again first; of a small one, there and back again."""
    mirror = lambda i, side: min(i % (2 * side), 2 * side - 1 - i % (2 * side))
    places = [[mirror(i, side) for i in range(side + -side % multiple)] for side in image.shape[2:]]
    return image[:, :, places[0]][:, :, :, places[1]]


def reference(recipe, step, image):
    """What the network makes of the padded picture, cut."""
    _, _, height, width = image.shape
    clamped = lambda network: lambda x: network(x).clamp(0, 1)
    network, multiple, scale = {
        "srresnet": lambda: (clamped(step.generator), 1, 2),
        "srresnet-x4": lambda: (clamped(step.generator), 1, 4),
        "pix2pix": lambda: (step.generator, 4, 1),
        "cyclegan": lambda: (step.forth, 1, 1),
        "refiner": lambda: (step.refiner, 1, 1),
        "inpaint": lambda: (clamped(step.generator), 1, 1),
    }[recipe]()
    seen = padded(image, multiple)
    if recipe == "inpaint":
        mask = np.zeros_like(seen)
        top, left = (height - HOLE) // 2, (width - HOLE) // 2
        mask[:, :, top : top + HOLE, left : left + HOLE] = 1
        seen = np.concatenate([seen * (1 - mask), mask], 1)
    with aside(step, 0):
        made = network(tg.tensor(seen)).numpy()
    return made[:, :, : scale * height, : scale * width]


# ---------------------------------------------------------------------------------- any size


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_picture_of_any_size_is_as_the_padded_reference(recipe, runs):
    step = step_of(runs(recipe))
    assert len(SIZES) == 20
    for size in [*SIZES, (5, 31), (6, 5)]:
        image, scale = picture(size), SCALES.get(recipe, 1)
        made = made_of(step, stored("a.png", image), (1, 8, 8))
        assert made.seen is None and made.size == f"{size[1]}x{size[0]}"
        assert made.what == f"made {scale * size[1]}x{scale * size[0]}"
        assert made.result.shape == (1, 1, scale * size[0], scale * size[1]) and made.result.dtype == np.float32
        np.testing.assert_allclose(made.result, reference(recipe, step, image), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("recipe", ["srresnet", "pix2pix", "refiner"])
def test_a_picture_may_be_smaller_than_what_is_halved(recipe, runs):
    step = step_of(runs(recipe))
    for size in ((1, 1), (1, 6), (3, 2)):
        image = picture(size)
        made, scale = made_of(step, stored("a.png", image), (1, 8, 8)).result, SCALES.get(recipe, 1)
        assert made.shape == (1, 1, scale * size[0], scale * size[1])
        np.testing.assert_allclose(made, reference(recipe, step, image), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("recipe", "least"), [("cyclegan", 4), ("inpaint", 4)])
def test_a_picture_that_is_too_small_is_refused_with_the_smallest_side(recipe, least, runs):
    step = load_run(runs(recipe))
    for size in ((least - 1, 20), (20, least - 1)):
        file = stored("small.png", picture(size))
        words = rf"small.png: the picture has {size[1]}x{size[0]} pixels, the run takes {least} a side or more; enlarge"
        with pytest.raises(RunError, match=words):
            made_of(step, file, (1, 8, 8))
    assert made_of(step, stored("small.png", picture((least, 9))), (1, 8, 8)).result.shape == (1, 1, least, 9)


def test_a_hole_that_does_not_fit_is_said_with_the_picture(runs):
    step = load_run(runs("inpaint", arguments={"size": 7}))
    with pytest.raises(RunError, match=r"small.png: hole: size must be in 1..5 for images of 5x12 pixels; it is 7"):
        made_of(step, stored("small.png", picture((5, 12))), (1, 8, 8))


def test_known_pixels_of_a_picture_are_copied_bit_for_bit(runs):
    step, image = step_of(runs("inpaint")), picture((13, 10))
    made = made_of(step, stored("a.png", image), (1, 8, 8)).result
    same = made == image
    assert not same[:, :, 4:8, 3:7].any() and same.sum() == 13 * 10 - HOLE**2


def test_a_look_at_a_picture_changes_nothing(runs):
    step = load_run(runs("srresnet"))
    step.generator.train()
    before, state = by_hand.state(step.generator), tg.get_rng_state()
    first, again = (made_of(step, stored("a.png", picture((9, 8))), (1, 8, 8)).result for _ in range(2))
    assert tg.get_rng_state() == state and step.generator.training
    assert np.array_equal(first, again) and by_hand.same(by_hand.state(step.generator), before)


# ---------------------------------------------------------------------------------- tiles


@pytest.mark.parametrize(
    ("recipe", "tile"),
    [("srresnet", 16), ("srresnet", 23), ("srresnet-x4", 20), ("pix2pix", 16), ("pix2pix", 19), ("refiner", 8)],
)
def test_tiles_are_the_whole(recipe, tile, runs):
    step, image, sizes = step_of(runs(recipe)), picture((61, 50)), []
    forward = step.apply
    with aside(step, 0):
        whole = applied(step.apply, step, image, 1000)
        step.apply = lambda x: sizes.append(x.shape[2:]) or forward(x)
        tiled = applied(step.apply, step, image, tile)
    assert len(sizes) == -(-61 // tile) * -(-50 // tile) if tile % step.any_size.multiple == 0 else len(sizes) > 4
    widest = tile + 2 * step.any_size.reach + 3 * step.any_size.multiple
    assert max(max(size) for size in sizes) <= widest  # none is computed of the whole
    assert tiled.shape == whole.shape and whole.std() > 0.01
    np.testing.assert_allclose(tiled, whole, rtol=1e-4, atol=1e-5)


class Looking(Step):
    """Sums over a square of 2 reach + 1 pixels, plus a pattern as of a network that halves; whole numbers, so exact."""

    def __init__(self, reach, multiple, scale, seen=True):
        self.reach, self.multiple, self.scale, self.asked = reach, multiple, scale, []
        self.any_size = AnySize(1, scale, multiple, reach if seen else None)

    any_size = None

    def apply(self, images):
        x = images.numpy()
        self.asked.append(x.shape[2:])
        r, (height, width) = self.reach, x.shape[2:]
        around = np.pad(x, [(0, 0), (0, 0), (r, r), (r, r)])
        total = sum(around[:, :, a : a + height, b : b + width] for a in range(2 * r + 1) for b in range(2 * r + 1))
        pattern = np.arange(height)[:, None] % self.multiple * 1000 + np.arange(width) % self.multiple * 100
        made = (total + pattern).repeat(self.scale, 2).repeat(self.scale, 3)
        made += np.tile(np.arange(self.scale) / 4, width)  # the columns of one pixel differ
        return tg.tensor(made.astype(np.float32))


def numbers(size):
    return np.random.default_rng(1).integers(0, 9, (1, 1, *size)).astype(np.float32)


@pytest.mark.parametrize("tile", [1, 4, 5, 8, 100])
@pytest.mark.parametrize(
    ("reach", "multiple", "scale"), [(0, 1, 1), (1, 1, 1), (3, 1, 2), (2, 4, 1), (5, 4, 4), (9, 2, 2)]
)
def test_a_tile_sees_as_far_as_the_whole_and_lies_as_it_is_halved(reach, multiple, scale, tile):
    for size in ((13, 9), (8, 16), (1, 17), (12, 12)):
        image = numbers(size)
        expected = Looking(reach, multiple, scale).apply(tg.tensor(padded(image, multiple))).numpy()
        step = Looking(reach, multiple, scale)
        made = applied(step.apply, step, image, tile)
        assert np.array_equal(made, expected[:, :, : scale * size[0], : scale * size[1]])


def test_what_fits_into_a_tile_or_looks_everywhere_is_computed_at_once():
    image = numbers((12, 20))
    for step, tile, asked in (
        (Looking(2, 4, 1), 20, [(12, 20)]), (Looking(2, 1, 1, seen=False), 4, [(12, 20)]),
        (Looking(2, 8, 1), 24, [(16, 24)]), (Looking(2, 1, 1), 19, [(12, 20), (12, 3)]),
        (Looking(2, 1, 1), 10, [(12, 12), (12, 12), (4, 12), (4, 12)]),
    ):  # fmt: skip
        applied(step.apply, step, image, tile)
        assert step.asked == asked


# ---------------------------------------------------------------------------------- on the command line


def tinygen(*words):
    return cli.main([str(word) for word in words])


def refused(capsys, *words):
    """The one line that a wrong input gets."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        tinygen(*words)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and error.startswith("tinygen: "), error
    return error.removeprefix("tinygen: ").strip()


@pytest.mark.parametrize(("recipe", "scale"), [("srresnet", 2), ("srresnet-x4", 4), ("refiner", 1)])
def test_the_file_has_the_size_and_the_pixels_of_the_result(recipe, scale, runs, capsys):
    image, run = picture((11, 14)), runs(recipe)
    file = stored("a.png", image)
    capsys.readouterr()
    assert tinygen("apply", run, file, "--out", "big.png") == 0
    wide, high = 14 * scale, 11 * scale
    assert capsys.readouterr().out == f"a.png at 14x11 pixels, made {wide}x{high}: big.png\n"
    made = reference(recipe, load_run(run), image)[0, 0]
    with Image.open("big.png") as big:
        assert big.size == (wide, high) and big.mode == "L"
        pixels = np.asarray(big).astype(float)
    assert abs(pixels - 255 * made).max() <= 0.5 + 1e-3  # the nearest level
    assert tinygen("apply", run, file, "--out", "there/big.NPY") == 0
    values = np.load("there/big.NPY")
    assert values.shape == (1, 1, high, wide) and values.dtype == np.float32
    np.testing.assert_allclose(values[0, 0], made, rtol=1e-5, atol=1e-6)


def test_a_colour_run_takes_colour_and_grey(runs, capsys):
    run = runs("srresnet", channels=3)
    colour, grey = picture((9, 12), 3), picture((9, 12), 1, seed=2)
    assert tinygen("apply", run, stored("colour.png", colour), "--out", "big.png") == 0
    with Image.open("big.png") as big:
        assert big.size == (24, 18) and big.mode == "RGB"
        pixels = np.asarray(big).transpose(2, 0, 1)
    made = reference("srresnet", load_run(run), colour)[0]
    assert abs(pixels - 255 * made).max() <= 0.5 + 1e-3
    assert tinygen("apply", run, stored("grey.png", grey), "--out", "grey.npy") == 0
    expected = reference("srresnet", load_run(run), grey.repeat(3, 1))
    np.testing.assert_allclose(np.load("grey.npy"), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("recipe", ["srresnet", "pix2pix", "cyclegan", "inpaint"])
def test_a_colour_picture_is_refused_by_a_grey_run_in_one_line(recipe, runs, capsys):
    run = runs(recipe)
    file = stored("colour.png", picture((9, 12), 3))
    words = "colour.png: the picture has 3 channels, the run takes 1; convert it to grey first"
    assert refused(capsys, "apply", run, file, "--out", "big.png") == words
    assert not Path("big.png").exists()
    alike = stored("alike.png", picture((9, 12)).repeat(3, 1))  # three channels, no colour
    assert tinygen("apply", run, alike, "--out", "big.png") == 0


def test_a_broken_file_is_refused_in_one_line(runs, capsys):
    run = runs("srresnet")
    Path("text.png").write_text("no picture")
    whole = stored("whole.png", picture((30, 30))).read_bytes()
    Path("half.png").write_bytes(whole[: len(whole) // 2])
    Path("empty.png").write_bytes(b"")
    assert refused(capsys, "apply", run, "text.png") == "text.png: not a picture in any known format"
    assert refused(capsys, "apply", run, "empty.png") == "empty.png: an empty file"
    assert refused(capsys, "apply", run, "half.png").startswith("half.png: ")
    assert refused(capsys, "apply", run, "none.png").startswith("none.png: No such file")
    assert refused(capsys, "apply", run, "whole.png", "--out", "whole.png").startswith("--out whole.png is the picture")
    assert "must end in .png or .npy" in refused(capsys, "apply", run, "whole.png", "--out", "whole.jpg")
    assert Path("whole.png").read_bytes() == whole and not list(Path().glob("*-srresnet*"))


def test_several_pictures_of_several_sizes_go_into_a_folder(runs, capsys):
    run = runs("srresnet")
    files = [stored(f"{name}.png", picture(size)) for name, size in (("a", (8, 9)), ("b", (13, 7)))]
    assert tinygen("apply", run, *files, "--out", "large") == 0
    sizes = {}
    for path in Path("large").iterdir():
        with Image.open(path) as image:
            sizes[path.name] = image.size
    assert sizes == {"a-srresnet.png": (18, 16), "b-srresnet.png": (14, 26)}
    assert tinygen("apply", run, files[0]) == 0 and Path("a-srresnet.png").exists()  # beside the picture
