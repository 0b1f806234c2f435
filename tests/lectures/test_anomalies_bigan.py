"""The slides' facts about BiGAN and its maps: who moves when, V, crops of maps, false alarms, patch by patch."""

from __future__ import annotations

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen.data import Dataset
from tinygen.models import AnomalyMapStep, BiGANStep, games
from tinygen.networks.dcgan import DCGenerator
from tinygen.networks.fully_convolutional import MapCodeEncoder, MapCodeGenerator, MapDiscriminator
from tinygen.networks.joint import DCEncoder, JointDiscriminator
from tinygen.recipes import anomalies, find, marked
from tinygen.recipes.recipe import Given
from tinygen.step import Step
from tinygen.training import aside

RECIPES = ("bigan", "fully-convolutional-bigan")


def built(name, shape=(1, 16, 16), **arguments):
    """The Step of a recipe at the preset tiny."""
    recipe = find(name)
    return recipe.build(Given(shape, tuple("0123456789"), 10), **recipe.preset("tiny")[1] | arguments)


def maps(shape=(1, 16, 16), channels=(3, 4), latent=2, hidden=5, code=(2, 4, 4), **options):
    """The Step without spectral norm, with weights so large that what is far away matters."""
    networks = (MapCodeGenerator(shape, channels, latent), MapCodeEncoder(shape, channels, latent),
                MapDiscriminator(shape, channels, latent, hidden))  # fmt: skip
    by_hand.stir(*networks)
    return AnomalyMapStep(*networks, games.least_squares(), code=code, **options)


def players(step):
    return {name: by_hand.learned(getattr(step, name)) for name in ("generator", "encoder", "discriminator")}


# ---------------------------------------------------------------------------------- who moves when (N1)


@pytest.mark.parametrize("weight", [0.0, 10.0])
@pytest.mark.parametrize("name", RECIPES)
def test_every_parameter_of_g_e_and_d_has_a_gradient_and_moves_in_its_own_step_only(name, weight, monkeypatch):
    """Users of other code doubt that E is trained at all; here each update says whom it moved."""
    step = built(name, weight=weight)
    by_hand.stir(*step.networks().values(), size=0.1)
    moved, owners = [], {"discriminator_optimizer": {"discriminator"}, "generator_optimizer": {"generator", "encoder"}}
    for optimizer in owners:
        update = getattr(step, optimizer).step

        def watched(optimizer=optimizer, update=update):
            gradients = {player: [p.grad for p in getattr(step, player).parameters()] for player in owners[optimizer]}
            for player, found in gradients.items():
                assert all(g is not None and (g != 0).any().item() for g in found), (optimizer, player)
            before = players(step)
            update()
            for player, now in players(step).items():
                law = by_hand.all_moved if player in owners[optimizer] else by_hand.same
                assert law(before[player], now), (optimizer, player)
            moved.append(optimizer)

        monkeypatch.setattr(getattr(step, optimizer), "step", watched)
    step((by_hand.images(8, (1, 16, 16))[0], None))
    assert moved == ["discriminator_optimizer", "generator_optimizer"]


# ---------------------------------------------------------------------------------- V (N1)


def value(d_real, d_fake):
    """E log D(s, E(s)) + E log(1 - D(G(z), z)): the slide has E[1 - log D(G(z), z)] in the second place."""
    return np.log(d_real).mean() + np.log(1 - d_fake).mean()


def test_d_maximises_the_slide_s_v_and_e_and_g_the_same_with_its_arguments_changed_over():
    """Not the generator's loss of a GAN, which sees fakes alone: E would learn nothing from D(s, E(s))."""
    shape, latent = (1, 8, 8), 3
    networks = (DCGenerator(shape, (3, 4), latent), DCEncoder(shape, (3, 4), latent),
                JointDiscriminator(shape, (3, 4), latent, 6))  # fmt: skip
    by_hand.stir(*networks, size=0.2)
    step = BiGANStep(*networks, games.non_saturating(), code=(latent,))
    s = by_hand.images(8)[0]
    tg.manual_seed(3)
    z = tg.randn(8, latent)
    with tg.no_grad():
        pairs = (s, step.encoder(s)), (step.generator(z), z)
        real, fake = (by_hand.sigmoid(step.discriminator(*pair).numpy().astype(float)) for pair in pairs)
    tg.manual_seed(3)
    metrics = step((s, None))
    assert metrics["d_loss"].item() == pytest.approx(-value(real, fake), rel=1e-5)
    with tg.no_grad():
        real, fake = (by_hand.sigmoid(step.discriminator(*pair).numpy().astype(float)) for pair in pairs)
    assert metrics["g_loss"].item() == pytest.approx(-value(fake, real), rel=1e-5)
    assert "mse" not in metrics


def test_where_d_cannot_tell_the_pairs_apart_v_is_minus_log_4_for_all():
    """The optimum over D is p/(p + q): 1/2 where (s, E(s)) and (G(z), z) have one law, as of an inverse pair."""
    assert value(np.full(3, 0.5), np.full(3, 0.5)) == pytest.approx(-np.log(4))
    logits = tg.zeros(5, 1)
    game = games.non_saturating()
    assert game.discriminator(logits, logits).item() == pytest.approx(np.log(4))


def test_an_image_s_reconstruction_is_g_of_e_of_it():
    step = built("bigan").eval()
    s = by_hand.images(3, (1, 16, 16))[0]
    with tg.no_grad():
        assert np.array_equal(step.restored(s).numpy(), step.decode(step.encode(s)).numpy())


# ---------------------------------------------------------------------------------- maps of any size (N5)


@pytest.mark.parametrize("channels", [(3,), (3, 4)])
@pytest.mark.parametrize("window", [1, 7])
def test_a_crop_s_map_is_the_map_s_crop_inside(channels, window):
    """But for a border as wide as the score looks; and of pictures of any sides."""
    step = maps(channels=channels, window=window, alpha=0.3)
    m, reach = step.any_size.multiple, step.any_size.reach
    picture = by_hand.images(1, (1, 64, 80))[0]
    with aside(step, 0):
        whole = step.scores(picture).numpy()
        assert whole.shape == (1, 1, 64, 80) and whole.std() > 0.01
        for top, left, height, width in ((0, 0, 48, 40), (m, 3 * m, 32, 56), (16, 8, 48, 72)):
            crop = step.scores(picture[:, :, top : top + height, left : left + width]).numpy()
            edges = [reach if begins else 0 for begins in (top, left)] + [
                reach if ends < side else 0 for ends, side in ((top + height, 64), (left + width, 80))]  # fmt: skip
            inside = np.s_[:, :, edges[0] : height - edges[2], edges[1] : width - edges[3]]
            part = whole[:, :, top : top + height, left : left + width]
            np.testing.assert_allclose(crop[inside], part[inside], rtol=1e-3, atol=1e-4)
            assert abs(crop - part).max() > 1e-3  # the border is another one


def test_a_code_for_each_square_and_a_score_for_each_pixel():
    step = maps()
    for size in ((16, 16), (8, 32), (40, 12)):
        s = tg.rand(2, 1, *size)
        assert step.encode(s).shape == (2, 2, size[0] // 4, size[1] // 4)
        assert step.scores(s).shape == step.judged(s).shape == step.error(s).shape == (2, 1, *size)


def test_normal_images_are_assumed_to_get_1_from_d():
    """The score of least squares: (D - 1)^2 is 0 where D answers what it was taught for real pairs."""
    step = maps(alpha=1.0)
    with tg.no_grad():
        step.discriminator.number.weight[:] = 0
        step.discriminator.number.bias[:] = 1
    assert not step.scores(tg.rand(2, 1, 16, 16)).detach().numpy().any()
    with tg.no_grad():
        step.discriminator.number.bias[:] = -0.5
    assert (step.scores(tg.rand(2, 1, 16, 16)).detach().numpy() == 2.25).all()


def test_the_recipe_learns_by_least_squares_and_a_penalty_on_reconstructions():
    step = built("fully-convolutional-bigan")
    assert find("fully-convolutional-bigan").defaults()["weight"] > 0 == find("bigan").defaults()["weight"]
    real, fake = tg.rand(6, 1, 2, 2), tg.rand(6, 1, 2, 2)
    expected = ((real - 1) ** 2).mean() + (fake**2).mean()
    assert step.game.discriminator(real, fake).item() == pytest.approx(expected.item(), rel=1e-5)
    metrics = step((by_hand.images(8, (1, 16, 16))[0], None))
    assert metrics["mse"].item() > 0


# ---------------------------------------------------------------------------------- a mask at a rate (N7)


class Noisy(Step):
    """The score of a pixel is a function of the pixel: of noise its law is known."""

    def __init__(self, function):
        self.function = function

    def scores(self, images):
        return tg.tensor(self.function(images.numpy()))


@pytest.mark.parametrize(("rate", "share"), [(0.01, 0.03), (0.1, 0.01), (0.25, 0.01)])
def test_the_share_of_false_alarms_on_other_normal_images_is_the_nominal_one(rate, share):
    """The threshold is of images that were held back: of those it is exact, of others within 1 % of it."""
    x = np.random.default_rng(1).random((2500, 1, 64, 64), np.float32)
    dataset = Dataset("noise", x, None, x[:1], None)
    for function in (lambda s: s, lambda s: s**2):
        level = marked.level_of(Noisy(function), dataset, rate)
        held = dataset.divided()[1].floats("train")
        assert level.pixels == held.size == 250 * 64 * 64 and level.rate == rate
        assert (function(held) > level.value).mean() == pytest.approx(rate, abs=2e-6)
        others = dataset.divided()[0].floats("train")
        assert (function(others) > level.value).mean() == pytest.approx(rate, rel=share)
    assert level.value == pytest.approx((1 - rate) ** 2, abs=0.002)


def test_the_mask_is_1_where_the_score_is_above_the_threshold():
    """Omega(c) = [score(c) > threshold]."""
    scores = np.float32([[[[0.1, 0.5], [0.7, 0.3]]]])
    found = marked.Marked(np.zeros((1, 1, 2, 2), np.float32), scores, marked.Level(0.5, 0.01, 100))
    assert found.mask.tolist() == [[[[False, False], [True, False]]]]


# ---------------------------------------------------------------------------------- patch by patch (N8)


def multiplications(height, width, channels, latent, hidden):
    """Of one score of a grey picture, by hand: E once, then G and D. A pixel of a convolution: a kernel each way."""
    (a, b), places = channels, [(height * width) // 4**i for i in range(3)]
    halving = places[1] * 16 * a + places[2] * 16 * a * b  # of a plane to a, of a to b
    encoder = halving + places[2] * b * latent
    # a transposed convolution: each value of its input meets 16 weights for each plane of its output
    generator = places[2] * latent * b + places[2] * b * 16 * a + places[1] * a * 16
    judge = halving + places[2] * (latent * hidden + (b + hidden) * hidden + hidden)
    return encoder + generator + judge


def test_multiplications_at_once_and_patch_by_patch_are_those_counted_by_hand():
    """m = 4, reach 12: a patch of 4 + 2 * 12 = 28 pixels a side for each 4x4 pixels; at once all share their work."""
    step = maps((1, 32, 32), (3, 4), 2, 5, window=7)
    assert tuple(step.any_size)[1:] == (1, 4, 12, 1)
    images = by_hand.images(5, (1, 32, 32))[0].numpy()
    table, found = anomalies._costs(step.eval(), images)
    of = lambda height, width: multiplications(height, width, (3, 4), 2, 5)
    assert found["multiplications_once"] == of(64, 64) / 64**2
    assert found["multiplications_patches"] == of(28, 28) / 4**2
    assert found["multiplications_patches"] / found["multiplications_once"] == (28 / 4) ** 2
    assert found["patches_apart"] < 1e-5
    assert [row["a picture"] for row in table] == ["at once", "patch by patch"]
    assert [row["multiplications a pixel"] for row in table] == [
        found["multiplications_once"], found["multiplications_patches"]]  # fmt: skip
    assert all(row["microseconds a pixel"] > 0 for row in table)
