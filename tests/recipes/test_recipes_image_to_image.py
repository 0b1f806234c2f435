"""The recipes of image_to_image: what their arguments may be, and that each hands its Step what it names."""

from __future__ import annotations

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen import metrics, nn, optim
from tinygen.data import corruptions
from tinygen.networks.residual import ResidualBlock
from tinygen.recipes import RunError, find, images_compared, start
from tinygen.recipes.recipe import Given
from tinygen.training import aside

PAIRS = {"cyclegan": "digits+slanted", "refiner": "rendered-digits+digits", "colourise": "two-hues-digits"}


@pytest.mark.parametrize(("recipe", "argument"), [
    ("pix2pix", "weight"), ("pix2pix-z", "weight"), ("inpaint", "adversarial"), ("cyclegan", "cycle"),
    ("cyclegan", "identity"), ("refiner", "weight"), ("colourise", "weight"),
])  # fmt: skip
def test_a_weight_below_0_is_refused(recipe, argument, tmp_path):
    options = {"folder": tmp_path / "run", "preset": "tiny"}
    with pytest.raises(RunError, match=f"{argument} is a weight of the loss, at least 0; it is -1"):
        start(recipe, PAIRS.get(recipe), arguments={argument: -1.0}, **options)
    assert not (tmp_path / "run").exists()
    start(recipe, PAIRS.get(recipe), arguments={argument: 0.0}, **options)


def test_the_weights_of_a_game_on_a_trained_network_are_checked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for argument in ("seen", "adversarial"):
        with pytest.raises(RunError, match=f"{argument} is a weight of the loss, at least 0; it is -0.5"):
            start("srgan", folder="run", preset="tiny", arguments={argument: -0.5})


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_a_share_that_drops_everything_is_refused(dropout, tmp_path):
    with pytest.raises(RunError, match="dropout is the share of values that is dropped, at least 0 and below 1"):
        start("pix2pix", folder=tmp_path / "run", preset="tiny", arguments={"dropout": dropout})


@pytest.mark.parametrize(("recipe", "falls"), [
    ("colourise", True), ("colourise-unconditional", True), ("colourise-z", True), ("pix2pix", False),
])  # fmt: skip
def test_a_game_that_no_error_holds_ends_at_a_rate_of_0(recipe, falls, tmp_path):
    """Without L1 a player can run away in the last updates; 4 epochs of 32 images in batches of 16 are 8 updates."""
    run = start(recipe, PAIRS.get(recipe, "two-hues-digits" if falls else "digits"), folder=tmp_path / "run",
                preset="tiny", limit=32, epochs=4, batch_size=16)  # fmt: skip
    run.fit()
    step = run.step
    rates = [o.param_groups[0]["lr"] for o in (step.generator_optimizer, step.discriminator_optimizer)]
    assert rates == ([0.0, 0.0] if falls else [2e-4, 2e-4])


# ---------------------------------------------------------------------------------- what a recipe is made of

COLOURISERS = ("colourise", "colourise-unconditional", "colourise-z", "colourise-l2", "colourise-l1")
REGRESSIONS = ("srresnet", "srresnet-x4", "inpaint-l2", "colourise-l2", "colourise-l1")
TRANSLATORS = ("pix2pix", "pix2pix-z", "cyclegan", "refiner")


def built(name, shape=None, steps=6, **arguments):
    """The Step of a recipe at the preset tiny, on the Step it stands on."""
    recipe = find(name)
    given = Given(shape or (3 if name in COLOURISERS else 1, 8, 8), tuple("0123456789"), steps)
    bases = [built(base, shape, steps) for base in recipe.on]
    return recipe.build(given, *bases, **recipe.preset("tiny")[1] | arguments)


@pytest.mark.parametrize("name", ["srgan", "srgan-x4", "inpaint", *COLOURISERS[:3], *TRANSLATORS])
def test_each_recipe_plays_its_game(name):
    """Of logits a of real and b of fake images, the means of log(1 + e^-a) + log(1 + e^b) and of log(1 + e^-b)."""
    game, (real, fake) = built(name).game, np.random.default_rng(0).normal(size=(2, 5, 1, 3, 3))
    of_d, of_g = (by_hand.softplus(-real) + by_hand.softplus(fake)).mean(), by_hand.softplus(-fake).mean()
    if name == "cyclegan":  # least squares
        of_d, of_g = ((real - 1) ** 2 + fake**2).mean(), ((fake - 1) ** 2).mean()
    assert game.discriminator(tg.tensor(real), tg.tensor(fake)).item() == pytest.approx(of_d)
    assert game.generator(tg.tensor(fake)).item() == pytest.approx(of_g)


@pytest.mark.parametrize("name", [*REGRESSIONS, "srgan", "srgan-x4", "inpaint"])
def test_the_rate_of_g_falls_to_0_at_the_end_of_the_plan(name):
    step = built(name, steps=6)
    x, rates = by_hand.images(4, (3 if name in COLOURISERS else 1, 8, 8))[0], []
    for _ in range(7):
        rates.append(step.optimizer.param_groups[0]["lr"])
        step((x, None))
    assert rates == pytest.approx([find(name).defaults()["lr"] * share for share in (1, 1, 1, 1, 1, 0.5, 0)])


@pytest.mark.parametrize(("names", "figures"), [
    (("srresnet", "srresnet-x4", "srgan", "srgan-x4", "pix2pix", "pix2pix-z"), {"cfid", "accuracy"}),
    (("inpaint", "inpaint-l2"), {"cfid", "accuracy", "hole_mse"}), (COLOURISERS, {"saturation"}),
    (("cyclegan", "refiner"), {"cfid"}),
])  # fmt: skip
def test_figures_of_each_recipe_are_over_the_whole_test_set(names, figures):
    for name in names:
        x, labels = by_hand.images(64, (3 if name in COLOURISERS else 1, 8, 8))
        step = built(name)
        with aside(step, 0):
            assert set(step.summary([(x, x if find(name).pair else labels)])) == figures, name


def test_inpainting_is_by_squares_and_a_refiner_may_change_how_much_light_there_is():
    x = by_hand.images(3)[0]
    for name in ("inpaint", "inpaint-l2"):
        assert built(name).content(0.5 * x, x).item() == pytest.approx((0.25 * x.numpy() ** 2).mean(), rel=1e-5)
    kept = built("refiner").kept
    assert kept(0.5 * x, x).item() < 1e-4 < 1e-2 < kept(tg.tensor(x.numpy()[:, :, ::-1].copy()), x).item()


def test_cyclegan_has_four_networks_and_two_pools():
    step = built("cyclegan")
    parts = [step.forth, step.back, step.discriminator_a, step.discriminator_b, step.pool_a, step.pool_b]
    assert len({id(part) for part in parts}) == 6
    assert not np.array_equal(*(by_hand.arrays(one)[0] for one in (step.forth, step.back)))


@pytest.mark.parametrize("name", TRANSLATORS)
def test_patches_are_judged_at_the_depth_of_the_size_and_in_cyclegan_alone_each_image_by_itself(name):
    for side, depth in ((8, 1), (16, 2), (32, 3)):
        step = built(name, (1, side, side))
        judge = step.discriminator_b if name == "cyclegan" else step.discriminator
        assert sum(module.stride == (2, 2) for module in judge.modules() if isinstance(module, nn.Conv2d)) == depth
    x = by_hand.images(6, (2 if name.startswith("pix2pix") else 1, 32, 32))[0]
    together, apart = judge(x).detach().numpy()[:3], judge(x[:3]).detach().numpy()
    assert np.allclose(together, apart, rtol=1e-4, atol=1e-5) == (name == "cyclegan")


@pytest.mark.parametrize("side", [8, 28])
def test_srgan_looks_through_the_network_that_knows_images_of_its_size(side):
    features = built("srgan", (1, side, side)).content.features
    x, w = by_hand.images(2, (1, side, side))[0], metrics.frozen_weights((1, side, side))
    h = by_hand.relu(by_hand.conv(x.numpy(), w["c1.weight"], w["c1.bias"], 1, 1))
    h = by_hand.max_pool(h) if side == 28 else h
    expected = by_hand.max_pool(by_hand.relu(by_hand.conv(h, w["c2.weight"], w["c2.bias"], 1, 1)))
    np.testing.assert_allclose(features(x).numpy(), expected, rtol=1e-4, atol=1e-4)


def count(network, kind):
    return sum(isinstance(module, kind) for module in network.modules())


def test_numbers_and_weights_are_as_asked_for():
    assert count(built("srresnet", blocks=3).generator, ResidualBlock) == 3
    assert count(built("cyclegan", blocks=3).forth, ResidualBlock) == 3
    assert count(built("refiner", blocks=3).refiner, ResidualBlock) == 3
    cycle = built("cyclegan", pool=33)
    assert cycle.pool_a.size == cycle.pool_b.size == 33 and built("refiner", history=33).history.size == 33
    assert built("refiner", refinements=3).rounds == 3
    for name in ("srgan", "srgan-x4"):
        step = built(name, seen=0.7, adversarial=0.2)
        assert (step.content.weight, step.adversarial) == (0.7, 0.2)


@pytest.mark.parametrize("name", ["srgan", "inpaint", "colourise", "pix2pix", "cyclegan", "refiner"])
def test_players_forget_their_first_moments_soon_and_judges_have_the_planes_asked_for(name):
    step = built(name, judge=5)
    players = [part for part in step.parts().values() if isinstance(part, optim.Optimizer)]
    assert {tuple(group["betas"]) for player in players for group in player.param_groups} == {(0.5, 0.999)}
    judge = step.discriminator_a if name == "cyclegan" else step.discriminator
    planes = [module.out_channels for module in judge.modules() if isinstance(module, nn.Conv2d)]
    assert planes[:2] == [5, 10]


def test_dropout_threshold_and_the_first_planes_reach_pix2pix_and_its_like():
    x = by_hand.images(3)[0]
    step = built("pix2pix", threshold=0.3, dropout=0.25)
    assert np.array_equal(step.observed(x).numpy(), corruptions.edges()(x).numpy() > 0.3)
    assert {module.p for module in step.generator.modules() if isinstance(module, nn.Dropout)} == {0.25}
    assert built("colourise", channels=(3, 5)).generator.mix.in_channels == 3 + 1  # planes at the full size, and grey


def test_oblong_images_are_asked_for_both_sides():
    for shape in ((1, 8, 9), (1, 9, 8)):
        sides = "x".join(map(str, shape[1:]))
        with pytest.raises(ValueError, match=f"images of {sides} pixels cannot be made 2 times smaller; give another"):
            built("srresnet", shape)
        with pytest.raises(ValueError, match="a hole of 9 pixels a side does not fit; give a size of 1 to 8"):
            built("inpaint", shape, size=9)


def test_weights_are_those_of_the_papers_or_as_measured():
    weights = {"pix2pix": {"weight": 100}, "inpaint": {"adversarial": 1e-3, "size": 8}, "refiner": {"weight": 3},
               "srgan": {"adversarial": 1e-3, "seen": 1}, "cyclegan": {"cycle": 5, "identity": 0.5}}  # fmt: skip
    for name, expected in weights.items():
        assert expected.items() <= find(name).defaults().items(), name


def test_each_recipe_learns_from_data_that_its_study_knows():
    for name in COLOURISERS:
        assert images_compared.of_few_hues((3, 8, 8), (), find(name).data) is None
    assert images_compared.changed_digits((1, 8, 8), (), find("cyclegan").data) is None
    assert find("refiner").data == "rendered-digits+digits"  # drawn ones are refined
