"""The slides' facts about images from images: shuffles, means and medians of colours, noise, holes, cycles, patches."""

from __future__ import annotations

import math

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen import data, nn, optim
from tinygen.data import corruptions
from tinygen.data.varied import tint
from tinygen.models import CycleGANStep, RefinerStep, RestorationStep, games
from tinygen.models.history import History, ImagePool
from tinygen.models.pix2pix import alone, both
from tinygen.networks.patchgan import PatchGAN, field
from tinygen.networks.residual import SRResNet
from tinygen.nn import functional as F
from tinygen.recipes import find, restored
from tinygen.recipes.image_to_image import MASKS
from tinygen.recipes.images_compared import share_of_noise
from tinygen.recipes.recipe import Given
from tinygen.training import aside

TWO, THREE = (0.0, 1 / 2), (0.0, 1 / 3, 2 / 3)  # red and cyan; red, green and blue


def built(name, shape=(1, 8, 8), *bases, **arguments):
    """The Step of a recipe at the preset tiny."""
    recipe = find(name)
    return recipe.build(Given(shape, tuple("0123456789"), 10), *bases, **recipe.preset("tiny")[1] | arguments)


def values(metrics):
    return {name: value.item() for name, value in metrics.items()}


# ---------------------------------------------------------------------------------- super-resolution (G19)


@pytest.mark.parametrize("r", [2, 3])
def test_a_pixel_shuffle_is_a_permutation(r):
    """r^2 planes become one of r times the side; no value is changed, made or lost, and so no slope."""
    x = tg.tensor(np.random.default_rng(0).permutation(2 * 3 * r * r * 4 * 5).reshape(2, 3 * r * r, 4, 5).astype("f4"),
                  requires_grad=True)  # fmt: skip
    y = nn.PixelShuffle(r)(x)
    assert y.shape == (2, 3, 4 * r, 5 * r)
    assert np.array_equal(np.sort(y.detach().numpy().ravel()), np.sort(x.detach().numpy().ravel()))
    for i in range(r):
        for j in range(r):
            assert np.array_equal(y.detach().numpy()[:, :, i::r, j::r], x.detach().numpy()[:, i * r + j :: r * r])
    (slope,) = tg.grad((y * y.detach()).sum(), [x])
    assert np.array_equal(slope.numpy(), x.detach().numpy())  # each value meets itself: the transpose is the inverse
    assert np.array_equal(tg.pixel_unshuffle(y, r).detach().numpy(), x.detach().numpy())


def test_srresnet_is_as_many_times_as_large_and_has_a_shuffle_for_each_doubling():
    for factor in (2, 4, 8):
        network = SRResNet((1, 4, 4), 4, 1, factor)
        assert sum(isinstance(module, nn.PixelShuffle) for module in network.modules()) == math.log2(factor)
        assert network(tg.rand(1, 1, 4, 4)).shape == (1, 1, 4 * factor, 4 * factor)


def test_the_mean_of_what_an_image_may_be_has_the_least_error_and_is_blurred():
    """An edge stands left or right of a lost pixel. Psnr likes the one between, which is neither image."""
    left, right = np.float32([[0, 1, 1]]), np.float32([[0, 0, 1]])
    error = lambda guess: np.mean([((guess - one) ** 2).mean() for one in (left, right)])
    mean = (left + right) / 2
    assert mean.tolist() == [[0, 0.5, 1]] and error(mean) == error(left) / 2 == error(right) / 2


def test_srgan_goes_on_from_srresnet_with_the_weights_of_its_paper():
    """l = content + 10^-3 l_adversarial, content with what a trained network sees."""
    base = built("srresnet")
    step = built("srgan", (1, 8, 8), base)
    assert step.generator is base.generator and step.adversarial == 1e-3
    x = by_hand.images(4)[0]
    g_before = by_hand.arrays(step.generator)
    small = step.degrade(x)
    with tg.no_grad():
        made = step.generator(small)
        features = step.content.features
        seen = ((features(made) - features(x)).numpy().astype(float) ** 2).mean()
        expected = ((made - x).numpy().astype(float) ** 2).mean() + seen
    assert values(step((x, None)))["content"] == pytest.approx(expected, rel=1e-4)
    assert any((a != b).any() for a, b in zip(g_before, by_hand.arrays(step.generator)))


# ---------------------------------------------------------------------------------- colours (G21)


def learned(loss, targets, lr=0.02, updates=400):
    """The tensor that a loss, mean over equally likely targets, leads to."""
    guess = tg.full((3,), 0.7, requires_grad=True)
    optimizer = optim.Adam([guess], lr=lr)
    rate = optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1 - t / updates)
    for _ in range(updates):
        value = loss(guess.expand(len(targets), 3), tg.tensor(targets))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        rate.step()
    return guess.detach().numpy()


def pure(hues):
    return tint(np.ones((len(hues), 1, 1, 1), np.float32), np.float32(hues))[:, :, 0, 0]


def test_three_equally_likely_primaries_are_grey_for_l2_and_black_for_l1():
    """The mean of red, green and blue; and the median of each channel, which is 0 in two of three."""
    colours = pure(THREE)
    np.testing.assert_allclose(colours, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(learned(F.mse_loss, colours), colours.mean(0), atol=1e-3)
    np.testing.assert_allclose(learned(F.l1_loss, colours), np.median(colours, 0), atol=1e-3)
    np.testing.assert_allclose(colours.mean(0), [1 / 3] * 3, atol=1e-6)
    assert not np.median(colours, 0).any()


def test_two_complementary_hues_are_grey_for_l2_and_for_l1_whatever_lies_between():
    """Between two equally likely values every value is a median: the error is 1/2 everywhere."""
    colours = pure(TWO)
    np.testing.assert_allclose(colours, [[1, 0, 0], [0, 1, 1]], atol=1e-6)
    np.testing.assert_allclose(learned(F.mse_loss, colours), [0.5] * 3, atol=1e-3)
    for guess in ([0.7] * 3, [0.0, 0.3, 1.0], [1.0, 0.0, 0.0]):
        assert abs(np.array(guess) - colours).mean() == pytest.approx(0.5)
    np.testing.assert_allclose(learned(F.l1_loss, colours), [0.7] * 3, atol=1e-6)  # it stays where it begins


@pytest.mark.parametrize(("hues", "content", "share"), [
    (TWO, F.mse_loss, 1 / 2), (THREE, F.mse_loss, 1 / 3), (THREE, F.l1_loss, 0.0),
])  # fmt: skip
def test_a_colouriser_learns_the_mean_or_the_median_of_its_colours(hues, content, share):
    """Every image stands in the data once in each hue, so nothing says which."""
    grey = by_hand.images(8)[0].numpy()
    x = np.concatenate([tint(grey, np.full(len(grey), hue, np.float32)) for hue in hues])
    generator = nn.Sequential(nn.Conv2d(1, 3, 1))
    step = RestorationStep(generator, corruptions.brightness(), content, steps=300, lr=0.03)
    for _ in range(300):
        step((tg.tensor(x), None))
    made = step.restored(tg.tensor(x)).detach().numpy()
    np.testing.assert_allclose(made, share * np.repeat(x.max(1, keepdims=True), 3, 1), atol=5e-3)
    assert restored.hue_shares(made, hues).sum() == 0 or share == 0
    if share:
        assert restored.saturations(made).max() < 0.05


@pytest.mark.parametrize("name", ["two-hues-digits", "three-hues-digits"])
def test_what_a_colouriser_sees_does_not_tell_the_hue(name):
    """The brightest channel is the grey level in every hue; the luma of red is 0.30 of it, that of cyan 0.70."""
    dataset = data.load(name)
    x, grey = dataset.floats("test"), data.load("digits").floats("test")
    np.testing.assert_allclose(corruptions.brightness()(tg.tensor(x)).numpy(), grey, atol=1e-6)
    luma = corruptions.grey()(tg.tensor(x)).numpy().max((1, 2, 3)) / grey.max((1, 2, 3))
    lumas = {round(float(hue), 2): luma[dataset.test_hues == hue] for hue in np.unique(dataset.test_hues)}
    expected = {0.0: 0.299, 0.5: 0.701, 0.33: 0.587, 0.67: 0.114}
    assert all(np.allclose(found, expected[hue], atol=1e-3) for hue, found in lumas.items())
    for recipe in ("colourise", "colourise-unconditional", "colourise-z"):
        assert np.array_equal(built(recipe, (3, 8, 8)).observed(tg.tensor(x)).numpy(), x.max(1, keepdims=True))
    for recipe in ("colourise-l2", "colourise-l1"):
        assert np.array_equal(built(recipe, (3, 8, 8)).degrade(tg.tensor(x)).numpy(), x.max(1, keepdims=True))


def test_the_three_objectives_differ_in_what_d_sees_and_what_g_gets():
    shape = (3, 8, 8)
    unconditional, conditional, noisy = (built(name, shape) for name in
                                         ("colourise-unconditional", "colourise", "colourise-z"))  # fmt: skip
    assert (unconditional.shown, conditional.shown, noisy.shown) == (alone, both, both)
    assert (unconditional.latent, conditional.latent, noisy.latent) == (0, 0, 4)
    assert unconditional.weight == conditional.weight == noisy.weight == 0  # nothing but the game
    assert built("colourise-l2", shape).content is F.mse_loss and built("colourise-l1", shape).content is F.l1_loss
    assert built("colourise-l2", shape).game is built("colourise-l1", shape).game is None


# ---------------------------------------------------------------------------------- pairs (G20) and noise (G22)


def test_a_patchgan_of_depth_3_sees_70_pixels():
    """The square that slopes of one number of the map reach, and the 30x30 map of an image of 256 pixels."""
    assert [field(depth) for depth in (1, 2, 3)] == [16, 34, 70]
    for depth in (1, 2, 3):
        network = PatchGAN((1, 96, 96), 1, depth, nn.Identity)
        by_hand.stir(network)
        x = tg.rand(1, 1, 96, 96, requires_grad=True)
        answer = network(x)
        middle = answer.shape[2] // 2
        (slope,) = tg.grad(answer[0, 0, middle, middle], [x])
        rows, columns = (np.flatnonzero(abs(slope.numpy()[0, 0]).sum(axis)) for axis in (1, 0))
        assert np.ptp(rows) + 1 == np.ptp(columns) + 1 == field(depth)
    assert PatchGAN((1, 256, 256), 1, 3)(tg.rand(1, 1, 256, 256)).shape == (1, 1, 30, 30)


def test_d_loses_the_mean_over_all_patches():
    """Every patch is judged as an image of its own: a map of equal numbers is one number."""
    game, a, b = games.non_saturating(), tg.full((2, 1, 3, 3), 0.7), tg.full((2, 1, 3, 3), -0.2)
    assert game.discriminator(a, b).item() == pytest.approx(game.discriminator(a[:, :, :1, :1], b[:1, :, :1, 0]).item())


def test_a_conditional_d_is_told_x_and_an_unconditional_one_is_not():
    """The same image beside two inputs: D(x, y) tells them apart, D(y) cannot."""
    y, x, other = tg.rand(2, 3, 8, 8), tg.rand(2, 1, 8, 8), tg.rand(2, 1, 8, 8)
    for name, tells in (("colourise", True), ("colourise-unconditional", False)):
        step = built(name, (3, 8, 8))
        step.eval()
        one, two = (step.discriminator(step.shown(seen, y)).detach().numpy() for seen in (x, other))
        assert (one != two).all() == tells


def test_the_value_of_the_paired_game_is_that_of_the_slide():
    """V = E log D(x, y) + E log(1 - D(x, G(x|y))), with the same x in both; G adds its weight of L1."""
    step = built("pix2pix", channels=(4, 6), weight=10.0)
    x = step.observed(y := by_hand.images(6)[0])
    made = step.generator(x)
    before = by_hand.arrays(step.discriminator)
    probability = lambda images: by_hand.sigmoid(step.discriminator(tg.cat([x, images], 1)).detach().numpy())
    value = np.log(probability(y)).mean() + np.log(1 - probability(made.detach())).mean()
    l1 = abs(made.detach().numpy() - y.numpy()).mean()
    found = values(step((y, None)))
    assert -found["d_loss"] == pytest.approx(value, rel=1e-4) and found["l1"] == pytest.approx(l1, rel=1e-5)
    assert any((a != b).any() for a, b in zip(before, by_hand.arrays(step.discriminator)))


def test_g_without_noise_makes_one_image_of_one_input_and_with_noise_many():
    shape, x = (1, 8, 8), (tg.rand(20, 1, 8, 8) > 0.5).float()
    shares = {}
    for name in ("pix2pix", "pix2pix-z"):
        step, made = built(name, shape), []
        with aside(step, 0):
            for seed in range(6):
                tg.manual_seed(seed)
                made.append(step.apply(x).numpy())
        shares[name] = share_of_noise(np.stack(made))
        assert all(np.array_equal(one, made[0]) for one in made) == (name == "pix2pix")
    assert shares["pix2pix"] < 1e-12 and shares["pix2pix-z"] > 1e-3


def test_no_term_but_the_game_asks_for_noise_and_l1_punishes_it():
    """E|y + s z - y| = s sqrt(2 / pi), least at s = 0: where x says it all, the best G leaves z out."""
    z = tg.randn(20_000)
    errors = [(s * z).abs().mean().item() for s in (0.0, 0.1, 0.5)]
    assert errors == pytest.approx([s * math.sqrt(2 / math.pi) for s in (0.0, 0.1, 0.5)], rel=0.02)


# ---------------------------------------------------------------------------------- holes (G23)


@pytest.mark.parametrize("name", ["inpaint", "inpaint-l2"])
@pytest.mark.parametrize("mask", MASKS)
def test_known_pixels_are_copied_bit_for_bit_and_hidden_ones_are_not_seen(name, mask):
    step = built(name, mask=mask, size=4)
    x = by_hand.images(6)[0]
    step((x, None))
    step.eval()
    tg.manual_seed(1)
    seen = step.degrade(x)
    hidden = seen.numpy()[:, 1:] == 1
    made = step.generator(seen).detach().numpy()
    assert 0 < hidden.mean() < 1 and not seen.numpy()[:, :1][hidden].any()
    assert made[~hidden].tobytes() == x.numpy()[~hidden].tobytes()
    changed = tg.tensor(np.where(hidden, 1 - x.numpy(), x.numpy()))
    tg.manual_seed(1)
    assert np.array_equal(step.generator(step.degrade(changed)).detach().numpy(), made)


def test_the_hole_of_a_digit_has_8_pixels_a_side_in_the_middle():
    seen = built("inpaint", (1, 28, 28)).degrade(tg.ones(1, 1, 28, 28)).numpy()
    rows, columns = (np.flatnonzero(seen[0, 1].any(axis)) for axis in (1, 0))
    assert rows.tolist() == columns.tolist() == list(range(10, 18)) and seen[0, 1].sum() == 64


# ---------------------------------------------------------------------------------- without pairs (G24)


class Same(nn.Sequential):
    """The identity, with a weight that nothing asks for."""

    def __init__(self):
        super().__init__(nn.Identity())
        self.unused = nn.Parameter(tg.zeros(1))


class Inverting(nn.Module):
    """1 - x, with a weight."""

    def __init__(self):
        super().__init__()
        self.one = nn.Parameter(tg.ones(1))

    def forward(self, x):
        return self.one - x


def cycle(forth, back, **weights):
    judges = [PatchGAN((1, 8, 8), 2, 1, nn.InstanceNorm2d) for _ in range(2)]
    pools = [ImagePool((1, 8, 8), 50) for _ in range(2)]
    return CycleGANStep(forth, back, *judges, games.least_squares(), *pools, **weights)


def test_the_cycle_loss_of_identities_is_0_and_the_identity_term_is_the_distance_of_g_of_y_from_y():
    x, y = by_hand.images(5)[0], by_hand.images(5, seed=1)[0]
    assert values(cycle(Same(), Same()).measure((x, y))) == {"cycle_l1": 0, "identity_l1": 0}
    found = values(cycle(Inverting(), Same()).measure((x, y)))
    wrong = abs(1 - 2 * y.numpy()).mean()  # |G(y) - y| of an inversion; |F(x) - x| is 0
    assert found["identity_l1"] == pytest.approx(wrong / 2, rel=1e-5)


def test_two_inversions_pass_the_cycle_and_only_the_identity_term_sees_them():
    x, y = by_hand.images(5)[0], by_hand.images(5, seed=1)[0]
    for identity, moved in ((0.0, False), (1.0, True)):
        step = cycle(Inverting(), Inverting(), identity=identity)
        step.game = games.Game(step.game.discriminator, lambda fake: 0 * fake.mean(), step.game.judge)
        metrics = values(step((x, y)))
        assert metrics["cycle_l1"] < 1e-6
        change = {name: abs(getattr(step, name).one.item() - 1) for name in ("forth", "back")}
        assert all((value > 1e-5) == moved for value in change.values()), change


def test_each_d_tells_one_kind_of_images_from_what_is_translated_to_it():
    """The slide has D_B(x) for D_B(y): here D_B sees y and G(x), D_A sees x and F(y)."""
    x, y = by_hand.images(5)[0], by_hand.images(5, seed=1)[0]
    step, seen = cycle(Inverting(), Same()), {"a": [], "b": []}
    for kind in "ab":
        network = getattr(step, f"discriminator_{kind}")
        forward = network.forward
        network.forward = lambda images, kind=kind, forward=forward: (
            seen[kind].append(images.detach().numpy()), forward(images))[1]  # fmt: skip
    step((x, y))
    shown = {"a": [y, x, y], "b": [1 - x, y, 1 - x]}  # for the translator, then real and fake
    for kind, expected in shown.items():
        assert all(np.allclose(a, b.numpy(), atol=1e-6) for a, b in zip(seen[kind], expected, strict=True))


def test_the_recipe_plays_the_game_of_the_paper():
    step = built("cyclegan")
    assert step.cycle == 10 * step.identity > 0 and find("cyclegan").defaults()["pool"] >= 50
    real, fake = tg.rand(6, 1, 2, 2), tg.rand(6, 1, 2, 2)
    expected = ((real - 1) ** 2).mean() + (fake**2).mean()  # least squares, in the place of the slide's logarithms
    assert step.game.discriminator(real, fake).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_pool_shows_each_image_or_for_half_of_them_an_older_one_in_exchange():
    pool = ImagePool((1, 1, 1), 50)
    numbers = lambda start, n: tg.arange(start, start + n).float().reshape(n, 1, 1, 1)
    assert pool(numbers(0, 50)).numpy().ravel().tolist() == list(range(50))  # it fills
    older = 0
    for i in range(1, 41):
        shown = pool(numbers(50 * i, 50)).numpy().ravel()
        new = shown == np.arange(50 * i, 50 * i + 50)
        older += (~new).sum()
        assert (shown[~new] < 50 * i).all()
    assert older / 2000 == pytest.approx(0.5, abs=0.04)


# ---------------------------------------------------------------------------------- drawn digits made real (G18)


def test_a_history_replaces_half_of_a_batch():
    history = History((1, 1, 1), 6)
    numbers = lambda start: tg.arange(start, start + 8).float().reshape(8, 1, 1, 1)
    kept = []
    for start in (0, 10):  # four of each batch are kept: after two batches six places are full
        shown = history(numbers(start)).numpy().ravel()
        assert shown.tolist() == list(range(start, start + 8))
        kept += list(range(start, start + 4))
    for start in (20, 30, 40):
        held = history.images.numpy().ravel().tolist()
        shown = history(numbers(start)).numpy().ravel()
        assert shown[:4].tolist() == list(range(start, start + 4))
        assert set(shown[4:]) <= set(held) <= set(kept) and len(set(shown[4:])) == 4
        kept += list(range(start, start + 4))
        now = history.images.numpy().ravel().tolist()
        assert sorted(set(now) - set(held)) == list(range(start, start + 4)) and set(held) - set(now) == set(shown[4:])


def test_a_refiner_that_changes_nothing_pays_the_game_alone():
    """l_adversarial + lambda |R(x) - x|_1, the second a mean over values."""
    refiner, judge = Inverting(), PatchGAN((1, 8, 8), 2, 1, nn.Identity)
    step = RefinerStep(refiner, judge, games.non_saturating(), History((1, 8, 8), 16), weight=0.5)
    x, y = by_hand.images(6)[0], by_hand.images(6, seed=1)[0]
    logits = judge(1 - x).detach().numpy().astype(float)
    found = values(step((x, y)))
    assert found["g_loss"] == pytest.approx(np.log1p(np.exp(-logits)).mean(), rel=1e-4)
    assert found["penalty"] == pytest.approx(abs(1 - 2 * x.numpy()).mean(), rel=1e-5)
    step.refiner = Same()
    assert values(step.measure((x, y))) == {"change": 0}
