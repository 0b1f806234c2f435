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
from tinygen.models import ConditionalGANStep, GANStep, games, health
from tinygen.models.critics import gradient_penalty
from tinygen.networks import blocks
from tinygen.networks.blocks import Kit
from tinygen.step import Step
from tinygen.training import Callback, Position, figure, fit, to_tensors, track
from tinygen.training.plots import draw_points

from .recipe import find, nearest
from .run import build
from .scores import samples as drawn_by
from .scores import unscored
from .settings import SMALL, RunError, prepare
from .study import Findings, generator, study

# ---------------------------------------------------------------------------------- hacks


class Bench(NamedTuple):
    """What every row of the table has in common. `names`: of the classes, where there are labels."""

    kit: Kit
    names: tuple[str, ...]
    lr: float
    sgd_lr: float  # of D, in the row that moves it by SGD
    epochs: int
    batch_size: int


def bench(dataset: Dataset) -> Bench:
    """Small enough for forty trainings: a multilayer perceptron for points, DCGAN with f = 16 for images."""
    labelled = dataset.train_labels is not None and not dataset.partly_labelled
    names = tuple(dataset.classes) if labelled else ()
    shape = dataset.shape
    if len(shape) == 1:
        reach = 1.25 * float(abs(dataset.floats("train")).max())  # the edges of tanh are out of reach
        return Bench(blocks.of_points(shape, (64, 64), 16, reach), names, 3e-3, 0.3, 10, 64)
    small = min(shape[1:]) < SMALL
    kit = blocks.of_images(shape, (16, 32), 16 if small else 100)
    return Bench(kit, names, *((1e-3, 0.1, 30, 32) if small else (2e-4, 0.1, 3, 64)))


def play(on: Bench, game: games.Game | None = None, penalty: Callable | None = None, rounds: int = 1,
         **changed: Any) -> GANStep:  # fmt: skip
    """The game of the first row, or one with another rule, or with other blocks in its networks."""
    kit = on.kit._replace(**changed)
    players = blocks.generator(kit), blocks.discriminator(kit)
    return GANStep(*players, game or games.non_saturating(), penalty, latent=kit.latent, rounds=rounds, lr=on.lr)


def sgd_for_d(on: Bench) -> GANStep:
    """Adam moves G, and plain gradient descent D."""
    step = play(on)
    step.discriminator_optimizer = optim.SGD(step.discriminator.parameters(), lr=on.sgd_lr)
    return step


def labels_given(on: Bench) -> ConditionalGANStep:
    """G is told a label, and D sees it beside the data."""
    G, D = blocks.told_generator(on.kit, len(on.names)), blocks.told_discriminator(on.kit, len(on.names))
    return ConditionalGANStep(G, D, games.non_saturating(), on.names, latent=on.kit.latent, lr=on.lr)


class Hack(NamedTuple):
    """A row: in words, the function that builds its game, and how many times larger its batches are."""

    words: str
    build: Callable[[Bench], Step]
    rounds: int = 1


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
    "penalty": Hack("gradient penalty, weight 1", lambda on: play(on, penalty=gradient_penalty(1.0))),
    "two-rounds": Hack("2 updates of D for one of G", partial(play, rounds=2), 2),
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

    epochs: of each training (default: 10 of points, 30 of small images, 3 of others)
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
    there = {name: hack for name, hack in HACKS.items() if name != same and (on.names or name != "labels")}
    names = [name.strip() for name in only.split(",")] if only else list(there)
    return {name: nearest(name, there, "hack on this data") for name in names}


def _trained(hack: Hack, on: Bench, dataset: Dataset, seed: int, epochs: int) -> Step:
    """The game after `epochs` epochs of G's updates: one with more updates of D sees more data."""
    tg.manual_seed(seed)
    step = hack.build(on)
    size = min(on.batch_size * hack.rounds, dataset.count("train"))
    fit(step, dataset.batches(size, seed, drop_last=True), epochs * hack.rounds)
    return step


def _judge(dataset: Dataset, n: int) -> Callable[[Step], dict[str, float]]:
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


def _drawn(step: Step, n: int) -> np.ndarray:
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
        everything = [value for of_row in rows.values() for value in of_row[name]]
        if 0 < 30 * min(everything) < max(everything):
            axes.set_xscale("log", nonpositive="clip")
        known = metrics.describe(name)
        axes.set_title(f"{known.title} ({'less' if known.good == 'low' else 'more'} is better)", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(rows)), list(rows))
    panels[0].invert_yaxis()
    canvas.suptitle(f"{title}; grey: no effect seen", fontsize=10)
    return finish()


# ---------------------------------------------------------------------------------- collapse

GAMES: dict[str, tuple[str, dict[str, Any]]] = {  # recipe and its arguments
    "minimax": ("gan-ring", {"objective": "minimax"}),
    "non-saturating": ("gan-ring", {"objective": "non-saturating"}),
    "WGAN-GP": ("wgan-gp-ring", {}),
}


class History(Callback):
    """What a game is like every `every` updates of G, and the figures of all of them.

    `look`: a function of the Step; at: updates of G; seen: what it says; figures: of each update, by name.
    """

    def __init__(self, every: int, look: Callable[[Any], float]) -> None:
        self.every, self.look = every, look
        self.updates = 0
        self.at: list[int] = []
        self.seen: list[float] = []
        self.figures: dict[str, list[float]] = {}

    def after_step(self, step: Any, position: Position, metrics: Mapping[str, tg.Tensor]) -> None:
        self.updates += 1
        for name, value in metrics.items():
            self.figures.setdefault(name, []).append(value.item())
        if self.updates % self.every == 0:
            self.at.append(self.updates)
            self.seen.append(self.look(step))

    def between(self, name: str) -> list[float]:
        """The means of a figure over the updates that lead to each look."""
        values = np.reshape(self.figures[name][: self.every * len(self.at)], (len(self.at), self.every))
        return values.mean(1).tolist()


def _check_looks(name: str, looks: int, updates: int, least: int) -> None:
    """The last look is the end: the updates are a multiple of the looks."""
    if not least <= looks <= updates or updates % looks:
        raise RunError(f"study {name}: looks={looks} must be at least {least} and divide updates={updates}, so "
                       f"that the last look is the end")  # fmt: skip


@study(
    "mode collapse: vanilla GAN against WGAN-GP", data="ring", lectures=(2, 4),
    tiny={"seeds": 1, "updates": 4, "looks": 2, "samples": 50},
)  # fmt: skip
def collapse(
    dataset: Dataset, seeds: int = 3, updates: int = 3000, looks: int = 25, samples: int = 2000
) -> Findings:
    """Modes covered over time and at the end by the minimax game (one update of D for one of G), the non-saturating
    game and WGAN-GP, and what its own figures tell of a collapse: D's loss near 0, gradient norms above 100.

    seeds: trainings of each game
    updates: of G in each training
    looks: at the samples during a training
    samples: at each look
    """
    modes = dataset.mixture if isinstance(dataset, Points) else None
    if modes is None:
        raise RunError("study collapse counts modes: it needs data drawn from some, such as ring or grid")
    _check_looks("collapse", looks, updates, 1)
    first = int(generator().integers(2**31))
    count = lambda step: metrics.modes_covered(_drawn(step, samples), modes.centres, modes.sd)
    histories: dict[str, list[History]] = {}
    table, shown = [], [dataset.floats("test")]
    todo = [(name, seed) for name in GAMES for seed in range(first, first + seeds)]
    near: dict[str, list[float]] = {}
    for name, seed in track(todo, "trainings"):
        recipe, arguments = GAMES[name]
        history = History(updates // looks, count)
        step = _game(recipe, dataset, seed, updates, history, arguments)
        histories.setdefault(name, []).append(history)
        points = _drawn(step, samples)
        near.setdefault(name, []).append(metrics.within_3_sigma(points, modes.centres, modes.sd))
        if seed == first:
            shown.append(points)
    for name, of_game in histories.items():
        table.append(_collapsed(name, of_game, near[name]))
    numbers = {f"modes_{name.lower().replace('-', '_')}": row["modes"] for name, row in zip(GAMES, table)}
    title = f"{seeds} seeds, n = {samples:,}"
    pictures = {
        "modes": _draw_modes(histories, len(modes.centres), title),
        "samples": draw_points(shown, ["real", *GAMES]),
    }
    return Findings({**numbers, "modes_of_data": len(modes.centres)}, pictures, table)


def _game(
    name: str, dataset: Dataset, seed: int, updates: int, history: History, arguments: Mapping[str, Any] | None = None
) -> Any:
    """The Step of a recipe after that many updates of G, in whole batches."""
    settings = prepare(find(name), dataset, {"name": dataset.name}, seed=seed, arguments=arguments)
    step = build(settings)
    batches = dataset.batches(settings.batch_size, seed, drop_last=True)
    whole, rest = divmod(updates, len(batches))
    position = fit(step, batches, whole, [history])
    for index in range(rest):
        history.after_step(step, position, step(to_tensors(batches.at(whole, index))))
    return step


def _collapsed(name: str, histories: Sequence[History], near: Sequence[float]) -> dict[str, Any]:
    """A row: modes at the end, the most at a look and the fewest after it; the shares of all updates at which the two
    detectors speak.
    """
    ends = [history.seen[-1] for history in histories]
    kept = [min(history.seen[int(np.argmax(history.seen)) :]) for history in histories]
    together = lambda figure_name: np.concatenate([history.figures[figure_name] for history in histories])
    steep = np.maximum(together("d_grad"), together("g_grad"))
    losses = together("d_loss") if name != "WGAN-GP" else np.array([math.inf])  # a critic's loss has no floor
    return {
        "game": name, "modes": float(np.mean(ends)), "of each seed": " ".join(f"{end:.0f}" for end in ends),
        "most": float(np.mean([max(history.seen) for history in histories])), "fewest after": float(np.mean(kept)),
        "within 3 sigma": float(np.mean(near)), "seeds": len(ends),
        "D's loss near 0": float(np.mean(losses < health.WON)),
        "gradient > 100": float(np.mean(steep > health.STEEP)), "largest gradient": float(steep.max()),
    }  # fmt: skip


def _draw_modes(histories: Mapping[str, Sequence[History]], there: int, title: str) -> Any:
    canvas, finish = figure((10.4, 4.0))
    left, right = canvas.subplots(1, 2)
    for (name, of_game), colour in zip(histories.items(), ("tab:red", "tab:blue", "tab:green")):
        for history in of_game:
            left.plot(history.at, history.seen, color=colour, linewidth=0.7, alpha=0.4)
            right.semilogy(history.at, history.between("g_grad"), color=colour, linewidth=0.9, alpha=0.6)
        left.plot(of_game[0].at, np.mean([h.seen for h in of_game], 0), color=colour, linewidth=2.2, label=name)
    left.axhline(there, color="black", linestyle=":", linewidth=1)
    left.set_ylim(0, there + 0.5)
    left.set_title(f"modes covered, {title}")
    left.legend(frameon=False, loc="center right")
    right.axhline(health.STEEP, color="black", linestyle=":", linewidth=1)
    right.set_title("gradient norm of G; dotted: 100, called exploding")
    for axes in (left, right):
        axes.set_xlabel("updates of G")
        axes.spines[["top", "right"]].set_visible(False)
    return finish()


# ---------------------------------------------------------------------------------- when to stop

WATCHED = {"wgan-gp": ("critic_estimate",), "dcgan": ("d_loss", "g_loss")}  # figures of each recipe's log


@study(
    "when to stop: the critic's estimate follows the quality of samples, a GAN's losses do not", data="digits",
    lectures=(2,), tiny={"updates": 6, "looks": 3, "samples": 100},
)  # fmt: skip
def when_to_stop(dataset: Dataset, updates: int = 1200, looks: int = 20, samples: int = 2000) -> Findings:
    """The figures that two trainings print, beside C-FID, and the correlations of their logarithms: the estimate of
    WGAN-GP's critic, and the losses of a non-saturating DCGAN. A figure is a mean over the updates before a look.

    updates: of G in each training
    looks: at C-FID during a training, evenly spaced
    samples: of a C-FID
    """
    reason = unscored(dataset)
    if reason or len(dataset.shape) == 1:
        raise RunError(f"study when-to-stop needs images that C-FID knows: {reason or 'these are points'}")
    _check_looks("when-to-stop", looks, updates, 3)
    seed = int(generator().integers(2**31))
    judge = _judge(dataset, samples)
    histories = {}
    table: list[dict[str, Any]] = []
    for name, watched in track(list(WATCHED.items()), "trainings"):
        history = histories[name] = History(updates // looks, lambda step: judge(step)["cfid"])
        _game(name, dataset, seed, updates, history)
        for figure_name in watched:
            r, n = correlation(history.between(figure_name), history.seen)
            table.append({"game": name, "figure": figure_name, "correlation": r, "points": n,
                          "C-FID at the end": history.seen[-1]})  # fmt: skip
    numbers = {f"correlation_{row['figure']}": row["correlation"] for row in table}
    picture = _draw_stopping(histories, table, f"{dataset.name}, n = {samples:,}")
    return Findings({**numbers, "points": table[0]["points"]}, {"when-to-stop": picture}, table)


def correlation(x: Sequence[float], y: Sequence[float]) -> tuple[float, int]:
    """(Pearson's r of log x and log y, the number of pairs), over the pairs that have logarithms; r is 0 below three.

    A critic's estimate may start below 0, where it says nothing of a distance.
    """
    pairs = np.array([(a, b) for a, b in zip(x, y) if a > 0 and b > 0]).reshape(-1, 2)
    if len(pairs) < 3 or (np.ptp(pairs, axis=0) == 0).any():
        return 0.0, len(pairs)
    return float(np.corrcoef(np.log(pairs).T)[0, 1]), len(pairs)


def _draw_stopping(histories: Mapping[str, History], table: Sequence[Mapping[str, Any]], title: str) -> Any:
    """Above: a figure and C-FID over time, each on its own axis. Below: one against the other."""
    from matplotlib.ticker import MaxNLocator, NullLocator

    canvas, finish = figure((4.2 * len(table), 7.0))
    panels = canvas.subplots(2, len(table), squeeze=False)
    for row, above, below in zip(table, *panels):
        history, known = histories[row["game"]], metrics.describe(row["figure"])
        values = history.between(row["figure"])
        above.plot(history.at, values, color="tab:blue")
        above.set_ylabel(known.title, color="tab:blue")
        above.set_xlabel("updates of G")
        beside = above.twinx()
        beside.semilogy(history.at, history.seen, color="tab:orange")
        beside.set_ylabel(f"C-FID, {title}", color="tab:orange")
        above.set_title(row["game"])
        seen = [(a, b) for a, b in zip(values, history.seen) if a > 0 and b > 0]
        below.loglog(*zip(*seen), "o", color="tab:purple", markersize=4)
        for axis in (below.xaxis, below.yaxis, beside.yaxis):  # less than a decade would have ticks without number
            axis.set_major_locator(MaxNLocator(4))
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter("{x:g}")
        below.set_xlabel(known.title)
        below.set_ylabel("C-FID")
        below.set_title(f"r = {row['correlation']:.2f}, {row['points']} points")
    return finish()
