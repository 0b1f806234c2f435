"""What a GAN does, where the answer is known (lectures 0, 2, 3, 4): studies of small games.

    tinygen study optimal-discriminator          # a D that is trained, beside p / (p + q)
    tinygen study minimax-value                  # V = 2 JS - 2 log 2, and where training ends
    tinygen study one-d-gan                      # the film of p_data, p_G and D
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import tinygen as tg
from tinygen import nn, optim
from tinygen.models import GANStep, games
from tinygen.networks.mlp import MLPDecoder, MLPEncoder
from tinygen.studies import games as theory
from tinygen.studies.divergences import js, log_normal
from tinygen.studies.transport import Mixture
from tinygen.training import figure, track

from .settings import RunError
from .study import Film, Findings, study

DATA, MODEL, JUDGE = "tab:grey", "tab:green", "tab:blue"  # p, q and D
FALLING = optim.lr_scheduler.CosineAnnealingLR
LOG_4 = math.log(4)


def subplots(canvas: Any, rows: int, columns: int) -> Sequence[Any]:
    """The axes of a figure, without a frame above and at the right."""
    axes = list(np.ravel(canvas.subplots(rows, columns)))
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
    return axes


# ---------------------------------------------------------------------------------- G4: the best D

OUTCOMES = 1000  # of a coin: a batch of just its shares
GAUSSIANS = ((-1.0, 1.0), (1.0, 1.5))  # mean and standard deviation of p, of q
GRID = 601


def best(
    discriminator: nn.Module, game: games.Game, real: tg.Tensor, fake: tg.Tensor, updates: int, *, lr: float,
    penalty: Callable | None = None, constrain: Callable | None = None, optimizer: Callable = optim.Adam,
) -> nn.Module:  # fmt: skip
    """D after `updates` of its own against fixed points of both sides, the rate falling to 0; G takes no part."""
    step = GANStep(nn.Linear(1, 1), discriminator, game, penalty, constrain, latent=1, lr=lr, optimizer=optimizer)
    rate = FALLING(step.discriminator_optimizer, updates)
    for _ in range(updates):
        step.update_discriminator(real, fake[tg.randperm(len(fake))])  # each with another real one, for the penalty
        rate.step()
    return discriminator


def outcomes(heads: float) -> tg.Tensor:
    """A batch of a coin in its shares, (1000, 2): each row says which of two outcomes it is."""
    first = tg.arange(OUTCOMES) < round(heads * OUTCOMES)
    return tg.stack([first, ~first], 1).float()


def coin(heads: float) -> tg.Tensor:
    """The logarithms of both probabilities, (2,)."""
    return tg.tensor([heads, 1 - heads], dtype=tg.float64).log()


def _check_coins(name: str, **shares: float) -> None:
    for argument, value in shares.items():
        if not 0 < value < 1:
            raise RunError(f"study {name}: {argument} is a probability above 0 and below 1, it is {value:g}")
        if abs(value * OUTCOMES - round(value * OUTCOMES)) > 1e-9:
            raise RunError(f"study {name}: {argument} is counted in thousandths, it is {value:g}; "
                           f"{max(1, round(value * OUTCOMES)) / OUTCOMES:g} is near")  # fmt: skip


@study("a D that is trained, beside p / (p + q): two outcomes, two Gaussians", lectures=(2, 3, 4),
       least={"points": 2}, above={"lr": 0}, tiny={"hidden": (16,), "updates": 40, "points": 128})  # fmt: skip
def optimal_discriminator(
    p: float = 0.5, q: float = 0.25, hidden: Sequence[int] = (64, 64), updates: int = 1500, points: int = 1024,
    lr: float = 1e-2,
) -> Findings:  # fmt: skip
    """What D learns against a generator that stands still, and how far it is from the formula.

    p: probability of the first outcome in the data
    q: probability of the first outcome in the samples
    hidden: widths of the layers of D for the Gaussians
    updates: of each D
    points: of each Gaussian, equally likely ones, so that a mean over them is an integral
    lr: learning rate of D, which falls to 0
    """
    _check_coins("optimal-discriminator", p=p, q=q)
    game = games.minimax()
    table = best(nn.Linear(2, 1), game, outcomes(p), outcomes(q), updates, lr=5 * lr)
    found = _judged(table, tg.eye(2))
    exact = theory.optimal_discriminator(coin(p), coin(q)).numpy()
    rows = [{"at": name, "p": a, "q": b, "D*": c, "D": d, "|D - D*|": abs(d - c)}
            for name, a, b, c, d in zip(("outcome 1", "outcome 2"), (p, 1 - p), (q, 1 - q), exact, found)]  # fmt: skip
    laws = [Mixture((1.0,), (mean,), (sd,)) for mean, sd in GAUSSIANS]
    network = MLPEncoder((1,), hidden, 1)
    best(network, game, laws[0].points(points), laws[1].points(points), updates, lr=lr)
    x = tg.linspace(-6, 8, GRID, dtype=tg.float64)
    width = (x[1] - x[0]).item()
    log_p, log_q = (log_normal(x, mean, math.log(sd)) for mean, sd in GAUSSIANS)
    middle = theory.central(log_p, log_q, width).numpy()
    answers = _judged(network, x.float()[:, None])
    optimum = theory.optimal_discriminator(log_p, log_q).numpy()
    distance = np.where(middle, abs(answers - optimum), 0)
    at = int(distance.argmax())
    seen = x.numpy()[middle]
    where = f"{x[at].item():.2f}, the worst of {seen[0]:.2f} to {seen[-1]:.2f}"
    rows.append({"at": where, "p": log_p[at].exp().item(), "q": log_q[at].exp().item(), "D*": optimum[at],
                 "D": answers[at], "|D - D*|": distance[at]})  # fmt: skip
    drawn = _draw_optimal((p, q), exact, found, x.numpy(), (log_p, log_q), optimum, answers, (seen[0], seen[-1]))
    numbers = {"outcome_error": abs(found - exact).max(), "density_error": distance.max()}
    return Findings(numbers, {"discriminators": drawn}, rows)


def _judged(discriminator: nn.Module, points: tg.Tensor) -> np.ndarray:
    """D = sigmoid of its logits, (n,)."""
    with tg.no_grad():
        return discriminator(points).double().sigmoid().flatten().numpy()


def _draw_optimal(
    coins: Sequence[float], exact: np.ndarray, found: np.ndarray, x: np.ndarray, logs: Sequence[tg.Tensor],
    optimum: np.ndarray, answers: np.ndarray, ends: tuple[float, float],
) -> Any:  # fmt: skip
    canvas, finish = figure((12.6, 4.2))
    left, right = subplots(canvas, 1, 2)
    places = np.arange(2)
    for i, (share, colour, name) in enumerate(zip(coins, (DATA, MODEL), ("p, data", "q, samples"))):
        left.bar(places + 0.2 * i - 0.1, (share, 1 - share), 0.2, color=colour, alpha=0.5, label=name)
    left.hlines(exact, places - 0.3, places + 0.3, "k", linewidth=3, alpha=0.4, label="D* = p / (p + q)")
    left.plot(places, found, "o", color=JUDGE, label="D, trained")
    left.set_xticks(places, ("outcome 1", "outcome 2"))
    left.set_xlim(-0.6, 1.6)
    left.set_title(f"two outcomes: |D - D*| at most {abs(found - exact).max():.1g}")
    for log_density, colour, name in zip(logs, (DATA, MODEL), ("p, data", "q, samples")):
        right.fill_between(x, log_density.exp().numpy(), color=colour, alpha=0.4, linewidth=0, label=name)
    right.plot(x, optimum, "k", linewidth=3, alpha=0.4, label="D* = p / (p + q)")
    right.plot(x, answers, color=JUDGE, linewidth=1.4, label="D, trained")
    for end in ends:
        right.axvline(end, color="grey", linestyle=":", linewidth=1)
    inside = (x >= ends[0]) & (x <= ends[1])
    worst = abs(answers - optimum)[inside].max()
    right.set_title(f"two Gaussians: |D - D*| at most {worst:.2g} between the dotted lines")
    for axes in (left, right):
        axes.set_ylim(0, 1.02)
        axes.legend(frameon=False, fontsize=9)
    return finish()


# ---------------------------------------------------------------------------------- G5, G28: a game on the line

REAL = (1.5, 0.75)  # mean and standard deviation of the data
START = (-1.5, 1.0)  # of the samples, before the first update
LINE = tg.linspace(-5, 6, 441, dtype=tg.float64)
WIDTH = 11 / 440


class Look(NamedTuple):
    """The game between two updates: G's mean and standard deviation, D on LINE, V of this D and of the best."""

    update: int
    mean: float
    sd: float
    answers: np.ndarray
    optimum: np.ndarray
    value: float
    best_value: float
    middle: np.ndarray  # where p or q has mass

    def half(self) -> float:
        """The largest |D - 1/2| where p or q has mass."""
        return float(abs(self.answers - 0.5)[self.middle].max())

    def error(self) -> float:
        """The largest |D - D*| where p or q has mass."""
        return float(abs(self.answers - self.optimum)[self.middle].max())


class Expected(GANStep):
    """The game of the slide's expectations: z are equally likely points, so that no draw adds its noise to a mean."""

    def noise(self, n: int) -> tg.Tensor:
        """n points of N(0, 1), (n, 1)."""
        return theory.equally_likely(n)


def play(updates: int, points: int, hidden: Sequence[int], lr: float, looks: int) -> list[Look]:
    """The game of G(z) = s z + m, so that p_G is N(m, s^2), with an MLP as D: a look now and then.

    The rate of G falls to 0, else the players circle around the equilibrium; D keeps its own, and follows.
    """
    generator, discriminator = MLPDecoder((1,), (), 1), MLPEncoder((1,), hidden, 1)
    affine: Any = generator[0]
    with tg.no_grad():
        affine.weight.fill_(START[1])
        affine.bias.fill_(START[0])
    step = Expected(generator, discriminator, games.non_saturating(), latent=1, lr=lr,
                    optimizer=partial(optim.Adam, betas=(0.5, 0.99)))  # fmt: skip
    rate = FALLING(step.generator_optimizer, updates)
    real = REAL[0] + REAL[1] * theory.equally_likely(points)
    at = set(np.linspace(0, updates, looks).round().astype(int).tolist())
    seen = [_look(0, affine, discriminator)]
    for update in range(1, updates + 1):
        step((real, None))
        rate.step()
        if update in at:
            seen.append(_look(update, affine, discriminator))
    return seen


def _look(update: int, affine: Any, discriminator: nn.Module) -> Look:
    mean, sd = affine.bias.item(), abs(affine.weight.item())
    log_p, log_q = log_normal(LINE, REAL[0], math.log(REAL[1])), log_normal(LINE, mean, math.log(sd))
    with tg.no_grad():
        logits = discriminator(LINE.float()[:, None]).double().flatten()
    return Look(
        update, mean, sd, logits.sigmoid().numpy(), theory.optimal_discriminator(log_p, log_q).numpy(),
        theory.value(logits, log_p, log_q, WIDTH).item(), theory.value_at_optimum(log_p, log_q, WIDTH).item(),
        theory.central(log_p, log_q, WIDTH).numpy(),
    )  # fmt: skip


def _ends(look: Look) -> dict[str, float]:
    """Where a game ended."""
    return {"game_value": look.value, "half_error": look.half(), "density_error": look.error()}


@study("V = 2 JS - 2 log 2: two outcomes, and where a GAN on the line ends", lectures=(2, 3, 4),
       least={"points": 2, "looks": 2}, above={"lr": 0},
       tiny={"hidden": (8,), "updates": 40, "looks": 5})  # fmt: skip
def minimax_value(
    p: float = 0.5, q: float = 0.25, hidden: Sequence[int] = (32, 32), updates: int = 1500, points: int = 256,
    lr: float = 1e-2, looks: int = 61,
) -> Findings:  # fmt: skip
    """The value at D* by its two formulas, its least where q = p, and V and D of a GAN over its training.

    p: probability of the first outcome in the data
    q: probability of the first outcome in the samples
    hidden: widths of the layers of D
    updates: of both players
    points: of each side in an update, equally likely ones, so that a mean over them is an integral
    lr: learning rate of both players; G's falls to 0
    looks: at the game, the first before training
    """
    _check_coins("minimax-value", p=p, q=q)
    real, fake = coin(p), coin(q)
    optimal = real - fake
    rows = [{"q": name, "JS": js(real, other, 1.0).item(), "V at D*": theory.value(real - other, real, other).item(),
             "2 JS - 2 log 2": theory.value_at_optimum(real, other).item()}
            for name, other in ((f"{q:g}, {1 - q:g}", fake), ("q = p", real))]  # fmt: skip
    course = play(updates, points, hidden, lr, looks)
    numbers = {"js_outcomes": rows[0]["JS"], "value_outcomes": theory.value(optimal, real, fake).item(),
               "value_equal": rows[1]["V at D*"], **_ends(course[-1])}  # fmt: skip
    return Findings(numbers, {"value": _draw_value((p, q), course)}, rows)


def _draw_value(coins: tuple[float, float], course: Sequence[Look]) -> Any:
    canvas, finish = figure((13, 4.2))
    left, middle, right = subplots(canvas, 1, 3)
    shares = np.linspace(0.01, 0.99, 99)
    real = coin(coins[0])
    left.plot(shares, [theory.value_at_optimum(real, coin(share)).item() for share in shares], color=JUDGE)
    for share, name in zip(coins, ("q = p", f"q = {coins[1]:g}")):
        level = theory.value_at_optimum(real, coin(share)).item()
        left.plot(share, level, "ko", markersize=5)
        left.annotate(f"{name}: {level:.4f}", (share, level), (4, 8), textcoords="offset points")
    left.set_title(f"V(G, D*) of two outcomes, p = {coins[0]:g}")
    left.set_xlabel("q of the first outcome")
    at = [look.update for look in course]
    middle.plot(at, [look.best_value for look in course], "k", alpha=0.4, linewidth=3, label="V(G, D*), the best D's")
    middle.plot(at, [look.value for look in course], color=JUDGE, label="V(G, D)")
    middle.set_title(f"V of a GAN on the line: ends at {course[-1].value:.4f}")
    right.plot(at, [look.error() for look in course], "k", alpha=0.4, linewidth=3, label="|D - D*|")
    right.plot(at, [look.half() for look in course], color=JUDGE, label="|D - 1/2|")
    right.set_title(f"D of this GAN: |D - 1/2| ends at {course[-1].half():.3f}")
    for axes in (left, middle):
        axes.axhline(-LOG_4, color="grey", linestyle=":", linewidth=1, label="-log 4")
        axes.set_ylabel("nats")
    right.set_ylabel("largest where p or q has mass")
    for axes in (middle, right):
        axes.set_xlabel("updates")
        axes.legend(frameon=False)
    return finish()


@study("a film of p_data, p_G and D while a GAN on the line learns", lectures=(0,),
       least={"points": 2, "frames": 2}, above={"lr": 0},
       tiny={"hidden": (8,), "updates": 40, "frames": 3})  # fmt: skip
def one_d_gan(
    hidden: Sequence[int] = (32, 32), updates: int = 1500, points: int = 256, lr: float = 1e-2, frames: int = 61,
) -> Findings:  # fmt: skip
    """The game of `minimax-value` as the lecture draws it: the densities, D between them, and where G sends its noise.

    hidden: widths of the layers of D
    updates: of both players
    points: of each side in an update, equally likely ones, so that a mean over them is an integral
    lr: learning rate of both players; G's falls to 0
    frames: of the film, the first before training
    """
    course = play(updates, points, hidden, lr, frames)
    drawn = [_draw_look(look) for look in track(course, "frames")]
    last = course[-1]
    table = [{"of": "p_data", "mean": REAL[0], "sd": REAL[1]}, {"of": "p_G", "mean": last.mean, "sd": last.sd}]
    return Findings(_ends(last), {"film": Film(drawn), "last_frame": drawn[-1]}, table)


ARROWS = 15


def _draw_look(look: Look) -> Any:
    canvas, finish = figure((7.2, 4.8), layout=None)
    axes, below = canvas.add_axes((0.07, 0.33, 0.91, 0.56)), canvas.add_axes((0.07, 0.08, 0.91, 0.17))
    x = LINE.numpy()
    densities = [log_normal(LINE, mean, math.log(sd)).exp().numpy() for mean, sd in (REAL, (look.mean, look.sd))]
    axes.fill_between(x, densities[0], color=DATA, alpha=0.4, linewidth=0, label="p_data")
    axes.plot(x, densities[1], color=MODEL, linewidth=2, label="p_G")
    inside = lambda curve: np.where(look.middle, curve, np.nan)  # beyond, D has seen nothing
    axes.plot(x, look.optimum, "k", linewidth=0.8, alpha=0.25)
    axes.plot(x, look.answers, color=JUDGE, linewidth=0.8, alpha=0.4)
    axes.plot(x, inside(look.optimum), "k", linewidth=3, alpha=0.4, label="D* = p_data / (p_data + p_G)")
    axes.plot(x, inside(look.answers), color=JUDGE, linestyle="--", linewidth=1.8, label="D")
    axes.set_ylim(0, 1.02)
    axes.set_title(
        f"update {look.update}: V = {look.value:.3f}, |D - D*| at most {look.error():.2f}, "
        f"|D - 1/2| at most {look.half():.2f}", fontsize=10,
    )  # fmt: skip
    axes.legend(frameon=False, loc="upper left", fontsize=8)
    z = theory.equally_likely(ARROWS).flatten().numpy()
    below.quiver(z, 0 * z, look.mean + look.sd * z - z, np.ones_like(z), angles="xy", scale_units="xy", scale=1,
                 width=0.002, headwidth=5, color=MODEL)  # fmt: skip
    below.set_yticks((0, 1), ("z", "G(z)"))
    below.set_ylim(-0.05, 1.05)
    for one in (axes, below):
        one.set_xlim(-5, 5)
        one.spines[["top", "right"]].set_visible(False)
    return finish()
