"""The space of noise: arithmetic, walks, chains and planes in it, and the noise of a given image (lectures 0, 4).

    z = mean(z_1) - mean(z_2) + mean(z_3)                        "red 3 - red 7 + green 7" (Radford 2016)
    z_t = z + t (mean(left) - mean(right))                       a turn vector, walked along
    z* = argmin_z  |M(G(z)) - y|^2 + |z|^2 / c                   inversion: M = identity; restoration: M hides a part

One code is unclear, so codes of several samples are averaged. For a linear G arithmetic holds exactly, and z* is
ridge regression. G is any function of codes (N, D) to images; weights get no gradients. Whoever calls puts G into
evaluation mode. Lines and great circles are in latents.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

import tinygen as tg
from tinygen import optim

from .latents import line

# ---------------------------------------------------------------------------------- averages and arithmetic


def alike(scores: np.ndarray, sure: float, least: int) -> np.ndarray:
    """Indices of the scores (N,) of at least `sure`, the best first; of fewer than `least`, the `least` best."""
    order = np.argsort(-scores, kind="stable")
    return order[: max(least, int((scores >= sure).sum()))]


class Trials(NamedTuple):
    """Sums of averages: the factors (n, 4) asked for, the averages (3, n, D), and the codes in each, as indices."""

    asked: np.ndarray
    averages: np.ndarray
    chosen: list[list[np.ndarray]]

    @property
    def codes(self) -> np.ndarray:
        """(n, D): (a, c) - (b, c) + (b, d), which should have the factors (a, d)."""
        first, minus, plus = self.averages
        return first - minus + plus


def questions(
    firsts: Sequence[int],
    seconds: Sequence[int],
    n: int,
    draw: np.random.Generator,
) -> np.ndarray:
    """(n, 4): a and b, two different ones of `firsts`; c and d, two different ones of `seconds`."""
    pairs = lambda kinds: [
        draw.choice(kinds, 2, replace=False) for _ in range(n)
    ]
    return np.hstack([pairs(firsts), pairs(seconds)])


def trials(
    codes: np.ndarray,
    groups: Mapping[tuple[int, int], np.ndarray],
    asked: np.ndarray,
    each: int,
    draw: np.random.Generator,
) -> Trials:
    """The sums (a, c) - (b, c) + (b, d) of averages of codes (N, D), for each (a, b, c, d) of asked (n, 4).

    groups[a, c]: indices of codes whose samples have these factors. `each` of a group are averaged, drawn without
    repetition; all of a smaller one.
    """
    chosen = []
    for a, b, c, d in asked.tolist():
        parts = [groups[pair] for pair in ((a, c), (b, c), (b, d))]
        chosen.append(
            [draw.choice(g, min(each, len(g)), replace=False) for g in parts]
        )
    averages = [[codes[rows].mean(0) for rows in parts] for parts in chosen]
    return Trials(asked, np.stack(averages, 1), chosen)


def around(
    code: np.ndarray, n: int, spread: float, draw: np.random.Generator
) -> np.ndarray:
    """(n, D): the code (D,) itself, then codes with uniform noise in [-spread, spread] added, as Radford has it."""
    noise = draw.uniform(-spread, spread, (n, len(code)))
    noise[0] = 0
    return (code + noise).astype(code.dtype)


def slant(images: np.ndarray) -> np.ndarray:
    """(N,): how far images (N, C, H, W) lean: columns to the right for each row up, by the least squares of light.

    slope = -sum w (x - mean x)(y - mean y) / sum w (y - mean y)^2, w the light of a pixel, y downwards; dark images: 0.
    """
    light = images.astype(np.float64).sum(1)
    light /= np.maximum(light.sum((1, 2), keepdims=True), 1e-12)
    y, x = np.mgrid[: light.shape[1], : light.shape[2]]
    mean = lambda values: (light * values).sum((1, 2))
    across = mean(x * y) - mean(x) * mean(y)
    down = mean(y * y) - mean(y) ** 2
    return -across / np.maximum(down, 1e-12)


def turn_vector(
    codes: np.ndarray, values: np.ndarray, kinds: np.ndarray, share: float
) -> np.ndarray:
    """(D,): the mean of codes (N, D) with the largest values (N,) less that with the smallest, of every kind alike.

    `share`: of each kind, at either end. kinds (N,): what is held while the values change, such as the digit; the
    differences within each are averaged.
    """
    found = []
    for kind in np.unique(kinds):
        own = np.flatnonzero(kinds == kind)
        order = own[np.argsort(values[own], kind="stable")]
        count = max(1, int(share * len(order)))
        largest, smallest = order[-count:], order[:count]
        found.append(codes[largest].mean(0) - codes[smallest].mean(0))
    return np.mean(found, 0)


# ---------------------------------------------------------------------------------- walks, chains, planes


def walk(code: tg.Tensor, direction: tg.Tensor, steps: int) -> tg.Tensor:
    """(steps, D): codes from code - direction / 2 to code + direction / 2, both (D,), at equal distances."""
    half = 0.5 * direction
    return line(code - half, code + half, steps)


def chain(
    codes: tg.Tensor,
    steps: int,
    path: Callable = line,
    closed: bool = False,
) -> tg.Tensor:
    """(links * steps + 1, D): codes on the paths from each of codes (K, D) to the next, `steps` a link.

    Code k is at k * steps exactly. `path(first, last, n)` is latents.line or latents.great_circle. A closed chain goes
    back to the first code: K links instead of K - 1.
    """
    ends = [*codes, codes[0]] if closed else [*codes]
    links = [path(a, b, steps + 1)[:-1] for a, b in pairwise(ends)]
    return tg.cat([*links, ends[-1].reshape(1, -1)])


def plane(corners: tg.Tensor, side: int) -> tg.Tensor:
    """(side * side, D): the bilinear patch between corners (4, D), row by row; its corners are these exactly.

    z(s, t) = (1 - s)(1 - t) z_1 + (1 - s) t z_2 + s (1 - t) z_3 + s t z_4, s downwards and t to the right.
    """
    left = line(corners[0], corners[2], side)
    right = line(corners[1], corners[3], side)
    return tg.cat([line(a, b, side) for a, b in zip(left, right)])


def change(
    first: np.ndarray, second: np.ndarray, others: np.ndarray
) -> float:
    """The mean squared difference of images first[i] and second[i], by that of any two of the others (M, ...)."""
    flat = others.reshape(len(others), -1).astype(np.float64)
    any_two = 2 * len(flat) / (len(flat) - 1) * flat.var(0).sum()
    neighbours = (first.astype(np.float64) - second) ** 2
    return float(neighbours.sum() / len(first) / max(any_two, 1e-12))


# ---------------------------------------------------------------------------------- the generator as a prior


class Inverted(NamedTuple):
    """The best codes (N, D) of several starts, their losses (N,), the least loss after each gradient (E, N), and the
    codes from every start (R, N, D)."""

    codes: tg.Tensor
    losses: np.ndarray
    history: np.ndarray
    every: tg.Tensor


def everything(images: tg.Tensor) -> tg.Tensor:
    """The images themselves: the M of inversion."""
    return images


def behind(mask: np.ndarray) -> Callable:
    """The M of restoration: images times a mask (C, H, W) that is 1 where pixels are known, 0 in the hole."""
    return lambda images: images * tg.tensor(mask, dtype=images.dtype, device=images.device)


def objective(generate: Callable, z: tg.Tensor, y: tg.Tensor, c: float, measure: Callable = everything) -> tg.Tensor:
    """(N,): |M(G(z)) - y|^2 + |z|^2 / c for codes (N, D) and what is measured, y."""
    misfit = (measure(generate(z)) - y).square().flatten(1).sum(1)
    return misfit + z.square().sum(1) / c


def inverted(
    generate: Callable, y: tg.Tensor, starts: tg.Tensor, c: float, measure: Callable = everything,
    search: Callable | None = None, evaluations: int = 80,
) -> Inverted:  # fmt: skip
    """The codes of least |M(G(z)) - y|^2 + |z|^2 / c, found by `search` from each of starts (R, N, D).

    y: what is measured of N images. search: `by_lbfgs` (default) or `by_adam`. `evaluations`: gradients for each code
    and start. Only codes get gradients.
    """
    loss = lambda z, rows: objective(generate, z, y[rows], c, measure)
    with tg.enable_grad():
        found = [(search or by_lbfgs)(loss, start, evaluations) for start in starts]
    history = np.stack([least for _, least in found])  # (R, E, N)
    chosen = history[:, -1].argmin(0)
    every = np.stack([codes for codes, _ in found])
    best = every[chosen, np.arange(len(chosen))]
    history = history.min(0)
    return Inverted(tg.tensor(best), history[-1], history, tg.tensor(every))


def by_lbfgs(loss: Callable, start: tg.Tensor, evaluations: int) -> tuple[np.ndarray, np.ndarray]:
    """(codes (N, D) of least loss that L-BFGS sees, the least loss after each gradient (E, N)); each code on its own.

    `loss(z, rows)` gives the losses (n,) of codes z (n, D) that belong to a slice of rows.
    """
    found = []
    for i in range(len(start)):
        rows = slice(i, i + 1)
        found.append(_one_by_lbfgs(lambda z, rows=rows: loss(z, rows), start[rows], evaluations))
    return np.concatenate([best for best, _ in found]), np.stack([least for _, least in found], 1)


def _one_by_lbfgs(loss: Callable, start: tg.Tensor, evaluations: int) -> tuple[np.ndarray, np.ndarray]:
    z = start.detach().clone().requires_grad_()
    best = start.numpy().copy()
    values: list[float] = []

    def closure() -> tg.Tensor:
        nonlocal best
        value = loss(z).sum()
        if len(values) < evaluations:  # a search along a line is not cut off, what it finds beyond does not count
            if value.item() < min(values, default=np.inf):
                best = z.detach().numpy().copy()
            values.append(value.item())
        (z.grad,) = tg.grad(value, z)
        return value

    optim.LBFGS([z], max_iter=evaluations, max_eval=evaluations).step(closure)
    least = np.minimum.accumulate(values)
    return best, np.pad(least, (0, evaluations - len(least)), mode="edge")  # it may end early


def by_adam(loss: Callable, start: tg.Tensor, evaluations: int, lr: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """The same by Adam, all codes at once: each number of a code has its own step, so they do not meet."""
    z = start.detach().clone().requires_grad_()
    optimizer = optim.Adam([z], lr=lr)
    best, values = start.numpy().copy(), np.full((1, len(start)), np.inf)
    for _ in range(evaluations):
        losses = loss(z, slice(None))
        better = losses.detach().numpy() < values[-1]
        best[better] = z.detach().numpy()[better]
        values = np.vstack([values, np.minimum(values[-1], losses.detach().numpy())])
        (z.grad,) = tg.grad(losses.sum(), z)
        optimizer.step()
    return best, values[1:]
