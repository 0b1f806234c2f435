"""The conditional game: losses and gradients in NumPy, whose labels fakes have, who moves, and what is drawn."""

from __future__ import annotations

from functools import partial

import by_hand
import numpy as np
import pytest
from test_games import DISCRIMINATOR, GAMES, GENERATOR

import tinygen as tg
from tinygen import nn, optim
from tinygen.errors import UserError
from tinygen.models import ConditionalGANStep, games
from tinygen.networks.blocks import of_images, of_points, told_generator
from tinygen.networks.conditional import ConditionalDiscriminator, ConditionalGenerator
from tinygen.nn import functional as F
from tinygen.step import Sheet

LATENT, INPUTS, CLASSES = 4, 3, 5
NAMES = ("ant", "bee", "cat", "dog", "elk")


class Joined(nn.Module):
    """A network on [first, e_label]."""

    def __init__(self, *layers):
        super().__init__()
        self.net = nn.Sequential(*layers)
        self.register_buffer("known", tg.zeros(CLASSES))

    def forward(self, first, labels):
        return self.net(tg.cat([first, F.one_hot(labels, CLASSES).float()], 1))


def toy(game=None, **options):
    generator = Joined(nn.Linear(LATENT + CLASSES, INPUTS))
    discriminator = Joined(nn.Linear(INPUTS + CLASSES, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
    by_hand.stir(generator, discriminator)
    return ConditionalGANStep(generator, discriminator, game or games.non_saturating(), NAMES, latent=LATENT, **options)


def digits(game=None, names="0123456789", **options):
    """On 8x8 images of ten classes."""
    shape, k = (1, 8, 8), len(names)
    players = ConditionalGenerator(shape, k, (4, 8), 6), ConditionalDiscriminator(shape, k, (4, 8))
    return ConditionalGANStep(*players, game or games.non_saturating(), tuple(names), latent=6, **options)


def batch(n=12):
    draw = np.random.default_rng(6)
    return draw.normal(size=(n, INPUTS)).astype(np.float32) + 1, draw.integers(0, CLASSES, n)


def fakes(weights, z, y):
    return by_hand.linear(np.concatenate([z, np.eye(CLASSES)[y]], 1), *weights)


def judged(weights, x, y):
    w, b, v, c = weights
    return by_hand.linear(by_hand.leaky(by_hand.linear(np.concatenate([x, np.eye(CLASSES)[y]], 1), w, b)), v, c)


# ---------------------------------------------------------------------------------- the update


@pytest.mark.parametrize("name", GAMES)
def test_a_round_follows_the_game_in_numpy_with_the_noise_given(name):
    """Fakes have the real batch's labels; D is judged before its update, G against the D just updated."""
    step = toy(GAMES[name], lr=1e-2, d_lr=2e-2)
    x, y = batch()
    z = (tg.manual_seed(7), tg.randn(12, LATENT))[1].numpy()
    g, d = by_hand.arrays(step.generator), by_hand.arrays(step.discriminator)
    by_hand.leave_gradients(step.generator, step.discriminator)
    tg.manual_seed(7)
    metrics = step((tg.tensor(x), tg.tensor(y)))
    d_after, g_after = by_hand.arrays(step.discriminator), by_hand.arrays(step.generator)

    fake = fakes(g, z, y)
    of_d = lambda weights: DISCRIMINATOR[name](judged(weights, x, y), judged(weights, fake, y))
    of_g = lambda weights: GENERATOR[name](judged(d_after, fakes(weights, z, y), y))
    assert metrics["d_loss"].item() == pytest.approx(of_d(d), rel=1e-4)
    assert metrics["g_loss"].item() == pytest.approx(of_g(g), rel=1e-4)
    on_d, on_g = by_hand.gradients(step.discriminator), by_hand.gradients(step.generator)
    assert by_hand.same_slopes(of_d, d, on_d)
    assert by_hand.same_slopes(of_g, g, on_g)
    norm = lambda arrays: np.sqrt(sum((a**2).sum() for a in arrays))
    assert metrics["d_grad"].item() == pytest.approx(norm(on_d), rel=1e-5)
    assert metrics["g_grad"].item() == pytest.approx(norm(on_g), rel=1e-5)
    for before, after, gradients, lr in ((d, d_after, on_d, 2e-2), (g, g_after, on_g, 1e-2)):
        for old, new, gradient in zip(before, after, gradients):  # Adam's first step: lr against the gradient
            large = abs(gradient) > 1e-4
            assert (old - new)[large] == pytest.approx(lr * np.sign(gradient[large]), rel=0.02)
    figures = GAMES[name].judge(tg.tensor(judged(d, x, y)), tg.tensor(judged(d, fake, y)))
    assert figures and all(metrics[key].item() == pytest.approx(f.item(), rel=1e-4) for key, f in figures.items())
    assert all(v.shape == () and not v.requires_grad for v in metrics.values())


@pytest.mark.parametrize("still", ["generator", "discriminator"])
def test_a_player_whose_rate_is_0_is_not_moved_by_the_other_s_update(still):
    rates = {"lr": 0.0, "d_lr": 0.1} if still == "generator" else {"lr": 0.1, "d_lr": 0.0}
    step = toy(optimizer=partial(optim.SGD), **rates)
    players = {name: getattr(step, name) for name in ("generator", "discriminator")}
    before = {name: by_hand.learned(player) for name, player in players.items()}
    x, y = batch()
    step((tg.tensor(x), tg.tensor(y)))
    after = {name: by_hand.learned(player) for name, player in players.items()}
    for name in players:
        law = by_hand.same if name == still else by_hand.all_moved
        assert law(before[name], after[name])


def test_g_s_update_leaves_d_s_gradients_and_statistics_of_weights_alone():
    """D is asked three times: on real images, on fakes cut from G, and, frozen, on fakes that G learns from."""
    step, seen = digits(), []
    forward = step.discriminator.forward

    def watched(x, labels):
        frozen = not any(p.requires_grad for p in step.discriminator.parameters())
        seen.append((x.requires_grad, frozen, x.detach().numpy().copy(), labels.numpy().copy()))
        return forward(x, labels)

    step.discriminator.forward = watched
    x, y = by_hand.images(8)
    step((x, y))
    assert [(learns, frozen) for learns, frozen, *_ in seen] == [(False, False), (False, False), (True, True)]
    assert np.array_equal(seen[0][2], x.numpy()) and np.array_equal(seen[1][2], seen[2][2])
    assert all(np.array_equal(labels, y.numpy()) for *_, labels in seen)


def test_rates_and_betas_reach_both_optimizers():
    adam = lambda step: [
        (group["lr"], tuple(group["betas"]))
        for player in (step.generator_optimizer, step.discriminator_optimizer)
        for group in player.param_groups
    ]
    assert adam(toy()) == [(2e-4, (0.5, 0.999))] * 2
    assert adam(toy(lr=1e-3, d_lr=0.0)) == [(1e-3, (0.5, 0.999)), (0.0, (0.5, 0.999))]
    assert adam(toy(optimizer=partial(optim.Adam, betas=(0.1, 0.2)))) == [(2e-4, (0.1, 0.2))] * 2


# ---------------------------------------------------------------------------------- what is drawn


def taught(*labels):
    """A step whose training has shown these labels."""
    step = toy()
    y = tg.tensor(list(labels))
    step((tg.randn(len(labels), INPUTS), y))
    return step


def test_classes_come_in_turn_and_only_those_that_training_has_shown():
    assert toy().labelled(7)[1].tolist() == [0, 1, 2, 3, 4, 0, 1]  # nothing was learned: any
    assert taught(3, 1, 3, 4).labelled(7)[1].tolist() == [1, 3, 4, 1, 3, 4, 1]
    again = toy()
    again.load_state_dict(taught(2, 2).state_dict())
    assert again.labelled(2)[1].tolist() == [2, 2]


def test_samples_are_of_their_labels():
    step = taught(0, 1, 2, 3, 4)
    tg.manual_seed(3)
    images, labels = step.labelled(11)
    tg.manual_seed(3)
    z = tg.randn(11, LATENT).numpy()
    expected = fakes(by_hand.arrays(step.generator), z, labels.numpy())
    np.testing.assert_allclose(images.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    tg.manual_seed(3)
    assert np.array_equal(step.sample(11).detach().numpy(), images.detach().numpy())


@pytest.mark.parametrize("label", ["ant", "dog", "elk"])
def test_all_samples_are_of_the_class_that_is_asked_for(label):
    step = taught(0, 1, 3, 4)
    tg.manual_seed(3)
    images = step.sample(6, label=label).detach().numpy()
    tg.manual_seed(3)
    z = tg.randn(6, LATENT).numpy()
    expected = fakes(by_hand.arrays(step.generator), z, np.full(6, NAMES.index(label)))
    np.testing.assert_allclose(images, expected, rtol=1e-4, atol=1e-5)
    assert step.labelled(2, label)[1].tolist() == [NAMES.index(label)] * 2


@pytest.mark.parametrize("label", ["cat", "cow", "7"])
def test_a_class_that_was_not_learned_is_refused_with_those_that_were(label):
    with pytest.raises(UserError, match=f"no class is called '{label}'; the model has learned ant, bee, dog, elk$"):
        taught(0, 1, 3, 4).sample(2, label=label)


def test_digits_are_asked_for_by_name_or_number_0_and_9_included():
    step = digits()
    for label in range(10):
        assert step.labelled(1, label)[1].tolist() == step.labelled(1, str(label))[1].tolist() == [label]
    for label in (-1, 10, "", "seven"):
        with pytest.raises(UserError, match=r"no class is called .*; the model has learned 0, 1, 2, 3, 4, .*, 9$"):
            step.sample(1, label=label)


def test_the_sheet_has_a_row_for_each_class_and_the_same_noise_down_a_column():
    step, seen = digits(), []
    forward = step.generator.forward
    step.generator.forward = lambda z, y: seen.append((z.numpy(), y.numpy())) or forward(z, y)
    sheet = step.pictures(by_hand.images(4))["samples"]
    ((z, y),) = seen
    assert isinstance(sheet, Sheet) and sheet.columns == 10 and sheet.images.shape == (100, 1, 8, 8)
    assert y.reshape(10, 10).T.tolist() == [list(range(10))] * 10
    table = z.reshape(10, 10, 6)
    assert (table == table[0]).all() and len(np.unique(table[0], axis=0)) == 10


@pytest.mark.parametrize(
    ("names", "shown", "rows"),
    [("0123456789", [7, 2, 2, 5], [2, 5, 7]), ("abcdefghijkl", range(1, 12), range(1, 11))],
    ids=["not all were learned", "more than ten were"],
)
def test_the_sheet_is_of_the_first_ten_classes_that_training_has_shown(names, shown, rows):
    step, seen = digits(names=names), []
    step((tg.rand(len(shown), 1, 8, 8), tg.tensor(list(shown))))
    forward = step.generator.forward
    step.generator.forward = lambda z, y: seen.append(y.tolist()) or forward(z, y)
    step.pictures(by_hand.images(4))
    assert seen == [[k for k in rows for _ in range(10)]]


@pytest.mark.parametrize("kit", [of_points((3,), (4,), 6, 1.0), of_images((1, 8, 8), (4,), 6), None])
def test_classes_that_were_learned_are_saved_with_every_kind_of_generator(kit):
    make = lambda: told_generator(kit, 5) if kit else ConditionalGenerator((1, 8, 8), 5, (4,), 6)
    generator, again = make(), make()
    generator.known[tg.tensor([1, 3])] = 1.0
    again.load_state_dict(generator.state_dict())
    assert again.known.tolist() == [0, 1, 0, 1, 0]


def test_health_knows_the_floor_of_smoothed_labels():
    won = {"d_loss": 0.34, "d_accuracy": 1.0, "d_grad": 1.0, "g_grad": 1.0}
    assert "D has won" in digits(games.non_saturating(0.1)).health(won)
    assert "well ahead" in digits().health(won)


def test_the_class_that_is_drawn_worst_is_named():
    step = digits()
    fine = {"d_loss": 1.0, "d_accuracy": 0.8, "d_grad": 1.0, "g_grad": 1.0}
    bad = fine | {"gan_test_worst": 0.4, "worst_class": 8}
    assert step.health(bad) == step.health(fine) + "; 60% of the samples of class 8 are drawn as others"
    assert step.health(fine | {"gan_test_worst": 0.8, "worst_class": 8}) == step.health(fine)
    assert "D has won" in step.health(fine | {"d_accuracy": 1.0, "d_loss": 0.001})
