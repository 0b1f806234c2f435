"""Transfer: a trained encoder E as the beginning of a classifier (lectures 0, 1).

    logits = W E(x) + b,    loss = -mean log softmax(logits)[label]

The encoder learns from images without labels; its decoder is dropped; a linear layer is put on the codes. A few
labels then train the linear layer alone (frozen encoder) or all of it (fine-tuned).

    network, steps = learned(make, x, labels, held, most=200)

How long to train is chosen on labels that are held out; then a new network learns from all of them for so long.
Absent on purpose: augmentation, weight decay, schedules. What remains is the effect of the initial weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tinygen as tg
from tinygen import nn, optim
from tinygen.nn import functional as F


def balanced(
    labels: np.ndarray, count: int, draw: np.random.Generator
) -> np.ndarray:
    """Positions of `count` labels drawn at random, as many of each class as of any other, to within one.

    A class with too few gives all it has, and the others make up for it.
    """
    order = draw.permutation(len(labels))
    rank = np.empty(len(labels), int)
    for label in np.unique(labels):
        places = np.flatnonzero(labels[order] == label)
        rank[places] = np.arange(len(places))
    return order[np.argsort(rank, kind="stable")[:count]]


def fit(
    network: nn.Module,
    x: np.ndarray,
    labels: np.ndarray,
    steps: int,
    draw: np.random.Generator,
    *,
    size: int = 100,
    lr: float = 1e-3,
    after: Callable | None = None,
) -> None:
    """Updates every parameter of the network `steps` times, by Adam on batches of `size`; `after(t)` follows update t.

    x (N, ...): images or codes; labels (N,). Every pass goes through them in a new order.
    """
    device = next(network.parameters()).device
    optimizer = optim.Adam(network.parameters(), lr=lr)
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
) -> tuple[float, float]:
    """(mean -log probability of the label in nats, share of rows whose largest logit is the label's)."""
    device = next(network.parameters()).device
    loss = right = 0.0
    with tg.no_grad():
        for start in range(0, len(x), size):
            part = slice(start, start + size)
            logits = network(tg.tensor(x[part], device=device))
            answers = tg.tensor(labels[part], device=device)
            loss += F.cross_entropy(logits, answers, reduction="sum").item()
            right += (logits.argmax(1) == answers).sum().item()
    return loss / len(x), right / len(x)


def learned(
    make: Callable,
    x: np.ndarray,
    labels: np.ndarray,
    held: np.ndarray,
    draw: np.random.Generator,
    *,
    most: int = 200,
    every: int = 10,
    size: int = 100,
    lr: float = 1e-3,
) -> tuple[nn.Module, int]:
    """(a network of `make()` trained on all labels, for how many updates).

    Another network of `make()` learns without the positions `held`. Its loss on them is least after that many of at
    most `most` updates, looked at `every` so many.
    """
    network, losses = make(), {}
    rest = np.setdiff1d(np.arange(len(x)), held)

    def look(t: int) -> None:
        if t % every == 0 or t == most:
            losses[t] = judged(network, x[held], labels[held])[0]

    fit(
        network, x[rest], labels[rest], most, draw, after=look, size=size, lr=lr
    )
    steps = min(losses, key=losses.__getitem__)
    network = make()
    fit(network, x, labels, steps, draw, size=size, lr=lr)
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
