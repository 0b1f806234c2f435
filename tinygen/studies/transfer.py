"""Transfer: a trained encoder E as the beginning of a classifier (lectures 0, 1).

    logits = W relu(V E(x) + a) + b,    loss = -mean log softmax(logits)[label]

The encoder learns from images without labels; its decoder is dropped; a head is put on the codes. A few labels then
train the head alone (frozen encoder) or all of it (fine-tuned).

    make = lambda: head_alone((32, 256, 10), lr=3e-3)                    # frozen encoder: x are codes
    make = lambda: joined(encoder(), (32, 256, 10), lr=3e-4, head_lr=3e-3)  # fine-tuned: x are images
    network, steps = learned(make, x, labels, held, draw, most=200)

How long to train is chosen on labels that are held out; then a new network learns from all of them for so long.
Absent on purpose: augmentation, weight decay, schedules. What remains is the effect of the initial weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

import tinygen as tg
from tinygen import nn, optim
from tinygen.data import selection
from tinygen.nn import functional as F


def balanced(
    labels: np.ndarray, count: int, draw: np.random.Generator
) -> np.ndarray:
    """Positions of `count` labels drawn at random, as many of each class as of any other, to within one.

    A class with too few gives all it has, and the others make up for it.
    """
    return selection.balanced(labels, count, draw.permutation(len(labels)))


def head(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers from codes (N, sizes[0]) to logits (N, sizes[-1]), with ReLU between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def head_alone(
    sizes: Sequence[int], lr: float, device: Any = "cpu"
) -> tuple[nn.Module, optim.Optimizer]:
    """A head and its optimizer, for a frozen encoder."""
    layers = head(sizes).to(device)
    return layers, optim.Adam(layers.parameters(), lr=lr)


def joined(
    encoder: nn.Module, sizes: Sequence[int], *, lr: float, head_lr: float
) -> tuple[nn.Module, optim.Optimizer]:
    """The encoder with a head on its codes (N, sizes[0]), and the optimizer of both, each at its rate.

    The head starts from random weights, the encoder perhaps from good ones: one rate for both spoils the encoder
    before the head makes sense of its codes.
    """
    device = next(encoder.parameters()).device
    layers = head(sizes).to(device)
    groups = [
        {"params": list(encoder.parameters()), "lr": lr},
        {"params": list(layers.parameters()), "lr": head_lr},
    ]
    return nn.Sequential(encoder, layers), optim.Adam(groups, lr=lr)


def fit(
    network: nn.Module,
    optimizer: optim.Optimizer,
    x: np.ndarray,
    labels: np.ndarray,
    steps: int,
    draw: np.random.Generator,
    *,
    size: int = 20,
    after: Callable | None = None,
) -> None:
    """Trains the network by `steps` updates on batches of `size`; `after(t)` follows update t.

    x (N, ...): images or codes; labels (N,). Every pass goes through them in a new order.
    """
    device = next(network.parameters()).device
    starts = range(0, len(x), size)
    for t in range(steps):
        if t % len(starts) == 0:
            order = draw.permutation(len(x))
        part = order[starts[t % len(starts)] :][:size]
        logits = network(tg.tensor(x[part], device=device))
        loss = F.cross_entropy(logits, tg.tensor(labels[part], device=device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if after:
            after(t + 1)


def judged(
    network: nn.Module, x: np.ndarray, labels: np.ndarray, size: int = 1000
) -> float:
    """The share of rows of x (N, ...) whose largest logit is that of the label."""
    device = next(network.parameters()).device
    right = 0
    with tg.no_grad():
        for start in range(0, len(x), size):
            part = slice(start, start + size)
            logits = network(tg.tensor(x[part], device=device))
            found = logits.argmax(1).cpu().numpy()
            right += int((found == labels[part]).sum())
    return right / len(x)


def learned(
    make: Callable,
    x: np.ndarray,
    labels: np.ndarray,
    held: np.ndarray,
    draw: np.random.Generator,
    *,
    most: int = 200,
    every: int = 10,
    size: int = 20,
) -> tuple[nn.Module, int]:
    """(a network of `make()` trained on all labels, for how many updates); `make()` gives it and its optimizer.

    Another network of `make()` learns without the positions `held`. It gets most of them right after that many of at
    most `most` updates, looked at `every` so many; of equally good ones the last, since few images make many ties.
    """
    right: dict[int, float] = {}
    network, optimizer = make()
    rest = np.setdiff1d(np.arange(len(x)), held)

    def look(t: int) -> None:
        if t % every == 0 or t == most:
            right[t] = judged(network, x[held], labels[held])

    fit(
        network,
        optimizer,
        x[rest],
        labels[rest],
        most,
        draw,
        size=size,
        after=look,
    )
    steps = max(right, key=lambda t: (right[t], t))
    network, optimizer = make()
    fit(network, optimizer, x, labels, steps, draw, size=size)
    return network, steps


def logistic_regression(
    codes: np.ndarray,
    labels: np.ndarray,
    queries: np.ndarray,
    answers: np.ndarray,
) -> float:
    """The share of `queries` (M, D) classified rightly by logistic regression.

    It is fitted to codes (N, D) with labels (N,), each number scaled to variance 1.
    """
    from sklearn.linear_model import LogisticRegression

    return _share(
        LogisticRegression(max_iter=1000), codes, labels, queries, answers
    )


def support_vectors(
    codes: np.ndarray,
    labels: np.ndarray,
    queries: np.ndarray,
    answers: np.ndarray,
) -> float:
    """The same of a support vector machine, C = 10, with a Gaussian kernel; quadratic in N."""
    from sklearn.svm import SVC

    return _share(SVC(C=10), codes, labels, queries, answers)


def _share(
    rule: Any,
    codes: np.ndarray,
    labels: np.ndarray,
    queries: np.ndarray,
    answers: np.ndarray,
) -> float:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fitted = make_pipeline(StandardScaler(), rule).fit(codes, labels)
    return float((fitted.predict(queries) == answers).mean())
