"""Corruptions: distributions, exactly kept pixels, NumPy's and SciPy's answers, gradients, repeatability."""

import numpy as np
import pytest

import tinygen as tg
from tinygen.data import DataError, load
from tinygen.data import corruptions as c
from tinygen.data.varied import tint


def images(*shape, seed=0):
    return tg.tensor(np.random.default_rng(seed).random(shape).astype(np.float32) * 0.8 + 0.1)


RANDOM = [c.gaussian(0.2), c.masking(0.3), c.strokes()]
ALL = [*RANDOM, c.hole(4), c.half(), c.downscaled(2), c.grey(), c.edges(), c.concealed(c.square(4))]


def test_gaussian_noise_has_its_deviation_and_is_not_clipped():
    x = images(40, 1, 32, 32)
    noise = (c.gaussian(0.5)(x) - x).numpy()
    n = noise.size
    assert abs(noise.mean()) < 3 * 0.5 / n**0.5
    assert abs(noise.std() - 0.5) < 3 * 0.5 / (2 * n) ** 0.5
    assert abs((noise**4).mean() / 0.5**4 - 3) < 4 * (96 / n) ** 0.5
    assert c.gaussian(0.5)(x).numpy().min() < -0.5 and c.gaussian(0.5)(x).numpy().max() > 1.5
    np.testing.assert_array_equal(c.gaussian(0.0)(x).numpy(), x.numpy())


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1.0])
def test_masking_hides_a_share_p_and_keeps_the_rest(p):
    x = images(20, 3, 32, 32)
    got = c.masking(p)(x).numpy()
    lost = got == 0
    assert abs(lost.mean() - p) <= 3 * (p * (1 - p) / lost.size) ** 0.5
    np.testing.assert_array_equal(got[~lost], x.numpy()[~lost])
    if p == 0.5:  # independent from channel to channel, image to image, pixel to pixel
        for one, other in ((lost[:, 0], lost[:, 1]), (lost[:10], lost[10:]), (lost[..., :-1], lost[..., 1:])):
            assert abs((one == other).mean() - 0.5) < 0.02


@pytest.mark.parametrize("threshold", [0.5, 0.2])
def test_an_image_in_black_and_white_is_on_above_the_threshold(threshold):
    x = images(3, 1, 9, 8).numpy()
    x[0, 0, 0] = threshold
    got = c.binarised(threshold)(tg.tensor(x)).numpy()
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, np.where(x > np.float32(threshold), 1, 0))
    np.testing.assert_array_equal(c.binarised()(tg.tensor(x)).numpy(), x > 0.5)


@pytest.mark.parametrize("corrupt", RANDOM)
def test_noise_comes_from_the_default_generator(corrupt):
    x = images(4, 1, 16, 16)
    tg.manual_seed(3)
    first, second = corrupt(x).numpy(), corrupt(x).numpy()
    tg.manual_seed(3)
    state = tg.get_rng_state()
    np.testing.assert_array_equal(corrupt(x).numpy(), first)
    np.testing.assert_array_equal(corrupt(x).numpy(), second)
    assert (first != second).any() and tg.get_rng_state() != state
    tg.manual_seed(4)
    assert (corrupt(x).numpy() != first).any()


@pytest.mark.parametrize(("side", "size", "start"), [(8, 4, 2), (28, 14, 7), (9, 3, 3), (9, 4, 2), (8, 8, 0)])
def test_a_hole_is_in_the_centre(side, size, start):
    x = images(3, 2, side, side)
    expected = x.numpy().copy()
    expected[:, :, start : start + size, start : start + size] = 0
    np.testing.assert_array_equal(c.hole(size)(x).numpy(), expected)
    mask = c.square(size)(x).numpy()
    assert mask.shape == (1, 1, side, side) and mask.sum() == size**2


def test_a_hole_in_an_oblong_image_and_other_fills():
    x = images(2, 1, 8, 12)
    got = c.hidden(c.square(4), fill=0.5)(x).numpy()
    assert (got[:, :, 2:6, 4:8] == 0.5).all() and (got == 0.5).sum() == 32
    for size in (0, 9):
        with pytest.raises(DataError, match=r"size must be in 1\.\.8 for images of 8x12"):
            c.hole(size)(x)


def test_half_hides_the_lower_rows():
    x = images(2, 3, 9, 8)
    got = c.half()(x).numpy()
    np.testing.assert_array_equal(got[:, :, :4], x.numpy()[:, :, :4])
    assert (got[:, :, 4:] == 0).all()


@pytest.mark.parametrize(
    ("mask", "rows", "columns"),
    [(c.square(4), (2, 6), (3, 7)), (c.lower_half(), (4, 9), (0, 11))],
    ids=["hole", "half"],
)
def test_what_is_concealed_is_black_and_the_mask_lies_behind(mask, rows, columns):
    x = images(3, 2, 9, 11)
    hidden = np.zeros((3, 1, 9, 11), np.float32)
    hidden[:, :, slice(*rows), slice(*columns)] = 1
    expected = np.concatenate([np.where(hidden == 1, 0, x.numpy()), hidden], 1)
    got = c.concealed(mask)(x).numpy()
    assert got.shape == (3, 3, 9, 11) and got.dtype == np.float32
    np.testing.assert_array_equal(got, expected)


def test_drawn_masks_differ_from_image_to_image_and_lie_behind_what_they_hid():
    x = images(5, 3, 12, 10)
    tg.manual_seed(2)
    mask = c.stroke_mask(2)(x).numpy()
    tg.manual_seed(2)
    got = c.concealed(c.stroke_mask(2))(x).numpy()
    np.testing.assert_array_equal(got[:, 3:], mask)
    np.testing.assert_array_equal(got[:, :3], np.where(mask == 1, 0, x.numpy()))
    assert len(np.unique(mask, axis=0)) == 5


def test_strokes_are_the_pixels_near_a_segment():
    x = images(6, 3, 20, 30)
    tg.manual_seed(5)
    mask = c.stroke_mask(3, width=0.1)(x).numpy()
    assert mask.shape == (6, 1, 20, 30) and set(np.unique(mask)) == {0, 1}
    tg.manual_seed(5)
    ends = tg.rand(2, 2, 6, 3, 1, 1).numpy()[..., 0, 0].astype(np.float64)
    steps = np.linspace(0, 1, 2001)[:, None]
    centres = np.stack(np.meshgrid(np.arange(20) + 0.5, np.arange(30) + 0.5, indexing="ij"), -1).reshape(-1, 1, 2)
    for n in range(6):
        nearest = np.full(600, np.inf)
        for s in range(3):
            start, end = ends[:, :, n, s] * (20, 30)
            line = start + steps * (end - start)
            nearest = np.minimum(nearest, np.sqrt(((centres - line) ** 2).sum(-1)).min(1))
        clear = abs(nearest - 1.5) > 0.01  # half of a tenth of 30 pixels, away from rounding
        np.testing.assert_array_equal(mask[n, 0].ravel()[clear], (nearest <= 1.5)[clear])
    tg.manual_seed(5)
    got = c.strokes(3, width=0.1)(x).numpy()
    np.testing.assert_array_equal(got, np.where(mask == 1, 0, x.numpy()))
    shares = c.stroke_mask()(images(200, 1, 28, 28)).numpy().mean(axis=(1, 2, 3))
    assert 0.1 < shares.mean() < 0.3 and shares.std() > 0.01


def test_downscaling_is_the_mean_over_squares():
    x = images(2, 3, 12, 8)
    expected = x.numpy().reshape(2, 3, 3, 4, 2, 4).mean(axis=(3, 5))
    np.testing.assert_allclose(c.downscaled(4)(x).numpy(), expected, atol=1e-6)
    with pytest.raises(DataError, match="12x8 pixels are not divisible by the factor 3"):
        c.downscaled(3)(x)


def test_grey_is_the_luma():
    x = images(2, 3, 8, 8)
    expected = np.einsum("nchw,c->nhw", x.numpy(), [0.299, 0.587, 0.114])[:, None]
    np.testing.assert_allclose(c.grey()(x).numpy(), expected, atol=1e-6)
    one = images(2, 1, 8, 8)
    np.testing.assert_array_equal(c.grey()(one).numpy(), one.numpy())
    with pytest.raises(DataError, match="expected 3 colour channels"):
        c.grey()(images(2, 2, 8, 8))


@pytest.mark.parametrize("channels", [1, 3])
def test_edges_are_sobels(channels):
    from scipy.ndimage import sobel

    x = tg.tensor((images(2, channels, 9, 12).numpy() * 1.2).round().astype(np.float32))  # some exceed 1 at a corner
    plane = x.numpy()[:, 0] if channels == 1 else np.einsum("nchw,c->nhw", x.numpy(), [0.299, 0.587, 0.114])
    expected = np.stack([np.hypot(sobel(p, 0, mode="nearest"), sobel(p, 1, mode="nearest")) / 4 for p in plane])
    assert (expected > 1.05).any()
    np.testing.assert_allclose(c.edges()(x).numpy()[:, 0], np.minimum(expected, 1), atol=2e-6)


def test_a_straight_edge_is_one_and_flat_is_zero():
    x = np.zeros((1, 1, 8, 8), np.float32)
    x[..., 4:] = 1
    got = c.edges()(tg.tensor(x)).numpy()[0, 0]
    np.testing.assert_allclose(got[:, 3:5], 1, atol=1e-6)
    np.testing.assert_allclose(np.delete(got, [3, 4], axis=1), 0, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_outline_is_where_edges_are_steep(channels):
    x = tg.tensor(np.random.default_rng(1).random((3, channels, 9, 12), np.float32).repeat(2, 3))
    steepness = np.max([c.edges()(x[:, [k]]).numpy() for k in range(channels)], 0)  # of any channel
    for threshold in (0.5, 0.2):
        got = c.outlines(threshold)(x).numpy()
        assert got.shape == (3, 1, 9, 24) and got.dtype == np.float32 and set(np.unique(got)) == {0, 1}
        np.testing.assert_array_equal(got, steepness > threshold)
    np.testing.assert_array_equal(c.outlines()(x).numpy(), c.outlines(0.5)(x).numpy())


@pytest.mark.parametrize("threshold", [0, 1, -0.5, 1.5, float("nan")])
def test_a_threshold_of_outlines_lies_within(threshold):
    with pytest.raises(DataError, match=f"outlines: threshold must be above 0 and below 1, it is {threshold}; 0.5 is"):
        c.outlines(threshold)


@pytest.mark.parametrize("corrupt", ALL)
def test_gradients_flow_through(corrupt):
    x = images(2, 3, 8, 8).requires_grad_()
    tg.manual_seed(0)
    weight = images(*corrupt(x).shape, seed=1)
    tg.manual_seed(0)
    (gradient,) = tg.grad((corrupt(x) * weight).sum(), [x])
    direction = images(2, 3, 8, 8, seed=2) - 0.5
    ends = []
    for sign in (1, -1):
        tg.manual_seed(0)
        ends.append(float((corrupt(x.detach() + sign * 1e-2 * direction) * weight).sum()))
    assert float((gradient * direction).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-2, abs=2e-2, rel=2e-2)


def test_the_gradient_of_edges_is_finite_where_there_are_none():
    x = tg.zeros(1, 1, 8, 8, requires_grad=True)
    (gradient,) = tg.grad(c.edges()(x).sum(), [x])
    assert np.isfinite(gradient.numpy()).all()


def test_masking_takes_a_probability():
    for p in (-0.1, 1.1):
        with pytest.raises(DataError, match="probability"):
            c.masking(p)


def test_a_deviation_is_not_below_0():
    for sd in (-0.1, float("nan")):
        with pytest.raises(DataError, match=f"gaussian: sd is a standard deviation, at least 0; it is {sd}; 0.3 is"):
            c.gaussian(sd)


def test_an_outline_does_not_tell_a_colour():
    """Red has less than a third of white's luma: by that, a red digit would have no outline, and a cyan one its own."""
    grey = load("digits").floats("test")[:20]
    of = lambda hue: c.outlines(0.5)(tg.tensor(tint(grey, np.full(20, hue, np.float32)))).numpy()
    wanted = c.outlines(0.5)(tg.tensor(grey)).numpy()
    assert wanted.any((1, 2, 3)).all()
    for hue in (0, 1 / 3, 1 / 2, 2 / 3):
        assert np.array_equal(of(hue), wanted)
