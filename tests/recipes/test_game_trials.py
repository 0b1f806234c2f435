"""The studies of the chapter `game_trials`: every trick reaches what it names, and verdicts follow from the seeds."""

from __future__ import annotations

import io
import math
import sys
from functools import partial

import by_hand
import numpy as np
import pytest
from PIL import Image

import tinygen as tg
from tinygen import metrics, optim
from tinygen.data import Dataset, load
from tinygen.models import ConditionalGANStep
from tinygen.models.critics import gradient_penalty
from tinygen.recipes import RunError, run_study, start
from tinygen.recipes import game_trials as trials
from tinygen.training import Display, aside

HACKS = trials.HACKS


def told(*given, **options):
    return run_study(*given, display=Display(io.StringIO(), live=False), **options)[0]


def tiny_bench(data):
    dataset = load(data, limit=64)
    on = trials.bench(dataset)
    return dataset, on._replace(kit=on.kit._replace(widths=(4, 5), latent=3))


@pytest.fixture(params=["ring", "digits"])
def tiny(request):
    return tiny_bench(request.param)


def batch_of(dataset, size=16):
    return tuple(map(tg.tensor, dataset.batches(size, 0).at(0, 0)))


def kinds(network):
    return [type(module).__name__ for module in network.modules()]


def seen_by(module, call):
    """What `module` receives during `call`."""
    inputs = []
    handle = module.register_forward_hook(lambda m, given, out: inputs.append(given[0].detach().numpy().copy()))
    call()
    handle.remove()
    return inputs


def axes_of(monkeypatch, draw, *given):
    """The axes that a function of the chapter draws into."""
    canvases, figure = [], trials.figure
    finish = lambda: None  # to draw takes long
    monkeypatch.setattr(trials, "figure", lambda *a, **b: (canvases.append(figure(*a, **b)[0]) or canvases[-1], finish))
    draw(*given)
    return canvases[0].axes


# ---------------------------------------------------------------------------------- the rows


def test_a_bench_suits_its_data():
    """As the help says: 10 epochs of points, 30 of small images, 3 of others, at the usual rate of DCGAN."""
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 28, 28), np.uint8)
    large = Dataset("large", images, np.arange(20) % 2, images, np.arange(20) % 2, ("a", "b"))
    digits = load("digits", limit=64)
    found = {name: trials.bench(data) for name, data in (("ring", load("ring")), ("digits", digits), ("large", large))}
    plans = {name: (on.lr, on.sgd_lr, on.epochs, on.batch_size, on.kit.latent) for name, on in found.items()}
    assert plans["ring"] == (3e-3, 0.3, 10, 64, 16) and plans["digits"] == (1e-3, 0.1, 30, 32, 16)
    assert plans["large"] == (2e-4, 0.1, 3, 64, 100)
    assert tuple(found["ring"].kit.widths) == (64, 64) and tuple(found["large"].kit.widths) == (16, 32)
    assert found["large"].names == ("a", "b") and found["digits"].names == tuple("0123456789")
    assert trials.bench(digits.with_labels(20)).names == ()  # some images have none to be told


def after_two_updates(hack, on, dataset):
    tg.manual_seed(1)
    step = hack.build(on)
    for _ in range(2):
        step(batch_of(dataset))
    with tg.no_grad():
        return [p.detach().numpy().tobytes() for network in (step.generator, step.discriminator)
                for p in network.parameters()]  # fmt: skip


def test_every_trick_changes_the_game_and_none_is_another_one(tiny):
    dataset, on = tiny
    rows = {"baseline": trials.BASELINE, **trials._chosen("", on)}
    results = {name: after_two_updates(hack, on, dataset) for name, hack in rows.items()}
    assert results["baseline"] == after_two_updates(trials.BASELINE, on, dataset)
    # Dropout at test is that of the training as long as there is no test.
    alike = [{a, b} for a in results for b in results if a < b and results[a] == results[b]]
    assert alike == [{"dropout", "dropout-at-test"}]
    assert set(HACKS) - set(rows) == {"no-batch-norm" if len(dataset.shape) == 1 else "batch-norm"}


def test_the_baseline_is_a_non_saturating_game_of_two_adams(tiny):
    dataset, on = tiny
    step = trials.BASELINE.build(on)
    a, b = np.float32([[0.3], [-2.0]]), np.float32([[1.0], [0.5]])
    s = by_hand.softplus
    assert step.game.discriminator(tg.tensor(a), tg.tensor(b)).item() == pytest.approx(s(-a).mean() + s(b).mean())
    assert step.game.generator(tg.tensor(b)).item() == pytest.approx(s(-b).mean())
    for optimizer in (step.generator_optimizer, step.discriminator_optimizer):
        (group,) = optimizer.param_groups
        assert type(optimizer) is optim.Adam and (group["lr"], *group["betas"]) == (on.lr, 0.5, 0.999)
    assert step.penalty is None and step.rounds == 1 and "Tanh" in kinds(step.generator)
    norms = sum("BatchNorm" in name for name in kinds(step.generator) + kinds(step.discriminator))
    assert norms == (0 if len(dataset.shape) == 1 else 3)


def test_data_in_0_1_reach_d_and_nothing_limits_g(tiny):
    dataset, on = tiny
    x = dataset.floats("test")[:20]
    low, high = (-1.25 * abs(dataset.floats("train")).max(), 1.25 * abs(dataset.floats("train")).max())
    low, high = (low, high) if len(dataset.shape) == 1 else (0, 1)
    for hack, expected in ((HACKS["unit-range"], (x - low) / (high - low)),
                           (trials.BASELINE, 2 * (x - low) / (high - low) - 1)):  # fmt: skip
        step = hack.build(on)
        (found,) = seen_by(step.discriminator[1], partial(step.discriminator, tg.tensor(x)))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    step = HACKS["unit-range"].build(on)
    assert "Tanh" not in kinds(step.generator)
    layer = step.generator[-2]
    with tg.no_grad():
        layer.bias[:] = 3.0
        layer.weight[:] = 0.0
    assert step.sample(4).detach().numpy() == pytest.approx(3 * (high - low) + low, rel=1e-5)


LABELS = {  # what each label is, of a real and of a fake
    "smooth-real": (0.9, 0.0),
    "smooth-both": (0.9, 0.1),
    "flipped-labels": (0.95, 0.05),  # in the mean
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_reach_d_s_loss(name, tiny):
    _, on = tiny
    tg.manual_seed(0)
    game = HACKS[name].build(on).game
    n = 40_000 if name == "flipped-labels" else 1
    real, fake = LABELS[name]
    cross = lambda a, label: label * by_hand.softplus(-a) + (1 - label) * by_hand.softplus(a)
    found = game.discriminator(tg.full((n, 1), 1.5), tg.full((n, 1), -0.5)).item()
    assert found == pytest.approx(cross(1.5, real) + cross(-0.5, fake), rel=0.01 if n > 1 else 1e-5)
    assert game.generator(tg.tensor([-0.5])).item() == pytest.approx(by_hand.softplus(0.5), rel=1e-5)


def test_batch_norm_is_added_to_points_and_taken_from_images():
    for data, name, counts in (("ring", "batch-norm", (2, 1)), ("digits", "no-batch-norm", (0, 0))):
        _, on = tiny_bench(data)
        step = HACKS[name].build(on)
        found = [sum("BatchNorm" in k for k in kinds(n)) for n in (step.generator, step.discriminator)]
        assert tuple(found) == counts


def test_the_gradient_penalty_is_that_of_the_critics(tiny):
    dataset, on = tiny
    step = HACKS["penalty"].build(on)
    real, _ = batch_of(dataset)
    fake = step.sample(len(real)).detach()
    values = []
    for rule in (step.penalty, gradient_penalty(1.0)):
        tg.manual_seed(5)
        values.append(rule(step.discriminator, real, fake).item())
    assert values[0] == values[1] > 0
    assert step((real, None))["penalty"].item() > 0


def test_two_updates_of_d_see_whole_batches_and_g_moves_as_often_as_ever(tiny):
    dataset, on = tiny
    on, counts = on._replace(batch_size=16), {}
    for name, hack in (("baseline", trials.BASELINE), ("two-rounds", HACKS["two-rounds"])):
        calls = counts.setdefault(name, [])

        def build(bench, hack=hack, calls=calls):
            step = hack.build(bench)
            d, g = step.update_discriminator, step.update_generator
            step.update_discriminator = lambda x, fake: (calls.append(("d", len(x))), d(x, fake))[1]
            step.update_generator = lambda fake: (calls.append(("g", len(fake))), g(fake))[1]
            return step

        trials._trained(hack._replace(build=build), on, load(dataset.name, limit=70), 0, 2)  # 6 are left over
    assert counts["baseline"] == [("d", 16), ("g", 16)] * 8
    assert counts["two-rounds"] == [("d", 16), ("d", 16), ("g", 16)] * 8


def test_sgd_moves_d_and_adam_g(tiny):
    dataset, on = tiny
    step = HACKS["sgd"].build(on)
    assert type(step.generator_optimizer) is optim.Adam and type(step.discriminator_optimizer) is optim.SGD
    before = by_hand.arrays(step.discriminator)
    step.update_discriminator(batch_of(dataset)[0], step.sample(16).detach())
    rate = on.sgd_lr
    for old, new, g in zip(before, by_hand.arrays(step.discriminator), by_hand.gradients(step.discriminator)):
        np.testing.assert_allclose(old - new, rate * g, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("name", "at_test"), [("baseline", False), ("dropout", False), ("dropout-at-test", True)])
def test_dropout_is_in_g_alone_and_at_test_where_it_is_said(name, at_test, tiny):
    _, on = tiny
    step = {"baseline": trials.BASELINE, **HACKS}[name].build(on)
    z = tg.randn(12, on.kit.latent)
    by_hand.stir(step.generator)
    repeats = lambda: (step.generator(z) == step.generator(z)).all().item()
    assert repeats() is (name == "baseline")
    with aside(step, 0):
        assert repeats() is not at_test
    assert not any("Dropout" in kind for kind in kinds(step.discriminator))


def test_relu_and_max_pooling_stand_in_d_alone(tiny):
    _, on = tiny
    base, relu, pooled = (h.build(on) for h in (trials.BASELINE, HACKS["relu"], HACKS["max-pooling"]))
    changed = [k if k != "LeakyReLU" else "ReLU" for k in kinds(base.discriminator)]
    assert kinds(relu.discriminator) == changed != kinds(base.discriminator)
    assert sum("MaxPool" in k for k in kinds(pooled.discriminator)) == 2
    assert kinds(pooled.discriminator).count("LeakyReLU") == 2
    for step in (relu, pooled):
        assert kinds(step.generator) == kinds(base.generator)


def test_labels_are_given_to_g_and_shown_to_d(tiny):
    dataset, on = tiny
    step = HACKS["labels"].build(on)
    k = len(dataset.classes)
    assert isinstance(step, ConditionalGANStep) and step.names == tuple(dataset.classes)
    x, labels = batch_of(dataset)
    first, *_ = seen_by(step.discriminator.network[0], lambda: step((x, labels)))
    assert (first[:, : dataset.shape[0]] == x.numpy()).all()
    planes = first[:, dataset.shape[0] :].reshape(len(x), k, -1)
    assert (planes == np.eye(k)[labels.numpy()][:, :, None]).all()
    assert step.sample(5).shape == (5, *dataset.shape) and step.learned() == sorted(set(labels.tolist()))
    (told_to_g, *_) = seen_by(step.generator.network[0], lambda: step((x, labels)))
    assert (told_to_g[:, on.kit.latent :] == np.eye(k)[labels.numpy()]).all()
    rates = [o.param_groups[0]["lr"] for o in (step.generator_optimizer, step.discriminator_optimizer)]
    assert rates == [on.lr] * 2 and step.latent == on.kit.latent


# ---------------------------------------------------------------------------------- the table


def test_verdicts():
    of = lambda title, *values: trials.verdict(title, values, [10.0, 11.0, 12.0])  # mean 11, deviation 1
    assert of("cfid", 12.9, 12.9) == of("cfid", 9.1, 9.1) == of("energy_distance", 11.0) == "no effect seen"
    assert of("cfid", 13.2, 13.0) == "worse" and of("cfid", 8.9, 8.9) == "better"
    assert of("within_3_sigma", 13.2, 13.0) == "better" and of("within_3_sigma", 8.9, 8.9) == "worse"
    sure = lambda *values: trials.verdict("modes", values, [8.0, 8.0, 8.0])
    assert sure(7, 7, 8) == sure(7, 7, 7) == "no effect seen" and sure(7, 7, 6) == "worse"
    assert trials.verdict("modes", [8, 8, 8], [6.0, 6.0, 6.0]) == "better"
    assert trials.verdict("cfid", [10.1] * 3, [10.0] * 3) == "worse"


def test_a_trick_without_effect_lies_outside_once_in_seven_times():
    """With three seeds: t of 2 degrees of freedom above 2 / sqrt(2/3), so 1 - t / sqrt(2 + t^2) = .134."""
    t = 2 / math.sqrt(2 / 3)
    assert 1 - t / math.sqrt(2 + t * t) == pytest.approx(1 / 7, abs=0.01)
    draw = np.random.default_rng(0).normal(size=(2, 3000, 3))
    outside = [trials.verdict("cfid", a, b) != "no effect seen" for a, b in zip(*draw)]
    assert np.mean(outside) == pytest.approx(1 / 7, abs=0.03)


def any_figures(monkeypatch, of):
    """The study without a training: `of` (name, seed's rank) gives a row's figures. It takes 70 samples."""
    names = {hack.words: name for name, hack in {"baseline": trials.BASELINE, **HACKS}.items()}
    calls = []

    def trained(hack, on, dataset, seed, epochs):
        calls.append((names[hack.words], seed, epochs))
        return names[hack.words], sum(name == names[hack.words] for name, *_ in calls) - 1

    monkeypatch.setattr(sys.modules["tinygen.recipes.game_trials"], "_trained", trained)
    judge = lambda dataset, n: {70: lambda step: of(*step)}[n]
    monkeypatch.setattr(sys.modules["tinygen.recipes.game_trials"], "_judge", judge)
    return calls


def test_the_table_has_the_mean_and_the_spread_of_the_seeds_and_the_baseline_comes_first(monkeypatch, capsys):
    values = {"baseline": [10.0, 11.0, 12.0], "relu": [5.0, 6.0, 8.0], "sgd": [30.0, 40.0, 20.0]}
    monkeypatch.setattr(trials, "_draw_hacks", lambda *given: Image.new("L", (2, 2)))
    calls = any_figures(monkeypatch, lambda name, k: {"energy_distance": values[name][k % 3], "modes": float(k % 3)})
    found = told("hacks", arguments={"only": "sgd, relu", "epochs": 7, "samples": 70}, seed=2)
    assert [(name, epochs) for name, _, epochs in calls] == [(n, 7) for n in ("baseline", "sgd", "relu") for _ in "123"]
    first = calls[0][1]
    assert [seed - first for _, seed, _ in calls] == [0, 1, 2] * 3  # the same for every row
    rows = [row for row in found.table if row["figure"] == "energy_distance"]
    assert [row["hack"] for row in rows] == ["baseline", "sgd", "relu"] and len(found.table) == 6
    assert [row["mean"] for row in rows] == pytest.approx([11, 30, 19 / 3])
    assert [row["spread"] for row in rows] == pytest.approx([1, 10, math.sqrt(7 / 3)])
    assert [row["verdict"] for row in rows] == ["", "worse", "better"]
    assert {row["data"] for row in rows} == {"ring"} and {row["seeds"] for row in rows} == {3}
    assert found.metrics == {"energy_distance": 11, "modes": 1, "better": 1, "worse": 1, "no_effect": 2}
    assert "SGD for D, Adam for G" in capsys.readouterr().out
    few = {"only": "relu", "samples": 70}
    assert told("hacks", arguments=few, seed=2).metrics and calls[-1][1:] == (first + 2, 10)
    assert told("hacks", arguments=few, seed=3, data="digits").metrics and calls[-1][1] != first + 2
    assert calls[-1][2] == 30


def test_seeds_are_of_weights_and_of_the_order(monkeypatch):
    dataset, on = tiny_bench("ring")
    seen, update = [], trials.GANStep.update_discriminator
    see = lambda step, real, fake: seen.append(real.numpy().copy()) or update(step, real, fake)
    monkeypatch.setattr(trials.GANStep, "update_discriminator", see)
    trained = [trials._trained(trials.BASELINE, on, dataset, seed, 1) for seed in (3, 3, 4)]
    one, same, other = (by_hand.arrays(step.generator)[0] for step in trained)
    assert (one == same).all() and (one != other).any()
    assert (seen[0] == seen[1]).all() and (seen[0] != seen[2]).any()  # all points, in their order


def test_figures_are_of_samples_and_test_data():
    ring, digits = load("ring"), load("digits")

    class Known(trials.GANStep):
        def __init__(self, x):
            self.x = x

        def sample(self, n):
            return tg.tensor(self.x[:n])

    points = ring.floats("train")[:500]
    found = trials._judge(ring, 500)(Known(points))
    test = ring.floats("test")[:1000]
    assert found["modes"] == 8 and found["within_3_sigma"] > 0.97 and abs(found["energy_distance"]) < 0.01
    far = trials._judge(ring, 400)(Known(points + 1))
    assert far["energy_distance"] == pytest.approx(metrics.energy_distance(points[:400] + 1, test), rel=0.1)
    assert far["modes"] == 0 == far["within_3_sigma"]
    images = digits.floats("train")[:300]
    expected = metrics.scores(images, digits.floats("test"))["cfid"]
    assert trials._judge(digits, 300)(Known(images))["cfid"] == pytest.approx(expected)
    assert trials._judge(digits, 300)(Known(images * 3 - 1))["cfid"] == pytest.approx(
        metrics.scores((images * 3 - 1).clip(0, 1), digits.floats("test"))["cfid"]
    )
    assert np.isfinite(trials._judge(digits, 300)(Known(images * np.float32(np.nan)))["cfid"])
    assert (trials._drawn(Known(images * np.float32(np.nan)), 5) == 0).all()  # black is no digit


def test_tricks_that_say_nothing_on_the_data_are_left_out_and_unknown_ones_refused():
    with pytest.raises(RunError, match="a spread needs at least seeds=2"):
        told("hacks", tiny=True, arguments={"seeds": 1})
    np.savez("other.npz", images=np.random.default_rng(0).integers(0, 256, (60, 1, 12, 12), np.uint8))
    with pytest.raises(RunError, match="study hacks: no frozen network knows images of 1x12x12"):
        told("hacks", tiny=True, data="other.npz")
    on = trials.bench(load("ring"))
    with pytest.raises(ValueError, match=r"no hack on this data is called 'rleu'\. Did you mean relu?"):
        trials._chosen("rleu", on)
    assert "labels" not in trials._chosen("", on._replace(names=()))
    assert list(trials._chosen("relu,sgd", on)) == ["relu", "sgd"]


# ---------------------------------------------------------------------------------- collapse, and when to stop


class Walk(trials.GANStep):
    """A game whose samples stand at the first so many modes of the ring, one more at each update.

    The first `off` samples are far from all; drawn: how many were asked for.
    """

    def __init__(self, figures=None, off=0):
        self.updates, self.figures, self.off, self.drawn = 0, figures or {}, off, set()

    def __call__(self, batch):
        self.updates += 1
        return {name: tg.tensor(values[self.updates - 1]) for name, values in self.figures.items()}

    def sample(self, n):
        self.drawn.add(n)
        points = np.resize(load("ring").mixture.centres[: self.updates], (n, 2)).astype("f4")
        points[: self.off] += 50
        return tg.tensor(points)


def test_a_history_looks_every_so_often_and_means_are_over_what_leads_to_a_look():
    step = Walk({"d_loss": np.arange(8.0), "g_grad": np.arange(8.0) ** 2})
    history = trials.History(3, lambda s: 10 * s.updates)
    for _ in range(8):
        history.after_step(step, None, step(()))
    assert history.at == [3, 6] and history.seen == [30, 60]
    assert history.between("d_loss") == [1, 4] and history.between("g_grad") == [5 / 3, 50 / 3]
    assert history.figures["d_loss"] == list(range(8))


@pytest.mark.parametrize("updates", [1, 2, 3, 5])
def test_a_game_ends_after_just_so_many_updates_of_g(updates):
    """Two batches an epoch; the weights are those of the recipe's run with the same seed."""
    dataset, history = load("ring", limit=256), trials.History(1, lambda step: 0.0)
    step = trials._game("gan-ring", dataset, 3, updates, history, {"hidden": [4], "latent": 2})
    assert len(history.at) == updates and set(history.figures) >= {"d_loss", "g_loss", "d_grad", "g_grad"}
    run = start("gan-ring", folder="run", limit=256, seed=3, arguments={"hidden": [4], "latent": 2})
    for i in range(updates):
        run.step(tuple(map(tg.tensor, run.batches.at(i // 2, i % 2))))
    assert all((a == b).all() for a, b in zip(by_hand.arrays(step.generator), by_hand.arrays(run.step.generator)))


def test_modes_are_counted_over_time_and_detectors_are_shares_of_all_updates(monkeypatch):
    calls, steps, drawn = [], [], []

    def game(recipe, dataset, seed, updates, history, arguments=None):
        calls.append((recipe, seed, updates, arguments))
        k = len(calls)
        of_g = [500.0 * (k == 1), 0.0, 0.0, 102.0]
        step = Walk({"d_loss": [0.04, 0.06, 0.5, 0.04], "d_grad": [1.0, 101.0, 99.0, 1.0], "g_grad": of_g}, 4 * (k % 2))
        steps.append(step)
        for _ in range(updates):
            history.after_step(step, None, step(()))
        step.updates = k  # in the end
        history.seen[-1] = history.look(step)
        return step

    monkeypatch.setattr(trials, "_game", game)
    monkeypatch.setattr(trials, "draw_points", lambda *given: drawn.append(given) or Image.new("L", (2, 2)))
    monkeypatch.setattr(trials, "_draw_modes", lambda *given: Image.new("L", (2, 2)))
    found = told("collapse", arguments={"seeds": 2, "updates": 4, "looks": 4, "samples": 80})
    first = calls[0][1]
    assert [(recipe, seed - first, updates) for recipe, seed, updates, _ in calls] == [
        ("gan-ring", 0, 4), ("gan-ring", 1, 4), ("gan-ring", 0, 4), ("gan-ring", 1, 4), ("wgan-gp-ring", 0, 4),
        ("wgan-gp-ring", 1, 4)]  # fmt: skip
    assert [a.get("objective") for *_, a in calls[::2]] == ["minimax", "non-saturating", None]
    assert [row["modes"] for row in found.table] == [1.5, 3.5, 5.5]
    assert [row["of each seed"] for row in found.table] == ["1 2", "3 4", "5 6"]
    assert [row["most"] for row in found.table] == [3, 3.5, 5.5]  # three modes at the third look
    assert [row["fewest after"] for row in found.table] == [1.5, 3.5, 5.5]
    assert [row["within 3 sigma"] for row in found.table] == pytest.approx([1 - 4 / 160] * 3)  # of both seeds
    assert all(step.drawn == {80} for step in steps)
    ((sets, titles),) = drawn
    assert titles == ["real", "minimax", "non-saturating", "WGAN-GP"] and (sets[0] == load("ring").floats("test")).all()
    for points, step in zip(sets[1:], steps[::2], strict=True):  # of the first seed
        assert (points == step.sample(80).numpy()).all()
    told("collapse", arguments={"seeds": 1, "updates": 4, "looks": 2}, seed=1)
    assert calls[6][1] != first
    assert [row["D's loss near 0"] for row in found.table] == [0.5, 0.5, 0]  # a critic's loss has no floor
    assert [row["gradient > 100"] for row in found.table] == [5 / 8, 0.5, 0.5]
    assert [row["largest gradient"] for row in found.table] == [500, 102, 102]
    modes = {"modes_minimax": 1.5, "modes_non_saturating": 3.5, "modes_wgan_gp": 5.5, "modes_of_data": 8}
    assert found.metrics == modes
    with pytest.raises(RunError, match="such as ring or grid"):
        told("collapse", data="moons", arguments={"looks": 2})
    with pytest.raises(RunError, match="looks=9 must be at least 1 and divide updates=4"):
        told("collapse", arguments={"looks": 9, "updates": 4})


def test_correlations_are_of_logarithms_over_pairs_that_have_them():
    x, y = np.array([1.0, 2.0, 8.0, 5.0]), np.array([3.0, 7.0, 900.0, 30.0])
    a, b = (np.log(v) - np.log(v).mean() for v in (x, y))
    r, n = trials.correlation(x, y)
    assert r == pytest.approx((a @ b) / math.sqrt((a @ a) * (b @ b))) and n == 4
    assert trials.correlation([-1.0, *x], [5.0, *y]) == (r, 4) == trials.correlation([1.0, *x], [0.0, *y])
    assert trials.correlation(x, x**-3) == (pytest.approx(-1), 4)
    assert trials.correlation(x[:2], y[:2]) == (0.0, 2) and trials.correlation([1.0] * 4, y) == (0.0, 4)
    assert trials.correlation([], []) == (0.0, 0)


def test_figures_of_two_games_are_compared_with_their_own_c_fid(monkeypatch):
    """WGAN-GP's estimate is the root of C-FID where it is above 0; D's loss falls as C-FID grows, G's says nothing."""
    cfid, calls = [1.0, 4.0, 16.0, 64.0], []
    values = {"critic_estimate": [-1.0, 2.0, 4.0, 8.0], "d_loss": [8.0, 4.0, 2.0, 1.0], "g_loss": [1.0, 2.0, 2.0, 1.0]}

    def game(recipe, dataset, seed, updates, history):
        calls.append((recipe, seed, updates, dataset.name))
        for at, seen in enumerate(cfid):
            for _ in range(2):
                history.after_step(seen, None, {k: tg.tensor(v[at]) for k, v in values.items()})

    monkeypatch.setattr(sys.modules["tinygen.recipes.game_trials"], "_game", game)
    monkeypatch.setattr(sys.modules["tinygen.recipes.game_trials"], "_judge",
                        lambda dataset, n: lambda seen: {"cfid": seen * n / 50})  # fmt: skip
    monkeypatch.setattr(trials, "_draw_stopping", lambda *given: Image.new("L", (2, 2)))
    found = told("when-to-stop", arguments={"updates": 8, "looks": 4, "samples": 50})
    assert [row["figure"] for row in found.table] == list(values)
    assert [row["points"] for row in found.table] == [3, 4, 4]  # one has no logarithm
    assert [row["game"] for row in found.table] == ["wgan-gp", "dcgan", "dcgan"]
    assert [row["correlation"] for row in found.table] == pytest.approx([1, -1, 0], abs=1e-6)
    assert {row["C-FID at the end"] for row in found.table} == {64}
    numbers = {f"correlation_{name}": pytest.approx(r, abs=1e-6) for name, r in zip(values, (1, -1, 0))}
    assert found.metrics == numbers | {"points": 3}  # of the critic
    assert [(name, updates, data) for name, _, updates, data in calls] == [
        ("wgan-gp", 8, "digits"), ("dcgan", 8, "digits")]  # fmt: skip
    told("when-to-stop", arguments={"updates": 8, "looks": 4, "samples": 50}, seed=1)
    assert calls[0][1] == calls[1][1] != calls[2][1]  # both games have the study's seed
    for data, reason in (("ring", "these are points"), ("other.npz", "no frozen network knows")):
        np.savez("other.npz", images=np.zeros((60, 1, 12, 12), np.uint8))
        with pytest.raises(RunError, match=f"needs images that C-FID knows: {reason}"):
            told("when-to-stop", data=data)
    with pytest.raises(RunError, match="looks=2 must be at least 3 and divide updates=8"):
        told("when-to-stop", arguments={"updates": 8, "looks": 2})


# ---------------------------------------------------------------------------------- the figures


def test_the_grey_band_of_hacks_is_where_no_effect_is_seen(monkeypatch):
    rows = {"baseline": {"energy_distance": [1.0, 2.0, 3.0], "modes": [7.0, 7.0, 7.0]},
            "ReLU in D": {"energy_distance": [8.0, 9.0, 10.0], "modes": [8.0, 7.0, 7.0]}}  # fmt: skip
    left, right = axes_of(monkeypatch, trials._draw_hacks, rows, "ring")
    bands = [axes.patches[0].get_extents().transformed(axes.transData.inverted()) for axes in (left, right)]
    assert [(band.x0, band.x1) for band in bands] == [pytest.approx((0, 4)), pytest.approx((6, 8))]
    assert "(less is better)" in left.get_title() and "(more is better)" in right.get_title()
    dots = [line for line in left.lines if line.get_marker() == "o"]
    assert [line.get_color() for line in dots] == ["black", "tab:red"]
    assert [list(line.get_xdata()) for line in dots] == [[1, 2, 3], [8, 9, 10]]


def test_modes_are_drawn_beside_the_gradients_of_g(monkeypatch):
    history = trials.History(2, lambda step: step.updates)
    step = Walk({"d_grad": [1.0, 2.0, 3.0, 4.0], "g_grad": [10.0, 30.0, 50.0, 90.0]})
    for _ in range(4):
        history.after_step(step, None, step(()))
    left, right = axes_of(monkeypatch, trials._draw_modes, {"minimax": [history]}, 8, "1 seed")
    of_both = [list(map(float, axes.lines[0].get_ydata())) for axes in (left, right)]
    assert of_both == [[2, 4], [20, 70]] and list(left.lines[0].get_xdata()) == [2, 4]
    assert [axes.lines[-1].get_ydata()[0] for axes in (left, right)] == [8, 100]
