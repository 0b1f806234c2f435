"""Theory in numbers (lectures 2, 3, 4): studies of densities that have formulas. They stand on no run.

    tinygen study bayes --set rain=0.1
    tinygen study divergences --set apart=8
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import tinygen as tg
from tinygen.metrics import k_sample_bound
from tinygen.studies import divergences as between
from tinygen.studies import evidence
from tinygen.training import figure

from .settings import RunError
from .study import Findings, study

# ---------------------------------------------------------------------------------- Bayes' rule

PURPLE, GREEN = "tab:purple", "tab:green"


@study("prior, likelihood, marginal and posterior: a student and the rain", lectures=(4,))
def bayes(rain: float = 0.3, there_in_rain: float = 0.5, there_when_dry: float = 0.9, days: int = 10_000) -> Findings:
    """What a student's presence says about the rain, by Bayes' rule and counted on drawn days.

    rain: prior probability of rain
    there_in_rain: probability that the student is there when it rains
    there_when_dry: probability that the student is there when it does not rain
    days: drawn, to count on
    """
    for name, value in (("rain", rain), ("there_in_rain", there_in_rain), ("there_when_dry", there_when_dry)):
        if not 0 < value < 1:
            raise RunError(f"study bayes: {name} is a probability above 0 and below 1, it is {value:g}")
    double = lambda rows: tg.tensor(rows, dtype=tg.float64)
    there = (there_in_rain, there_when_dry)
    found = evidence.bayes(double([rain, 1 - rain]), double([(p, 1 - p) for p in there]))
    rains = tg.rand(days) < rain
    present = tg.rand(days) < tg.where(rains, there_in_rain, there_when_dry)
    posterior, marginal = found.posterior.numpy(), found.marginal.numpy()
    rows = [("prior: rain", rain, _share(rains)), ("marginal: there", marginal[0], _share(present))]
    for x, (name, seen) in enumerate((("there", present), ("absent", ~present))):
        for z, (weather, event) in enumerate((("rain", rains), ("dry", ~rains))):
            counted = _share(event & seen) / max(_share(seen), 1 / days)
            rows.append((f"posterior: {weather}, given {name}", posterior[z, x], counted))
    table = [{"probability": name, "by Bayes": float(p), f"on {days:,} days": count} for name, p, count in rows]
    numbers = {
        "prior": rain, "marginal": float(marginal[0]), "posterior": float(posterior[0, 0]),
        "posterior_absent": float(posterior[0, 1]),
    }  # fmt: skip
    return Findings(numbers, {"bayes": _draw_bayes(rain, there, marginal, posterior)}, table)


def _share(events: tg.Tensor) -> float:
    return events.to(tg.float64).mean().item()


def _draw_bayes(rain: float, there: tuple[float, float], marginal: np.ndarray, posterior: np.ndarray) -> Any:
    """The same four areas twice: cut by the weather first, and by the student first."""
    canvas, finish = figure((9.6, 4.8))
    left, right = canvas.subplots(1, 2)
    _mosaic(left, (rain, 1 - rain), ("rain", "dry"), [(p, 1 - p) for p in there], ("there", "absent"), by_column=True)
    left.set_title("prior (widths) and likelihood (heights)")
    _mosaic(right, marginal, ("there", "absent"), posterior.T, ("rain", "dry"), by_column=False)
    right.set_title("marginal (widths) and posterior (heights)")
    return finish()


def _mosaic(
    axes: Any, widths: Any, columns: Sequence[str], heights: Any, rows: Sequence[str], by_column: bool
) -> None:
    """Columns of a width, each cut into rows of a height; an area is a joint probability. Rain is blue."""
    at = 0.0
    for i, (width, column) in enumerate(zip(widths, columns)):
        bottom = 0.0
        for j, (height, row) in enumerate(zip(heights[i], rows)):
            wet, seen = (i == 0, j == 0) if by_column else (j == 0, i == 0)
            axes.bar(at, height, width, bottom, align="edge", color="tab:blue" if wet else "tab:orange",
                     alpha=0.85 if seen else 0.35, edgecolor="white", linewidth=2)  # fmt: skip
            if height > 0.06:
                text = f"{row}\n{height:.3f}" if width < 0.5 else f"{row}  {height:.3f}"
                axes.text(at + width / 2, bottom + height / 2, text, ha="center", va="center")
            bottom += height
        axes.text(at + width / 2, -0.03, f"{column}\n{width:.3f}", ha="center", va="top")
        at += width
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)


# ---------------------------------------------------------------------------------- the evidence and its bound

KS = (1, 2, 5, 10, 20, 50, 100)


@study(
    "log p(x) = ELBO + KL(q || posterior), in a model that has formulas", lectures=(2, 3, 4), tiny={"groups": 50}
)
def elbo_identities(weight: float = 1.2, sigma: float = 0.8, x: float = 1.5, groups: int = 400) -> Findings:
    """The evidence, the bound of many q and what each lacks, and the k-sample bound between the two.

    weight: of z ~ N(0, 1) in x ~ N(weight z, sigma^2)
    sigma: standard deviation of x around weight z
    x: the number that is observed
    groups: means of k weights that a bound is averaged over
    """
    if not sigma > 0:
        raise RunError(f"study elbo-identities: sigma is a standard deviation above 0, it is {sigma:g}")
    double = lambda value: tg.tensor(value, dtype=tg.float64)
    model = evidence.LinearGaussian(double([[weight]]), double([0.0]), sigma)
    seen = double([x])
    log_p = model.evidence(seen).item()
    mean, variance = (t.item() for t in model.posterior(seen))
    sd = math.sqrt(variance)

    def terms(m: float, s: float) -> tuple[float, float]:
        q = double([m]), double([[s * s]])
        return model.elbo(seen, *q).item(), model.gap(seen, *q).item()

    family = [
        ("the posterior", mean, sd), ("half as wide", mean, sd / 2), ("twice as wide", mean, 2 * sd),
        ("one width off", mean + sd, sd), ("the prior", 0.0, 1.0),
    ]  # fmt: skip
    table = []
    for name, m, s in family:
        elbo, gap = terms(m, s)
        table.append({"q": name, "mean": m, "sd": s, "ELBO": elbo, "KL to posterior": gap,
                      "log p - ELBO - KL": log_p - elbo - gap})  # fmt: skip
    weights = model.log_weights(seen, double([0.0]), double([[1.0]]), groups * KS[-1]).numpy()[:, None]
    bounds = [k_sample_bound(weights, k) for k in KS]
    means = mean + sd * np.linspace(-3, 3, 61)
    widths = sd * np.geomspace(0.2, 4, 61)
    curves = [terms(m, sd) for m in means], [terms(mean, s) for s in widths]
    drawn = _draw_elbo(log_p, (means, widths), (mean, sd), curves, bounds, terms(0.0, 1.0)[0])
    numbers = {"log_p": log_p, "elbo": terms(0.0, 1.0)[0], "k_sample_bound": bounds[-1]}
    return Findings(numbers, {"elbo": drawn}, table)


def _draw_elbo(
    log_p: float, places: Sequence[np.ndarray], best: Sequence[float], curves: Sequence, bounds: Sequence, elbo: float
) -> Any:
    canvas, finish = figure((12.6, 4.2))
    panels = canvas.subplots(1, 3)
    for axes, at, top, curve, name in zip(panels, places, best, curves, ("mean of q", "standard deviation of q")):
        elbos, gaps = np.transpose(curve)
        axes.axhline(log_p, color="black", linewidth=1.2, label="log p(x)")
        axes.plot(at, elbos, color=PURPLE, linewidth=1.8, label="ELBO(q)")
        axes.fill_between(at, elbos, elbos + gaps, color=PURPLE, alpha=0.15, linewidth=0, label="KL(q || posterior)")
        axes.axvline(top, color="grey", linestyle=":", linewidth=1.2, label="of the posterior")
        axes.set_xlabel(name)
        axes.set_ylabel("nats")
    panels[0].legend(frameon=True, loc="lower center", fontsize=8)
    panels[0].set_title("the bound against the mean of q")
    panels[1].set_title("the bound against the width of q")
    panels[2].axhline(log_p, color="black", linewidth=1.2, label="log p(x)")
    panels[2].axhline(elbo, color=PURPLE, linewidth=1.2, linestyle="--", label="ELBO, q the prior")
    panels[2].semilogx(KS, bounds, "o-", color=GREEN, linewidth=1.6, markersize=4, label="k-sample bound, measured")
    panels[2].set_xticks(KS, [str(k) for k in KS])
    panels[2].minorticks_off()
    panels[2].set_xlabel("k draws of z")
    panels[2].set_title("a mean of k weights lies between")
    panels[2].legend(frameon=False, loc="center right", fontsize=8)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return finish()


# ---------------------------------------------------------------------------------- divergences

RULES = {"forward_kl": between.kl, "reverse_kl": between.reverse_kl, "js": between.js}
TITLES = {
    "forward_kl": "forward KL(p || q), maximum likelihood", "reverse_kl": "reverse KL(q || p)",
    "js": "Jensen-Shannon, what a GAN minimises",
}  # fmt: skip
SIGMAS = (0.6, 0.9)  # of the two modes


@study("one Gaussian for two modes: forward KL covers, reverse KL picks", lectures=(2, 4), tiny={"points": 301})
def divergences(apart: float = 5.0, share: float = 0.6, points: int = 1001) -> Findings:
    """The Gaussian nearest to a target of two modes, by three divergences; the forward one has the target's moments.

    apart: distance of the two modes, whose standard deviations are .6 and .9
    share: of the right, wider mode
    points: of the grid that integrals are sums over
    """
    if not (apart > 0 and 0 < share < 1):
        raise RunError(
            f"study divergences: apart={apart:g} must be above 0, and share={share:g} between 0 and 1, both excluded"
        )
    reach = apart / 2 + max(8, apart + 3)  # a sixth of the grid is above half of apart: a fit may cover both modes
    needed = max(101, math.ceil(2 * reach / (SIGMAS[0] / 2)) + 1)  # two steps of the grid in the narrower mode's sigma
    if points < needed:
        raise RunError(f"study divergences: modes {apart:g} apart need a grid of {needed} points; it has {points}")
    x = tg.linspace(-reach, reach, points, dtype=tg.float64)
    width = (x[1] - x[0]).item()
    target = between.log_mixture(x, (1 - share, share), (-apart / 2, apart / 2), SIGMAS)
    mean, sd = between.moments(target, x, width)
    starts = [(-apart / 2, 1.0), (mean, sd), (apart / 2, 1.0)]
    fits = {name: between.nearest_gaussian(rule, target, x, starts) for name, rule in RULES.items()}
    table = []
    for name, fit in fits.items():
        q = fit.log_density(x)
        left = {other: rule(target, q, width).item() for other, rule in RULES.items()}
        table.append({"least": name, "mean": fit.mean, "sd": fit.sigma, **left,
                      "outside": between.outside(target, q, width)})  # fmt: skip
    table.append({"least": "moments", "mean": mean, "sd": sd} | dict.fromkeys([*RULES, "outside"], ""))
    numbers = {name: fit.value for name, fit in fits.items()} | {"outside": table[0]["outside"]}
    return Findings(numbers, {"fits": _draw_fits(x.numpy(), target, fits, [row["outside"] for row in table])}, table)


def _draw_fits(x: np.ndarray, target: tg.Tensor, fits: dict[str, between.Fit], outside: Sequence) -> Any:
    canvas, finish = figure((12.6, 4.0))
    p, seen = target.exp().numpy(), x[target.numpy() > math.log(1e-4)]
    qs = {name: fit.log_density(tg.tensor(x)).exp().numpy() for name, fit in fits.items()}
    for axes, (name, fit), beyond in zip(canvas.subplots(1, 3, sharey=True), fits.items(), outside):
        axes.fill_between(x, p, color="grey", alpha=0.35, linewidth=0, label="target p")
        axes.plot(x, qs[name], color=PURPLE, linewidth=2, label="nearest Gaussian q")
        axes.set_title(f"{TITLES[name]}\n{fit.value:.3f} nats", fontsize=11)
        axes.set_xlabel(f"mean {fit.mean:.2f}, sd {fit.sigma:.2f}; {100 * beyond:.0f} % of q lies off the target")
        axes.set_xlim(seen[0] - 2, seen[-1] + 2)
        axes.set_ylim(0, 1.08 * max(q.max() for q in (p, *qs.values())))
        axes.spines[["top", "right"]].set_visible(False)
    canvas.axes[0].legend(frameon=False, loc="upper left", fontsize=8)
    canvas.axes[0].set_ylabel("density")
    return finish()
