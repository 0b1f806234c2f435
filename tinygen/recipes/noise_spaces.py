"""Spaces of noise (lectures 0, 4): what a GAN's codes mean, and a generator as knowledge about images.

    tinygen study arithmetic                     # "red 3 - red 7 + green 7 = green 3", judged by a frozen network
    tinygen study turn                           # a direction that makes digits lean
    tinygen study chain; tinygen study plane     # between given codes
    tinygen study inversion                      # the code of an image; half an image restored; anomalies
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

import tinygen as tg
from tinygen import metrics
from tinygen.data.selection import subset
from tinygen.data.varied import untinted
from tinygen.studies import latents, noise
from tinygen.training import aside, figure

from .baselines import DIGITS
from .study import Findings, Rows, Sheet, Trained, generator, images, study

COLOURS = ("red", "yellow", "green", "cyan", "blue", "magenta")  # at hues 0, 1/6, 2/6, ...
SURE = 0.95  # the probability from which the frozen network is confident
EXAMPLE = (3, 7, 0, 2)  # of the slide: red 3 - red 7 + green 7
OTHERS = 500  # random images: how much any two differ
SUM = ("digit a, colour c", "- digit b, colour c", "+ digit b, colour d", "= digit a, colour d")


def _images(trained: Trained, codes: np.ndarray) -> np.ndarray:
    """(N, C, H, W): what the generator makes of codes (N, D)."""
    return latents.decoded(partial(_made, trained), codes)


def _made(trained: Trained, codes: tg.Tensor) -> tg.Tensor:
    step = trained.step
    return step.generator(codes.to(step.device)).cpu()


def _codes(trained: Trained, n: int) -> np.ndarray:
    """(n, D) random noise, as the training has it."""
    return trained.step.noise(n).cpu().numpy()


# ---------------------------------------------------------------------------------- G11


def _judged(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(probabilities of digits (N, 10) by the frozen network on the grey images, distances from COLOURS (N, 6))."""
    grey, hues = untinted(images)
    away = hues[:, None] - np.arange(len(COLOURS)) / len(COLOURS)
    return metrics.features(grey)[1], np.abs((away + 0.5) % 1 - 0.5)


def _right(images: np.ndarray, digits: np.ndarray, colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which images (N, C, H, W) show the digit that is asked for, and which its colour: the nearest one."""
    probabilities, distances = _judged(images)
    return probabilities.argmax(1) == digits, distances.argmin(1) == colours


def _groups(images: np.ndarray, least: int) -> tuple[dict[tuple[int, int], np.ndarray], float]:
    """({(digit, colour): indices of images that surely show both}, the least probability of a digit in any of them).

    A group of fewer than `least` is filled: first with less sure ones of the colour, then with colours nearby, which
    count as probability 0.
    """
    probabilities, distances = _judged(images)
    groups, doubts = {}, []
    for c in range(len(COLOURS)):
        there = distances.argmin(1) == c
        for digit, sure in enumerate(probabilities.T):
            scores = np.where(there, sure, -distances[:, c])
            groups[digit, c] = noise.alike(scores, SURE, least)
            doubts.append(max(0.0, scores[groups[digit, c]].min()))
    return groups, float(min(doubts))


def coloured_digits(shape: Sequence[int], classes: Sequence[str], data: str) -> str | None:
    """Why arithmetic refuses: it needs digits that the frozen network knows, in three channels."""
    if len(shape) == 3 and shape[0] == 3 and metrics.scorable((1, *shape[1:])) and tuple(classes) == DIGITS:
        return None
    return (f"arithmetic needs digits in colour, 3x8x8 or 3x28x28, and these data are {'x'.join(map(str, shape))}; "
            f"train on tinted-digits or tinted-mnist")  # fmt: skip


@study("arithmetic with noise: red 3 - red 7 + green 7", on=("tinted-dcgan",), lectures=(0, 4), asks=coloured_digits,
       tiny={"pool": 400, "trials": 20, "averaged": 3, "around": 2})  # fmt: skip
def arithmetic(
    trained: Trained, trials: int = 200, averaged: int = 30, pool: int = 20_000, around: int = 8, spread: float = 0.25
) -> Findings:
    """The share of sums of averaged noise whose image has the digit and the colour that it should have.

    trials: sums "digit a in colour c - digit b in colour c + digit b in colour d", all four at random
    averaged: codes in an average, each of which the frozen network is sure of
    pool: random codes that they are chosen from
    around: codes around each result
    spread: their distance: uniform noise in [-spread, spread]
    """
    draw, make, table = generator(), partial(_images, trained), []
    with aside(trained.step, int(draw.integers(2**31))):
        codes, random = _codes(trained, pool), _codes(trained, trials)
        groups, doubt = _groups(make(codes), averaged)
        asked = noise.questions(range(10), range(len(COLOURS)), trials, draw)
        a, _, _, d = asked.T
        for k in sorted({1, 3, 10, averaged} - set(range(averaged + 1, 11))):
            tried = noise.trials(codes, groups, asked, k, draw)
            digit, colour = _right(make(tried.codes), a, d)
            table.append({
                "codes in an average": k, "right": float((digit & colour).mean()), "digit": float(digit.mean()),
                "colour": float(colour.mean()), "norm": float(np.linalg.norm(tried.codes, axis=1).mean()),
            })  # fmt: skip
        near = np.concatenate([noise.around(z, around + 1, spread, draw)[1:] for z in tried.codes])
        close = np.all(_right(make(near), a.repeat(around), d.repeat(around)), axis=0)
        lucky = np.all(_right(make(random), a, d), axis=0)
        example = noise.trials(codes, groups, np.array([EXAMPLE]), averaged, draw)
        nearby = noise.around(example.codes[0], 9, spread, draw)
        parts = [np.vstack([mean, codes[rows[:8]]]) for mean, rows in zip(example.averages, example.chosen[0])]
        pictures = {
            "arithmetic": Rows([tg.tensor(make(z)) for z in (*parts, nearby)], _names(*EXAMPLE)),
            "averages": Rows([tg.tensor(make(z[:12])) for z in (*tried.averages, tried.codes)], SUM),
        }
    numbers = {
        "arithmetic": table[-1]["right"], "arithmetic_digit": table[-1]["digit"],
        "arithmetic_hue": table[-1]["colour"], "arithmetic_around": float(close.mean()),
        "arithmetic_chance": float(lucky.mean()), "trials": float(trials),
        "least_confident": doubt,
    }  # fmt: skip
    return Findings(numbers, pictures, table)


def _names(a: int, b: int, c: int, d: int) -> list[str]:
    """What stands before the rows of one sum."""
    return [f"{COLOURS[c]} {a}", f"- {COLOURS[c]} {b}", f"+ {COLOURS[d]} {b}", f"= {COLOURS[d]} {a}"]


# ---------------------------------------------------------------------------------- G11b


def _digits(images: np.ndarray) -> np.ndarray | None:
    """The digits (N,) that the frozen network sees in images; None where it knows no such images."""
    return metrics.features(images)[1].argmax(1) if metrics.scorable(images.shape[1:]) else None


def _confident(images: np.ndarray) -> float | None:
    """The share of images that the frozen network is sure of; None where it knows no such images."""
    return metrics.confident(metrics.features(images)[1], SURE) if metrics.scorable(images.shape[1:]) else None


def _known(numbers: dict[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in numbers.items() if value is not None}


@study("a direction of noise in which digits lean", on=("dcgan",), lectures=(0,), asks=images,
       tiny={"pool": 200, "walks": 20}, least={"steps": 2})  # fmt: skip
def turn(
    trained: Trained, pool: int = 4000, share: float = 0.2, walks: int = 200, steps: int = 9, reach: float = 1.0
) -> Findings:
    """How much images lean along the difference of two averages, of codes of images that lean right and left.

    Both averages are of the same digits where the frozen network knows them, as far as it keeps them apart.

    pool: random codes whose images are measured
    share: of them in each average, of every digit alike
    walks: further codes, each moved from left to right; the first eight are drawn
    steps: images of a walk
    reach: length of a walk, in differences of the averages
    """
    draw, make = generator(), partial(_images, trained)
    with aside(trained.step, int(draw.integers(2**31))):
        codes, starts = _codes(trained, pool), _codes(trained, walks)
        drawn = make(codes)
        natural = noise.slant(drawn)
        digits = _digits(drawn)
        kinds = np.zeros(pool, int) if digits is None else digits
        direction = tg.tensor(reach * noise.turn_vector(codes, natural, kinds, share))
        moved = tg.cat([noise.walk(z, direction, steps) for z in tg.tensor(starts)])
        images = make(moved.numpy()).reshape(walks, steps, *trained.dataset.shape)
    slants = np.stack([noise.slant(images[:, i]) for i in range(steps)], 1)
    ends = [_digits(images[:, i]) for i in (0, -1)]
    kept = None if digits is None else float(np.mean(ends[0] == ends[1]))
    numbers = _known({
        "slant_first": float(slants[:, 0].mean()), "slant_last": float(slants[:, -1].mean()),
        "slant_natural": float(natural.std()), "turned": float((slants[:, -1] > slants[:, 0]).mean()),
        "turn_kept": kept,
    })  # fmt: skip
    table = [{"step": i, "slant": float(column.mean())} for i, column in enumerate(slants.T)]
    shown = images[:8].reshape(-1, *trained.dataset.shape)
    return Findings(numbers, {"turn": Sheet(tg.tensor(shown), steps)}, table)


@study("a closed chain through nine codes, by lines and by great circles", on=("dcgan",), lectures=(0,),
       least={"points": 2}, asks=images)  # fmt: skip
def chain(trained: Trained, points: int = 9, steps: int = 8) -> Findings:
    """How near to the origin lines and great circles through the same codes come, and how sure the frozen network is.

    points: random codes on the chain; the last is joined to the first
    steps: images from one to the next
    """
    draw = generator()
    numbers: dict[str, float | None] = {}
    pictures = {}
    with aside(trained.step, int(draw.integers(2**31))):
        given, others = tg.tensor(_codes(trained, points)), _images(trained, _codes(trained, OTHERS))
        mean = given.norm(dim=1).mean().item()
        for name, path in (("line", latents.line), ("circle", latents.great_circle)):
            codes = noise.chain(given, steps, path, closed=True)
            images = _images(trained, codes.numpy())
            numbers |= {
                f"least_norm_{name}": codes.norm(dim=1).numpy().min() / mean,
                f"change_{name}": noise.change(images[:-1], images[1:], others),
                f"conf95_{name}s": _confident(images),
            }
            rows = np.concatenate([images[i * steps : (i + 1) * steps + 1] for i in range(points)])
            pictures[f"{name}s"] = Sheet(tg.tensor(rows), steps + 1)
    return Findings(_known(numbers), pictures)


@study("a picture of the plane through four codes", on=("dcgan",), lectures=(0,), least={"side": 2},
       asks=images)
def plane(trained: Trained, side: int = 12) -> Findings:
    """How much neighbours differ on the bilinear patch between four random codes, which are its corners.

    side: images a side
    """
    draw = generator()
    with aside(trained.step, int(draw.integers(2**31))):
        codes = noise.plane(tg.tensor(_codes(trained, 4)), side)
        images, others = _images(trained, codes.numpy()), _images(trained, _codes(trained, OTHERS))
    grid = images.reshape(side, side, -1)
    joined = lambda down, right: np.concatenate([a.reshape(-1, grid.shape[2]) for a in (down, right)])
    change = noise.change(joined(grid[:-1], grid[:, :-1]), joined(grid[1:], grid[:, 1:]), others)
    numbers = _known({"change_plane": change, "conf95_plane": _confident(images)})
    return Findings(numbers, {"plane": Sheet(tg.tensor(images), side)})


# ---------------------------------------------------------------------------------- G25


@study("the code of an image: inversion, restoration, anomalies", on=("dcgan",), lectures=(0, 4), asks=images,
       tiny={"count": 2, "restarts": 2, "evaluations": 8, "anomalies": 4}, above={"c": 0, "lr": 0})  # fmt: skip
def inversion(
    trained: Trained, count: int = 20, restarts: int = 4, evaluations: int = 60, c: float = 30.0, lr: float = 0.3,
    anomalies: int = 100,
) -> Findings:  # fmt: skip
    """Errors of z* = argmin |M(G(z)) - y|^2 + |z|^2 / c: of whole test images, and of their upper half, hidden from M.

    count: test images
    restarts: random codes from which each search starts
    evaluations: gradients for each image and start
    c: weight of the image against the code's norm
    lr: learning rate of Adam
    anomalies: test images beside as many others upside down, ranked by their losses
    """
    dataset, draw = trained.dataset, generator()
    order = subset(dataset.count("test"), count)
    x = tg.tensor(dataset.floats("test", order))
    n, (_, height, width) = len(x), dataset.shape
    mask = np.ones((1, height, width), np.float32)
    mask[:, : height // 2] = 0
    hole = 1 - mask
    G = partial(_made, trained)
    find = partial(noise.inverted, G, c=c, evaluations=evaluations)
    by_adam = partial(find, search=partial(noise.by_adam, lr=lr))
    with aside(trained.step, int(draw.integers(2**31))):
        latent = trained.step.latent
        starts = tg.randn(restarts, n, latent)
        found = {"L-BFGS": find(x, starts), "Adam": by_adam(x, starts)}
        half = noise.behind(mask)
        restored = find(half(x), starts, measure=half)
        images = {name: G(one.codes).numpy() for name, one in found.items()}
        several = np.mean([G(codes).numpy() for codes in restored.every], 0)
        best = G(restored.codes).numpy()
        nearest = _nearest(x.numpy(), _images(trained, _codes(trained, restarts * evaluations)))
        ranked = _ranked(trained, anomalies, restarts, by_adam)
    pixels = dataset.floats("train").mean(0, dtype=np.float64)
    real = x.numpy()
    filled, averaged, mean = (real * mask + made * hole for made in (best, several, pixels.astype(np.float32)))
    error = lambda made, where: float(((made - real) ** 2 * where).sum() / (n * dataset.shape[0] * where.sum()))
    everywhere = np.ones_like(mask)
    numbers = {
        "inverted_mse": error(images["L-BFGS"], everywhere), "inverted_mse_adam": error(images["Adam"], everywhere),
        "sampled_mse": error(nearest, everywhere), "hole_mse": error(filled, hole),
        "hole_mse_averaged": error(averaged, hole),
        "hole_mse_mean": error(mean, hole), "hole_mse_inverted": error(images["L-BFGS"], hole), **ranked,
    }  # fmt: skip
    gradients = [e for e in (5, 10, 20, 40, 80, 160) if e < evaluations] + [evaluations]
    table = [{"gradients": e, **{name: float(one.history[e - 1].mean()) for name, one in found.items()}}
             for e in gradients]  # fmt: skip
    shown = slice(10)
    pictures = {
        "inversions": Rows([tg.tensor(b[shown]) for b in (real, *images.values(), nearest)],
                           ["test image", *images, "nearest sample"]),
        "restorations": Rows([tg.tensor(b[shown]) for b in (real * mask, filled, averaged, real, mean)],
                             ["known half", "restored", "mean of all starts", "test image", "mean fill"]),
        "searches": _draw_searches({name: one.history for name, one in found.items()}),
    }  # fmt: skip
    return Findings(numbers, pictures, table)


def _nearest(images: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """The nearest of samples (M, C, H, W) to each image: what as many looks at random codes find."""
    distance = [((samples - x) ** 2).sum((1, 2, 3)).argmin() for x in images]
    return samples[distance]


def _ranked(trained: Trained, n: int, restarts: int, search: Callable) -> dict[str, float]:
    """How well the least loss tells test images upside down from others as they are, by Adam: all at once."""
    images = trained.dataset.floats("test", subset(trained.dataset.count("test"), 2 * n))
    turned = np.arange(len(images)) % 2 == 1
    images[turned] = images[turned][..., ::-1, ::-1]
    starts = tg.randn(restarts, len(images), trained.step.latent)
    found = search(tg.tensor(images), starts)
    return {"auroc_turned": metrics.auroc(found.losses, turned)}


def _draw_searches(histories: dict[str, np.ndarray]) -> Any:
    canvas, finish = figure((6.4, 4.2))
    axes = canvas.add_subplot()
    for name, least in histories.items():
        axes.plot(np.arange(1, len(least) + 1), least.mean(1), label=name)
    axes.set_title("|G(z) - y|² + |z|² / c, the best so far of all starts")
    axes.set_xlabel("gradients for each image and start")
    axes.set_ylabel("mean over test images")
    axes.set_yscale("log")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return finish()
