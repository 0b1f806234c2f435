"""Sparse coding: an image is a sum of few atoms of a dictionary D (lecture 0).

    x^ = argmin_x  1/2 |Dx - z|^2 + lambda |x|_1

    x <- soft(x - D^T(Dx - z) / L, lambda / L)                               ISTA, objective falls as 1/k
    the same at y = x + (t_before - 1) / t (x - x_before)                    FISTA, as 1/k^2 (Beck and Teboulle 2009)

D may be any linear map that comes with its adjoint: a matrix, a transposed convolution, a blur behind either. So one
algorithm denoises (z = y + noise), deblurs (z = R(y) + noise) and finds outliers: exp(-objective) is a density.

Absent: l0 (orthogonal matching pursuit), K-SVD; scikit-learn has the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

import tinygen as tg
from tinygen.nn import functional as F


class Linear(NamedTuple):
    """A linear map A of batches and its adjoint: <A(x), r> = <x, A^T(r)>."""

    forward: Callable[[tg.Tensor], tg.Tensor]
    adjoint: Callable[[tg.Tensor], tg.Tensor]


def matrix(atoms: tg.Tensor) -> Linear:
    """Codes (N, K) to vectors (N, P): sums of the atoms (K, P), the columns of the lecture's D."""
    return Linear(lambda x: x @ atoms, lambda r: r @ atoms.T)


def transposed_convolution(atoms: tg.Tensor, stride: int) -> Linear:
    """Codes (N, K, Q, Q) to images (N, C, H, H): atoms (K, C, p, p) added at every `stride`-th pixel.

    H = stride (Q - 1) + p. With stride p each square of p pixels a side has its own code.
    """
    return Linear(
        lambda x: F.conv_transpose2d(x, atoms, stride=stride),
        lambda r: F.conv2d(r, atoms, stride=stride),
    )


def convolution(kernel: tg.Tensor) -> Linear:
    """Images (N, 1, H, W) to images of that size: `conv2d` with a kernel (2r + 1, 2r + 1), zeros around the image."""
    weight, padding = kernel[None, None], len(kernel) // 2
    return Linear(
        lambda x: F.conv2d(x, weight, padding=padding),
        lambda r: F.conv_transpose2d(r, weight, padding=padding),
    )


def composed(outer: Linear, inner: Linear) -> Linear:
    """outer(inner(x)), whose adjoint is inner^T(outer^T(r))."""
    return Linear(
        lambda x: outer.forward(inner.forward(x)),
        lambda r: inner.adjoint(outer.adjoint(r)),
    )


# ---- the algorithms


def soft_threshold(x: tg.Tensor, threshold: Any) -> tg.Tensor:
    """sign(x) max(|x| - threshold, 0): argmin_u 1/2 (u - x)^2 + threshold |u|."""
    return x.sign() * (x.abs() - threshold).relu()


def objective(
    A: Linear, x: tg.Tensor, z: tg.Tensor, strength: Any
) -> tg.Tensor:
    """(N,): 1/2 |A(x) - z|^2 + strength |x|_1 of each item; -log p(z) of a Gaussian and a Laplacian, up to a constant.

    `strength` is a number, or a tensor that multiplies codes of each atom by its own.
    """
    fidelity = 0.5 * (A.forward(x) - z).square().flatten(1).sum(1)
    return fidelity + (strength * x.abs()).flatten(1).sum(1)


def ista(
    A: Linear,
    z: tg.Tensor,
    strength: Any,
    lipschitz: float,
    start: tg.Tensor | None = None,
) -> Iterator[tg.Tensor]:
    """Codes after 1, 2, ... steps of length 1 / lipschitz from `start`, or 0 (Daubechies, Defrise and De Mol 2004).

    lipschitz: the largest eigenvalue of A^T A, or more.
    """
    x = tg.zeros_like(A.adjoint(z)) if start is None else start
    while True:
        gradient = A.adjoint(A.forward(x) - z)
        x = soft_threshold(x - gradient / lipschitz, strength / lipschitz)
        yield x


def fista(
    A: Linear,
    z: tg.Tensor,
    strength: Any,
    lipschitz: float,
    start: tg.Tensor | None = None,
) -> Iterator[tg.Tensor]:
    """As `ista`, but each step starts ahead of the last two (Beck and Teboulle 2009)."""
    x = ahead = tg.zeros_like(A.adjoint(z)) if start is None else start
    t = 1.0
    while True:
        gradient = A.adjoint(A.forward(ahead) - z)
        before, x = x, soft_threshold(
            ahead - gradient / lipschitz, strength / lipschitz
        )
        t_before, t = t, (1 + math.sqrt(1 + 4 * t * t)) / 2
        ahead = x + (t_before - 1) / t * (x - before)
        yield x


def after(iterates: Iterator[tg.Tensor], steps: int) -> tg.Tensor:
    """The codes after so many steps."""
    return next(islice(iterates, steps - 1, None))


def largest_eigenvalue(A: Linear, x: tg.Tensor, steps: int = 100) -> float:
    """Of A^T A, by power iteration from codes x: the Lipschitz constant of the gradient, from below."""
    for _ in range(steps):
        x = A.adjoint(A.forward(x))
        length = x.norm()
        x = x / length
    return length.item()


# ---- dictionaries and patches


def learned_atoms(
    patches: np.ndarray,
    count: int,
    strength: float,
    rounds: int = 20,
    steps: int = 10,
    seed: int = 0,
) -> np.ndarray:
    """(count, P) float32: atoms of length 1, of which patches (N, P) are sparse sums.

    argmin over D and x of sum 1/2 |Dx - z|^2 + strength |x|_1, by turns: `steps` of FISTA in x from where it was, then
    each atom at its best with all else fixed (Mairal et al. 2009, algorithm 2). Starts at patches drawn at random; an
    atom that no patch uses becomes the patch that is fitted worst.
    """
    draw = np.random.default_rng(seed)
    norms = np.linalg.norm(patches, axis=1)
    usable = np.flatnonzero(norms > norms.mean() / 10)
    chosen = draw.choice(usable, count, replace=len(usable) < count)
    noise = 1e-3 * draw.standard_normal((count, patches.shape[1]))
    atoms = _of_length_1(patches[chosen] + norms.mean() * noise)
    z, x = tg.tensor(patches.astype(np.float32)), None
    for _ in range(rounds):
        D = matrix(tg.tensor(atoms))
        x = after(fista(D, z, strength, largest_square(atoms), x), steps)
        codes = x.numpy()
        moments, targets = codes.T @ codes, codes.T @ patches
        errors = ((codes @ atoms - patches) ** 2).sum(1)
        for k in range(count):
            if moments[k, k] > 0:
                rest = targets[k] - moments[k] @ atoms
                atoms[k] = _of_length_1(atoms[k] + rest / moments[k, k])
            else:
                worst = errors.argmax()
                atoms[k], errors[worst] = _of_length_1(patches[worst]), 0
    return atoms


def largest_square(atoms: np.ndarray) -> float:
    """The largest eigenvalue of D^T D for atoms (K, P)."""
    squares = np.linalg.svd(atoms.astype(np.float64), compute_uv=False) ** 2
    return float(squares[0])


def _of_length_1(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)


def patches_of(images: np.ndarray, size: int, stride: int = 1) -> np.ndarray:
    """(N, Q, R, size, size): all squares of images (N, H, W), every `stride` pixels."""
    windows = np.lib.stride_tricks.sliding_window_view(
        images, (size, size), axis=(1, 2)
    )
    return windows[:, ::stride, ::stride]


def averaged(patches: np.ndarray, stride: int = 1) -> np.ndarray:
    """(N, H, W): the mean over all patches (N, Q, R, size, size) that hold a pixel; undoes `patches_of`."""
    count, rows, columns, size, _ = patches.shape
    height, width = (stride * (n - 1) + size for n in (rows, columns))
    total = np.zeros((count, height, width), patches.dtype)
    cover = np.zeros((height, width), patches.dtype)
    for i in range(size):
        for j in range(size):
            last = i + stride * (rows - 1)
            down = slice(i, last + 1, stride)
            last = j + stride * (columns - 1)
            right = slice(j, last + 1, stride)
            total[:, down, right] += patches[..., i, j]
            cover[down, right] += 1
    return total / cover
