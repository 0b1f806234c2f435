"""Games put to the test (lectures 2, 3, 4): studies that train the same game many times.

    tinygen study hacks                                   # thirteen tricks on the ring, each with three seeds
    tinygen study hacks --data mnist --set only=sgd,relu  # some of them, on images
    tinygen study collapse                                # modes over time: vanilla GAN against WGAN-GP
    tinygen study when-to-stop                            # does a loss tell how good samples are?
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import tinygen as tg
from tinygen import metrics, nn, optim
from tinygen.data import Dataset
from tinygen.data.points import Points
from tinygen.data.selection import subset
from tinygen.models import GANStep, JointGANStep, games
from tinygen.models.critics import gradient_penalty
from tinygen.networks import blocks
from tinygen.networks.blocks import Kit
from tinygen.training import figure, fit, track

from .recipe import nearest
from .scores import samples as drawn_by
from .scores import unscored
from .settings import SMALL, RunError
from .study import Findings, generator, study

# ---------------------------------------------------------------------------------- hacks


class Bench(NamedTuple):
    """What every row of the table has in common. `classes`: of the labels, 0 where there are none."""

    kit: Kit
    classes: int
    lr: float
    epochs: int
    batch_size: int


def bench(dataset: Dataset) -> Bench:
    """Small enough for forty trainings: a multilayer perceptron for points, DCGAN with f = 16 for images."""
    labelled = dataset.train_labels is not None and not dataset.partly_labelled
    classes = len(dataset.classes) if labelled else 0
    shape = dataset.shape
    if len(shape) == 1:
        reach = 1.25 * float(abs(dataset.floats("train")).max())  # the edges of tanh are out of reach
        return Bench(blocks.of_points(shape, (64, 64), 16, reach), classes, 3e-3, 10, 64)
    small = min(shape[1:]) < SMALL
    kit = blocks.of_images(shape, (16, 32), 16 if small else 100)
    return Bench(kit, classes, *((1e-3, 30, 32) if small else (2e-4, 3, 64)))


def play(on: Bench, game: games.Game | None = None, penalty: Callable | None = None, rounds: int = 1,
         **changed: Any) -> GANStep:  # fmt: skip
    """The game of the first row, or one with another rule, or with other blocks in its networks."""
    kit = on.kit._replace(**changed)
    players = blocks.generator(kit), blocks.discriminator(kit)
    return GANStep(*players, game or games.non_saturating(), penalty, latent=kit.latent, rounds=rounds, lr=on.lr)


def sgd_for_d(on: Bench) -> GANStep:
    """Adam moves G, and plain gradient descent D."""
    step = play(on)
    step.discriminator_optimizer = optim.SGD(step.discriminator.parameters(), lr=100 * on.lr)
    return step


def labels_given(on: Bench) -> GANStep:
    """G is told a label, and D sees it beside the image."""
    planes = (on.kit.shape[0] + on.classes, *on.kit.shape[1:])
    G = blocks.generator(on.kit._replace(latent=on.kit.latent + on.classes))
    D = blocks.discriminator(on.kit._replace(shape=planes))
    return JointGANStep(G, D, games.non_saturating(), classes=on.classes, latent=on.kit.latent, lr=on.lr)


class Hack(NamedTuple):
    """A row: in words, and the function that builds its game."""

    words: str
    build: Callable[[Bench], GANStep]


BASELINE = Hack("baseline", play)
HACKS = {
    "unit-range": Hack("data in [0, 1], no tanh",
                       partial(play, inwards=blocks.to_unit, outwards=blocks.from_unit)),
    "flipped-labels": Hack("5 % of labels flipped",
                           lambda on: play(on, games.flipped(games.non_saturating(), 0.05))),
    "smooth-real": Hack("real labels .9", lambda on: play(on, games.non_saturating(0.1))),
    "smooth-both": Hack("real labels .9, fake .1", lambda on: play(on, games.two_sided(0.1))),
    "batch-norm": Hack("batch norm in both", lambda on: play(on, norms=lambda a: [on.kit.batch_norm(a)])),
    "no-batch-norm": Hack("no batch norm", partial(play, norms=blocks.nothing)),
    "penalty": Hack("gradient penalty", lambda on: play(on, penalty=gradient_penalty())),
    "two-rounds": Hack("2 updates of D for one of G", partial(play, rounds=2)),
    "sgd": Hack("SGD for D, Adam for G", sgd_for_d),
    "dropout": Hack("dropout in G", partial(play, dropout=lambda: [nn.Dropout(0.5)])),
    "dropout-at-test": Hack("dropout in G, at test too", partial(play, dropout=lambda: [blocks.AlwaysDropout(0.5)])),
    "relu": Hack("ReLU in D", partial(play, activation=nn.ReLU)),
    "max-pooling": Hack("max pooling in D", lambda on: play(on, down=on.kit.pooled)),
    "labels": Hack("labels given to G and D", labels_given),
}  # fmt: skip
LEAST = {"modes": 1.0}  # a count: less than one mode more or less is no effect


@study(
    "tricks of the trade: does any of them help?", data="ring", lectures=(2, 3),
    tiny={"epochs": 1, "seeds": 2, "samples": 100, "only": "two-rounds,labels"},
)  # fmt: skip
def hacks(
    dataset: Dataset, epochs: int | None = None, seeds: int = 3, samples: int = 2000, only: str = ""
) -> Findings:
    """A row for each trick and figure: the mean over seeds, their spread, and a verdict.

    The baseline is a non-saturating game with tanh, LeakyReLU in D, and Adam for both; batch norm in both networks of
    images and in none of points. A trick changes one thing, and G is updated as often. A mean within two standard
    deviations of the baseline's, or within one mode, is called "no effect seen". With three seeds a trick
    without effect lies outside once in seven times.

    epochs: of each training (default: 30 of points and of small images, 3 of others)
    seeds: trainings of each row
    samples: that a figure is taken over
    only: names of tricks, separated by commas (default: all)
    """
    reason = unscored(dataset)
    if reason or seeds < 2:
        raise RunError(f"study hacks: {reason or 'a spread needs at least seeds=2'}")
    on = bench(dataset)
    chosen = {"baseline": BASELINE, **_chosen(only, on)}
    judge = _judge(dataset, samples)
    first = int(generator().integers(2**31))
    found: dict[str, dict[str, list[float]]] = {}
    todo = [(name, seed) for name in chosen for seed in range(first, first + seeds)]
    for name, seed in track(todo, "trainings"):
        step = _trained(chosen[name], on, dataset, seed, epochs or on.epochs)
        for figure_name, value in judge(step).items():
            found.setdefault(name, {}).setdefault(figure_name, []).append(value)
        if seed == todo[-1][1]:
            told = (f"{title} {np.mean(v):.4g} +- {_deviation(v):.2g}" for title, v in found[name].items())
            print(f"  {chosen[name].words:<28} {'  '.join(told)}", flush=True)
    table = [
        {"hack": name, "data": dataset.name, "figure": title, "mean": float(np.mean(found[name][title])),
         "spread": _deviation(found[name][title]), "seeds": seeds,
         "verdict": "" if name == "baseline" else verdict(title, found[name][title], found["baseline"][title])}
        for title in found["baseline"] for name in chosen
    ]  # fmt: skip
    numbers = {title: float(np.mean(values)) for title, values in found["baseline"].items()}
    words = [row["verdict"] for row in table if row["hack"] != "baseline"]
    numbers |= {"better": words.count("better"), "worse": words.count("worse"), "no_effect": words.count(NO_EFFECT)}
    title = f"{dataset.name}, {seeds} seeds, n = {samples:,}"
    picture = _draw_hacks({chosen[name].words: of_row for name, of_row in found.items()}, title)
    return Findings(numbers, {"hacks": picture}, table)


def _chosen(only: str, on: Bench) -> dict[str, Hack]:
    """The rows that say something on this data, or those that are named."""
    same = "batch-norm" if on.kit.norms(1) else "no-batch-norm"  # as the baseline has it
    there = {name: hack for name, hack in HACKS.items() if name != same and (on.classes or name != "labels")}
    names = [name.strip() for name in only.split(",")] if only else list(there)
    return {name: nearest(name, there, "hack on this data") for name in names}


def _trained(hack: Hack, on: Bench, dataset: Dataset, seed: int, epochs: int) -> GANStep:
    """The game after `epochs` epochs of G's updates: one with more updates of D sees more data."""
    tg.manual_seed(seed)
    step = hack.build(on)
    size = min(on.batch_size * step.rounds, dataset.count("train"))
    fit(step, dataset.batches(size, seed, drop_last=True), epochs * step.rounds)
    return step


def _judge(dataset: Dataset, n: int) -> Callable[[GANStep], dict[str, float]]:
    """A function of a game: the figures of n samples against the test set (of points: against n test points)."""
    test = dataset.floats("test")
    if not isinstance(dataset, Points):
        known = metrics.features(test)[0]
        return lambda step: {"cfid": _distance(known, _drawn(step, n).clip(0, 1))}
    test = test[subset(len(test), n)]
    modes = dataset.mixture
    distance = lambda x: {"energy_distance": metrics.energy_distance(x, test)}
    if modes is None:
        return lambda step: distance(_drawn(step, n))
    near = lambda x: {
        "modes": metrics.modes_covered(x, modes.centres, modes.sd),
        "within_3_sigma": metrics.within_3_sigma(x, modes.centres, modes.sd),
    }
    return lambda step: (lambda x: near(x) | distance(x))(_drawn(step, n))


def _drawn(step: GANStep, n: int) -> np.ndarray:
    return np.nan_to_num(drawn_by(step, n, 0, quiet=math.inf).numpy(), nan=0.0)  # what has diverged is no digit


def _distance(known: np.ndarray, images: np.ndarray) -> float:
    return metrics.frechet_from_features(known, metrics.features(images)[0])


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1))


NO_EFFECT = "no effect seen"


def verdict(title: str, values: Sequence[float], baseline: Sequence[float]) -> str:
    """Whether the mean lies within two deviations of the baseline's seeds, or within what the figure can tell."""
    difference = float(np.mean(values) - np.mean(baseline))
    if abs(difference) <= max(2 * _deviation(baseline), LEAST.get(title, 0.0)):
        return NO_EFFECT
    return "better" if (difference > 0) == (metrics.describe(title).good == "high") else "worse"


def _draw_hacks(rows: Mapping[str, Mapping[str, Sequence[float]]], title: str) -> Any:
    """A panel for each figure: a row for each hack, its seeds as dots, their mean a bar, the baseline's range grey."""
    titles = list(rows["baseline"])
    canvas, finish = figure((3.2 + 3.4 * len(titles), 1.2 + 0.3 * len(rows)))
    colours = {"better": "tab:green", "worse": "tab:red", NO_EFFECT: "tab:grey"}
    panels = canvas.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, titles):
        base = rows["baseline"][name]
        reach = max(2 * _deviation(base), LEAST.get(name, 0.0))
        axes.axvspan(np.mean(base) - reach, np.mean(base) + reach, color="grey", alpha=0.2, linewidth=0)
        for i, (words, of_row) in enumerate(rows.items()):
            colour = "black" if words == "baseline" else colours[verdict(name, of_row[name], base)]
            axes.errorbar(np.mean(of_row[name]), i, xerr=_deviation(of_row[name]), fmt="|", markersize=14,
                          color=colour, capsize=3)  # fmt: skip
            axes.plot(of_row[name], [i] * len(of_row[name]), "o", color=colour, markersize=4, alpha=0.6)
        known = metrics.describe(name)
        axes.set_title(f"{known.title} ({'less' if known.good == 'low' else 'more'} is better)", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(rows)), list(rows))
    panels[0].invert_yaxis()
    canvas.suptitle(f"{title}; grey: no effect seen", fontsize=10)
    return finish()
