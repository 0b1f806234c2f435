"""Drawn images: textures and their defects' masks, digits in type; all pure in the seed."""

import hashlib

import numpy as np
import pytest

from tinygen import data
from tinygen.data import DataError, drawn
from tinygen.data.draws import Draws
from tinygen.metrics import auroc
from tinygen.studies import anomaly_patches


@pytest.fixture(scope="module", params=["gratings", "fibres"])
def texture(request):
    return data.load(request.param)


def test_masks_say_where_the_defects_are(texture):
    assert texture.shape == (1, 64, 64) and texture.count() == 1000 and texture.count("test") == 200
    assert texture.classes == ("normal", "spot", "scratch", "patch")
    assert (texture.train_labels == 0).all() and not texture.train_masks.any()
    areas = texture.test_masks.sum(axis=(1, 2, 3))
    for kind in range(4):
        of_kind = texture.test_labels == kind
        assert of_kind.sum() == 50
        if kind == 0:
            assert (areas[of_kind] == 0).all()
        else:
            assert areas[of_kind].min() > 15 and areas[of_kind].max() < 0.15 * 64 * 64


def test_inside_its_mask_a_texture_goes_a_part_of_the_way_and_outside_it_none(texture):
    """A spot half as far as a patch, to black or white; a patch to its negative; a scratch by a fifth."""
    before = drawn.TEXTURES[texture.name](200, 64, Draws(0, 1))
    masks, contrast = texture.test_masks[:, 0] == 1, drawn.CONTRAST
    y, x = np.mgrid[:64, :64] + 0.5
    shades = []
    for n, (seen, plane, mask, kind) in enumerate(zip(texture.test_images[:, 0], before, masks, texture.test_labels)):
        np.testing.assert_array_equal(seen[~mask], np.rint(255 * plane[~mask]))
        if kind == 0:
            continue
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        middle = lambda places: (places[0] + places[-1] + 1) / 2
        cy, cx = middle(rows), middle(columns)
        if kind == 3:
            goal, way = 1 - plane, contrast * np.cos(np.pi * (x - cx) / len(columns))
        else:
            brighter = (seen / 255 - plane)[mask].mean() > 0
            shades.append(brighter)
            goal = np.full_like(plane, 0.98 if brighter else 0.02)
            radius = np.sqrt(mask.sum() / np.pi)
            way = contrast / 2 * np.cos(np.pi / 2 * np.hypot(y - cy, x - cx) / radius) if kind == 1 else 0.2
        found = plane + way * (goal - plane)
        error = abs(seen / 255 - found)[mask]
        assert error.max() < (0.003 if kind == 2 else 0.12) and error.mean() < 0.02, (n, kind)
    assert 0.35 < np.mean(shades) < 0.65


@pytest.mark.parametrize("name", ["gratings", "fibres"])
def test_painted_defects_lie_where_faint_ones_do_and_show(name):
    faint, shown = (drawn.textures(name, train=1, test=12, defect=d) for d in (None, drawn.painted))
    np.testing.assert_array_equal(faint.test_masks, shown.test_masks)
    before = np.rint(255 * drawn.TEXTURES[name](12, 64, Draws(0, 1)))
    for seen, plane, weak, mask, kind in zip(shown.test_images[:, 0], before, faint.test_images[:, 0],
                                             shown.test_masks[:, 0] == 1, shown.test_labels):  # fmt: skip
        np.testing.assert_array_equal(seen[~mask], plane[~mask])
        if kind == 3:
            np.testing.assert_array_equal(seen[mask], np.rot90(plane)[mask])
        elif kind:
            brighter = weak[mask].mean() > plane[mask].mean()
            assert (seen[mask] == np.rint(255 * (0.98 if brighter else 0.02))).all()


def test_defects_have_their_sizes_and_lie_anywhere_but_at_the_border(texture):
    """Spots 10 to 18 pixels wide, patches 16 to 24, scratches 2 wide and 20 to 40 long in all directions."""
    masks = texture.test_masks[:, 0] == 1
    y, x = np.mgrid[:64, :64] + 0.5
    place = lambda kind: [np.array([axis[m].mean() for m in masks[texture.test_labels == kind]]) for axis in (y, x)]
    sides = lambda kind: np.array([[m.any(axis).sum() for axis in (1, 0)] for m in masks[texture.test_labels == kind]])
    areas = [masks[texture.test_labels == kind].sum((1, 2)) for kind in range(4)]
    for kind, low, high in ((1, 9, 18), (3, 15, 25)):
        assert sides(kind).min() >= low and sides(kind).max() <= high
        assert np.ptp(sides(kind)) > 0.6 * (high - low)
    assert 30 < areas[2].min() < 50 and 65 < areas[2].max() < 90  # 2 pixels by 20 to 40
    slants = [np.cov(y[m], x[m])[0, 1] for m in masks[texture.test_labels == 2]]
    assert 0.25 < np.mean(np.array(slants) > 0) < 0.75
    for kind in (1, 2, 3):
        for middle in place(kind):
            assert 10 < middle.min() < 22 and 42 < middle.max() < 54


def test_small_squares_see_little_of_the_defects_and_what_they_see_is_not_nothing(texture):
    """The contrast's reason: PCA of 8x8 squares ranks the pixels of all test images with an AUROC of .7 to .9."""
    fitted = anomaly_patches.axes(texture.floats("train")[:200])
    some = slice(0, 80)
    scores = anomaly_patches.residuals(fitted, texture.floats("test")[some], 8)  # of 8, 16 and 32 the best
    assert 0.7 < auroc(scores.ravel(), texture.test_masks[some].ravel()) < 0.9


@pytest.mark.parametrize(("name", "sha"), [("gratings", "ac08f0af92a7b369"), ("fibres", "eb16a08cf594fb9d")])
def test_the_normal_textures_are_what_they_were(name, sha):
    """What runs have learned from stays, whatever the defects of the test images are."""
    normal = drawn.textures(name, train=20, test=1)
    assert hashlib.sha256(normal.train_images.tobytes()).hexdigest()[:16] == sha
    kept = drawn.textures(name, train=1, test=8).test_images[::4, 0]
    plain = drawn.TEXTURES[name](8, 64, Draws(0, 1))[::4]
    np.testing.assert_array_equal(kept, np.rint(255 * plain).astype(np.uint8))


def test_a_batch_of_textures_is_images_and_masks(texture):
    images, masks = texture.batches(32, seed=1, split="test").at(0, 3)
    assert images.shape == masks.shape == (32, 1, 64, 64) and images.dtype == masks.dtype == np.float32
    chosen = texture.batches(32, seed=1, split="test").indices(0, 3)
    np.testing.assert_array_equal(masks, texture.test_masks[chosen])
    assert not texture.batches(8).at(0, 0)[1].any()
    small = texture.limited(20)
    assert small.test_masks.shape == (20, 1, 64, 64) and small.sha != texture.sha
    kinds = small.test_labels
    assert (small.test_masks.any(axis=(1, 2, 3)) == (kinds > 0)).all()  # masks go with their images


def test_textures_at_other_sizes():
    drawn_small = data.load("gratings", size=32)
    assert drawn_small.sha == drawn.textures("gratings", 32).sha  # drawn at that size, not shrunk
    assert drawn_small.shape == (1, 32, 32) and drawn_small.test_masks.shape == (200, 1, 32, 32)
    shrunk = data.load("gratings", limit=40).resized(32)
    assert set(np.unique(shrunk.test_masks)) == {0, 1} and shrunk.test_masks.shape == (40, 1, 32, 32)
    before = data.load("gratings", limit=40).test_masks.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(shrunk.test_masks.mean(axis=(1, 2, 3)), before, atol=0.01)
    assert data.load("fibres", channels=3, limit=4).shape == (3, 64, 64)


def test_gratings_have_their_period_and_direction():
    planes = drawn.gratings(20, 64, Draws(3))
    spectrum = abs(np.fft.fft2(planes - planes.mean(axis=(1, 2), keepdims=True)))
    for plane in spectrum:
        fy, fx = np.unravel_index(plane[:, :32].argmax(), (64, 32))
        fy = (fy + 32) % 64 - 32
        assert np.hypot(fy, fx) == pytest.approx(8, abs=1.2)
        assert np.degrees(np.arctan2(fy, fx)) == pytest.approx(30, abs=9)
    assert planes.std() == pytest.approx(np.hypot(0.3 / 2**0.5, 0.03), abs=0.005)


def test_fibres_are_long_along_and_short_across():
    planes = drawn.fibres(20, 64, Draws(3)) - 0.5

    def correlation(axis, step):
        return (planes * np.roll(planes, step, axis)).mean() / planes.var()

    assert correlation(2, 6) > 0.6 and abs(correlation(1, 6)) < 0.2
    assert planes.std() == pytest.approx(np.hypot(0.15, 0.03), abs=0.003)


def test_textures_depend_on_the_seed_alone():
    one = drawn.textures("gratings", train=5, test=8)
    again, other = drawn.textures("gratings", train=5, test=8), drawn.textures("gratings", train=5, test=8, seed=1)
    assert one.sha == again.sha != other.sha
    rows = {x.tobytes() for x in (*one.train_images, *one.test_images)}
    assert len(rows) == 13


# ---- digits in type ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def typed():
    return drawn.rendered_digits(train=900, test=100)


def test_every_font_holds_ten_different_digits():
    assert len(set(drawn.FONTS)) == 21
    for font in drawn.FONTS:
        glyphs = [np.asarray(drawn._glyph(font, str(d), 28)) for d in range(10)]
        assert len({g.tobytes() for g in glyphs}) == 10, font
        for glyph in glyphs:
            rows, columns = (np.flatnonzero((glyph > 127).any(axis=a)) for a in (1, 0))
            height = rows[-1] - rows[0] + 1
            assert abs(height - 80) <= 3, font  # 5/7 of 112
            for places in (rows, columns):
                assert abs((places[0] + places[-1]) / 2 - 55.5) <= 2, font  # in the middle


def test_rendered_digits_are_digits(typed):
    assert typed.shape == (1, 28, 28) and typed.classes == tuple("0123456789") and typed.name == "rendered-digits"
    assert np.bincount(typed.train_labels).min() > 60
    assert typed.train_images.max() == 255 and 0.05 < typed.floats().mean() < 0.25
    assert (typed.train_images[:, :, [0, -1]] == 0).mean() > 0.99  # white on black, and no glyph is cut off
    from sklearn.neighbors import KNeighborsClassifier

    nearest = KNeighborsClassifier(1).fit(typed.floats().reshape(900, -1), typed.train_labels)
    assert nearest.score(typed.floats("test").reshape(100, -1), typed.test_labels) > 0.9


def test_rendered_digits_move_and_turn(typed):
    y, x = np.mgrid[:28, :28]
    planes = typed.floats()[:, 0]
    mass = planes.sum(axis=(1, 2))
    centres = np.stack([(planes * axis).sum(axis=(1, 2)) / mass for axis in (y, x)])
    assert centres.std(axis=1).min() > 0.8 and centres.std(axis=1).max() < 2.5  # uniform within 2 pixels: 1.15
    np.testing.assert_allclose(centres.mean(axis=1), 13.5, atol=0.6)
    glyph = drawn._glyph("DejaVuSans", "1", 28)
    still = drawn._placed(glyph, 0.0, np.zeros(2)).astype(float)
    moved = drawn._placed(glyph, 0.0, np.array([2.0, -1.0])).astype(float)
    np.testing.assert_allclose(moved, np.roll(still, (-1, 2), (0, 1)), atol=1)  # right and up
    assert abs(drawn._placed(glyph, 10.0, np.zeros(2)) - still).max() > 50


@pytest.mark.parametrize("size", [28, 42])
def test_angles_lie_within_10_degrees_and_shifts_within_a_fourteenth_of_the_side(size, monkeypatch):
    seen = []
    monkeypatch.setattr(drawn, "_glyph", lambda *given: None)
    monkeypatch.setattr(drawn, "_placed", lambda glyph, *moved: seen.append(moved) or np.zeros((size, size)))
    drawn.rendered_digits(size, train=300, test=100)
    angles, shifts = (np.array(one) for one in zip(*seen))
    for values, most in ((angles, 10), *((way, size / 14) for way in shifts.T)):
        assert -most <= values.min() < -0.95 * most and 0.95 * most < values.max() <= most
        assert abs(values.mean()) < 0.12 * most


def test_rendered_digits_depend_on_the_seed_alone(typed):
    assert drawn.rendered_digits(train=900, test=100).sha == typed.sha
    other = drawn.rendered_digits(train=900, test=100, seed=1)
    assert other.sha != typed.sha and (other.train_labels != typed.train_labels).any()
    assert drawn.rendered_digits(16, train=10, test=2).shape == (1, 16, 16)
    assert len({x.tobytes() for x in typed.train_images}) > 895


def test_a_missing_font_is_named(monkeypatch):
    monkeypatch.setattr(drawn, "FONTS", ("NoSuchFont",))
    with pytest.raises(DataError, match=r"NoSuchFont\.ttf: no such font"):
        drawn.rendered_digits(train=1, test=1)
