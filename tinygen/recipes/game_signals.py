"""What G is told (lectures 0 to 4): the distance that a critic measures, and the slopes of both objectives.

    tinygen study wasserstein                    # what a critic says, beside the distance by sorting
    tinygen study non-saturating --data mnist    # the slopes that G receives from both objectives
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import numpy as np

import tinygen as tg
from tinygen import nn, optim
from tinygen.data import Dataset
from tinygen.models import games
from tinygen.models.critics import clipped, gradient_penalty
from tinygen.networks.mlp import MLPEncoder
from tinygen.studies import games as theory
from tinygen.studies import transport
from tinygen.studies.transport import Mixture
from tinygen.training import figure, to_tensors, track

from .game_theory import DATA, JUDGE, MODEL, best, subplots
from .recipe import find
from .run import build
from .settings import RunError, prepare
from .study import Findings, study

# ---------------------------------------------------------------------------------- G13: what a critic measures

NORMAL = Mixture((1.0,), (0.0,), (0.25,))


def _moved(mean: float, sigma: float = 0.25) -> Mixture:
    return Mixture((1.0,), (mean,), (sigma,))


def _modes(left: float) -> Mixture:
    return Mixture((left, 1 - left), (-0.5, 0.5), (0.12, 0.12))


SHIFTS = {f"shift {theta:g}": (NORMAL, _moved(theta)) for theta in (0.1, 0.25, 0.5, 1.0)}
PAIRS = SHIFTS | {
    "narrower": (NORMAL, _moved(0.0, 0.08)),
    "wider": (NORMAL, _moved(0.0, 0.6)),
    "shift and narrower": (NORMAL, _moved(0.4, 0.12)),
    "two modes": (NORMAL, _modes(0.5)),
    "unequal modes": (_modes(0.75), _modes(0.25)),
}
THETAS = (-1.5, -0.5, 0.0, 0.25, 1.0)  # where the second of two points lies
SHOWN = "two modes"


def growing(weight: float, updates: int) -> Callable:
    """A gradient penalty whose weight grows from 0 to `weight` over the first half of the updates.

    From the beginning it would hold slopes of the wrong sign at -1: on the way to +1 lies 0, which it punishes most.
    """
    calls = count()
    return lambda *given: gradient_penalty(weight * min(1, 2 * next(calls) / updates) ** 2)(*given)


@study("what a critic says of two laws, beside their Wasserstein distance", lectures=(0, 2, 4),
       least={"points": 4}, above={"penalty": 0, "clip": 0, "lr": 0},
       tiny={"hidden": (8,), "updates": 20, "points": 32})  # fmt: skip
def wasserstein(
    penalty: float = 30.0, clip: float = 0.1, hidden: Sequence[int] = (64, 64), updates: int = 300, points: int = 256,
    lr: float = 5e-3,
) -> Findings:  # fmt: skip
    """Critics of pairs of laws, with gradient penalty and with clipped weights, and the exact distance by sorting.

    The penalty lets a slope exceed 1 by W / (2 penalty) for a shift by W. A clipped critic measures in a unit that
    nobody knows; its error is left out, its correlation stands.

    penalty: weight of the gradient penalty
    clip: weights of the other critic are cut to [-clip, clip]
    hidden: widths of the layers of a critic
    updates: of each critic
    points: of each law, equally likely ones
    lr: learning rate with the penalty, which falls to 0; with clipping .4 of it
    """
    adam = partial(optim.Adam, betas=(0.0, 0.9))
    table: list[dict[str, Any]] = []
    shown: Any = None
    if points % 4:
        raise RunError(f"study wasserstein: {points} points cannot be cut into quarters; give a multiple of 4")
    for name, (p, q) in track(list(PAIRS.items()), "pairs"):
        x, y = p.points(points), q.points(points)
        held, cut = MLPEncoder((1,), hidden, 1), MLPEncoder((1,), hidden, 1)
        best(held, games.wasserstein(), x, y, updates, lr=lr, penalty=growing(penalty, updates), optimizer=adam)
        best(cut, games.wasserstein(), x, y, updates, lr=0.4 * lr, constrain=clipped(clip), optimizer=optim.RMSprop)
        distance = transport.wasserstein(x, y)
        says = [_says(critic, x, y) for critic in (held, cut)]
        table.append({"laws": name, "W": distance, "penalty": says[0], "error": says[0] / distance - 1,
                      "clipped": says[1], "clipped by W": says[1] / distance})  # fmt: skip
        if name == SHOWN:
            shown = held, x, y
    exact, with_penalty, with_clipping = (np.array([row[key] for row in table]) for key in ("W", "penalty", "clipped"))
    shifts = [name in SHIFTS for name in PAIRS]
    numbers = {
        "critic_r": _correlation(with_penalty, exact), "critic_error": abs(with_penalty / exact - 1).max(),
        "clipped_r": _correlation(with_clipping, exact),
        "clipped_shift_r": _correlation(with_clipping[shifts], exact[shifts]),
    }  # fmt: skip
    single = [_between_diracs(theta, updates) for theta in THETAS]
    numbers["dirac_error"] = max(abs(says - abs(theta)) for says, theta in zip(single, THETAS))
    drawn = _draw_wasserstein(exact, with_penalty, with_clipping, *shown)
    return Findings(numbers, {"wasserstein": drawn, "diracs": _draw_diracs(single)}, table)


def _between_diracs(theta: float, updates: int) -> float:
    """What a critic w x + b with |w| <= 1 says of all mass at 0 and all mass at theta."""
    x, y = tg.zeros(4, 1), tg.full((4, 1), theta)
    line = nn.Linear(1, 1)
    best(line, games.wasserstein(), x, y, updates, lr=0.5, constrain=clipped(1.0), optimizer=optim.RMSprop)
    return _says(line, x, y)


def _says(critic: nn.Module, x: tg.Tensor, y: tg.Tensor) -> float:
    """E f(x) - E f(y)."""
    with tg.no_grad():
        return (critic(x).mean() - critic(y).mean()).item()


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def _draw_wasserstein(
    exact: np.ndarray, held: np.ndarray, cut: np.ndarray, critic: nn.Module, x: tg.Tensor, y: tg.Tensor
) -> Any:
    canvas, finish = figure((13, 4.2))
    left, middle, right = subplots(canvas, 1, 3)
    shift = np.array([name in SHIFTS for name in PAIRS])
    for axes, says, name in ((left, held, "gradient penalty"), (middle, cut, "clipped weights")):
        axes.plot(exact[shift], says[shift], "o", color=JUDGE, label="shifts")
        axes.plot(exact[~shift], says[~shift], "s", color=MODEL, label="other shapes")
        axes.set_title(f"{name}: r = {_correlation(says, exact):.5f}")
        axes.set_xlabel("W by sorting")
        axes.set_ylabel("E f(x) - E f(y)")
    left.plot((0, 1), (0, 1), color="grey", linestyle=":", label="equal")
    left.legend(frameon=False)
    middle.legend(frameon=False)
    grid = tg.linspace(-1.2, 1.2, 481)
    with tg.no_grad():
        found = critic(grid[:, None]).flatten().numpy()
    ideal = transport.potential(x, y, grid).numpy()
    for points, colour, name in ((x, DATA, "p"), (y, MODEL, "q")):
        right.hist(points.numpy()[:, 0], 40, range=(-1.2, 1.2), density=True, color=colour, alpha=0.35, label=name)
    scale = right.twinx()
    scale.plot(grid.numpy(), ideal - ideal.mean(), "k", linewidth=3, alpha=0.4, label="f*, slopes of 1")
    scale.plot(grid.numpy(), found - found.mean(), color=JUDGE, linewidth=1.6, label="f, gradient penalty")
    scale.spines["top"].set_visible(False)
    scale.legend(frameon=False, loc="lower center", fontsize=8)
    right.legend(frameon=False, loc="upper right", fontsize=8)
    right.set_title(f"{SHOWN}: the critic")
    return finish()


def _draw_diracs(single: Sequence[float]) -> Any:
    canvas, finish = figure((5.4, 4.2))
    (axes,) = subplots(canvas, 1, 1)
    thetas = np.linspace(-2, 2, 81)
    found = [transport.diracs(theta) for theta in thetas.tolist()]
    axes.plot(thetas, [one.wasserstein for one in found], color=JUDGE, linewidth=2, label="W = |theta|")
    axes.plot(thetas, [one.js for one in found], ".", color=MODEL, markersize=4, label="JS: log 2, and 0 at 0")
    axes.plot(THETAS, single, "ko", label="critic w x, |w| <= 1")
    axes.text(0, 1.75, "KL is infinite, and 0 at 0", ha="center")
    axes.set_title("all mass at 0, all mass at theta")
    axes.set_xlabel("theta")
    axes.set_ylabel("distance; JS in nats")
    axes.legend(frameon=False, loc="lower left")
    return finish()


# ---------------------------------------------------------------------------------- G3: which slopes reach G

OBJECTIVES = {"minimax": games.minimax, "non-saturating": games.non_saturating}
LOGIT = -4.0  # of a sample that D rejects: D = .018


class Course(NamedTuple):
    """A training: the norms of both objectives' gradients in G before each update (N, 2), and the mean of D(G(z))."""

    norms: np.ndarray
    judged: np.ndarray

    def ratio(self) -> float:
        """The mean over the updates of |gradient, non-saturating| / |gradient, minimax|."""
        return float((self.norms[:, 1] / self.norms[:, 0]).mean())


@study("the gradients that G receives from both objectives while D wins", lectures=(0, 1, 2, 3), data="digits",
       least={"batch": 2}, tiny={"updates": 3, "batch": 4})  # fmt: skip
def non_saturating(dataset: Dataset, updates: int = 100, batch: int = 32, rounds: int = 3) -> Findings:
    """Norms of both gradients in G's parameters, of the same G, D and z, in the first updates of a `dcgan`.

    One training with each objective, from the same weights. The ratio is the mean over all updates.

    updates: of G
    batch: training images in an update of D
    rounds: updates of D for one of G
    """
    needed = batch * rounds
    if dataset.count("train") < needed:
        raise RunError(f"study non-saturating: {rounds} rounds of {batch} need {needed} training images, and there are "
                       f"{dataset.count('train')}; give a smaller batch")  # fmt: skip
    seed = int(tg.randint(0, 2**31 - 1, (1,)).item())
    courses = {name: _course(dataset, name, updates, needed, rounds, seed) for name in OBJECTIVES}
    rows = [{"trained with": name, "ratio": course.ratio(), "median": float(np.median(_ratios(course))),
             "first": _ratios(course)[0], "last": _ratios(course)[-1], "D(G(z)), last": course.judged[-1]}
            for name, course in courses.items()]  # fmt: skip
    slopes = {name: theory.slope(rule().generator, LOGIT) for name, rule in OBJECTIVES.items()}
    numbers = {
        "gradient_ratio_minimax": courses["minimax"].ratio(),
        "gradient_ratio_non_saturating": courses["non-saturating"].ratio(),
        "slope_minimax": slopes["minimax"], "slope_non_saturating": slopes["non-saturating"],
    }  # fmt: skip
    return Findings(numbers, {"gradients": _draw_gradients(courses)}, rows)


def _ratios(course: Course) -> list[float]:
    return (course.norms[:, 1] / course.norms[:, 0]).tolist()


def _course(dataset: Dataset, objective: str, updates: int, batch: int, rounds: int, seed: int) -> Course:
    plan = {"objective": objective, "rounds": rounds, "smoothing": 0.0}
    settings = prepare(
        find("dcgan"), dataset, {"name": dataset.name}, seed=seed, batch_size=batch, device="cpu", arguments=plan
    )  # fmt: skip
    step: Any = build(settings)
    losses = [rule().generator for rule in OBJECTIVES.values()]
    batches = dataset.batches(batch, seed, drop_last=True)
    tg.manual_seed(seed)
    norms, judged = [], []
    for update in range(updates):
        logits = step.discriminator(step.generator(step.noise(batch // rounds)))
        norms.append(theory.gradient_norms([loss(logits) for loss in losses], list(step.generator.parameters())))
        judged.append(logits.detach().sigmoid().mean().item())
        step(to_tensors(batches.at(*divmod(update, len(batches)))))
    return Course(np.array(norms), np.array(judged))


def _draw_gradients(courses: dict[str, Course]) -> Any:
    canvas, finish = figure((13, 4.2))
    *two, right = subplots(canvas, 1, 3)
    for axes, (name, course) in zip(two, courses.items()):
        for column, (objective, colour) in enumerate(zip(OBJECTIVES, (DATA, JUDGE))):
            axes.semilogy(course.norms[:, column], color=colour, label=f"gradient of {objective}")
        axes.semilogy(course.judged, color=MODEL, linestyle=":", label="mean of D(G(z))")
        axes.set_title(f"trained with {name}: mean ratio {course.ratio():.1f}")
        axes.set_xlabel("updates of G")
        axes.legend(frameon=False, fontsize=8)
    two[0].sharey(two[1])
    two[0].set_ylabel("norm in G's parameters")
    a = np.linspace(-6, 6, 121)
    d = 1 / (1 + np.exp(-a))
    curves = {"minimax": (np.log(1 - d), -d), "non-saturating": (-np.log(d), d - 1)}
    for (name, (loss, slopes)), colour in zip(curves.items(), (DATA, JUDGE)):
        right.plot(a, loss, color=colour, label=f"{name}: {'log(1 - D)' if name == 'minimax' else '-log D'}")
        right.plot(a, slopes, color=colour, linestyle="--", label="its slope in a")
    right.axvline(LOGIT, color="grey", linestyle=":", linewidth=1)
    right.set_xlabel("logit a of a sample, D = sigmoid(a)")
    right.set_title("G's loss of one sample")
    right.legend(frameon=False, fontsize=8)
    return finish()
