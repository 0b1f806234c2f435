"""Spaces of codes (lectures 1, 3, 4): what a decoder draws over its prior, and what an encoder makes of images.

    tinygen study manifold runs/vae-d2-001
    tinygen study latents runs/autoencoder-d2-001
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import tinygen as tg
from tinygen import metrics
from tinygen.data.selection import subset
from tinygen.nn.functional import gaussian_kl, reparameterize
from tinygen.studies import divergences, evidence
from tinygen.studies import latents as spaces
from tinygen.studies import manifold as plane
from tinygen.training import aside, figure

from .scores import DIGITS
from .settings import RunError
from .study import Findings, Rows, Sheet, Trained, study

# ---------------------------------------------------------------------------------- the manifold


@study("the decoder over its prior: a grid, walks, interpolations", on=("vae-d2",), lectures=(3, 4), tiny={"side": 6},
       least={"side": 2})  # fmt: skip
def manifold(trained: Trained, side: int = 20, walks: int = 8, pairs: int = 4, points: int = 2000) -> Findings:
    """Images of a grid over the two most active units of a code, laid as densely as the prior, and what is on it.

    side: images a side of the grid
    walks: units that are moved, the most active first, the others left where a test image has them
    pairs: lines between codes of test images
    points: test images whose codes say which units are active
    """
    step, dataset = trained.step, trained.dataset
    images = dataset.floats("test")[subset(dataset.count("test"), points)]
    if 2 * pairs > len(images):
        raise RunError(f"{pairs} lines need {2 * pairs} test images, and there are {len(images)}: give fewer pairs")
    with aside(step, 0):
        found = _encoded(trained, images)
        latent, order = found.shape[1], plane.most_active(found)
        grid = trained.decode(plane.grid(side, latent, (order[0], order[1])))
        codes = tg.tensor(found[: 2 * pairs])
        moved = [trained.decode(plane.walk(tg.tensor(found[0]), unit, 12)) for unit in order[:walks]]
        lines = [spaces.line(codes[2 * i], codes[2 * i + 1], 8) for i in range(pairs)]
        pictures: dict[str, Any] = {
            "manifold": Sheet(grid, side), "walks": Rows(moved, [f"z_{unit}" for unit in order[:walks]]),
            "interpolations": Sheet(trained.decode(tg.cat(lines)), 8),
        }  # fmt: skip
    numbers, table = {"active": float(plane.active(found))}, []
    if metrics.scorable(dataset.shape) and tuple(dataset.classes) == DIGITS:
        probabilities = metrics.features(grid.numpy())[1]
        seen, sure = probabilities.argmax(1), probabilities.max(1)
        shares = np.bincount(seen, minlength=len(DIGITS)) / len(seen)
        table = [
            {"digit": digit, "share": float(share), "confidence": float(sure[seen == k].mean()) if share else 0.0}
            for k, (digit, share) in enumerate(zip(DIGITS, shares))
        ]
        numbers |= {"rarest_digit": float(shares.min()), "digits": float((shares >= 0.01).sum())}
        pictures["recognised"] = _draw_recognised(seen.reshape(side, side), sure.reshape(side, side), shares)
    return Findings(numbers, pictures, table)


def _draw_recognised(seen: np.ndarray, sure: np.ndarray, shares: np.ndarray) -> Any:
    """Which digit the frozen network takes each image for, and the share of each."""
    from matplotlib import colormaps

    colours = colormaps["tab10"](range(len(DIGITS)))[:, :3]
    canvas, finish = figure((11.0, 5.4))
    left, right = canvas.subplots(1, 2, width_ratios=(1.15, 1))
    pale = 1 - (1 - colours[seen]) * sure[:, :, None] ** 2  # the less sure, the paler
    left.imshow(pale, extent=(0, 1, 0, 1))
    side = len(seen)
    for (row, column), digit in np.ndenumerate(seen):
        at = ((column + 0.5) / side, 1 - (row + 0.5) / side)
        left.text(*at, DIGITS[digit], ha="center", va="center", fontsize=min(9, 180 / side))
    left.set_title("what the frozen network sees; pale: unsure")
    left.set_xlabel("Φ(z), the most active unit")
    left.set_ylabel("Φ(z), the second")
    bars = right.bar(DIGITS, 100 * shares, color=colours)
    right.bar_label(bars, fmt="%.1f", fontsize=8)
    right.axhline(1, color="black", linewidth=1, linestyle="--", label="1 %")
    right.set_title("share of each digit, %")
    right.set_xlabel("digit")
    right.legend(frameon=False)
    right.spines[["top", "right"]].set_visible(False)
    return finish()


def _encoded(trained: Trained, images: np.ndarray) -> np.ndarray:
    found = spaces.encoded(trained.encode, images)
    if found.ndim != 2 or found.shape[1] < 2:
        raise RunError(
            f"a picture of codes in the plane needs codes of two numbers or more; this run's are {found.shape[1:]}: "
            f"name another run"
        )
    return found


# ---------------------------------------------------------------------------------- two latent spaces


@study(
    "codes of an autoencoder and of a VAE side by side, and what more draws of z bring",
    on=("autoencoder-d2", "vae-d2"), lectures=(1, 3, 4), needs=("latent",), tiny={"points": 60, "repeats": 60},
    least={"points": 2, "repeats": 2},  # one estimate has no variance
)  # fmt: skip
def latents(plain: Trained, variational: Trained, points: int = 2000, k: int = 3, repeats: int = 250) -> Findings:
    """Both clouds of codes beside N(0, I), images of k draws of z, and the ELBO of one draw and of k.

    points: test images whose codes are drawn
    k: draws of z for an image
    repeats: of each estimate of the ELBO, on 50 test images
    """
    if k < 2:
        raise RunError(f"study latents compares one draw of z with k of them: k must be at least 2, it is {k}")
    step, dataset = variational.step, variational.dataset
    order = subset(dataset.count("test"), points)
    images = dataset.floats("test")[order]
    labels = None if dataset.test_labels is None else dataset.test_labels[order]
    with aside(plain.step, 0):
        clouds = {"autoencoder": _encoded(plain, images)}
    with aside(step, 0):
        clouds["VAE, the means of q(z|x)"] = _encoded(variational, images)
        some = tg.tensor(images[subset(len(images), 50)]).to(step.device)  # not the front of the file
        x = step.seen(some)
        mean, log_variance = step.encoder(x)
        kls = gaussian_kl(mean, log_variance).mean().item(), evidence.reversed_kl(mean, log_variance).mean().item()
        shown = min(12, len(x))
        q = mean[:shown], log_variance[:shown]
        drawn = [x[:shown], *(step.decode(reparameterize(*q, tg.randn_like(q[0]))) for _ in range(k))]
        elbo = lambda: -step.measure((some, None))["loss"].item()
        one, many = (evidence.averaged(elbo, count, repeats) for count in (1, k))
    ratio = float(many.var(ddof=1) / one.var(ddof=1))
    told = {f"codes: {name}": _cloud(codes) for name, codes in clouds.items()}
    told["VAE"] = {"mean of KL(q(z|x) || N(0, I)), nats": kls[0]}
    told |= {
        f"ELBO, {name}": {"mean, nats": values.mean(), "standard deviation, nats": values.std(ddof=1)}
        for name, values in (("one draw of z", one), (f"{k} draws of z", many))
    }
    table = [{"of": what, "quantity": name, "value": float(value)}
             for what, values in told.items() for name, value in values.items()]  # fmt: skip
    beside = Rows([row.cpu() for row in drawn], ["x", *(f"draw {i + 1}" for i in range(k))])
    pictures = {
        "latents": _draw_clouds(clouds, labels, dataset.classes), "draws": beside,
        "estimates": _draw_estimates(one, many, k),
    }  # fmt: skip
    return Findings({"kl": kls[0], "kl_reversed": kls[1], "variance_ratio": ratio}, pictures, table)


def _cloud(codes: np.ndarray) -> dict[str, float]:
    """Norm of the mean, root mean variance, and KL(the Gaussian with the moments of the codes || N(0, I))."""
    mean, covariance = codes.mean(0).astype(float), np.atleast_2d(np.cov(codes.T.astype(float)))
    normal = np.zeros_like(mean), np.eye(len(mean))
    left = divergences.gaussian_kl(*(tg.tensor(array) for array in (mean, covariance, *normal)))
    spread = np.sqrt(np.trace(covariance) / len(mean))
    fitted = "KL(their Gaussian || N(0, I)), nats"
    return {"norm of the mean": float(np.linalg.norm(mean)), "standard deviation": spread, fitted: left.item()}


def _draw_clouds(clouds: dict[str, np.ndarray], labels: np.ndarray | None, names: Sequence[str]) -> Any:
    from matplotlib import colormaps
    from matplotlib.patches import Circle

    canvas, finish = figure((11.4, 5.4))
    colours = colormaps["tab10" if len(names) <= 10 else "tab20"]
    panels = canvas.subplots(1, 2)
    for axes, (title, codes) in zip(panels, clouds.items()):
        points = spaces.in_the_plane(codes)
        for c, name in enumerate(names if labels is not None else [""]):
            chosen = points[labels == c] if labels is not None else points
            axes.scatter(*chosen.T, s=12, alpha=0.6, linewidths=0, color=colours(c % colours.N), label=name)
        for radius, line in ((1, "-"), (2, "--")):
            axes.add_patch(Circle((0, 0), radius, fill=False, linestyle=line, zorder=3))
        axes.set_title(title)
        axes.set_aspect("equal", adjustable="datalim")
        axes.spines[["top", "right"]].set_visible(False)
    canvas.supxlabel("black circles: one and two standard deviations of N(0, I)", fontsize=10)
    if labels is not None and len(names) <= 20:
        panels[1].legend(frameon=False, markerscale=3, loc="center left", bbox_to_anchor=(1, 0.5))
    return finish()


def _draw_estimates(one: np.ndarray, many: np.ndarray, k: int) -> Any:
    canvas, finish = figure((6.4, 4.2))
    axes = canvas.add_subplot()
    both = np.concatenate([one, many])
    bins = np.linspace(both.min(), both.max(), 41)
    for values, name, colour in ((one, "one draw", "tab:orange"), (many, f"{k} draws", "tab:blue")):
        text = f"{name}: {values.mean():.2f} ± {values.std(ddof=1):.2f}"
        axes.hist(values, bins=bins, color=colour, alpha=0.55, density=True, label=text)
        axes.axvline(values.mean(), color=colour, linewidth=1.5)
    axes.set_title(f"estimates of the ELBO, variance ratio {many.var(ddof=1) / one.var(ddof=1):.2f}")
    axes.set_xlabel("nats per image, mean of the same test images")
    axes.set_yticks([])
    axes.legend(frameon=False, loc="upper left", fontsize=9)
    axes.margins(y=0.25)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return finish()
